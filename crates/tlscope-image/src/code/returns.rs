//! Every place at which a function returns.

use std::ops::Range;

use super::{Effect, Flow, Instruction, Source, decode};
use crate::elf::{Address, Elf};
use crate::plan::Arch;

/// The RET instructions of a function, in order of address; `None` if its code is not understood
/// to its end. A breakpoint inside of an instruction would change what the program does, so an
/// answer is given for all of the function or not at all.
///
/// Walked from start to end rather than by its branches: the table of a `switch` hides where it
/// goes. Compiled Go has no data between its instructions on `x86_64`; on aarch64 constants may
/// stand behind the code that loads them, and are passed over.
pub(crate) fn returns_of(elf: &Elf<'_>, code: &Range<Address>) -> Option<Vec<Address>> {
    let mut returns = Vec::new();
    let mut constants: Vec<Range<Address>> = Vec::new();
    let mut at = code.start;
    while at < code.end {
        if let Some(constant) = constants.iter().find(|constant| constant.contains(&at)) {
            at = constant.end;
            continue;
        }
        if !elf.spend_step() {
            return None;
        }
        let instruction = decode(elf, at)?;
        if instruction.flow == Flow::Return {
            returns.push(at);
        }
        if elf.arch == Arch::Aarch64 {
            constants.extend(
                loaded_constant(&instruction).filter(|constant| code.contains(&constant.start)),
            );
        }
        at = instruction.next()?;
    }
    // What began inside of the function also ends there, or something was misread.
    (at == code.end).then_some(returns)
}

/// `ldr register, =constant`
fn loaded_constant(instruction: &Instruction) -> Option<Range<Address>> {
    instruction.effects.iter().find_map(|effect| match effect {
        Effect::Set {
            from: Source::Load(memory),
            ..
        } if memory.base.is_none() && memory.index.is_none() => {
            let start = Address(memory.displacement.cast_unsigned());
            Some(start..start.checked_add(memory.width.into())?)
        }
        _ => None,
    })
}
