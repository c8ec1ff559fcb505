//! Go's module data: the runtime's own record of where the parts of an image are.
//!
//! `runtime.moduledata` has no symbol in a stripped image, but it begins with a pointer to the
//! table of functions. Later words must agree with that table, so it is found for certain. It
//! is where the start of the text comes from: the header of the table has it only from Go 1.18
//! to 1.25, and with cgo it is not the start of `.text`.

use super::{Header, PclntabVersion, WORD};
use crate::elf::{Address, Elf};

/// The parts of the module data that an analysis needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ModuleData {
    /// What functions are counted from: `runtime.text`.
    pub(super) text: Address,
}

/// The indexes of words in the module data, `runtime/symtab.go`. Those up to `text` have not
/// moved within a form of the table.
struct Words {
    /// `ftab`, a slice: the list of functions and one entry more.
    list: u64,
    min_pc: u64,
    text: u64,
}

const OLDEST: Words = Words {
    list: 3,
    min_pc: 10,
    text: 12,
};

const WITH_HEADER: Words = Words {
    list: 16,
    min_pc: 20,
    text: 22,
};

impl ModuleData {
    pub(super) fn find(elf: &Elf<'_>, header: &Header<'_>) -> Option<Self> {
        // Some code and a few tables also point at the table of functions.
        const MOST: usize = 64;
        let slots = elf.slots_holding(header.address, MOST);
        slots
            .into_iter()
            .find_map(|slot| Self::check(elf, header, slot))
    }

    fn check(elf: &Elf<'_>, header: &Header<'_>, address: Address) -> Option<Self> {
        let words = words(header.version);
        let pointer = |index: u64| elf.pointer_at(address.checked_add(index * WORD as u64)?);
        let number = |index: u64| elf.word_at(address.checked_add(index * WORD as u64)?);
        let text = pointer(words.text)?;
        let agrees = pointer(words.list)? == header.list_at
            && number(words.list + 1)? == header.count as u64 + 1
            && pointer(words.min_pc)? == header.start(elf, 0, text)?
            && elf.is_code(text);
        agrees.then_some(Self { text })
    }
}

fn words(version: PclntabVersion) -> &'static Words {
    match version {
        PclntabVersion::Go12 => &OLDEST,
        _ => &WITH_HEADER,
    }
}
