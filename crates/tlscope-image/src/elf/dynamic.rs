//! What an image tells the loader: the libraries that it needs; and for an image without sections,
//! its symbols and relocations (System V ABI, "Dynamic Section").

use object::LittleEndian;
use object::elf::{PT_DYNAMIC, Rela64, Sym64};
use object::pod::{self, Pod};
use object::read::elf::{ProgramHeader, Sym};

use super::{Address, ProgramHeaders, Segment, bytes_at};

const NULL: u64 = 0;
const NEEDED: u64 = 1;
const PLTRELSZ: u64 = 2;
const HASH: u64 = 4;
const STRTAB: u64 = 5;
const SYMTAB: u64 = 6;
const RELA: u64 = 7;
const RELASZ: u64 = 8;
const JMPREL: u64 = 23;
const GNU_HASH: u64 = 0x6fff_fef5;

pub(super) type Symbol = Sym64<LittleEndian>;
pub(super) type Relocation = Rela64<LittleEndian>;

/// The dynamic segment; empty, where there is none.
#[derive(Debug)]
pub(super) struct Dynamic<'s, 'd> {
    segments: &'s [Segment<'d>],
    entries: Vec<(u64, u64)>,
    /// From the start of each table to the end of its segment: every relocation asks for these.
    symbols: &'d [u8],
    strings: &'d [u8],
}

impl<'s, 'd> Dynamic<'s, 'd> {
    pub(super) fn read(headers: ProgramHeaders<'_>, segments: &'s [Segment<'d>]) -> Self {
        // Programs of hundreds of libraries exist.
        const MOST: usize = 4096;
        const ENTRY: usize = 16;
        let dynamic = headers
            .iter()
            .find(|header| header.p_type(LittleEndian) == PT_DYNAMIC);
        let table =
            dynamic.and_then(|header| bytes_at(segments, Address(header.p_vaddr(LittleEndian))));
        let word = |bytes: &[u8]| bytes.first_chunk().map(|word| u64::from_le_bytes(*word));
        let entries = table
            .unwrap_or_default()
            .chunks_exact(ENTRY)
            .take(MOST)
            .filter_map(|entry| Some((word(entry)?, word(entry.get(8..)?)?)))
            .take_while(|(tag, _)| *tag != NULL)
            .collect();
        let mut dynamic = Self {
            segments,
            entries,
            symbols: &[],
            strings: &[],
        };
        dynamic.symbols = dynamic.bytes_named(SYMTAB).unwrap_or_default();
        dynamic.strings = dynamic.bytes_named(STRTAB).unwrap_or_default();
        dynamic
    }

    /// The names in `DT_NEEDED`.
    pub(super) fn needed(&self) -> Vec<&'d str> {
        let needed = self.entries.iter().filter(|(tag, _)| *tag == NEEDED);
        needed.filter_map(|(_, name)| self.name(*name)).collect()
    }

    /// Those of pointers, then those of the PLT.
    pub(super) fn relocations(&self) -> impl Iterator<Item = &'d Relocation> {
        let entries = |place: u64, size: u64| {
            let size = usize::try_from(self.value(size)?).ok()?;
            table(self.bytes_named(place)?, size / size_of::<Relocation>())
        };
        let tables = [entries(RELA, RELASZ), entries(JMPREL, PLTRELSZ)];
        tables.into_iter().flatten().flatten()
    }

    pub(super) fn symbols(&self) -> &'d [Symbol] {
        let symbols = self
            .symbol_count()
            .and_then(|count| table(self.symbols, count));
        symbols.unwrap_or_default()
    }

    pub(super) fn symbol(&self, index: usize) -> Option<&'d Symbol> {
        let before = index.checked_mul(size_of::<Symbol>())?;
        table(self.symbols.get(before..)?, 1)?.first()
    }

    pub(super) fn name_of(&self, symbol: &Symbol) -> Option<&'d str> {
        self.name(symbol.st_name(LittleEndian).into())
    }

    fn value(&self, wanted: u64) -> Option<u64> {
        let mut entries = self.entries.iter();
        entries
            .find(|(tag, _)| *tag == wanted)
            .map(|(_, value)| *value)
    }

    fn bytes(&self, at: u64) -> Option<&'d [u8]> {
        bytes_at(self.segments, Address(at))
    }

    fn bytes_named(&self, tag: u64) -> Option<&'d [u8]> {
        self.bytes(self.value(tag)?)
    }

    fn name(&self, at: u64) -> Option<&'d str> {
        // A hostile table may name one long text a million times.
        const LONGEST: usize = 1024;
        let bytes = self.strings.get(usize::try_from(at).ok()?..)?;
        let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
        std::str::from_utf8(bytes.get(..memchr::memchr(0, bytes)?)?).ok()
    }

    /// Nothing but a hash table says how many symbols there are.
    fn symbol_count(&self) -> Option<usize> {
        if let Some(table) = self.value(GNU_HASH) {
            return self.count_of_gnu_hash(table);
        }
        let [_, chains] = *self.words(self.value(HASH)?, 2)?.first_chunk()?;
        usize::try_from(chains).ok()
    }

    /// Symbols stand in the order of their buckets; the last of a bucket's has an odd hash.
    fn count_of_gnu_hash(&self, table: u64) -> Option<usize> {
        let [buckets, first, blooms, _] = *self.words(table, 4)?.first_chunk()?;
        let at_buckets = table.checked_add(16)?.checked_add(8 * u64::from(blooms))?;
        let starts = self.words(at_buckets, usize::try_from(buckets).ok()?)?;
        let last = starts.into_iter().max()?;
        let Some(in_chains) = last.checked_sub(first) else {
            return usize::try_from(first).ok();
        };
        let at_chain = at_buckets.checked_add(4 * (u64::from(buckets) + u64::from(in_chains)))?;
        let chain = self.bytes(at_chain)?.chunks_exact(4);
        let more = chain.take_while(|hash| hash[0] & 1 == 0).count();
        usize::try_from(last)
            .ok()?
            .checked_add(more)?
            .checked_add(1)
    }

    fn words(&self, at: u64, count: usize) -> Option<Vec<u32>> {
        let words = self.bytes(at)?.chunks_exact(4).take(count);
        Some(
            words
                .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
                .collect(),
        )
    }
}

/// As much of a table as the file has.
fn table<T: Pod>(bytes: &[u8], count: usize) -> Option<&[T]> {
    let count = count.min(bytes.len() / size_of::<T>());
    Some(pod::slice_from_bytes(bytes, count).ok()?.0)
}
