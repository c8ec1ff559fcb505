//! ELF images as the analysis needs them: segments, symbols, relocations, strings.
//!
//! All reads are checked against the file, so a hostile image ends in an error
//! or in an answer of "nothing", within time linear in its size.

mod debug_files;
mod dynamic;
mod frames;
mod pclntab;
mod relocations;
mod symbols;

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::ops::Range;

use memchr::memmem;
use object::LittleEndian;
use object::elf::{
    EM_AARCH64, EM_X86_64, FileHeader64, NT_GNU_BUILD_ID, PF_W, PF_X, PT_DYNAMIC, PT_LOAD,
    ProgramHeader64, SHT_NOTE, SectionHeader64,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable};
use serde::{Deserialize, Serialize};

use self::dynamic::Dynamic;
use crate::ImageError;
use crate::plan::Arch;

pub use debug_files::Files;
pub use frames::Frames;
pub use pclntab::{GoFunction, Pclntab, PclntabVersion};
pub use relocations::{Relocations, SlotTarget};
pub use symbols::{Symbol, SymbolSource, Symbols};

/// A virtual address inside an image, as its ELF file gives it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Address(pub u64);

/// A byte position in the image's file: what a uprobe is attached to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct FileOffset(pub u64);

impl Address {
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }

    /// `self - origin`, if `self` is not below it.
    pub fn distance_from(self, origin: Self) -> Option<u64> {
        self.0.checked_sub(origin.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({:#x})", self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for FileOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileOffset({:#x})", self.0)
    }
}

impl fmt::Display for FileOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The part of the file that one `PT_LOAD` maps.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'d> {
    pub address: Address,
    pub offset: FileOffset,
    pub executable: bool,
    pub writable: bool,
    pub bytes: &'d [u8],
}

impl Segment<'_> {
    fn position_of(&self, address: Address) -> Option<usize> {
        let position = usize::try_from(address.distance_from(self.address)?).ok()?;
        (position < self.bytes.len()).then_some(position)
    }
}

type Header = FileHeader64<LittleEndian>;
type ProgramHeaders<'d> = &'d [ProgramHeader64<LittleEndian>];
type Sections<'d> = SectionTable<'d, Header>;

/// Instructions walked for one image. The most that a real one took is 250 thousand, Bun 1.3.
const STEPS: u64 = 1_000_000;

/// A parsed image.
#[derive(Debug)]
pub struct Elf<'d> {
    pub arch: Arch,
    pub build_id: Option<String>,
    pub symbols: Symbols<'d>,
    pub relocations: Relocations<'d>,
    pub frames: Frames,
    /// Whether a loader fills pointer slots; without one they hold what stands in the file.
    pub dynamic: bool,
    /// The libraries that it is linked with, by the names that the loader looks for.
    pub needed: Vec<&'d str>,
    segments: Vec<Segment<'d>>,
    steps_left: Cell<u64>,
}

impl<'d> Elf<'d> {
    pub fn parse(bytes: &'d [u8], files: &dyn Files) -> Result<Self, ImageError> {
        check_ident(bytes)?;
        let header = Header::parse(bytes).map_err(malformed)?;
        let arch = match header.e_machine(LittleEndian) {
            EM_X86_64 => Arch::X86_64,
            EM_AARCH64 => Arch::Aarch64,
            other => {
                return Err(ImageError::UnsupportedArch(format!(
                    "ELF machine {}",
                    other.0
                )));
            }
        };
        let headers = header
            .program_headers(LittleEndian, bytes)
            .map_err(malformed)?;
        let segments = load_segments(headers, bytes)?;
        let sections = section_table(header, bytes);
        let dynamic = Dynamic::read(headers, &segments);
        let (symbols, relocations) = if sections.is_empty() {
            (
                Symbols::of_loader(&dynamic),
                Relocations::of_loader(&dynamic),
            )
        } else {
            (
                Symbols::read(&sections, bytes, files),
                Relocations::read(&sections, &segments, bytes),
            )
        };
        let needed = dynamic.needed();
        let frames = Frames::read(headers, &segments, &sections);
        Ok(Self {
            frames,
            dynamic: headers
                .iter()
                .any(|header| header.p_type(LittleEndian) == PT_DYNAMIC),
            steps_left: Cell::new(STEPS),
            arch,
            build_id: build_id(&sections, bytes),
            symbols,
            relocations,
            needed,
            segments,
        })
    }

    /// Takes one instruction off what may be walked in this image; `false` when all is spent. A
    /// hostile image can make every question expensive, but not the sum of them.
    pub(crate) fn spend_step(&self) -> bool {
        let left = self.steps_left.get();
        self.steps_left.set(left.saturating_sub(1));
        left > 0
    }

    /// Whether a walk was cut short: what it did not find may be there all the same.
    pub(crate) fn is_spent(&self) -> bool {
        self.steps_left.get() == 0
    }

    /// The bytes from an address to the end of what its segment has in the file.
    pub fn bytes_from(&self, address: Address) -> Option<&'d [u8]> {
        bytes_at(&self.segments, address)
    }

    /// The eight bytes at an address, as they stand in the file.
    pub fn word_at(&self, address: Address) -> Option<u64> {
        Some(u64::from_le_bytes(
            *self.bytes_from(address)?.first_chunk()?,
        ))
    }

    /// What the pointer at a slot will be once the image is loaded.
    pub fn pointer_at(&self, slot: Address) -> Option<Address> {
        match self.relocations.at(slot) {
            Some(SlotTarget::Local(target) | SlotTarget::Named(_, Some(target))) => Some(target),
            Some(SlotTarget::Named(_, None)) => None,
            None => self.word_at(slot).map(Address),
        }
    }

    /// The slots in data that point at `target`, at most `limit` of them.
    pub fn slots_holding(&self, target: Address, limit: usize) -> Vec<Address> {
        const ALIGNMENT: u64 = 8;
        let pattern = target.0.to_le_bytes();
        let finder = memmem::Finder::new(&pattern);
        let data = self.segments.iter().filter(|segment| !segment.executable);
        let written = data.flat_map(|segment| {
            finder
                .find_iter(segment.bytes)
                .filter_map(|at| segment.address.checked_add(at as u64))
        });
        let aligned = written.filter(|slot| slot.0.is_multiple_of(ALIGNMENT));
        let filled = self.relocations.slots_holding(&[target]).into_iter();
        filled
            .map(|(slot, _)| slot)
            .chain(aligned)
            .take(limit)
            .collect()
    }

    /// Where the byte at an address stands in the file.
    pub fn file_offset(&self, address: Address) -> Option<FileOffset> {
        let segment = self.segment_of(address)?;
        let position = segment.position_of(address)? as u64;
        segment.offset.0.checked_add(position).map(FileOffset)
    }

    pub fn is_code(&self, address: Address) -> bool {
        self.segment_of(address)
            .is_some_and(|segment| segment.executable)
    }

    pub fn is_writable(&self, address: Address) -> bool {
        self.segment_of(address)
            .is_some_and(|segment| segment.writable)
    }

    pub fn segments(&self) -> impl Iterator<Item = &Segment<'d>> {
        self.segments.iter()
    }

    pub fn code_segments(&self) -> impl Iterator<Item = &Segment<'d>> {
        self.segments.iter().filter(|segment| segment.executable)
    }

    /// The first NUL-terminated text at an address.
    pub fn text_at(&self, address: Address) -> Option<&'d str> {
        const LONGEST: usize = 256;
        let bytes = self.bytes_from(address)?;
        let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
        let end = memchr::memchr(0, bytes)?;
        std::str::from_utf8(bytes.get(..end)?).ok()
    }

    /// Every address at which `text` stands with a NUL behind it; it may be the tail of a longer
    /// text, because linkers merge tails. At most `limit` of them.
    pub fn find_text(&self, text: &str, limit: usize) -> Vec<Address> {
        let mut terminated = text.as_bytes().to_vec();
        terminated.push(0);
        self.find_bytes(&terminated, limit)
    }

    /// The start of the text that `inside` is in: behind the NUL before it, or what else is no
    /// text, for a table of numbers need not end in 0.
    pub fn text_start(&self, inside: Address) -> Option<Address> {
        const LONGEST: usize = 256;
        let segment = self.segment_of(inside)?;
        let position = segment.position_of(inside)?;
        let before = segment
            .bytes
            .get(position.saturating_sub(LONGEST)..position)?;
        let other = before.iter().rposition(u8::is_ascii_control)?;
        let back = before.len() - other - 1;
        inside.0.checked_sub(back as u64).map(Address)
    }

    /// Every address at which `pattern` stands, at most `limit` of them.
    pub fn find_bytes(&self, pattern: &[u8], limit: usize) -> Vec<Address> {
        let finder = memmem::Finder::new(pattern);
        self.segments
            .iter()
            .flat_map(|segment| {
                finder
                    .find_iter(segment.bytes)
                    .filter_map(|at| segment.address.checked_add(at as u64))
            })
            .take(limit)
            .collect()
    }

    /// Where the function starts whose code holds an address, by its symbol or its call frame.
    pub fn function_around(&self, address: Address) -> Option<Range<Address>> {
        let named = self
            .symbols
            .around(address)
            .filter(|symbol| symbol.size > 0);
        let named =
            named.and_then(|symbol| Some(symbol.address..symbol.address.checked_add(symbol.size)?));
        named.or_else(|| self.frames.around(address))
    }

    fn segment_of(&self, address: Address) -> Option<&Segment<'d>> {
        self.segments
            .iter()
            .find(|segment| segment.position_of(address).is_some())
    }
}

fn bytes_at<'d>(segments: &[Segment<'d>], address: Address) -> Option<&'d [u8]> {
    segments
        .iter()
        .find_map(|segment| segment.bytes.get(segment.position_of(address)?..))
}

fn check_ident(bytes: &[u8]) -> Result<(), ImageError> {
    const CLASS_32: u8 = 1;
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    if !bytes.starts_with(b"\x7fELF") {
        return Err(ImageError::NotElf);
    }
    match (bytes.get(4), bytes.get(5)) {
        (Some(&CLASS_32), _) => Err(ImageError::Elf32),
        (Some(&CLASS_64), Some(&LITTLE_ENDIAN)) => Ok(()),
        (Some(&CLASS_64), Some(_)) => {
            Err(ImageError::UnsupportedArch("a big-endian machine".into()))
        }
        _ => Err(ImageError::Malformed(
            "its identification is cut short or unknown".into(),
        )),
    }
}

/// Section headers are no part of what runs: an image without them, or with broken ones, still has
/// its segments; and sections without names still have their kinds.
fn section_table<'d>(header: &Header, bytes: &'d [u8]) -> Sections<'d> {
    let Ok(headers) = header.section_headers(LittleEndian, bytes) else {
        return Sections::default();
    };
    let names = header
        .section_strings(LittleEndian, bytes, headers)
        .unwrap_or_default();
    Sections::new(headers, names)
}

fn load_segments<'d>(
    headers: ProgramHeaders<'_>,
    bytes: &'d [u8],
) -> Result<Vec<Segment<'d>>, ImageError> {
    // Linkers write about ten. Every search goes through all of them, so many that overlap would
    // make an image cost far more than its size.
    const MOST: usize = 256;
    const OVERLAP: usize = 4;
    let loads = headers
        .iter()
        .filter(|segment| segment.p_type(LittleEndian) == PT_LOAD);
    let segments: Vec<Segment<'d>> = loads.take(MOST).map(|load| segment(load, bytes)).collect();
    let mapped: usize = segments.iter().map(|segment| segment.bytes.len()).sum();
    match mapped {
        0 => Err(ImageError::Malformed("it has no segment to load".into())),
        _ if mapped / OVERLAP > bytes.len() => Err(ImageError::Malformed(
            "its segments overlap many times".into(),
        )),
        _ => Ok(segments),
    }
}

fn segment<'d>(header: &ProgramHeader64<LittleEndian>, bytes: &'d [u8]) -> Segment<'d> {
    let (offset, size) = header.file_range(LittleEndian);
    // A truncated file keeps what it still has of a segment.
    let range = offset as usize..bytes.len().min(offset.saturating_add(size) as usize);
    Segment {
        address: Address(header.p_vaddr(LittleEndian)),
        offset: FileOffset(offset),
        executable: header.p_flags(LittleEndian).contains(PF_X),
        writable: header.p_flags(LittleEndian).contains(PF_W),
        bytes: bytes.get(range).unwrap_or_default(),
    }
}

fn build_id(sections: &Sections<'_>, bytes: &[u8]) -> Option<String> {
    // A few sections of notes are usual; a hostile table could name one place many times.
    const SECTIONS: usize = 16;
    const LONGEST: usize = 64;
    let of_notes =
        |section: &&SectionHeader64<LittleEndian>| section.sh_type(LittleEndian) == SHT_NOTE;
    let id = sections
        .iter()
        .filter(of_notes)
        .take(SECTIONS)
        .find_map(|section| {
            let mut notes = section.notes(LittleEndian, bytes).ok()??;
            while let Ok(Some(note)) = notes.next() {
                if note.n_type(LittleEndian) == NT_GNU_BUILD_ID && note.name() == b"GNU" {
                    return Some(note.desc());
                }
            }
            None
        })?;
    let id = id.get(..LONGEST).unwrap_or(id);
    Some(id.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[allow(clippy::needless_pass_by_value)] // the shape that map_err wants
fn malformed(error: object::read::Error) -> ImageError {
    ImageError::Malformed(error.to_string())
}
