//! Where the client random stands, as a path from the connection that the key-log sink is given.

use std::collections::BTreeMap;

use crate::code::{self, Copy, Root};
use crate::elf::{Address, Elf};
use crate::library::key_block;
use crate::plan::{FieldPath, LayoutValue, Missing};

type Offsets = Vec<u32>;

/// The client random as `SSL_get_client_random` copies it (or as the TLS 1.2 key derivation takes
/// it), and as the sink itself uses it. Where both are legible they must agree.
pub(super) fn of_sink(
    elf: &Elf<'_>,
    sink: Address,
) -> Result<(LayoutValue, Option<Missing>), String> {
    let used = used_by(elf, sink);
    let known = by_accessor(elf).or_else(|| {
        // Where the sink is clear, no more is asked.
        if used.len() == 1 {
            None
        } else {
            key_block::client_random(elf).ok()
        }
    });
    match known {
        Some(known) => agreed(known, &used, sink),
        None => match used.into_iter().collect::<Vec<_>>().as_slice() {
            [(path, at)] => Ok((
                LayoutValue {
                    path: FieldPath(path.clone()),
                    evidence: by_sink(*at),
                },
                None,
            )),
            _ => Err(format!(
                "the key-log sink is {sink}, but neither SSL_get_client_random nor its own code \
                 shows where the client random is"
            )),
        },
    }
}

/// As told by others than the sink.
pub(super) fn known(elf: &Elf<'_>) -> Option<LayoutValue> {
    by_accessor(elf).or_else(|| key_block::client_random(elf).ok())
}

fn agreed(
    known: LayoutValue,
    used: &BTreeMap<Offsets, Address>,
    sink: Address,
) -> Result<(LayoutValue, Option<Missing>), String> {
    if let Some(at) = used.get(&known.path.0) {
        let evidence = format!("{}; {}", known.evidence, by_sink(*at));
        let exception = (used.len() > 1).then(of_other_hello);
        return Ok((LayoutValue { evidence, ..known }, exception));
    }
    if used.is_empty() {
        return Ok((known, None));
    }
    let paths: Vec<String> = used
        .keys()
        .map(|path| FieldPath(path.clone()).to_string())
        .collect();
    Err(format!(
        "{}, but the key-log sink {sink} takes {}: which is the client random is not certain",
        known.evidence,
        paths.join(" and "),
    ))
}

fn by_sink(at: Address) -> String {
    format!("the sink takes it with length 0x20 at {at}")
}

/// OpenSSL 4.0 logs the random of the hello that the server took, if one was encrypted inside
/// another.
fn of_other_hello() -> Missing {
    Missing {
        what: "secrets of connections with an Encrypted Client Hello".into(),
        why: "the sink then takes another random, which the plan does not follow".into(),
    }
}

fn used_by(elf: &Elf<'_>, sink: Address) -> BTreeMap<Offsets, Address> {
    let mut copies = code::random_passed_on(elf, sink);
    if copies.is_empty() {
        copies = code::random_looped_over(elf, sink);
    }
    copies
        .into_iter()
        .filter_map(|copy| Some((copy.field.offsets()?, copy.at)))
        .collect()
}

fn by_accessor(elf: &Elf<'_>) -> Option<LayoutValue> {
    let accessor = elf.symbols.get("SSL_get_client_random")?;
    let copies = code::copies_to_argument(elf, accessor.address, 1);
    let (path, copy) = direct(&copies)?;
    let evidence = format!("SSL_get_client_random copies {} at {}", copy.field, copy.at);
    Some(LayoutValue {
        path: FieldPath(path),
        evidence,
    })
}

/// The path that starts at the connection itself. Where the public object may be a QUIC one (3.2
/// and later), an accessor also walks to the connection inside; those paths end in the same way.
fn direct(copies: &[Copy]) -> Option<(Offsets, &Copy)> {
    let from_argument = copies
        .iter()
        .filter(|copy| copy.field.root == Root::Argument(0));
    let (path, copy) = from_argument
        .filter_map(|copy| Some((copy.field.offsets()?, copy)))
        .min_by_key(|(path, _)| path.len())?;
    copies
        .iter()
        .filter_map(|other| other.field.offsets())
        .all(|other| other.ends_with(&path))
        .then_some((path, copy))
}
