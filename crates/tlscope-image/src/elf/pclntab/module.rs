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
    address: Address,
    /// What functions are counted from: `runtime.text`.
    pub(super) text: Address,
    version: PclntabVersion,
}

/// The indexes of words in the module data, `runtime/symtab.go`. Those up to `text` have not
/// moved within a form of the table.
struct Words {
    /// `ftab`, a slice: the list of functions and one entry more.
    list: u64,
    min_pc: u64,
    text: u64,
    /// `types`, as far as known.
    types: u64,
}

const fn words(version: PclntabVersion) -> Words {
    let (list, min_pc, text, types) = match version {
        PclntabVersion::Go12 => (3, 10, 12, 25),
        PclntabVersion::Go116 | PclntabVersion::Go118 => (16, 20, 22, 35),
        PclntabVersion::Go120 => (16, 20, 22, 37),
    };
    Words {
        list,
        min_pc,
        text,
        types,
    }
}

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
        agrees.then_some(Self {
            address,
            text,
            version: header.version,
        })
    }

    /// Where the type descriptors may begin, the likeliest place first. Releases have put words
    /// before it without another form of the table; the caller knows a type when it sees one.
    pub(super) fn types(self, elf: &Elf<'_>) -> impl Iterator<Item = Address> {
        const NEARBY: u64 = 4;
        let known = words(self.version).types;
        let others = (1..=NEARBY).flat_map(move |by| [known + by, known - by]);
        let slots = std::iter::once(known)
            .chain(others)
            .filter_map(move |index| self.address.checked_add(index * WORD as u64));
        slots.filter_map(|slot| elf.pointer_at(slot))
    }
}
