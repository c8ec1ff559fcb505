//! Where code loads the address of something, over the whole image.
//!
//! A sweep that decoded every instruction would cost seconds on an image of
//! 100 MB, so the encodings of the few loading forms are matched first.

use super::aarch64::{Forms, forms};
use super::{Effect, Reg, Source, decode};
use crate::elf::{Address, Elf, Segment};
use crate::plan::Arch;

/// One instruction that puts an address into a register or a stack slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) at: Address,
    pub(crate) to: Address,
    /// What must be known ahead of it: the page that an earlier `adrp` put into a register.
    pub(crate) given: Option<(Reg, u64)>,
}

/// No image loads a label's address from more places than this.
const MOST: usize = 512;

/// Every place where code loads one of `targets`.
pub(crate) fn references(elf: &Elf<'_>, targets: &[Address]) -> Vec<Reference> {
    let mut targets = targets.to_vec();
    targets.sort_unstable();
    targets.dedup();
    let targets = targets.as_slice();
    let mut found = Vec::new();
    for segment in elf.code_segments() {
        match elf.arch {
            Arch::X86_64 => {
                relative_loads(segment, targets, &mut found);
                absolute_loads(elf, segment, targets, &mut found);
            }
            Arch::Aarch64 => paged_loads(elf, segment, targets, &mut found),
        }
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MOST);
    found
}

/// `lea disp32(%rip), reg`: `REX.W 8D`, `ModRM` with mod 0 and r/m 5.
fn relative_loads(segment: &Segment<'_>, targets: &[Address], found: &mut Vec<Reference>) {
    const REX_W: u8 = 0x48;
    const REX_WR: u8 = 0x4c;
    const LENGTH: usize = 7;
    for opcode in memchr::memchr_iter(0x8d, segment.bytes) {
        let Some(start) = opcode.checked_sub(1) else {
            continue;
        };
        let Some(&[rex, _, modrm, d0, d1, d2, d3]) = segment.bytes.get(start..start + LENGTH)
        else {
            continue;
        };
        if !matches!(rex, REX_W | REX_WR) || modrm & 0xc7 != 0x05 {
            continue;
        }
        let displacement = i64::from(i32::from_le_bytes([d0, d1, d2, d3]));
        let next = segment.address.0.wrapping_add((start + LENGTH) as u64);
        let to = Address(next.wrapping_add_signed(displacement));
        if targets.binary_search(&to).is_ok() && found.len() < MOST {
            found.push(Reference {
                at: Address(next - LENGTH as u64),
                to,
                given: None,
            });
        }
    }
}

/// `adrp page, reg` and, anywhere behind it in the same function, `add reg, reg, #low`: compilers
/// share one `adrp` between many uses.
fn paged_loads(
    elf: &Elf<'_>,
    segment: &Segment<'_>,
    targets: &[Address],
    found: &mut Vec<Reference>,
) {
    const REGISTERS: usize = 32;
    let mut pages: [Option<(Address, u64)>; REGISTERS] = [None; REGISTERS];
    for (index, word) in segment.bytes.chunks_exact(4).enumerate() {
        let at = Address(segment.address.0.wrapping_add(index as u64 * 4));
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        let reference = match forms(word, at) {
            Some(Forms::Page(register, to)) => {
                if let Some(page) = pages.get_mut(usize::from(register.0)) {
                    *page = Some((at, to));
                }
                Some(Reference {
                    at,
                    to: Address(to),
                    given: None,
                })
            }
            Some(Forms::Add { from, by }) => {
                let page = pages.get(usize::from(from.0)).copied().flatten();
                page.filter(|(_, page)| {
                    targets
                        .binary_search(&Address(page.wrapping_add(by)))
                        .is_ok()
                })
                .filter(|(formed, _)| {
                    same_function(elf, *formed, at) && keeps(elf, from, *formed, at)
                })
                .map(|(_, page)| Reference {
                    at,
                    to: Address(page.wrapping_add(by)),
                    given: Some((from, page)),
                })
            }
            None => None,
        };
        if let Some(reference) = reference
            && targets.binary_search(&reference.to).is_ok()
            && found.len() < MOST
        {
            found.push(reference);
        }
    }
}

/// As far as function ends are known; without them, not too far apart.
fn same_function(elf: &Elf<'_>, one: Address, other: Address) -> bool {
    const FAR: u64 = 0x1000;
    match (elf.function_around(one), elf.function_around(other)) {
        (Some(one), Some(other)) => one.start == other.start,
        (None, None) => other
            .distance_from(one)
            .is_some_and(|distance| distance < FAR),
        _ => false,
    }
}

/// Whether a register still holds at `to` what it was given at `from`, as the code lies.
fn keeps(elf: &Elf<'_>, register: Reg, from: Address, to: Address) -> bool {
    let mut at = from.checked_add(4);
    while let Some(address) = at.filter(|at| *at < to) {
        // A hostile image can ask this of every instruction.
        let decoded = if elf.spend_step() {
            decode(elf, address)
        } else {
            None
        };
        let Some(instruction) = decoded else {
            return false;
        };
        let overwritten = instruction.effects.iter().any(|effect| match effect {
            Effect::Set { to, .. } | Effect::Choose { to, .. } => *to == register,
            _ => false,
        });
        if overwritten {
            return false;
        }
        at = instruction.next();
    }
    true
}

/// Code that is not position-independent: the address as a 32-bit immediate.
fn absolute_loads(
    elf: &Elf<'_>,
    segment: &Segment<'_>,
    targets: &[Address],
    found: &mut Vec<Reference>,
) {
    // From the shortest form, `mov $imm32, %r32`, to the longest, `movq $imm32, disp32(%rsp)`.
    const BEFORE_IMMEDIATE: std::ops::RangeInclusive<usize> = 1..=8;
    for target in targets {
        let Ok(immediate) = u32::try_from(target.0) else {
            continue;
        };
        for position in memchr::memmem::find_iter(segment.bytes, &immediate.to_le_bytes()) {
            let at = BEFORE_IMMEDIATE.rev().find_map(|back| {
                let at = segment
                    .address
                    .checked_add(position.checked_sub(back)? as u64)?;
                let instruction = decode(elf, at)?;
                let whole = instruction.length == back as u64 + 4;
                (whole && sets_constant(&instruction.effects, *target)).then_some(at)
            });
            if let Some(at) = at.filter(|_| found.len() < MOST) {
                found.push(Reference {
                    at,
                    to: *target,
                    given: None,
                });
            }
        }
    }
}

fn sets_constant(effects: &[Effect], constant: Address) -> bool {
    effects.iter().any(|effect| match effect {
        Effect::Set { from, .. } | Effect::Store { from, .. } => *from == Source::Const(constant.0),
        _ => false,
    })
}
