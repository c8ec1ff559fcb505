//! The one function that all data goes out through, and the one that encrypts it.
//!
//! `_gnutls_send_tlen_int` serves `gnutls_record_send`, `_send2`, `_send_range`, `_send_file`, early
//! data and what `gnutls_record_uncork` flushes: corked data passes once, when it is sent. After
//! `GNUTLS_E_AGAIN` a call with no data at all goes on with the record that was encrypted before.
//! `_gnutls_encrypt` tells them apart: each byte that is sent was encrypted once.

use std::collections::BTreeSet;

use super::only_asserting;
use crate::code::{self, CallSite, Root, Value};
use crate::elf::{Address, Elf};
use crate::library::ssl_api::{self, Function};
use crate::plan::{Covered, Missing, Plan, Role};

pub(super) const WORKER: &str = "_gnutls_send_tlen_int";
pub(super) const SEAL: &str = "_gnutls_encrypt";

/// RFC 8446, section 5.1: `application_data(23)`.
const APPLICATION_DATA: Value = Value::Const(23);

/// Pads and splits by itself; the others hand all on.
const SEND_RANGE: &str = "gnutls_record_send_range";

const COVERED: &[&str] = &[
    "gnutls_record_send",
    "gnutls_record_send2",
    SEND_RANGE,
    "gnutls_record_send_early_data",
    "gnutls_record_send_file",
    "gnutls_record_uncork",
];

/// Plans the probes on what is sent, or says why not.
pub(super) fn add(elf: &Elf<'_>, plan: &mut Plan) {
    let (worker, seal, by) = match find(elf) {
        Ok(found) => found,
        Err(why) => {
            let what = "plaintext sent".into();
            plan.missing.push(Missing { what, why });
            return;
        }
    };
    let role = if seal.is_some() {
        Role::SendSealed
    } else {
        Role::SendRecord
    };
    ssl_api::add_probe(elf, plan, Function::told(WORKER, role, worker, &by));
    match seal {
        Some((seal, at)) => {
            let by = format!("{WORKER} hands it its own data at {at}");
            let function = Function::told(SEAL, Role::SealRecord, seal, &by);
            ssl_api::add_probe(elf, plan, function);
        }
        None => plan.missing.push(Missing {
            what: "plaintext of a send that is resumed without its data after GNUTLS_E_AGAIN"
                .into(),
            why: format!("{WORKER} shows no call that encrypts its data"),
        }),
    }
    let named = COVERED.iter().filter_map(|name| elf.symbols.get(name));
    plan.covered.extend(named.map(|symbol| Covered {
        symbol: symbol.name.to_string(),
        by: WORKER.to_owned(),
        evidence: "what it sends passes there as records".into(),
    }));
}

type Place = (Address, Address);

fn find(elf: &Elf<'_>) -> Result<(Address, Option<Place>, String), String> {
    let (worker, by) = if let Some(range) = elf.symbols.get(SEND_RANGE) {
        called_by_range(elf, range.address)?
    } else {
        let worker = only_asserting(elf, WORKER)
            .ok_or_else(|| format!("no single function says {WORKER} in its assertions"))?;
        (worker, "its assertions say its name".to_owned())
    };
    let seal = seal(elf, worker);
    if seal.is_none() && !resumed_by_range(elf, worker) {
        return Err(format!(
            "neither {SEND_RANGE} nor a call that encrypts shows which arguments of {worker} are the data"
        ));
    }
    Ok((worker, seal, by))
}

/// `_gnutls_send_tlen_int(session, GNUTLS_APPLICATION_DATA, ..)`
fn called_by_range(elf: &Elf<'_>, range: Address) -> Result<(Address, String), String> {
    let calls = code::calls_of(elf, range);
    let sends = calls.iter().filter(|call| sends_data(call));
    let found: BTreeSet<Address> = sends.filter_map(|call| call.target).collect();
    let mut targets = found.into_iter();
    let only = targets.next().filter(|_| targets.next().is_none());
    let by = format!("{SEND_RANGE} hands it the session and the type 23");
    only.map(|target| (target, by))
        .ok_or_else(|| format!("{SEND_RANGE} does not show the function that sends records"))
}

fn sends_data(call: &CallSite) -> bool {
    let [session, kind, ..] = call.arguments.as_slice() else {
        return false;
    };
    *session == Value::root(Root::Argument(0)) && *kind == APPLICATION_DATA
}

/// The call that hands on the worker's session, data and type:
/// `_gnutls_encrypt(session, data, size, pad, buffer, type, ..)`.
fn seal(elf: &Elf<'_>, worker: Address) -> Option<Place> {
    const ARGUMENTS: [(usize, u8); 3] = [(0, 0), (1, 4), (5, 1)];
    let hands_on = |call: &CallSite| {
        ARGUMENTS.iter().all(|(position, own)| {
            call.arguments.get(*position) == Some(&Value::root(Root::Argument(*own)))
        })
    };
    let calls = code::calls_of(elf, worker);
    let seals = calls.iter().filter(|call| hands_on(call));
    let found: BTreeSet<Place> = seals
        .filter_map(|call| Some((call.target?, call.at)))
        .collect();
    let targets: BTreeSet<Address> = found.iter().map(|(target, _)| *target).collect();
    found.first().copied().filter(|_| targets.len() == 1)
}

/// The call that resumes a send has no data: it shows which arguments those are.
fn resumed_by_range(elf: &Elf<'_>, worker: Address) -> bool {
    const NONE: Option<&Value> = Some(&Value::Const(0));
    elf.symbols.get(SEND_RANGE).is_some_and(|range| {
        code::calls_of(elf, range.address).iter().any(|call| {
            let [data, size] = [4, 5].map(|position| call.arguments.get(position));
            call.target == Some(worker) && sends_data(call) && data == NONE && size == NONE
        })
    })
}
