//! Symbols that stand outside of the tables that an image is run with: `.gnu_debugdata` inside it,
//! and debug files that `.gnu_debuglink` or the build id name.

use object::LittleEndian;
use object::read::elf::{FileHeader, SectionHeader};
use xz4rust::{XzDecoder, XzNextBlockResult};

use super::symbols::{Symbol, SymbolSource, owned_symtab};
use super::{Header, Sections, build_id, section_table};

/// Where the caller looks for files that belong to an image. The analysis itself opens no file.
///
/// A debug file is checked against the image (build id, or checksum of the link), so a wrong one
/// does no harm. What a library needs is asked for a version to show, no more.
pub trait Files {
    /// `/usr/lib/debug/.build-id/ab/cdef.debug` for the build id `abcdef`.
    fn by_build_id(&self, build_id: &str) -> Option<Vec<u8>>;

    /// The file of this name beside the image, in `.debug` there, or in the image's directory
    /// under `/usr/lib/debug`.
    fn by_link(&self, name: &str) -> Option<Vec<u8>>;

    /// The library of this name in the image's directory.
    fn needed(&self, name: &str) -> Option<Vec<u8>>;
}

/// No other file at all.
impl Files for () {
    fn by_build_id(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn by_link(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn needed(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

/// The functions that the first of these sources names.
pub(super) fn symbols(
    sections: &Sections<'_>,
    bytes: &[u8],
    files: &dyn Files,
) -> Vec<Symbol<'static>> {
    let mini = section(sections, bytes, ".gnu_debugdata").and_then(decompress);
    if let Some(mini) = mini {
        return table(&mini, SymbolSource::MiniDebugInfo);
    }
    let id = build_id(sections, bytes);
    let by_id = id.as_deref().and_then(|id| {
        files
            .by_build_id(id)
            .filter(|file| build_id_of(file).as_deref() == Some(id))
    });
    if let Some(file) = by_id {
        return table(&file, SymbolSource::BuildId);
    }
    let linked = section(sections, bytes, ".gnu_debuglink").and_then(debug_link);
    let by_link =
        linked.and_then(|(name, crc)| files.by_link(name).filter(|file| crc32(file) == crc));
    by_link.map_or_else(Vec::new, |file| table(&file, SymbolSource::DebugLink))
}

fn section<'d>(sections: &Sections<'d>, bytes: &'d [u8], name: &str) -> Option<&'d [u8]> {
    let (_, section) = sections.section_by_name(LittleEndian, name.as_bytes())?;
    section
        .data(LittleEndian, bytes)
        .ok()
        .filter(|data| !data.is_empty())
}

fn sections_of(file: &[u8]) -> Option<Sections<'_>> {
    Some(section_table(Header::parse(file).ok()?, file))
}

fn build_id_of(file: &[u8]) -> Option<String> {
    build_id(&sections_of(file)?, file)
}

fn table(file: &[u8], source: SymbolSource) -> Vec<Symbol<'static>> {
    sections_of(file).map_or_else(Vec::new, |sections| owned_symtab(&sections, file, source))
}

/// A file name, padding to four bytes, the file's checksum (GDB manual, "Separate Debug Files").
fn debug_link(section: &[u8]) -> Option<(&str, u32)> {
    let end = memchr::memchr(0, section)?;
    let name = std::str::from_utf8(section.get(..end)?).ok()?;
    let checksum = section
        .get((end + 1).next_multiple_of(4)..)?
        .first_chunk::<4>()?;
    // A path would lead out of the directories that the caller searches.
    (!name.contains('/')).then_some((name, u32::from_le_bytes(*checksum)))
}

fn decompress(compressed: &[u8]) -> Option<Vec<u8>> {
    // The largest MiniDebugInfo of a Fedora release is some 10 MiB; `xz -9` has a dictionary of 64.
    const LARGEST: usize = 64 << 20;
    const DICTIONARY: usize = 64 << 20;
    const STEP: usize = 1 << 16;
    let mut decoder = XzDecoder::in_heap_with_alloc_dict_size(STEP, DICTIONARY);
    let mut plain = Vec::new();
    let mut step = vec![0; STEP];
    let mut rest = compressed;
    while plain.len() < LARGEST {
        match decoder.decode(rest, &mut step).ok()? {
            XzNextBlockResult::NeedMoreData(0, 0) => return None,
            XzNextBlockResult::NeedMoreData(consumed, produced) => {
                plain.extend_from_slice(step.get(..produced)?);
                rest = rest.get(consumed..)?;
            }
            XzNextBlockResult::EndOfStream(_, produced) => {
                plain.extend_from_slice(step.get(..produced)?);
                return Some(plain);
            }
        }
    }
    None
}

/// CRC-32 as in ISO 3309: the checksum of a debug link.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc_table();
    let step = |crc: u32, byte: &u8| {
        let index = (crc ^ u32::from(*byte)) & 0xff;
        (crc >> 8) ^ TABLE[index as usize]
    };
    !bytes.iter().fold(!0, step)
}

const fn crc_table() -> [u32; 256] {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_debug_link_is_a_name_and_a_checksum() {
        let section = b"libssl.debug\0\0\0\0\x78\x56\x34\x12";
        assert_eq!(debug_link(section), Some(("libssl.debug", 0x1234_5678)));
        assert_eq!(debug_link(b"../../etc\0\0\0\x78\x56\x34\x12"), None);
        assert_eq!(debug_link(b"cut"), None);
    }

    #[test]
    fn what_is_no_xz_decompresses_to_nothing() {
        assert_eq!(decompress(b""), None);
        assert_eq!(decompress(b"\xfd7zXZ\0 not really"), None);
    }
}
