//! Go's table of functions: names, starts and ends, in every Go program, stripped or not.
//!
//! The runtime walks stacks with it, so no build leaves it out. Its layout is that of
//! `debug/gosym/pclntab.go` and `runtime/symtab.go` of the Go sources; five forms since Go 1.2.
//! A table counts only if the module data of the image points at it: an image may hold other
//! programs as plain data, with tables of their own.

mod module;

use std::ops::Range;

use memchr::memmem;

use super::{Address, Elf};
use crate::plan::Arch;

use module::ModuleData;

/// What the table's magic number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PclntabVersion {
    /// Go 1.2 to 1.15.
    Go12,
    /// Go 1.16 and 1.17.
    Go116,
    /// Go 1.18 and 1.19: functions by their distance from the start of the text.
    Go118,
    /// Go 1.20 and later. From 1.26 on the header no longer has the start of the text.
    Go120,
}

impl PclntabVersion {
    fn from_magic(magic: u8) -> Option<Self> {
        match magic {
            0xfb => Some(Self::Go12),
            0xfa => Some(Self::Go116),
            0xf0 => Some(Self::Go118),
            0xf1 => Some(Self::Go120),
            _ => None,
        }
    }

    /// The releases that write it, for people.
    pub fn releases(self) -> &'static str {
        match self {
            Self::Go12 => "Go 1.2 to 1.15",
            Self::Go116 => "Go 1.16 to 1.17",
            Self::Go118 => "Go 1.18 to 1.19",
            Self::Go120 => "Go 1.20 or later",
        }
    }

    fn has_offsets(self) -> bool {
        matches!(self, Self::Go118 | Self::Go120)
    }
}

/// A function that the table names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoFunction<'d> {
    pub name: &'d str,
    /// To the start of the next function; padding at the end included.
    pub code: Range<Address>,
    /// Bytes of stack that its arguments and results have.
    pub arguments: u32,
}

/// The table of one image.
#[derive(Debug)]
pub struct Pclntab<'d> {
    pub address: Address,
    pub version: PclntabVersion,
    module: ModuleData,
    header: Header<'d>,
}

/// The parts of the table, before the start of the text is known.
#[derive(Debug, Clone, Copy)]
struct Header<'d> {
    address: Address,
    version: PclntabVersion,
    /// How many functions it has.
    count: usize,
    names: &'d [u8],
    /// What the places of functions are counted from; it begins with the list of functions,
    /// but in the oldest form.
    functions: &'d [u8],
    /// The list of (start, place), and one last start: the end of the last function.
    list: &'d [u8],
    list_at: Address,
}

/// The last three bytes of the magic, two zeros, the size of an instruction step, the size of a
/// pointer: what all forms share behind the first byte.
const fn signature(arch: Arch) -> u64 {
    let step: u64 = match arch {
        Arch::X86_64 => 1,
        Arch::Aarch64 => 4,
    };
    0x0008_0000_00ff_ffff | (step << 40)
}

const WORD: usize = 8;

impl<'d> Pclntab<'d> {
    /// The table of an image, if it is a Go program or library.
    pub fn find(elf: &Elf<'d>) -> Option<Self> {
        // A few programs inside of a program are plausible; thousands of headers are hostile.
        const MOST: usize = 16;
        let headers = candidates(elf).filter_map(|address| Header::parse(elf, address));
        headers.take(MOST).find_map(|header| {
            let module = ModuleData::find(elf, &header)?;
            Some(Self {
                address: header.address,
                version: header.version,
                module,
                header,
            })
        })
    }

    pub fn len(&self) -> usize {
        self.header.count
    }

    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// Where the code starts that the table is of: `runtime.text`.
    pub fn text(&self) -> Address {
        self.module.text
    }

    /// Where the descriptors of Go's types may begin, the likeliest place first.
    pub fn types(&self, elf: &Elf<'_>) -> impl Iterator<Item = Address> {
        self.module.types(elf)
    }

    /// The functions whose names end in one of `endings`, in order of address.
    pub fn ending_in(&self, elf: &Elf<'_>, endings: &[&str]) -> Vec<GoFunction<'d>> {
        // Copies of crypto/tls under other names, a few each.
        const MOST: usize = 256;
        let mut names: Vec<(u32, &'d str)> = endings
            .iter()
            .flat_map(|ending| self.header.names_ending(ending))
            .take(MOST)
            .collect();
        names.sort_unstable();
        names.dedup();
        let entries = (0..self.header.count).filter_map(|index| {
            let entry = self.header.entry(index)?;
            let name = names
                .binary_search_by_key(&entry.name, |(at, _)| *at)
                .ok()?;
            Some((index, entry.arguments, names.get(name)?.1))
        });
        entries
            .filter_map(|(index, arguments, name)| {
                let start = self.start(elf, index)?;
                let end = self.start(elf, index + 1)?;
                (start < end && elf.is_code(start)).then_some(GoFunction {
                    name,
                    code: start..end,
                    arguments,
                })
            })
            .take(MOST)
            .collect()
    }

    /// Whether a name stands in the table, be it of a function that was merged into its callers.
    pub fn mentions(&self, name: &str) -> bool {
        self.header
            .names_ending(name)
            .any(|(_, whole)| whole == name)
    }

    /// Where a function starts; one behind the last, where the last one ends.
    fn start(&self, elf: &Elf<'_>, index: usize) -> Option<Address> {
        self.header.start(elf, index, self.module.text)
    }
}

/// What the table keeps of a function besides its lines.
#[derive(Debug, Clone, Copy)]
struct Entry {
    name: u32,
    arguments: u32,
}

impl<'d> Header<'d> {
    fn parse(elf: &Elf<'d>, address: Address) -> Option<Self> {
        let bytes = elf.bytes_from(address)?;
        let version = PclntabVersion::from_magic(*bytes.first()?)?;
        let word = |index: usize| usize::try_from(u64_at(bytes, WORD * (1 + index))?).ok();
        let count = word(0).filter(|count| *count > 0)?;
        // Where the names begin and end, and where the functions begin.
        let (names, functions) = match version {
            PclntabVersion::Go12 => (bytes, 0),
            PclntabVersion::Go116 => (bytes.get(word(2)?..word(3)?)?, word(6)?),
            PclntabVersion::Go118 | PclntabVersion::Go120 => {
                (bytes.get(word(3)?..word(4)?)?, word(7)?)
            }
        };
        let list = match version {
            PclntabVersion::Go12 => 2 * WORD,
            _ => functions,
        };
        let width = version.width();
        let length = count.checked_mul(2)?.checked_add(1)?.checked_mul(width)?;
        Some(Self {
            address,
            version,
            count,
            names,
            functions: bytes.get(functions..)?,
            list: bytes.get(list..list.checked_add(length)?)?,
            list_at: address.checked_add(list as u64)?,
        })
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        let width = self.version.width();
        let place = uint_at(self.list, (2 * index + 1) * width, width)?;
        let place = usize::try_from(place).ok()?.checked_add(width)?;
        Some(Entry {
            name: u32_at(self.functions, place)?,
            arguments: u32_at(self.functions, place.checked_add(4)?)?,
        })
    }

    fn start(&self, elf: &Elf<'_>, index: usize, text: Address) -> Option<Address> {
        let width = self.version.width();
        let at = 2 * index * width;
        if self.version.has_offsets() {
            return text.checked_add(uint_at(self.list, at, width)?);
        }
        // A position-independent image has these filled in by the loader.
        elf.pointer_at(self.list_at.checked_add(at as u64)?)
    }

    /// The names with an ending, and where they stand.
    fn names_ending(&self, ending: &str) -> impl Iterator<Item = (u32, &'d str)> {
        // Package paths are long; nothing legal comes near this.
        const LONGEST: usize = 1024;
        let names = self.names;
        let mut terminated = ending.as_bytes().to_vec();
        terminated.push(0);
        let places: Vec<usize> = memmem::find_iter(names, &terminated).take(64).collect();
        let length = ending.len();
        places.into_iter().filter_map(move |at| {
            let before = names.get(at.saturating_sub(LONGEST)..at)?;
            let start = at - before.len() + memchr::memrchr(0, before).map_or(0, |nul| nul + 1);
            let name = std::str::from_utf8(names.get(start..at + length)?).ok()?;
            Some((u32::try_from(start).ok()?, name))
        })
    }
}

impl PclntabVersion {
    /// Bytes of a number in the list of functions.
    fn width(self) -> usize {
        if self.has_offsets() { 4 } else { WORD }
    }
}

/// Where a table may begin: it is aligned to words at least.
fn candidates<'e>(elf: &'e Elf<'_>) -> impl Iterator<Item = Address> + use<'e> {
    let signature = signature(elf.arch);
    elf.segments().flat_map(move |segment| {
        let skipped = segment.address.0.wrapping_neg() as usize % WORD;
        let words = segment.bytes.get(skipped..).unwrap_or_default();
        let matching = words
            .chunks_exact(WORD)
            .enumerate()
            .filter(move |(_, word)| {
                u64_at(word, 0).is_some_and(|word| {
                    word >> 8 == signature && PclntabVersion::from_magic(word as u8).is_some()
                })
            });
        matching.filter_map(move |(index, _)| {
            segment.address.checked_add((skipped + index * WORD) as u64)
        })
    })
}

fn uint_at(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    match width {
        4 => u32_at(bytes, at).map(u64::from),
        _ => u64_at(bytes, at),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
