//! What a call calls: through PLT stubs and pointer slots to a place or to an imported name.

use super::value::Path;
use super::walk::{Event, Known, Limits, Step, walk};
use super::{Flow, Root, Value, decode};
use crate::elf::{Address, Elf, SlotTarget};

/// What a call or jump leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Callee<'d> {
    /// A place in this image.
    Local(Address),
    /// A function of another image.
    Import(&'d str),
    Unknown,
}

/// The place in this image that a call's target value names.
pub(super) fn resolve(elf: &Elf<'_>, target: &Value) -> Option<Address> {
    local(callee(elf, target))
}

/// The address itself, or if a PLT stub stands there: the function that it jumps to, `None` if
/// another image defines that.
pub(super) fn follow_stub(elf: &Elf<'_>, address: Address) -> Option<Address> {
    local(through_stub(elf, address))
}

/// Whether control does not come back from a call of this value.
pub(super) fn never_returns(elf: &Elf<'_>, target: &Value) -> bool {
    const NO_RETURN: [&str; 4] = ["__stack_chk_fail", "abort", "OPENSSL_die", "__assert_fail"];
    match callee(elf, target) {
        Callee::Import(name) => NO_RETURN.contains(&name),
        Callee::Local(address) => elf
            .symbols
            .at(address)
            .is_some_and(|symbol| NO_RETURN.contains(&symbol.name.as_ref())),
        Callee::Unknown => false,
    }
}

fn callee<'d>(elf: &Elf<'d>, target: &Value) -> Callee<'d> {
    match target {
        Value::Const(address) => through_stub(elf, Address(*address)),
        Value::Path(Path {
            root: Root::Image,
            loads,
            add: 0,
        }) => match loads.as_slice() {
            [slot] => in_slot(elf, Address(slot.cast_unsigned())),
            _ => Callee::Unknown,
        },
        _ => Callee::Unknown,
    }
}

fn local(callee: Callee<'_>) -> Option<Address> {
    match callee {
        Callee::Local(address) => Some(address),
        Callee::Import(_) | Callee::Unknown => None,
    }
}

fn through_stub<'d>(elf: &Elf<'d>, address: Address) -> Callee<'d> {
    // bti or endbr, address formation and the jump.
    const LONGEST_STUB: usize = 5;
    let mut next = Some(address);
    for _ in 0..LONGEST_STUB {
        let Some(instruction) = next.and_then(|at| decode(elf, at)) else {
            break;
        };
        match instruction.flow {
            Flow::Next => next = instruction.next(),
            Flow::JumpThrough(_) => return stub_target(elf, address),
            _ => break,
        }
    }
    Callee::Local(address)
}

fn stub_target<'d>(elf: &Elf<'d>, stub: Address) -> Callee<'d> {
    const STRAIGHT: Limits = Limits {
        steps: 8,
        states_per_target: 1,
    };
    let mut found = Callee::Unknown;
    walk(elf, stub, Known::Nothing, STRAIGHT, &mut |_, event| {
        if let Event::JumpThrough { target } = event
            && matches!(target, Value::Path(_))
        {
            found = callee(elf, &target);
        }
        Step::Continue(())
    });
    found
}

fn in_slot<'d>(elf: &Elf<'d>, slot: Address) -> Callee<'d> {
    match elf.relocations.at(slot) {
        Some(SlotTarget::Local(address) | SlotTarget::Named(_, Some(address))) => {
            Callee::Local(address)
        }
        Some(SlotTarget::Named(name, None)) => match elf.symbols.get(name) {
            Some(symbol) => Callee::Local(symbol.address),
            None => Callee::Import(name),
        },
        None => Callee::Unknown,
    }
}
