//! TLS 1.3 secrets where there is no key-log sink: at the function that derives them.
//!
//! RFC 8446, section 7.1: `HKDF-Expand-Label(Secret, Label, Context, Length)`. LibreSSL has no sink,
//! and a compiler may take OpenSSL's or BoringSSL's apart. Which function derives shows at the calls
//! with a label; a form says what else must show there.

mod chain;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use self::chain::Chain;
use crate::code::{self, Path, Value};
use crate::elf::{Address, Elf};
use crate::library::if_all_was_walked;
use crate::plan::{ExpansionAbi, Missing, Plan, Probe, Role};

/// Labels of which the shortest are left out: other texts end in them.
const LABELS: &[&str] = &[
    "derived",
    "finished",
    "resumption",
    "res master",
    "exp master",
    "e exp master",
    "traffic upd",
    "c e traffic",
    HANDSHAKE,
    "s hs traffic",
    TRAFFIC,
    "s ap traffic",
];

/// Without these there is no TLS 1.3.
const HANDSHAKE: &str = "c hs traffic";
const TRAFFIC: &str = "c ap traffic";

/// The labels of the secrets that a key log holds, and what it calls them.
const LOGGED: &[(&str, &str)] = &[
    ("c e traffic", "CLIENT_EARLY_TRAFFIC_SECRET"),
    (HANDSHAKE, "CLIENT_HANDSHAKE_TRAFFIC_SECRET"),
    ("s hs traffic", "SERVER_HANDSHAKE_TRAFFIC_SECRET"),
    (TRAFFIC, "CLIENT_TRAFFIC_SECRET_0"),
    ("s ap traffic", "SERVER_TRAFFIC_SECRET_0"),
    ("e exp master", "EARLY_EXPORTER_SECRET"),
    ("exp master", "EXPORTER_SECRET"),
];

/// Those of early data.
const EARLY: &[&str] = &["c e traffic", "e exp master"];

/// One label may be passed on by chance; two that agree are the derivation.
const AGREEING: usize = 2;

/// How a function that derives secrets is called.
#[derive(Debug)]
pub(super) struct Form {
    abi: ExpansionAbi,
    /// Labels that it must be handed, where all of them are constants at its calls.
    handed: &'static [&'static str],
    /// What one of its calls has to show besides.
    shows: fn(&[Value]) -> bool,
}

/// `tls13_hkdf_expand(conn, md, secret, label, label_len, data, data_len, out, out_len, ..)`, and
/// from 3.2 on `tls13_hkdf_expand_ex(libctx, propq, md, secret, label, ..)`: what it derives becomes
/// a field of the connection.
pub(super) const OPENSSL: &[Form] = &[
    Form {
        abi: ExpansionAbi {
            connection: Some(0),
            label: 3,
            label_length: Some(4),
            output: 7,
            output_length: Some(8),
            early: true,
        },
        handed: &[],
        shows: |passed| is_field(passed, 0, 7),
    },
    Form {
        abi: ExpansionAbi {
            connection: None,
            label: 4,
            label_length: Some(5),
            output: 8,
            output_length: Some(9),
            early: true,
        },
        handed: &[],
        shows: |passed| same_object(passed, 3, 8),
    },
];

/// `tls13_hkdf_expand_label_with_length(out, digest, secret, label, label_len, context)`, or
/// `tls13_derive_secret(out, digest, secret, label, context)`: both secrets are fields of one object.
pub(super) const LIBRESSL: &[Form] = &[
    Form {
        abi: ExpansionAbi {
            connection: None,
            label: 3,
            label_length: Some(4),
            output: 0,
            output_length: None,
            early: false,
        },
        handed: &[HANDSHAKE, TRAFFIC],
        shows: |passed| same_object(passed, 0, 2),
    },
    Form {
        abi: ExpansionAbi {
            connection: None,
            label: 3,
            label_length: None,
            output: 0,
            output_length: None,
            early: false,
        },
        handed: &[HANDSHAKE, TRAFFIC],
        shows: |passed| same_object(passed, 0, 2),
    },
];

/// `derive_secret(hs, out, out_len, label, label_len)`, or where that is dissolved too
/// `hkdf_expand_label(out, out_len, digest, secret, secret_len, label, label_len, ..)`.
pub(super) const BORINGSSL: &[Form] = &[
    Form {
        abi: ExpansionAbi {
            connection: None,
            label: 3,
            label_length: Some(4),
            output: 1,
            output_length: Some(2),
            early: true,
        },
        handed: &[HANDSHAKE, TRAFFIC],
        shows: |passed| is_field(passed, 0, 1),
    },
    Form {
        abi: ExpansionAbi {
            connection: None,
            label: 5,
            label_length: Some(6),
            output: 0,
            output_length: Some(1),
            early: true,
        },
        handed: &[HANDSHAKE, TRAFFIC],
        shows: |passed| same_object(passed, 0, 3),
    },
];

/// Whether the image derives secrets of TLS 1.3.
pub(super) fn has_tls13(elf: &Elf<'_>) -> bool {
    !elf.find_text(HANDSHAKE, 1).is_empty()
}

/// Plans the probe where secrets are derived, and those on the handshakes where it is not told for
/// whom. The way to the client random must be known.
pub(super) fn add_secrets(
    elf: &Elf<'_>,
    plan: &mut Plan,
    forms: &[Form],
    handshakes: impl FnOnce() -> Result<Vec<Probe>, String>,
) -> Result<(), String> {
    if plan.layout.client_random.is_none() {
        return Err("the way from a connection to its client random is not known".into());
    }
    let Derivation { probe, abi, lost } = if_all_was_walked(elf, find(elf, forms)?)?;
    if abi.connection.is_none() {
        plan.probes.extend(handshakes()?);
    }
    plan.probes.push(probe);
    plan.layout.expansion = Some(abi);
    plan.missing.extend(lost);
    plan.missing.push(Missing {
        what: "secrets of key updates".into(),
        why: "each follows from the traffic secret before it (RFC 8446, section 7.2)".into(),
    });
    Ok(())
}

/// A call that derives a secret.
struct Expansion {
    label: &'static str,
    at: Address,
    shows: bool,
}

/// What derives, and which secrets are not seen to be derived there.
struct Derivation {
    probe: Probe,
    abi: ExpansionAbi,
    lost: Vec<Missing>,
}

fn find(elf: &Elf<'_>, forms: &[Form]) -> Result<Derivation, String> {
    let labels = places(elf);
    let candidates = candidates(elf, forms, &labels);
    let taking: Vec<_> = candidates
        .iter()
        .map(|(callee, (form, _))| (*callee, *form))
        .collect();
    let chain = Chain::of(elf, forms, &taking)?;
    let (address, form) = chain.probed;
    let expansions = candidates.values().flat_map(|(_, expansions)| expansions);
    let mut evidence = evidence(expansions);
    if let Some(inner) = chain.inner {
        let _ = write!(
            evidence,
            "; hands all on to {inner}, which is handed no other secret"
        );
    } else if let Some(outer) = chain.passed_by {
        let _ = write!(evidence, "; {outer} hands on to it, and is not handed all");
    }
    Ok(Derivation {
        probe: probe(elf, address, evidence)?,
        abi: form.abi,
        lost: lost(elf, &labels, &chain, form.abi.early)?,
    })
}

/// The functions that are handed labels, with the first form that fits: the others may say less of
/// the same calls.
fn candidates<'f>(
    elf: &Elf<'_>,
    forms: &'f [Form],
    labels: &BTreeMap<Address, &'static str>,
) -> BTreeMap<Address, (&'f Form, Vec<Expansion>)> {
    let texts: Vec<Address> = labels.keys().copied().collect();
    let mut candidates: BTreeMap<Address, BTreeMap<usize, Vec<Expansion>>> = BTreeMap::new();
    for function in code::functions_with_text(elf, &texts).into_keys() {
        for call in code::calls_of(elf, function) {
            let Some(callee) = call.target else { continue };
            for (index, form) in forms.iter().enumerate() {
                if let Some(expansion) = expansion(labels, form, &call) {
                    let of_callee = candidates.entry(callee).or_default();
                    of_callee.entry(index).or_default().push(expansion);
                }
            }
        }
    }
    let fitting = candidates.into_iter().filter_map(|(callee, by_form)| {
        let mut fitting = by_form
            .into_iter()
            .filter_map(|(index, expansions)| Some((forms.get(index)?, expansions)))
            .filter(|(form, expansions)| fits(form, expansions));
        Some((callee, fitting.next()?))
    });
    fitting.collect()
}

/// The secrets whose labels no code is seen to hand to what derives: a compiler may have dissolved
/// it into some of its callers.
fn lost(
    elf: &Elf<'_>,
    labels: &BTreeMap<Address, &'static str>,
    chain: &Chain<'_>,
    early: bool,
) -> Result<Vec<Missing>, String> {
    let logged = |label: &str| {
        let mut logged = LOGGED.iter().filter(|one| early || !EARLY.contains(&one.0));
        logged.find(|one| one.0 == label)
    };
    let wanted: BTreeMap<Address, &(&str, &str)> = labels
        .iter()
        .filter_map(|(place, label)| Some((*place, logged(label)?)))
        .collect();
    let texts: Vec<Address> = wanted.keys().copied().collect();
    let mut reached = BTreeSet::new();
    for call in code::calls_holding(elf, &texts) {
        if let Some((label, _)) = wanted.get(&call.text)
            && !reached.contains(label)
            && chain.is_reached(elf, call)
        {
            reached.insert(*label);
        }
    }
    if ![HANDSHAKE, TRAFFIC]
        .iter()
        .any(|label| reached.contains(label))
    {
        return Err(format!(
            "no code is seen to hand \"{HANDSHAKE}\" or \"{TRAFFIC}\" to a function that derives"
        ));
    }
    let stand: BTreeSet<_> = wanted.into_values().collect();
    let lost = stand.into_iter().filter(|one| !reached.contains(one.0));
    Ok(lost
        .map(|(label, secret)| Missing {
            what: format!("secret `{secret}`"),
            why: format!("no code is seen to hand its label, \"{label}\", to what derives"),
        })
        .collect())
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

fn expansion(
    labels: &BTreeMap<Address, &'static str>,
    form: &Form,
    call: &code::CallSite,
) -> Option<Expansion> {
    let argument = |index: u8| call.arguments.get(usize::from(index));
    let Some(Value::Const(text)) = argument(form.abi.label) else {
        return None;
    };
    let label = labels.get(&Address(*text))?;
    let length = Value::Const(label.len() as u64);
    let is_whole = form
        .abi
        .label_length
        .is_none_or(|index| argument(index) == Some(&length));
    is_whole.then(|| Expansion {
        label,
        at: call.at,
        shows: (form.shows)(&call.arguments),
    })
}

fn fits(form: &Form, expansions: &[Expansion]) -> bool {
    let different: BTreeSet<_> = expansions.iter().map(|one| one.label).collect();
    different.len() >= AGREEING
        && form.handed.iter().all(|label| different.contains(label))
        && expansions.iter().any(|one| one.shows)
}

fn path(passed: &[Value], index: usize) -> Option<&Path> {
    passed.get(index).and_then(Value::path)
}

/// Whether one argument is a field of the object that another one is, or of one behind it.
fn is_field(passed: &[Value], object: usize, field: usize) -> bool {
    match (path(passed, object), path(passed, field)) {
        (Some(object), Some(field)) => {
            object != field && object.root == field.root && field.loads.starts_with(&object.loads)
        }
        _ => false,
    }
}

/// Whether two arguments are different fields of the same object.
fn same_object(passed: &[Value], one: usize, other: usize) -> bool {
    match (path(passed, one), path(passed, other)) {
        (Some(one), Some(other)) => {
            one.root == other.root && one.loads == other.loads && one.add != other.add
        }
        _ => false,
    }
}

fn evidence<'e>(expansions: impl Iterator<Item = &'e Expansion>) -> String {
    let at: BTreeMap<_, _> = expansions.map(|one| (one.label, one.at)).collect();
    let at: Vec<String> = at
        .iter()
        .map(|(label, at)| format!("\"{label}\" at {at}"))
        .collect();
    format!("derives by {} labels: {}", at.len(), at.join(", "))
}

fn probe(elf: &Elf<'_>, address: Address, evidence: String) -> Result<Probe, String> {
    let offset = elf.file_offset(address).filter(|_| elf.is_code(address));
    Ok(Probe {
        role: Role::ExpandLabel,
        symbol: elf
            .symbols
            .at(address)
            .map(|symbol| symbol.name.to_string()),
        address,
        offset: offset.ok_or_else(|| format!("what derives secrets, {address}, is no code"))?,
        returns: Vec::new(),
        evidence,
    })
}
