//! Where code loads the address of something, over the whole image.
//!
//! A sweep that decoded every instruction would cost seconds on an image of
//! 100 MB, so the encodings of the few loading forms are matched first.

use super::aarch64::{Forms, forms};
use super::{Effect, Reg, Source, Value, decode};
use crate::elf::{Address, Elf, Segment};
use crate::plan::Arch;

/// One instruction that puts an address into a register or a stack slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) at: Address,
    pub(crate) to: Address,
    /// What must be known ahead of it: the page that an earlier `adrp` put into a register.
    pub(crate) given: Option<(Reg, u64)>,
    /// The pointer slot that it is loaded from; `None` if the code forms the address itself.
    pub(crate) slot: Option<Address>,
}

impl Reference {
    /// What the register holds from there on.
    pub(crate) fn value(&self) -> Value {
        match self.slot {
            Some(slot) => Value::Const(slot.0).loaded(),
            None => Value::Const(self.to.0),
        }
    }
}

/// What is looked for: places, and the slots that the loader fills with them.
struct Wanted<'t> {
    places: &'t [Address],
    slots: Vec<(Address, Address)>,
}

impl Wanted<'_> {
    fn is_place(&self, address: Address) -> bool {
        self.places.binary_search(&address).is_ok()
    }

    /// The place that the slot at an address holds.
    fn in_slot(&self, slot: Address) -> Option<Address> {
        let found = self.slots.binary_search_by_key(&slot, |(slot, _)| *slot);
        Some(self.slots.get(found.ok()?)?.1)
    }
}

/// No image loads a label's address from more places than this.
const MOST: usize = 512;

/// Every place where code loads one of `targets`.
pub(crate) fn references(elf: &Elf<'_>, targets: &[Address]) -> Vec<Reference> {
    let mut targets = targets.to_vec();
    targets.sort_unstable();
    targets.dedup();
    let wanted = Wanted {
        places: &targets,
        slots: elf.relocations.slots_holding(&targets),
    };
    let mut found = Vec::new();
    for segment in elf.code_segments() {
        match elf.arch {
            Arch::X86_64 => {
                relative_loads(segment, &wanted, &mut found);
                absolute_loads(elf, segment, &targets, &mut found);
            }
            Arch::Aarch64 => paged_loads(elf, segment, &wanted, &mut found),
        }
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MOST);
    found
}

/// `lea disp32(%rip), reg`: `REX.W 8D`, `ModRM` with mod 0 and r/m 5. With `8B` it is a `mov` from
/// there.
fn relative_loads(segment: &Segment<'_>, wanted: &Wanted<'_>, found: &mut Vec<Reference>) {
    const LEA: u8 = 0x8d;
    const MOV: u8 = 0x8b;
    const REX_W: u8 = 0x48;
    const REX_WR: u8 = 0x4c;
    const LENGTH: usize = 7;
    let mut look = |opcode: usize| {
        let start = opcode.checked_sub(1)?;
        let &[rex, kind, modrm, d0, d1, d2, d3] = segment.bytes.get(start..start + LENGTH)? else {
            return None;
        };
        if !matches!(rex, REX_W | REX_WR) || modrm & 0xc7 != 0x05 {
            return None;
        }
        let displacement = i64::from(i32::from_le_bytes([d0, d1, d2, d3]));
        let next = segment.address.0.wrapping_add((start + LENGTH) as u64);
        let named = Address(next.wrapping_add_signed(displacement));
        let (to, slot) = match kind {
            LEA => (wanted.is_place(named).then_some(named)?, None),
            _ => (wanted.in_slot(named)?, Some(named)),
        };
        let reference = Reference {
            at: Address(next - LENGTH as u64),
            to,
            given: None,
            slot,
        };
        (found.len() < MOST).then(|| found.push(reference))
    };
    for opcode in memchr::memchr_iter(LEA, segment.bytes) {
        look(opcode);
    }
    if !wanted.slots.is_empty() {
        for opcode in memchr::memchr_iter(MOV, segment.bytes) {
            look(opcode);
        }
    }
}

/// `adrp page, reg` and, anywhere behind it in the same function, `add reg, reg, #low` or `ldr
/// reg, [reg, #low]` from a slot: compilers share one `adrp` between many uses.
fn paged_loads(
    elf: &Elf<'_>,
    segment: &Segment<'_>,
    wanted: &Wanted<'_>,
    found: &mut Vec<Reference>,
) {
    const REGISTERS: usize = 32;
    let mut pages: [Option<(Address, u64)>; REGISTERS] = [None; REGISTERS];
    for (index, word) in segment.bytes.chunks_exact(4).enumerate() {
        let at = Address(segment.address.0.wrapping_add(index as u64 * 4));
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        let Some(form) = forms(word, at) else {
            continue;
        };
        if let Forms::Page(register, to) | Forms::Whole(register, to) = form
            && let Some(page) = pages.get_mut(usize::from(register.0))
        {
            *page = Some((at, to));
        }
        let (named, base) = match form {
            Forms::Page(..) => continue,
            Forms::Whole(_, to) => (Address(to), None),
            Forms::Add { from, by } | Forms::Load { from, by } => {
                let page = pages.get(usize::from(from.0)).copied().flatten();
                let Some((formed, page)) = page else { continue };
                (Address(page.wrapping_add(by)), Some((from, formed, page)))
            }
        };
        let (to, slot) = match form {
            Forms::Load { .. } => (wanted.in_slot(named), Some(named)),
            _ => (wanted.is_place(named).then_some(named), None),
        };
        let Some(to) = to.filter(|_| found.len() < MOST) else {
            continue;
        };
        let still_there = base.is_none_or(|(register, formed, _)| {
            same_function(elf, formed, at) && keeps(elf, register, formed, at)
        });
        if still_there {
            found.push(Reference {
                at,
                to,
                given: base.map(|(register, _, page)| (register, page)),
                slot,
            });
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
                    slot: None,
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
