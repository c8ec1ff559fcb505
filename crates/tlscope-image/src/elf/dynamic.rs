//! What an image tells the loader: the libraries that it needs.

use object::LittleEndian;
use object::elf::{PT_DYNAMIC, ProgramHeader64};
use object::read::elf::ProgramHeader;

use super::{Address, Segment, bytes_at};

const NULL: u64 = 0;
const NEEDED: u64 = 1;
const STRTAB: u64 = 5;

/// The names in `DT_NEEDED`.
pub(super) fn needed<'d>(
    headers: &[ProgramHeader64<LittleEndian>],
    segments: &[Segment<'d>],
) -> Vec<&'d str> {
    // Programs of hundreds of libraries exist.
    const MOST: usize = 4096;
    const ENTRY: usize = 16;
    let dynamic = headers
        .iter()
        .find(|header| header.p_type(LittleEndian) == PT_DYNAMIC);
    let Some(table) =
        dynamic.and_then(|header| bytes_at(segments, Address(header.p_vaddr(LittleEndian))))
    else {
        return Vec::new();
    };
    let word = |bytes: &[u8]| bytes.first_chunk().map(|word| u64::from_le_bytes(*word));
    let entries: Vec<(u64, u64)> = table
        .chunks_exact(ENTRY)
        .take(MOST)
        .filter_map(|entry| Some((word(entry)?, word(entry.get(8..)?)?)))
        .take_while(|(tag, _)| *tag != NULL)
        .collect();
    let Some((_, strings)) = entries.iter().find(|(tag, _)| *tag == STRTAB) else {
        return Vec::new();
    };
    let name = |at: u64| {
        let bytes = bytes_at(segments, Address(strings.checked_add(at)?))?;
        std::str::from_utf8(bytes.get(..memchr::memchr(0, bytes)?)?).ok()
    };
    let names = entries.iter().filter(|(tag, _)| *tag == NEEDED);
    names.filter_map(|(_, at)| name(*at)).collect()
}
