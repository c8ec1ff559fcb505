//! TLS 1.3 secrets where a compiler took the key-log sink apart: at the function that derives them.
//!
//! RFC 8446, section 7.1: `HKDF-Expand-Label(Secret, Label, Context, Length)`. OpenSSL's is
//! `tls13_hkdf_expand(conn, md, secret, label, label_len, data, data_len, out, out_len, ..)`.
//! Which function it is shows at the calls with a label and its length; that it knows the
//! connection, and where it puts the secret, at those whose output is a field of the connection.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{self, Path, Value};
use crate::elf::{Address, Elf};
use crate::plan::{Missing, Plan, Probe, Role};

/// Labels that are handed over together with their length, save for the shortest, which other
/// texts end in.
const LABELS: &[&str] = &[
    "derived",
    "finished",
    "resumption",
    "res master",
    "exp master",
    "e exp master",
    "traffic upd",
];

/// Of a traffic secret: without it there is no TLS 1.3.
const TRAFFIC: &str = "c hs traffic";

/// One label may be passed on by chance; two that agree are the derivation.
const AGREEING: usize = 2;

const CONNECTION: usize = 0;
const LABEL: u8 = 3;
const OUTPUT: usize = 7;

/// Whether the image derives secrets of TLS 1.3.
pub(super) fn has_tls13(elf: &Elf<'_>) -> bool {
    !elf.find_text(TRAFFIC, 1).is_empty()
}

/// Plans the probe where secrets are derived. The way to the client random must be known.
pub(super) fn add_secrets(elf: &Elf<'_>, plan: &mut Plan) -> Result<(), String> {
    if plan.layout.client_random.is_none() {
        return Err("the way from a connection to its client random is not known".into());
    }
    plan.probes.push(find(elf)?);
    plan.missing.push(Missing {
        what: "secrets of key updates".into(),
        why: "each follows from the traffic secret before it (RFC 8446, section 7.2)".into(),
    });
    Ok(())
}

fn find(elf: &Elf<'_>) -> Result<Probe, String> {
    let labels = places(elf);
    let texts: Vec<Address> = labels.keys().copied().collect();
    let mut candidates: BTreeMap<Address, Vec<Expansion>> = BTreeMap::new();
    for function in code::functions_with_text(elf, &texts).into_keys() {
        for call in code::calls_of(elf, function) {
            let (Some(callee), Some(expansion)) = (call.target, expansion(&labels, &call)) else {
                continue;
            };
            candidates.entry(callee).or_default().push(expansion);
        }
    }
    candidates.retain(|_, expansions| {
        let different: BTreeSet<_> = expansions.iter().map(|one| one.label).collect();
        different.len() >= AGREEING && expansions.iter().any(|one| one.to_connection)
    });
    let mut candidates = candidates.into_iter();
    match (candidates.next(), candidates.next()) {
        (Some((address, expansions)), None) => probe(elf, address, &expansions),
        (None, _) => Err("no function is handed a connection and two labels of HKDF".into()),
        (Some((one, _)), Some((other, _))) => Err(format!(
            "labels of HKDF go to {one} and to {other}: which derives is not certain"
        )),
    }
}

/// A call that derives a secret.
struct Expansion {
    label: &'static str,
    at: Address,
    /// The secret becomes a field of the connection.
    to_connection: bool,
}

fn places(elf: &Elf<'_>) -> BTreeMap<Address, &'static str> {
    const COPIES: usize = 64;
    LABELS
        .iter()
        .flat_map(|label| {
            let places = elf.find_text(label, COPIES).into_iter();
            places.map(|place| (place, *label))
        })
        .collect()
}

fn expansion(labels: &BTreeMap<Address, &'static str>, call: &code::CallSite) -> Option<Expansion> {
    let mut arguments = call.arguments.iter().skip(usize::from(LABEL));
    let (Some(Value::Const(text)), Some(length)) = (arguments.next(), arguments.next()) else {
        return None;
    };
    let label = labels.get(&Address(*text))?;
    let is_field = |connection: &Path, output: &Path| {
        connection.root == output.root && output.loads.starts_with(&connection.loads)
    };
    let path = |index: usize| call.arguments.get(index).and_then(Value::path);
    let to_connection = match (path(CONNECTION), path(OUTPUT)) {
        (Some(connection), Some(output)) => connection != output && is_field(connection, output),
        _ => false,
    };
    (*length == Value::Const(label.len() as u64)).then_some(Expansion {
        label,
        at: call.at,
        to_connection,
    })
}

fn probe(elf: &Elf<'_>, address: Address, expansions: &[Expansion]) -> Result<Probe, String> {
    let offset = elf.file_offset(address).filter(|_| elf.is_code(address));
    let at: BTreeMap<_, _> = expansions.iter().map(|one| (one.label, one.at)).collect();
    let at: Vec<String> = at
        .iter()
        .map(|(label, at)| format!("\"{label}\" at {at}"))
        .collect();
    Ok(Probe {
        role: Role::ExpandLabel,
        symbol: elf
            .symbols
            .at(address)
            .map(|symbol| symbol.name.to_string()),
        address,
        offset: offset.ok_or_else(|| format!("what derives secrets, {address}, is no code"))?,
        returns: Vec::new(),
        evidence: format!(
            "is handed the connection, and labels of HKDF as argument {LABEL}: {}",
            at.join(", ")
        ),
    })
}
