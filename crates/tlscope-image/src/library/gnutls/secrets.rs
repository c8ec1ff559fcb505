//! GnuTLS's secrets: its key-log sink, and the master secret of resumed sessions.
//!
//! The sink is `_gnutls_call_keylog_func(session, label, secret, size)` (3.6.13 and later), before it
//! `_gnutls_nss_keylog_write` of the same form. `CLIENT_RANDOM` passes there when a master secret is
//! made, which a resumed TLS 1.2 session does not do: what the Finished messages verify is derived
//! from it in every TLS 1.2 handshake.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{self, Copy, Root, Value};
use crate::elf::{Address, Elf};
use crate::library::sink;
use crate::library::ssl_api::{self, Function};
use crate::plan::{FieldPath, LayoutValue, Missing, Plan, Role};

/// RFC 5246, section 7.4.9: the labels of `verify_data`.
const FINISHED: &str = "client finished";
/// RFC 5246, section 8.1: a master secret is 48 bytes.
const MASTER_LENGTH: Value = Value::Const(48);

const KIND: sink::Kind = sink::Kind {
    takes: |elf, sink, label| {
        code::takes_argument(elf, sink, label) || calls_back(elf, sink, label).is_some()
    },
    asks,
    client_random: |elf, _| client_random(elf).map(|value| (value, None)),
};

pub(super) fn add(elf: &Elf<'_>, plan: &mut Plan) {
    if sink::has_labels(elf) {
        if let Err(why) = sink::add_secrets(elf, plan, &KIND) {
            plan.missing.push(sink::not_found(why));
        }
    } else {
        plan.missing.push(Missing {
            what: "secrets of TLS 1.3".into(),
            why: "no key-log label stands in the image".into(),
        });
    }
    if let Err(why) = add_finished(elf, plan) {
        let what = "secrets of resumed TLS 1.2 sessions".into();
        plan.missing.push(Missing { what, why });
    }
}

/// Where a function calls back what the session holds, with the label where it found it itself.
fn calls_back(elf: &Elf<'_>, sink: Address, label: u8) -> Option<Address> {
    let own = Value::root(Root::Argument(label));
    let calls = code::calls_of(elf, sink);
    let mut back = calls.iter().filter(|call| {
        let function = call.through.path();
        function.is_some_and(|path| path.root == Root::Argument(0) && path.loads.len() == 1)
            && call.arguments.get(usize::from(label)) == Some(&own)
    });
    back.next().map(|call| call.at)
}

/// The session holds the application's function, or (before 3.6.13) the function itself asks for
/// `SSLKEYLOGFILE`.
fn asks(elf: &Elf<'_>, sink: Address, session: u8) -> Option<Address> {
    const VARIABLE: &str = "SSLKEYLOGFILE";
    code::tests_pointer_behind(elf, sink, session, 1).or_else(|| {
        let texts = elf.find_text(VARIABLE, 4);
        code::functions_with_text(elf, &texts).get(&sink).copied()
    })
}

/// As `gnutls_session_get_random` hands it out, and as the writer of key-log lines takes it: where
/// both are legible they must agree.
fn client_random(elf: &Elf<'_>) -> Result<LayoutValue, String> {
    let mut found: BTreeMap<Vec<u32>, Vec<String>> = BTreeMap::new();
    let mut add = |by: &str, copies: Vec<Copy>| {
        for copy in copies {
            if let Some(path) = copy.field.offsets() {
                found
                    .entry(path)
                    .or_default()
                    .push(format!("{by} at {}", copy.at));
            }
        }
    };
    if let Some(accessor) = elf.symbols.get("gnutls_session_get_random") {
        let given = code::addresses_given(elf, accessor.address, 1);
        add("gnutls_session_get_random hands it out", given);
    }
    for writer in line_writers(elf) {
        let passed = code::random_passed_on(elf, writer);
        add(
            "the writer of key-log lines takes it with length 0x20",
            passed,
        );
    }
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some((path, by)), None) => Ok(LayoutValue {
            path: FieldPath(path),
            evidence: by.join("; "),
        }),
        (None, _) => Err("no code shows where the client random is".into()),
        (Some((one, _)), Some((other, _))) => Err(format!(
            "the client random is at {} or at {}: which is not certain",
            FieldPath(one),
            FieldPath(other)
        )),
    }
}

/// The functions that print lines of a key log.
fn line_writers(elf: &Elf<'_>) -> Vec<Address> {
    // With the label in the line before TLS 1.3 (3.5).
    const LINES: [&str; 2] = ["%s %s %s\n", "CLIENT_RANDOM %s %s\n"];
    let texts: Vec<Address> = LINES
        .iter()
        .flat_map(|line| elf.find_text(line, 16))
        .collect();
    code::functions_with_text(elf, &texts).into_keys().collect()
}

/// Probes each function that derives what the Finished messages of TLS 1.0 to 1.2 verify:
/// `PRF(master_secret, "client finished", ..)`. One, or two where a compiler put it into its callers.
fn add_finished(elf: &Elf<'_>, plan: &mut Plan) -> Result<(), String> {
    const COPIES: usize = 16;
    let texts = elf.find_text(FINISHED, COPIES);
    let functions = code::functions_with_text(elf, &texts).into_keys();
    let given: Vec<(Address, Copy)> = functions
        .filter_map(|function| Some((function, master_secret(elf, function)?)))
        .collect();
    let paths: BTreeSet<_> = given.iter().map(|(_, copy)| copy.field.clone()).collect();
    let (Some((_, first)), 1) = (given.first(), paths.len()) else {
        return Err(format!(
            "{} functions show the master secret beside \"{FINISHED}\"",
            given.len()
        ));
    };
    let path = first
        .field
        .offsets()
        .ok_or("the master secret is no field")?;
    if plan.layout.client_random.is_none() {
        plan.layout.client_random = Some(client_random(elf)?);
    }
    plan.layout.master_secret = Some(LayoutValue {
        evidence: confirmed(elf, first)?,
        path: FieldPath(path),
    });
    for (function, copy) in &given {
        let by = format!("derives what Finished verifies at {}", copy.at);
        let function = Function::told("_gnutls_finished", Role::KeyBlock, *function, &by);
        ssl_api::add_probe(elf, plan, function);
    }
    Ok(())
}

/// The field of the session that a function passes on beside the length of a master secret.
fn master_secret(elf: &Elf<'_>, function: Address) -> Option<Copy> {
    let is_field = |value: &Value| {
        let path = value.path()?;
        let field = path.root == Root::Argument(0) && path.loads.is_empty() && path.add > 0;
        field.then(|| path.clone())
    };
    let mut fields = BTreeSet::new();
    for call in code::calls_of(elf, function) {
        for pair in call.arguments.windows(2) {
            let field = match pair {
                [value, length] | [length, value] if *length == MASTER_LENGTH => is_field(value),
                _ => None,
            };
            fields.extend(field.map(|field| Copy { field, at: call.at }));
        }
    }
    let different: BTreeSet<_> = fields.iter().map(|copy| &copy.field).collect();
    if different.len() != 1 {
        return None;
    }
    fields.pop_first()
}

/// `gnutls_session_get_master_secret`, where it is named, must hand out the same field.
fn confirmed(elf: &Elf<'_>, copy: &Copy) -> Result<String, String> {
    let by = format!("secret of the PRF for \"{FINISHED}\" at {}", copy.at);
    let Some(accessor) = elf.symbols.get("gnutls_session_get_master_secret") else {
        return Ok(by);
    };
    match code::addresses_given(elf, accessor.address, 1).as_slice() {
        [given] if given.field == copy.field => Ok(format!(
            "{by}; gnutls_session_get_master_secret hands it out at {}",
            given.at
        )),
        [] => Ok(by),
        given => Err(format!(
            "{by} is {}, but gnutls_session_get_master_secret hands out {}",
            copy.field, given[0].field
        )),
    }
}
