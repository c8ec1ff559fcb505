//! The small disassembly questions, the same for `x86_64` and aarch64.
//!
//! Each architecture's decoder lowers an instruction to what the questions need:
//! which register or memory gets which value, and where control goes. What is
//! not modelled becomes `Source::Unknown`, never a guess.

mod aarch64;
mod callee;
mod functions;
mod questions;
mod references;
mod returns;
#[cfg(test)]
mod tests;
mod transfers;
mod value;
mod walk;
mod x86_64;

use crate::elf::{Address, Elf};
use crate::plan::Arch;

pub(crate) use functions::{callers, places_calling, starts_between};
pub(crate) use questions::{
    Call, CallSite, Copy, Holding, Store, addresses_given, callees, calls_holding, calls_of,
    calls_with_text, copies_to_argument, fields_read, functions_with_text, places_returned,
    random_in, random_looped_over, random_passed_on, stores_of, takes_argument,
    tests_pointer_behind,
};
pub(crate) use returns::returns_of;
pub(crate) use transfers::{StraightCall, Transfer, straight_calls, transfers_of, values_stored};
pub(crate) use value::{Path, Root, Value};

/// A register: 0 to 31 general, 32 to 63 vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Reg(pub(crate) u8);

/// A memory operand, or the address it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// `None`: the displacement is an absolute address.
    pub(crate) base: Option<Reg>,
    pub(crate) index: Option<Reg>,
    pub(crate) displacement: i64,
    /// Bytes read or written.
    pub(crate) width: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Reg(Reg),
    Const(u64),
    /// What stands in memory.
    Load(Memory),
    /// The address of a memory operand.
    AddressOf(Memory),
    Unknown,
}

/// What one instruction does to the state, in the order of doing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Set {
        to: Reg,
        from: Source,
    },
    /// A conditional move: `to` becomes one of the two.
    Choose {
        to: Reg,
        either: Source,
        or: Source,
    },
    Store {
        to: Memory,
        from: Source,
    },
    /// A block copy (`rep movs`) between what two registers point at.
    Copy {
        to: Reg,
        from: Reg,
    },
    Compare {
        left: Source,
        right: Source,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Next,
    Jump(Address),
    Branch(Address),
    Call(Address),
    CallThrough(Source),
    JumpThrough(Source),
    Return,
    /// Control does not go on from here, or the bytes are no instruction.
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) address: Address,
    pub(crate) length: u64,
    pub(crate) effects: Vec<Effect>,
    pub(crate) flow: Flow,
}

impl Instruction {
    pub(crate) fn next(&self) -> Option<Address> {
        self.address.checked_add(self.length)
    }
}

/// A load from a thread's own storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadLocal {
    pub(crate) to: Reg,
    /// `None`: the displacement alone says where in the storage.
    pub(crate) base: Option<Reg>,
    pub(crate) displacement: i64,
}

/// The load from a thread's own storage at an address, if one stands there. On aarch64 such a
/// load is not told from others.
pub(crate) fn thread_local_at(elf: &Elf<'_>, address: Address) -> Option<ThreadLocal> {
    match elf.arch {
        Arch::X86_64 => x86_64::thread_local(elf.bytes_from(address)?, address),
        Arch::Aarch64 => None,
    }
}

/// What a platform's C calling convention says.
#[derive(Debug)]
pub(crate) struct Convention {
    pub(crate) arguments: &'static [Reg],
    pub(crate) result: Reg,
    pub(crate) stack_pointer: Reg,
    /// From the stack pointer on entry to the first argument that is in no register.
    pub(crate) to_stack_arguments: i64,
    /// The registers that a call leaves as they were.
    pub(crate) preserved: &'static [Reg],
}

pub(crate) fn convention(arch: Arch) -> &'static Convention {
    match arch {
        Arch::X86_64 => &x86_64::SYSTEM_V,
        Arch::Aarch64 => &aarch64::AAPCS64,
    }
}

/// Decodes the instruction at an address, if code stands there.
pub(crate) fn decode(elf: &Elf<'_>, address: Address) -> Option<Instruction> {
    if !elf.is_code(address) {
        return None;
    }
    let bytes = elf.bytes_from(address)?;
    match elf.arch {
        Arch::X86_64 => x86_64::decode(bytes, address),
        Arch::Aarch64 => aarch64::decode(bytes, address),
    }
}
/// The instructions from a function's first byte to its last, as they stand, and at most `largest`
/// bytes of them.
fn instructions(
    elf: &Elf<'_>,
    function: Address,
    largest: u64,
) -> impl Iterator<Item = Instruction> {
    let end = elf.function_around(function).map(|extent| {
        let limit = function.checked_add(largest);
        limit.map_or(extent.end, |limit| limit.min(extent.end))
    });
    let mut next = end.is_some().then_some(function);
    std::iter::from_fn(move || {
        let at = next.filter(|at| Some(*at) < end && elf.spend_step())?;
        let instruction = decode(elf, at)?;
        next = instruction.next();
        Some(instruction)
    })
}
