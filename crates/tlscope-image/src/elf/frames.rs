//! Where functions start and end, for images without symbols: the call-frame table.
//!
//! `.eh_frame_hdr` is what the unwinder searches, so stripping leaves it in place
//! (Linux Standard Base Core 5.0, sections 10.6.1 and 10.6.2). Programs linked with `-static` have
//! none: there the entries of `.eh_frame` are gone through one by one.

use std::ops::Range;

use object::LittleEndian;
use object::elf::PT_GNU_EH_FRAME;
use object::read::elf::{ProgramHeader, SectionHeader};

use super::{Address, ProgramHeaders, Sections, Segment, bytes_at};

/// Function starts, sorted, each with its end.
#[derive(Debug, Default)]
pub struct Frames {
    functions: Vec<Range<Address>>,
}

/// `DW_EH_PE_datarel | DW_EH_PE_sdata4`: what GNU ld, gold, lld and mold all write.
const RELATIVE_TO_HEADER: u8 = 0x3b;
/// `DW_EH_PE_udata4`
const COUNT: u8 = 0x03;

impl Frames {
    pub(super) fn read(
        headers: ProgramHeaders<'_>,
        segments: &[Segment<'_>],
        sections: &Sections<'_>,
    ) -> Self {
        let functions = headers
            .iter()
            .find(|header| header.p_type(LittleEndian) == PT_GNU_EH_FRAME)
            .map(|header| Address(header.p_vaddr(LittleEndian)))
            .and_then(|start| read_table(segments, start))
            .or_else(|| read_entries(segments, sections))
            .unwrap_or_default();
        Self { functions }
    }

    /// The function whose code holds an address.
    pub fn around(&self, address: Address) -> Option<Range<Address>> {
        let end = self
            .functions
            .partition_point(|function| function.start <= address);
        let nearest = self.functions.get(end.checked_sub(1)?)?;
        nearest.contains(&address).then(|| nearest.clone())
    }

    /// Where functions start between two addresses.
    pub fn starts_between(&self, from: Address, to: Address) -> impl Iterator<Item = Address> {
        let first = self
            .functions
            .partition_point(|function| function.start < from);
        let starts = self.functions.iter().skip(first);
        starts
            .map(|function| function.start)
            .take_while(move |start| *start <= to)
    }

    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }
}

fn read_table(segments: &[Segment<'_>], start: Address) -> Option<Vec<Range<Address>>> {
    const ENTRY: usize = 8;
    let header = bytes_at(segments, start)?;
    let [1, _, COUNT, RELATIVE_TO_HEADER] = *header.first_chunk::<4>()? else {
        return None;
    };
    let count = u32::from_le_bytes(*header.get(8..)?.first_chunk::<4>()?) as usize;
    let table = header.get(12..)?;
    let mut functions: Vec<Range<Address>> = table
        .chunks_exact(ENTRY)
        .take(count)
        .filter_map(|entry| {
            let function = relative(start, entry.get(..4)?)?;
            let frame = relative(start, entry.get(4..)?)?;
            Some(function..end_of(segments, function, frame)?)
        })
        .collect();
    functions.sort_unstable_by_key(|function| function.start);
    Some(functions)
}

/// All entries of the section. One whose start is not encoded as usual lies outside all code.
fn read_entries(segments: &[Segment<'_>], sections: &Sections<'_>) -> Option<Vec<Range<Address>>> {
    const LENGTH: u64 = 4;
    let (_, section) = sections.section_by_name(LittleEndian, b".eh_frame")?;
    let mut at = Address(section.sh_addr(LittleEndian));
    let end = at.checked_add(section.sh_size(LittleEndian))?;
    let is_code = |start: Address| {
        let mut code = segments.iter().filter(|segment| segment.executable);
        code.any(|segment| segment.position_of(start).is_some())
    };
    let mut functions = Vec::new();
    while at < end {
        let entry = bytes_at(segments, at)?;
        let length = u32::from_le_bytes(*entry.first_chunk()?);
        // A terminator, or the form of entries beyond 4 GiB.
        if length == 0 || length == u32::MAX {
            break;
        }
        let common = u32::from_le_bytes(*entry.get(LENGTH as usize..)?.first_chunk()?);
        if common != 0
            && let Some(function) = described(entry, at).filter(|function| is_code(function.start))
        {
            functions.push(function);
        }
        at = at.checked_add(LENGTH + u64::from(length))?;
    }
    functions.sort_unstable_by_key(|function| function.start);
    Some(functions)
}

/// The function of the frame description entry at an address.
fn described(entry: &[u8], at: Address) -> Option<Range<Address>> {
    const START: u64 = 8;
    const SIZE: usize = 12;
    let start = relative(at.checked_add(START)?, entry.get(START as usize..SIZE)?)?;
    let size = u32::from_le_bytes(*entry.get(SIZE..)?.first_chunk()?);
    Some(start..start.checked_add(size.into())?)
}

/// A frame description entry: length, pointer to its common entry, start, size. The start must
/// say again what the table says: this shows that it is encoded as PC-relative 32-bit, as usual.
fn end_of(segments: &[Segment<'_>], function: Address, frame: Address) -> Option<Address> {
    let described = described(bytes_at(segments, frame)?, frame)?;
    (described.start == function).then_some(described.end)
}

fn relative(origin: Address, offset: &[u8]) -> Option<Address> {
    let offset = i32::from_le_bytes(*offset.first_chunk::<4>()?);
    origin.0.checked_add_signed(offset.into()).map(Address)
}

#[cfg(test)]
mod tests {
    use object::read::elf::FileHeader;

    use super::super::{Header, load_segments, section_table};
    use super::*;

    /// This very test has both: the table that the linker made, and the entries themselves.
    #[test]
    fn the_entries_say_what_the_table_says() {
        let own = std::env::current_exe().expect("the path of this test");
        let bytes = std::fs::read(own).expect("this test");
        let header = Header::parse(bytes.as_slice()).expect("an ELF header");
        let headers = header.program_headers(LittleEndian, bytes.as_slice());
        let headers = headers.expect("program headers");
        let segments = load_segments(headers, &bytes).expect("segments");
        let sections = section_table(header, &bytes);
        let table = Frames::read(headers, &segments, &sections).functions;
        let entries = read_entries(&segments, &sections).expect("entries");
        assert!(table.len() > 100, "{} functions", table.len());
        assert_eq!(table, entries);
    }
}
