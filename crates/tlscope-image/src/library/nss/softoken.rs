//! libsoftokn3: where keys come into being, and where their bytes pass.
//!
//! The table of functions is PKCS #11's own (`CK_FUNCTION_LIST`), so the index of an entry is
//! fixed. `FC_*`, the FIPS token, hands its work to the same functions.

use std::collections::BTreeSet;

use super::{missing, probe};
use crate::code::{self, Root, StraightCall, Value};
use crate::elf::{Address, Elf, SlotTarget};
use crate::plan::{Plan, Probe, Role};

/// Exported by every libsoftokn3, and by no other token.
pub(super) const MARK: &str = "NSC_GetFunctionList";

/// Positions in `CK_FUNCTION_LIST`, behind its version (PKCS #11 2.40, section 3.6).
const CREATE_OBJECT: u64 = 20;
const UNWRAP_KEY: u64 = 61;
const DERIVE_KEY: u64 = 62;

/// `CKA_VALUE`: the attribute that holds a key's bytes.
const VALUE: u64 = 0x11;
/// RFC 5246, section 8.1: a master secret is 48 bytes.
const MASTER_SECRET: u64 = 48;

pub(super) fn add_keys(elf: &Elf<'_>, plan: &mut Plan) {
    match keys(elf) {
        Ok(probes) => plan.probes.extend(probes),
        Err(why) => plan.missing.push(missing("the bytes of secrets", why)),
    }
}

fn keys(elf: &Elf<'_>) -> Result<Vec<Probe>, String> {
    let table = function_list(elf)?;
    let derive = entry(elf, table, DERIVE_KEY)?;
    let unwrap = entry(elf, table, UNWRAP_KEY)?;
    let create = entry(elf, table, CREATE_OBJECT)?;
    let of_table = |index: u64| format!("entry {index} of the function list at {table}");
    let mut probes = vec![
        probe(elf, Role::TokenDerive, derive, of_table(DERIVE_KEY))?,
        probe(elf, Role::TokenUnwrap, unwrap, of_table(UNWRAP_KEY))?,
        probe(elf, Role::TokenCreate, create, of_table(CREATE_OBJECT))?,
    ];
    let derived = setter(elf, derive, "C_DeriveKey", |call| {
        call.constants.get(3) == Some(&Some(MASTER_SECRET))
    })?;
    let unwrapped = setter(elf, unwrap, "C_UnwrapKey", |_| true)?;
    probes.push(probe(
        elf,
        Role::TokenValue,
        derived.target,
        evidence("C_DeriveKey", &derived),
    )?);
    if unwrapped.target != derived.target {
        probes.push(probe(
            elf,
            Role::TokenValue,
            unwrapped.target,
            evidence("C_UnwrapKey", &unwrapped),
        )?);
    }
    Ok(probes)
}

fn evidence(caller: &str, call: &StraightCall) -> String {
    format!("{caller} hands it CKA_VALUE and bytes at {}", call.at)
}

/// What `NSC_GetFunctionList` stores where its argument points.
fn function_list(elf: &Elf<'_>) -> Result<Address, String> {
    let symbol = elf.symbols.get(MARK);
    let symbol = symbol.ok_or_else(|| format!("{MARK} has no symbol"))?;
    let stored = code::transfers_of(elf, symbol.address);
    let tables: BTreeSet<u64> = stored
        .into_iter()
        .filter(|transfer| transfer.to == Value::root(Root::Argument(0)))
        .filter_map(|transfer| match transfer.value {
            Value::Const(address) => Some(address),
            _ => None,
        })
        .collect();
    match (tables.first(), tables.len()) {
        (Some(table), 1) => Ok(Address(*table)),
        _ => Err(format!("{MARK} does not show the list of functions")),
    }
}

fn entry(elf: &Elf<'_>, table: Address, index: u64) -> Result<Address, String> {
    const POINTER: u64 = 8;
    let slot = table.checked_add((1 + index) * POINTER);
    match slot.and_then(|slot| elf.relocations.at(slot)) {
        Some(SlotTarget::Local(address) | SlotTarget::Named(_, Some(address))) => Ok(address),
        _ => Err(format!(
            "entry {index} of the function list at {table} is empty"
        )),
    }
}

/// The one internal function that is given `CKA_VALUE` as its second argument and takes a value
/// and a length behind it.
fn setter(
    elf: &Elf<'_>,
    function: Address,
    name: &str,
    is_it: impl Fn(&StraightCall) -> bool,
) -> Result<StraightCall, String> {
    let mut found: Vec<StraightCall> = code::straight_calls(elf, function)
        .into_iter()
        .filter(|call| call.constants.get(1) == Some(&Some(VALUE)) && is_it(call))
        .collect();
    found.sort_by_key(|call| (call.target, call.at));
    found.dedup_by_key(|call| call.target);
    found.retain(|call| {
        [2, 3]
            .iter()
            .all(|index| takes(elf, call.target, *index, HANDED_ON))
    });
    match (found.pop(), found.pop()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(format!(
            "no function that {name} calls is given a key's bytes"
        )),
        (Some(one), Some(other)) => Err(format!(
            "{name} gives a key's bytes to {} and to {}: which keeps them is not certain",
            one.target, other.target
        )),
    }
}

/// Functions that hand a value on before one keeps it: `sftk_AddAttributeType`, `sftk_NewAttribute`.
const HANDED_ON: u32 = 3;

/// Whether a function makes use of an argument, or one does that it hands it to.
fn takes(elf: &Elf<'_>, function: Address, argument: u8, depth: u32) -> bool {
    if code::takes_argument(elf, function, argument) {
        return true;
    }
    let own = Value::root(Root::Argument(argument));
    depth > 0
        && code::calls_of(elf, function).iter().any(|call| {
            call.arguments.get(usize::from(argument)) == Some(&own)
                && call
                    .target
                    .is_some_and(|target| takes(elf, target, argument, depth - 1))
        })
}
