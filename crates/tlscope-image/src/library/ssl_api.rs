//! The public `SSL_*` functions of the OpenSSL family: which of them to probe.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{self, CallSite, Root, Value};
use crate::elf::{Address, Elf};
use crate::library::if_all_was_walked;
use crate::plan::{Covered, Missing, Plan, Probe, Role};

/// What is probed if it is there. In each direction the plain form comes first.
const FUNCTIONS: &[(&str, Role)] = &[
    ("SSL_read", Role::Read),
    ("SSL_read_ex", Role::ReadEx),
    ("SSL_read_early_data", Role::ReadEx),
    ("SSL_write", Role::Write),
    ("SSL_write_ex", Role::WriteEx),
    ("SSL_write_ex2", Role::WriteEx2),
    ("SSL_write_early_data", Role::WriteEx),
    ("SSL_do_handshake", Role::Handshake),
    ("SSL_new", Role::New),
    ("SSL_clear", Role::Clear),
    ("SSL_free", Role::Free),
    ("SSL_set_fd", Role::SetFd),
    ("SSL_set_rfd", Role::SetFd),
    ("SSL_set_wfd", Role::SetFd),
];

/// What every version has, so that its absence means that it was not found.
const INDISPENSABLE: &[&str] = &[
    "SSL_read",
    "SSL_write",
    "SSL_do_handshake",
    "SSL_new",
    "SSL_clear",
    "SSL_free",
];

/// A function of the API, found in an image.
#[derive(Debug, Clone)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) role: Role,
    /// Its name as the image has it; `None` if the image names nothing.
    pub(super) symbol: Option<String>,
    pub(super) address: Address,
    pub(super) evidence: String,
}

impl Function {
    /// One that no symbol names, told by its code.
    pub(super) fn told(name: &'static str, role: Role, address: Address, by: &str) -> Self {
        let evidence = format!("{name} by its code: {by}");
        Self {
            name,
            role,
            symbol: None,
            address,
            evidence,
        }
    }
}

/// The functions that symbols name.
pub(super) fn named(elf: &Elf<'_>) -> Vec<Function> {
    FUNCTIONS
        .iter()
        .filter_map(|(name, role)| {
            let symbol = elf.symbols.get(name)?;
            Some(Function {
                name,
                role: *role,
                symbol: Some(symbol.name.to_string()),
                address: symbol.address,
                evidence: format!("named in {}", symbol.source),
            })
        })
        .collect()
}

/// Plans a probe on each function, save for those that hand their work to another one.
pub(super) fn add(elf: &Elf<'_>, plan: &mut Plan, functions: Vec<Function>) {
    for name in INDISPENSABLE {
        if !functions.iter().any(|function| function.name == *name) {
            plan.missing.push(not_found(name));
        }
    }
    plan.missing.extend(second_copies(elf, &functions));
    let delegations = delegations(elf, &functions);
    // Two of them may be one, and what must be the only one may not be.
    if let Err(why) = if_all_was_walked(elf, ()) {
        let what = "plaintext".into();
        plan.missing.push(Missing { what, why });
        return;
    }
    let mut taken = BTreeSet::new();
    for function in functions {
        if let Some(delegation) = delegations.get(&function.address) {
            plan.covered.push(Covered {
                symbol: function.name.to_owned(),
                by: delegation.to.to_owned(),
                evidence: format!("its call at {} leads to {}", delegation.at, delegation.to),
            });
        } else if taken.insert(function.address) {
            add_probe(elf, plan, function);
        }
    }
}

/// Where a name stands for more than one place, one is planned and the others are said.
fn second_copies(elf: &Elf<'_>, functions: &[Function]) -> Vec<Missing> {
    let named = functions
        .iter()
        .filter(|function| function.symbol.is_some());
    named
        .flat_map(|function| {
            let places = elf.symbols.addresses_of(function.name).into_iter();
            let others = places.filter(|place| *place != function.address);
            others.map(|place| Missing {
                what: format!("`{}` at {place}", function.name),
                why: format!(
                    "the image holds another one at {}, which is planned",
                    function.address
                ),
            })
        })
        .collect()
}

pub(super) fn not_found(name: &str) -> Missing {
    Missing {
        what: format!("`{name}`"),
        why: "no symbol names it, and its code does not tell it for sure".into(),
    }
}

struct Delegation {
    to: &'static str,
    at: Address,
}

/// The data functions that call another one of their own direction.
fn delegations(elf: &Elf<'_>, functions: &[Function]) -> BTreeMap<Address, Delegation> {
    let mut found: BTreeMap<Address, Delegation> = BTreeMap::new();
    for from in functions.iter().filter(|function| function.role.is_data()) {
        let callees = reached(elf, from.address);
        let to = functions.iter().find(|to| {
            to.role.is_data()
                && to.address != from.address
                && writes(to.role) == writes(from.role)
                && callees.contains_key(&to.address)
                // Two that call each other would cover each other, and neither be seen.
                && found.get(&to.address).is_none_or(|back| back.to != from.name)
        });
        if let Some(to) = to {
            let at = callees.get(&to.address).copied().unwrap_or(from.address);
            found.insert(from.address, Delegation { to: to.name, at });
        }
    }
    found
}

/// What a function calls, and what is called by those that it hands its connection and buffer to:
/// a compiler may have put a part of it, or a data function without a name, in between.
fn reached(elf: &Elf<'_>, function: Address) -> BTreeMap<Address, Address> {
    let mut reached = code::callees(elf, function);
    let handed_on = |call: &CallSite| {
        (0..2).all(|index| {
            call.arguments.get(usize::from(index)) == Some(&Value::root(Root::Argument(index)))
        })
    };
    for call in code::calls_of(elf, function)
        .iter()
        .filter(|call| handed_on(call))
    {
        let Some(target) = call.target.filter(|target| *target != function) else {
            continue;
        };
        for inner in code::calls_of(elf, target)
            .iter()
            .filter(|call| handed_on(call))
        {
            if let Some(inner) = inner.target {
                reached.entry(inner).or_insert(call.at);
            }
        }
    }
    reached
}

fn writes(role: Role) -> bool {
    matches!(role, Role::Write | Role::WriteEx | Role::WriteEx2)
}

/// Plans the probe on a function, if code stands there.
pub(super) fn add_probe(elf: &Elf<'_>, plan: &mut Plan, function: Function) {
    let Function {
        name,
        role,
        symbol,
        address,
        evidence,
    } = function;
    match elf.file_offset(address).filter(|_| elf.is_code(address)) {
        Some(offset) => plan.probes.push(Probe {
            role,
            symbol,
            address,
            offset,
            returns: Vec::new(),
            evidence,
        }),
        None => plan.missing.push(Missing {
            what: format!("`{name}`"),
            why: format!("it should be at {address}, where the file holds no code"),
        }),
    }
}
