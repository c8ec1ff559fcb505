//! Where Go code finds its goroutine, read from how a function begins.
//!
//! Every function that needs stack compares the stack pointer with the goroutine's limit, the
//! word 0x10 behind `g`. What it reads that limit through is the goroutine: R14 in the register
//! ABI and thread-local storage in the stack ABI on `x86_64`, x28 in both on aarch64
//! (`cmd/compile/abi-internal.md`, and `stacksplit` in `cmd/internal/obj`).

use crate::code::{self, Effect, Reg, Source};
use crate::elf::{Address, Elf};
use crate::plan::{Arch, Goroutine};

/// `g.stackguard0`, behind `g.stack.lo` and `g.stack.hi`; in every release since Go 1.4.
const STACK_LIMIT: i64 = 0x10;

const R14: Reg = Reg(14);
const X28: Reg = Reg(28);

/// Reads the goroutine's place from the first instructions of a function.
pub(super) fn goroutine_of(elf: &Elf<'_>, function: Address) -> Option<Goroutine> {
    // The longest beginning, of a function with a large frame, takes eight.
    const BEGINNING: usize = 10;
    let mut at = function;
    let mut loaded = None;
    for _ in 0..BEGINNING {
        let instruction = code::decode(elf, at)?;
        if let Some(load) = code::thread_local_at(elf, at) {
            loaded = Some((load.to, place(elf, function, load)?));
        }
        for effect in &instruction.effects {
            let Some(base) = reads_limit(effect) else {
                continue;
            };
            return match (elf.arch, base) {
                (Arch::X86_64, R14) | (Arch::Aarch64, X28) => Some(Goroutine::Register),
                (Arch::X86_64, base) => loaded.filter(|(to, _)| *to == base).map(|(_, g)| g),
                (Arch::Aarch64, _) => None,
            };
        }
        at = instruction.next()?;
    }
    None
}

/// The register that an instruction reads the stack limit through.
fn reads_limit(effect: &Effect) -> Option<Reg> {
    let sources = match effect {
        Effect::Compare { left, right } => [Some(*left), Some(*right)],
        Effect::Set { from, .. } => [Some(*from), None],
        _ => [None, None],
    };
    sources
        .into_iter()
        .flatten()
        .find_map(|source| match source {
            Source::Load(memory)
                if memory.displacement == STACK_LIMIT && memory.index.is_none() =>
            {
                memory.base
            }
            _ => None,
        })
}

/// Where in a thread's storage the pointer to its goroutine is.
fn place(elf: &Elf<'_>, function: Address, load: code::ThreadLocal) -> Option<Goroutine> {
    let Some(base) = load.base else {
        return Some(Goroutine::ThreadLocal {
            offset: load.displacement,
        });
    };
    // Position-independent code loads the offset first: a constant, or a word that the loader
    // fills in.
    let before = code::decode(elf, function)?;
    before.effects.iter().find_map(|effect| match effect {
        Effect::Set { to, from } if *to == base => match *from {
            Source::Const(offset) => Some(Goroutine::ThreadLocal {
                offset: offset.cast_signed().checked_add(load.displacement)?,
            }),
            Source::Load(memory) if memory.base.is_none() && load.displacement == 0 => {
                Some(Goroutine::ThreadLocalAt {
                    slot: Address(memory.displacement.cast_unsigned()),
                })
            }
            _ => None,
        },
        _ => None,
    })
}
