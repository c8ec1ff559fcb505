//! What the loader writes into the image's pointer slots: GOT and PLT entries, pointer tables.

use std::collections::HashMap;

use object::LittleEndian;
use object::elf::{
    R_AARCH64_ABS64, R_AARCH64_GLOB_DAT, R_AARCH64_JUMP_SLOT, R_AARCH64_RELATIVE, R_X86_64_64,
    R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT, R_X86_64_RELATIVE, Rela64, SHT_RELA, SHT_RELR, Sym64,
};
use object::read::SymbolIndex;
use object::read::elf::{Rela, SectionHeader, Sym, SymbolTable};

use super::dynamic::Dynamic;
use super::{Address, Header, Sections, Segment, bytes_at};

/// What a slot holds once the image is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotTarget<'d> {
    /// A place in this image.
    Local(Address),
    /// A symbol by name; with its address when this image defines it.
    Named(&'d str, Option<Address>),
}

/// All pointer slots that the loader fills.
#[derive(Debug, Default)]
pub struct Relocations<'d> {
    slots: HashMap<Address, SlotTarget<'d>>,
}

impl<'d> Relocations<'d> {
    pub(super) fn read(sections: &Sections<'d>, segments: &[Segment<'d>], bytes: &'d [u8]) -> Self {
        let mut slots = packed(sections, segments, bytes);
        // No more entries than the file has room for: tables that share it are hostile.
        let mut room = bytes.len() / size_of::<Rela64<LittleEndian>>();
        for section in sections
            .iter()
            .filter(|section| section.sh_type(LittleEndian) == SHT_RELA)
        {
            let Ok(Some((entries, symbols))) = section.rela(LittleEndian, bytes) else {
                continue;
            };
            room = match room.checked_sub(entries.len()) {
                Some(room) => room,
                None => break,
            };
            // A table of section-relative entries (a .o file, or ld -q) has another meaning than
            // a loader's table.
            let symbols: Option<SymbolTable<'d, Header>> = sections
                .symbol_table_by_index(LittleEndian, bytes, symbols)
                .ok();
            let named = |index: usize| {
                let symbols = symbols.as_ref()?;
                let symbol = symbols.symbol(SymbolIndex(index)).ok()?;
                let name = symbols.symbol_name(LittleEndian, symbol).ok()?;
                Some((std::str::from_utf8(name).ok()?, defined_at(symbol)))
            };
            slots.extend(entries.iter().filter_map(|entry| slot(entry, named)));
        }
        Self { slots }
    }

    /// As the loader finds them, for an image without sections.
    pub(super) fn of_loader(dynamic: &Dynamic<'_, 'd>) -> Self {
        let named = |index: usize| {
            let symbol = dynamic.symbol(index)?;
            Some((dynamic.name_of(symbol)?, defined_at(symbol)))
        };
        let slots = dynamic.relocations().filter_map(|entry| slot(entry, named));
        Self {
            slots: slots.collect(),
        }
    }

    /// All slots, in the order of their addresses.
    pub fn sorted(&self) -> Vec<Address> {
        let mut slots: Vec<Address> = self.slots.keys().copied().collect();
        slots.sort_unstable();
        slots
    }

    /// The slots that will hold one of these sorted places of the image, each with its place, in
    /// the order of their addresses.
    pub fn slots_holding(&self, places: &[Address]) -> Vec<(Address, Address)> {
        let slots = self.slots.iter().filter_map(|(slot, target)| {
            let (SlotTarget::Local(place) | SlotTarget::Named(_, Some(place))) = target else {
                return None;
            };
            places.binary_search(place).ok().map(|_| (*slot, *place))
        });
        let mut slots: Vec<_> = slots.collect();
        slots.sort_unstable();
        slots
    }

    /// Nothing is relocated, or nothing tells what: a call through a slot is then a call of the
    /// unknown.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What the slot at an address will hold.
    pub fn at(&self, slot: Address) -> Option<SlotTarget<'d>> {
        self.slots.get(&slot).copied()
    }
}

/// Relative relocations in the packed form that lld and newer loaders share (`SHT_RELR`): the
/// place pointed at stands in the slot itself.
fn packed<'d>(
    sections: &Sections<'d>,
    segments: &[Segment<'d>],
    bytes: &'d [u8],
) -> HashMap<Address, SlotTarget<'d>> {
    // Each slot takes 8 bytes of the file.
    let most = bytes.len() / size_of::<u64>();
    let tables = sections
        .iter()
        .filter(|section| section.sh_type(LittleEndian) == SHT_RELR)
        .filter_map(|section| section.relr(LittleEndian, bytes).ok()?);
    let slots = tables.flatten().take(most).filter_map(|slot| {
        let slot = Address(slot);
        let held = bytes_at(segments, slot)?.first_chunk::<8>()?;
        let target = SlotTarget::Local(Address(u64::from_le_bytes(*held)));
        Some((slot, target))
    });
    slots.collect()
}

/// Where a symbol is, if this image defines it.
fn defined_at(symbol: &Sym64<LittleEndian>) -> Option<Address> {
    (!symbol.is_undefined(LittleEndian)).then(|| Address(symbol.st_value(LittleEndian)))
}

/// The slot of an entry, by the name of its symbol and where that is.
fn slot<'d>(
    entry: &Rela64<LittleEndian>,
    named: impl Fn(usize) -> Option<(&'d str, Option<Address>)>,
) -> Option<(Address, SlotTarget<'d>)> {
    let slot = Address(entry.r_offset(LittleEndian));
    let addend = Rela::r_addend(entry, LittleEndian);
    match entry.r_type(LittleEndian, false) {
        R_X86_64_RELATIVE | R_AARCH64_RELATIVE => {
            Some((slot, SlotTarget::Local(Address(addend.cast_unsigned()))))
        }
        R_X86_64_64 | R_X86_64_GLOB_DAT | R_X86_64_JUMP_SLOT | R_AARCH64_ABS64
        | R_AARCH64_GLOB_DAT | R_AARCH64_JUMP_SLOT => {
            let (name, at) = named(entry.r_sym(LittleEndian, false) as usize)?;
            let at = at.map(|Address(at)| Address(at.wrapping_add_signed(addend)));
            Some((slot, SlotTarget::Named(name, at)))
        }
        _ => None,
    }
}
