//! The public `SSL_*` functions: which of them to probe, found by name.

use std::collections::{BTreeMap, BTreeSet};

use crate::code;
use crate::elf::{Address, Elf, Symbol};
use crate::plan::{Covered, Missing, Plan, Probe, Role};

/// What carries plaintext. In each direction the plain form comes first.
const DATA: &[(&str, Role)] = &[
    ("SSL_read", Role::Read),
    ("SSL_read_ex", Role::ReadEx),
    ("SSL_read_early_data", Role::ReadEx),
    ("SSL_write", Role::Write),
    ("SSL_write_ex", Role::WriteEx),
    ("SSL_write_ex2", Role::WriteEx2),
    ("SSL_write_early_data", Role::WriteEx),
];

/// What tells of a connection's life.
const LIFECYCLE: &[(&str, Role)] = &[
    ("SSL_do_handshake", Role::Handshake),
    ("SSL_new", Role::New),
    ("SSL_clear", Role::Clear),
    ("SSL_free", Role::Free),
];

/// The functions without which the text of a direction is not complete.
const INDISPENSABLE: &[&str] = &["SSL_read", "SSL_write"];

/// Plans a probe on each data function that does its work itself.
pub(super) fn add_data(elf: &Elf<'_>, plan: &mut Plan) {
    let present: Vec<(&Symbol<'_>, Role)> = DATA
        .iter()
        .filter_map(|(name, role)| Some((elf.symbols.get(name)?, *role)))
        .collect();
    for name in INDISPENSABLE
        .iter()
        .filter(|name| elf.symbols.get(name).is_none())
    {
        plan.missing.push(unnamed(name));
    }
    let delegations = delegations(elf, &present);
    let mut taken = BTreeSet::new();
    for (symbol, role) in present {
        if let Some(delegation) = delegations.get(&symbol.address) {
            plan.covered.push(Covered {
                symbol: symbol.name.to_string(),
                by: delegation.to.clone(),
                evidence: format!("calls {} at {}", delegation.to, delegation.at),
            });
        } else if taken.insert(symbol.address) {
            add_probe(elf, plan, symbol, role);
        }
    }
}

pub(super) fn add_lifecycle(elf: &Elf<'_>, plan: &mut Plan) {
    for (name, role) in LIFECYCLE {
        match elf.symbols.get(name) {
            Some(symbol) => add_probe(elf, plan, symbol, *role),
            None => plan.missing.push(unnamed(name)),
        }
    }
}

pub(super) fn unnamed(name: &str) -> Missing {
    Missing {
        what: format!("`{name}`"),
        why: "no symbol names it".into(),
    }
}

struct Delegation {
    to: String,
    at: Address,
}

/// The data functions that call another one of their own direction.
fn delegations(elf: &Elf<'_>, present: &[(&Symbol<'_>, Role)]) -> BTreeMap<Address, Delegation> {
    let mut found: BTreeMap<Address, Delegation> = BTreeMap::new();
    for (from, from_role) in present {
        let callees = code::callees(elf, from.address);
        let to = present.iter().find(|(to, to_role)| {
            to.address != from.address
                && writes(*to_role) == writes(*from_role)
                && callees.contains_key(&to.address)
                // Two that call each other would cover each other, and neither be seen.
                && found.get(&to.address).is_none_or(|back| back.to != from.name)
        });
        if let Some((to, _)) = to {
            let at = callees.get(&to.address).copied().unwrap_or(from.address);
            found.insert(
                from.address,
                Delegation {
                    to: to.name.to_string(),
                    at,
                },
            );
        }
    }
    found
}

fn writes(role: Role) -> bool {
    matches!(role, Role::Write | Role::WriteEx | Role::WriteEx2)
}

fn add_probe(elf: &Elf<'_>, plan: &mut Plan, symbol: &Symbol<'_>, role: Role) {
    match elf
        .file_offset(symbol.address)
        .filter(|_| elf.is_code(symbol.address))
    {
        Some(offset) => plan.probes.push(Probe {
            role,
            symbol: Some(symbol.name.to_string()),
            address: symbol.address,
            offset,
            evidence: format!("named in {}", symbol.source),
        }),
        None => plan.missing.push(Missing {
            what: format!("`{}`", symbol.name),
            why: format!(
                "its symbol says {}, where the file holds no code",
                symbol.address
            ),
        }),
    }
}
