//! TLS 1.0 to 1.2 secrets of libraries that have no key-log sink: OpenSSL 1.0.2, 1.1.0, LibreSSL.
//!
//! RFC 5246, section 6.3: `key_block = PRF(master_secret, "key expansion", server_random +
//! client_random)`. The one call that is given this label is also given all four, so its
//! arguments are the layout.

use crate::code::{self, CallSite, Path, Root, Value};
use crate::elf::{Address, Elf};
use crate::library::if_all_was_walked;
use crate::plan::{FieldPath, LayoutValue, Missing, Plan, Probe, Role};

const LABEL: &str = "key expansion";
const LABEL_LENGTH: Value = Value::Const(LABEL.len() as u64);
const RANDOM_LENGTH: Value = Value::Const(0x20);

/// Whether the image holds the label of the derivation.
pub(super) fn has_label(elf: &Elf<'_>) -> bool {
    !elf.find_text(LABEL, 1).is_empty()
}

/// Where the client random stands, counted from the first argument of the derivation.
pub(super) fn client_random(elf: &Elf<'_>) -> Result<LayoutValue, String> {
    Ok(find(elf)?.client_random)
}

/// Plans the probe on the function that derives the key block, or says why not.
pub(super) fn add_master_secret(elf: &Elf<'_>, plan: &mut Plan) {
    match find(elf).and_then(|found| if_all_was_walked(elf, found)) {
        Ok(found) => {
            plan.probes.push(found.probe);
            plan.layout.client_random = Some(found.client_random);
            plan.layout.master_secret = Some(found.master_secret);
            plan.layout.master_secret_length = Some(found.length);
        }
        Err(why) => plan.missing.push(Missing {
            what: "secrets".into(),
            why,
        }),
    }
}

struct KeyBlock {
    probe: Probe,
    client_random: LayoutValue,
    master_secret: LayoutValue,
    length: LayoutValue,
}

fn find(elf: &Elf<'_>) -> Result<KeyBlock, String> {
    const COPIES: usize = 16;
    let texts = elf.find_text(LABEL, COPIES);
    if texts.is_empty() {
        return Err(format!(
            "neither a key-log label nor the text \"{LABEL}\" stands in the image"
        ));
    }
    let mut found = Vec::new();
    for function in code::functions_with_text(elf, &texts).into_keys() {
        let calls = code::calls_of(elf, function);
        if let Some(derivation) = derivation(&calls, &texts) {
            found.extend(key_block(elf, function, &derivation));
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => confirmed(elf, only),
        (None, _) => Err(format!(
            "no call with \"{LABEL}\" shows the master secret and both randoms"
        )),
        (Some(_), false) => Err(format!(
            "more than one function derives a key block with \"{LABEL}\""
        )),
    }
}

/// The accessors, where the library has them, must show the same fields.
fn confirmed(elf: &Elf<'_>, mut found: KeyBlock) -> Result<KeyBlock, String> {
    const CHECKS: [&str; 2] = ["SSL_get_client_random", "SSL_SESSION_get_master_key"];
    let values = [&mut found.client_random, &mut found.master_secret];
    for (accessor, value) in CHECKS.into_iter().zip(values) {
        let Some(symbol) = elf.symbols.get(accessor) else {
            continue;
        };
        let copies = code::copies_to_argument(elf, symbol.address, 1);
        let Some(copy) = copies
            .iter()
            .find(|copy| copy.field.root == Root::Argument(0))
        else {
            continue;
        };
        // One accessor starts from the connection, the other from the session inside it.
        if !copy
            .field
            .offsets()
            .is_some_and(|offsets| value.path.0.ends_with(&offsets))
        {
            return Err(format!(
                "{}, but {accessor} copies {} at {}",
                value.evidence, copy.field, copy.at
            ));
        }
        value.evidence = format!(
            "{}; {accessor} copies {} at {}",
            value.evidence, copy.field, copy.at
        );
    }
    Ok(found)
}

/// What the PRF is given, as paths from the connection, and where.
struct Derivation {
    client_random: (Path, Address),
    master_secret: (Path, Address),
    length: (Path, Address),
}

/// A pointer and the length that is passed beside it.
struct Buffer<'c> {
    at: Address,
    start: &'c Value,
    length: &'c Value,
}

/// Reads the derivation off the calls of a function. `tls1_PRF` takes all buffers in one call;
/// dissolved into its caller (1.1.0), one control call of the PRF takes one buffer, length first.
fn derivation(calls: &[CallSite], texts: &[Address]) -> Option<Derivation> {
    let buffers: Vec<Buffer<'_>> = calls.iter().flat_map(buffers).collect();
    let is_text = |value: &Value| texts.iter().any(|text| *value == Value::Const(text.0));
    buffers
        .iter()
        .find(|buffer| is_text(buffer.start) && *buffer.length == LABEL_LENGTH)?;
    // The server's random comes first in the seed of a key expansion.
    let mut randoms: Vec<(Path, Address)> = Vec::new();
    for buffer in buffers
        .iter()
        .filter(|buffer| *buffer.length == RANDOM_LENGTH)
    {
        if let Some(path) = field_of_connection(buffer.start)
            && !randoms.iter().any(|(known, _)| *known == path)
        {
            randoms.push((path, buffer.at));
        }
    }
    let [(server, _), (client, at)] = randoms.as_slice() else {
        return None;
    };
    let mut secrets: Vec<(Path, Path, Address)> = buffers.iter().filter_map(secret).collect();
    secrets.dedup_by(|one, other| (&one.0, &one.1) == (&other.0, &other.1));
    let [(secret, length, secret_at)] = secrets.as_slice() else {
        return None;
    };
    (server.loads == client.loads).then(|| Derivation {
        client_random: (client.clone(), *at),
        master_secret: (secret.clone(), *secret_at),
        length: (length.clone(), *secret_at),
    })
}

fn buffers(call: &CallSite) -> impl Iterator<Item = Buffer<'_>> {
    let at = call.at;
    call.arguments.windows(2).flat_map(move |pair| {
        let (one, other) = (&pair[0], &pair[1]);
        [
            Buffer {
                at,
                start: one,
                length: other,
            },
            Buffer {
                at,
                start: other,
                length: one,
            },
        ]
    })
}

/// The master secret and its length are fields of one object, the session.
fn secret(buffer: &Buffer<'_>) -> Option<(Path, Path, Address)> {
    let secret = field_of_connection(buffer.start)?;
    let length = field_of_connection(buffer.length)?.loaded_from()?;
    let same_object = secret.loads == length.loads && !secret.loads.is_empty();
    // A field itself, not what it points at.
    (same_object && secret.add > length.add).then_some((secret, length, buffer.at))
}

fn field_of_connection(value: &Value) -> Option<Path> {
    let path = value.path()?;
    (path.root == Root::Argument(0) && path.offsets().is_some()).then(|| path.clone())
}

fn key_block(elf: &Elf<'_>, function: Address, derivation: &Derivation) -> Option<KeyBlock> {
    let value = |what: &str, (path, at): &(Path, Address)| {
        Some(LayoutValue {
            path: FieldPath(path.offsets()?),
            evidence: format!("{what} of the PRF for \"{LABEL}\" at {at}: {path}"),
        })
    };
    Some(KeyBlock {
        probe: Probe {
            role: Role::KeyBlock,
            symbol: elf
                .symbols
                .at(function)
                .map(|symbol| symbol.name.to_string()),
            address: function,
            offset: elf.file_offset(function)?,
            returns: Vec::new(),
            evidence: format!("derives the key block at {}", derivation.client_random.1),
        },
        client_random: value("second seed", &derivation.client_random)?,
        master_secret: value("secret", &derivation.master_secret)?,
        length: value("secret length", &derivation.length)?,
    })
}
