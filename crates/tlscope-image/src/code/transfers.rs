//! What a function moves to memory, and what it hands to its calls right before them.

use std::collections::HashSet;

use super::callee::follow_stub;
use super::walk::{Event, each_event};
use super::{Effect, Flow, Reg, Source, Value, convention, instructions};
use crate::elf::{Address, Elf};

/// A value stored to memory. One that was copied is a loaded path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    pub(crate) at: Address,
    pub(crate) to: Value,
    pub(crate) value: Value,
}

/// Every store of a function, and every `memcpy(to, from, ..)` as if it were one.
pub(crate) fn transfers_of(elf: &Elf<'_>, function: Address) -> Vec<Transfer> {
    collected(elf, function, |event| match event {
        Event::Copy { to, from } => Some((to, from.loaded())),
        Event::Call { arguments, .. } => match arguments.as_slice() {
            [to, from, ..] => Some((to.clone(), from.loaded())),
            _ => None,
        },
        other => stored(other),
    })
}

/// Every store of a function. Of a call it is not known how many of the argument registers are
/// arguments: what is left in the others was not moved.
pub(crate) fn values_stored(elf: &Elf<'_>, function: Address) -> Vec<Transfer> {
    collected(elf, function, stored)
}

fn stored(event: Event<'_>) -> Option<(Value, Value)> {
    match event {
        Event::Store { to, from } => Some((to, from.clone())),
        _ => None,
    }
}

fn collected(
    elf: &Elf<'_>,
    function: Address,
    moved: impl Fn(Event<'_>) -> Option<(Value, Value)>,
) -> Vec<Transfer> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    each_event(elf, function, |at, event| {
        let Some((to, value)) = moved(event) else {
            return;
        };
        let transfer = Transfer { at, to, value };
        if seen.insert(transfer.clone()) {
            found.push(transfer);
        }
    });
    found
}

/// A direct call, with the constants that the code right before it puts into argument registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StraightCall {
    pub(crate) at: Address,
    pub(crate) target: Address,
    pub(crate) constants: Vec<Option<u64>>,
}

/// The direct calls between a function's first byte and its last, whatever leads to them: a walk
/// does not see through the table of a `switch`.
pub(crate) fn straight_calls(elf: &Elf<'_>, function: Address) -> Vec<StraightCall> {
    // C_DeriveKey, one switch over all mechanisms, takes 18 KiB in NSS 3.87.
    const LARGEST: u64 = 0x1_0000;
    let registers = convention(elf.arch).arguments;
    let mut calls = Vec::new();
    let mut held: Vec<Option<u64>> = vec![None; registers.len()];
    for instruction in instructions(elf, function, LARGEST) {
        for effect in &instruction.effects {
            let (to, value) = match effect {
                Effect::Set {
                    to,
                    from: Source::Const(value),
                } => (*to, Some(*value)),
                Effect::Set { to, .. } | Effect::Choose { to, .. } => (*to, None),
                _ => continue,
            };
            set(&mut held, registers, to, value);
        }
        match instruction.flow {
            Flow::Next | Flow::Branch(_) => {}
            Flow::Call(target) => {
                let constants = std::mem::replace(&mut held, vec![None; registers.len()]);
                calls.extend(follow_stub(elf, target).map(|target| StraightCall {
                    at: instruction.address,
                    target,
                    constants,
                }));
            }
            _ => held.fill(None),
        }
    }
    calls
}

fn set(held: &mut [Option<u64>], registers: &[Reg], to: Reg, value: Option<u64>) {
    let index = registers.iter().position(|register| *register == to);
    if let Some(slot) = index.and_then(|index| held.get_mut(index)) {
        *slot = value;
    }
}
