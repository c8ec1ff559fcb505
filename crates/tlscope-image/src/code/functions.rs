//! Where functions start, and who calls them, in images that have neither symbols nor call frames.

use std::collections::{BTreeMap, BTreeSet};

use super::aarch64;
use crate::elf::{Address, Elf, Segment};
use crate::plan::Arch;

/// For each place in the code, the start of its function, where one is known.
///
/// By symbol or call frame; without either, the nearest place before it that is called directly,
/// with no call frame in between: some files of a program may be compiled without them. That is a
/// start, but not for sure of this function: the caller walks from it and sees.
pub(crate) fn starts_of(elf: &Elf<'_>, places: &[Address]) -> BTreeMap<Address, Address> {
    let mut starts: BTreeMap<Address, Address> = places
        .iter()
        .filter_map(|place| Some((*place, elf.function_around(*place)?.start)))
        .collect();
    let mut unknown: Vec<Address> = places
        .iter()
        .filter(|place| !starts.contains_key(place))
        .copied()
        .collect();
    if !unknown.is_empty() {
        unknown.sort_unstable();
        let called = called_before(elf, &unknown).into_iter();
        starts.extend(called.filter(|(place, start)| {
            elf.frames.starts_between(*start, *place).next().is_none()
                && elf.function_around(*start).is_none()
        }));
    }
    starts
}

/// The nearest place before each of the sorted `places` that is called directly.
fn called_before(elf: &Elf<'_>, places: &[Address]) -> Vec<(Address, Address)> {
    // Larger functions than this exist, but none that a library's plan asks for.
    const LARGEST: u64 = 0x4000;
    let mut nearest: Vec<Option<Address>> = vec![None; places.len()];
    for_each_transfer(elf, Transfer::Call, &mut |_, target| {
        // The first place behind the target; those behind it take over its answer below.
        let behind = places.partition_point(|place| *place < target);
        if let Some(known) = nearest.get_mut(behind) {
            *known = (*known).max(Some(target));
        }
    });
    let mut found = Vec::new();
    let mut last = None;
    for (place, known) in places.iter().zip(nearest) {
        last = last.max(known);
        let near = last.filter(|start| {
            place
                .distance_from(*start)
                .is_some_and(|distance| distance < LARGEST)
        });
        found.extend(near.map(|start| (*place, start)));
    }
    found
}

/// Where functions start between two addresses: by their call frames, or else what is called.
pub(crate) fn starts_between(elf: &Elf<'_>, from: Address, to: Address) -> BTreeSet<Address> {
    if !elf.frames.is_empty() {
        return elf.frames.starts_between(from, to).collect();
    }
    let mut starts = BTreeSet::new();
    for_each_transfer(elf, Transfer::Call, &mut |_, target| {
        if (from..=to).contains(&target) {
            starts.insert(target);
        }
    });
    starts
}

/// The functions that call `callee` directly, or end in a jump to it.
pub(crate) fn callers(elf: &Elf<'_>, callee: Address) -> Vec<Address> {
    let starts = starts_of(elf, &transfers_to(elf, callee)).into_values();
    starts.filter(|start| *start != callee).collect()
}

/// Every place that calls `callee` directly or jumps to it, with the start of its function where
/// that is known. `None`: there are more than one looks at.
pub(crate) fn places_calling(
    elf: &Elf<'_>,
    callee: Address,
) -> Option<BTreeMap<Address, Option<Address>>> {
    let places = transfers_to(elf, callee);
    let starts = starts_of(elf, &places);
    let with_start = |place: &Address| (*place, starts.get(place).copied());
    (places.len() < MOST_CALLERS).then(|| places.iter().map(with_start).collect())
}

const MOST_CALLERS: usize = 256;

fn transfers_to(elf: &Elf<'_>, callee: Address) -> Vec<Address> {
    let mut places = Vec::new();
    let mut collect = |at: Address, target: Address| {
        if target == callee && places.len() < MOST_CALLERS {
            places.push(at);
        }
    };
    for_each_transfer(elf, Transfer::Call, &mut collect);
    for_each_transfer(elf, Transfer::Jump, &mut collect);
    places
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transfer {
    Call,
    Jump,
}

fn for_each_transfer(elf: &Elf<'_>, kind: Transfer, visit: &mut dyn FnMut(Address, Address)) {
    for segment in elf.code_segments() {
        match elf.arch {
            Arch::X86_64 => relative_transfers(segment, kind, visit),
            Arch::Aarch64 => branches(segment, kind, visit),
        }
    }
}

/// `call rel32` or `jmp rel32`. These opcodes also stand inside other instructions, so only targets
/// that are aligned as compilers align functions count.
fn relative_transfers(
    segment: &Segment<'_>,
    kind: Transfer,
    visit: &mut dyn FnMut(Address, Address),
) {
    const ALIGNMENT: u64 = 16;
    const LENGTH: u64 = 5;
    let opcode = match kind {
        Transfer::Call => 0xe8,
        Transfer::Jump => 0xe9,
    };
    for position in memchr::memchr_iter(opcode, segment.bytes) {
        let Some(&[d0, d1, d2, d3]) = segment.bytes.get(position + 1..position + 5) else {
            continue;
        };
        let at = segment.address.0.wrapping_add(position as u64);
        let displacement = i64::from(i32::from_le_bytes([d0, d1, d2, d3]));
        let target = at.wrapping_add(LENGTH).wrapping_add_signed(displacement);
        let inside = target.wrapping_sub(segment.address.0) < segment.bytes.len() as u64;
        if inside && target.is_multiple_of(ALIGNMENT) {
            visit(Address(at), Address(target));
        }
    }
}

fn branches(segment: &Segment<'_>, kind: Transfer, visit: &mut dyn FnMut(Address, Address)) {
    for (index, word) in segment.bytes.chunks_exact(4).enumerate() {
        let at = Address(segment.address.0.wrapping_add(index as u64 * 4));
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        if let Some(target) = aarch64::branch(word, at, kind == Transfer::Call) {
            visit(at, target);
        }
    }
}
