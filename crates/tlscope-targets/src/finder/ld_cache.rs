//! `/etc/ld.so.cache`: a total parser for both formats of glibc.
//!
//! Old: `ld.so-1.7.0`, padding to 12, count, entries of 12 bytes, strings.
//! New: `glibc-ld.so.cache1.1`, count, ... (48 bytes), entries of 24 bytes, strings;
//! alone, or behind the old entries, aligned to 8. Offsets into the strings count from
//! the new header, or in the old format from the end of the entries.

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const NEW_HEADER: usize = 48;
const NEW_ENTRY: usize = 24;
/// All entries of a hostile cache may name one text without an end.
const PATH_MAX: usize = 4096;
/// Of a real one 4,000 are many. Each may take as long as a whole path.
const ENTRIES_MAX: usize = 65_536;

/// The paths in the cache; none from a damaged one beyond what is whole.
pub(super) fn paths(cache: &[u8]) -> impl Iterator<Item = &[u8]> {
    let table = Table::of(cache);
    (0..table.count).filter_map(move |i| {
        let entry = table.entries.get(i * table.entry_size..)?;
        // flags, key (the name), value (the path), ...
        let value = read_u32(entry, 8)? as usize;
        let text = table.strings.get(value..)?;
        let text = &text[..text.len().min(PATH_MAX)];
        let end = text.iter().position(|&b| b == 0)?;
        text[..end].starts_with(b"/").then_some(&text[..end])
    })
}

#[derive(Default)]
struct Table<'a> {
    count: usize,
    entries: &'a [u8],
    entry_size: usize,
    strings: &'a [u8],
}

impl<'a> Table<'a> {
    /// A file that is no cache gives an empty table.
    fn of(cache: &'a [u8]) -> Self {
        if cache.starts_with(NEW_MAGIC) {
            Self::new_format(cache)
        } else if cache.starts_with(OLD_MAGIC) {
            Self::old_format(cache)
        } else {
            None
        }
        .unwrap_or_default()
    }

    fn new_format(cache: &'a [u8]) -> Option<Self> {
        let entries = cache.get(NEW_HEADER..)?;
        let count = count(cache, NEW_MAGIC.len(), entries, NEW_ENTRY)?;
        Some(Self {
            count,
            entries,
            entry_size: NEW_ENTRY,
            strings: cache,
        })
    }

    fn old_format(cache: &'a [u8]) -> Option<Self> {
        let entries = cache.get(OLD_HEADER..)?;
        let count = count(cache, OLD_HEADER - 4, entries, OLD_ENTRY)?;
        let end = OLD_HEADER + count * OLD_ENTRY;
        let new = cache
            .get(end.next_multiple_of(8)..)
            .filter(|new| new.starts_with(NEW_MAGIC));
        if let Some(new) = new {
            return Self::new_format(new);
        }
        Some(Self {
            count,
            entries,
            entry_size: OLD_ENTRY,
            strings: cache.get(end..)?,
        })
    }
}

/// The count at `at`, but never more than the entries there is room for, or that are read.
fn count(cache: &[u8], at: usize, entries: &[u8], entry_size: usize) -> Option<usize> {
    let room = (entries.len() / entry_size).min(ENTRIES_MAX);
    Some((read_u32(cache, at)? as usize).min(room))
}

/// Both architectures that tlscope runs on are little-endian.
fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::finder) fn new_cache(libraries: &[&str]) -> Vec<u8> {
        let mut cache = NEW_MAGIC.to_vec();
        cache.extend((libraries.len() as u32).to_le_bytes());
        cache.resize(NEW_HEADER, 0);
        let strings = NEW_HEADER + libraries.len() * NEW_ENTRY;
        entries(&mut cache, libraries, strings, NEW_ENTRY);
        cache
    }

    fn old_cache(libraries: &[&str]) -> Vec<u8> {
        let mut cache = OLD_MAGIC.to_vec();
        cache.push(0);
        cache.extend((libraries.len() as u32).to_le_bytes());
        entries(&mut cache, libraries, 0, OLD_ENTRY);
        cache
    }

    fn entries(cache: &mut Vec<u8>, libraries: &[&str], base: usize, entry_size: usize) {
        let mut strings = Vec::new();
        for path in libraries {
            let mut entry = 0x303u32.to_le_bytes().to_vec();
            let name = path.rfind('/').unwrap() + 1;
            entry.extend(((base + strings.len() + name) as u32).to_le_bytes());
            entry.extend(((base + strings.len()) as u32).to_le_bytes());
            entry.resize(entry_size, 0);
            cache.extend(entry);
            strings.extend(path.bytes());
            strings.push(0);
        }
        cache.extend(strings);
    }

    fn read(cache: &[u8]) -> Vec<String> {
        paths(cache)
            .map(|p| String::from_utf8(p.to_vec()).unwrap())
            .collect()
    }

    const LIBRARIES: &[&str] = &["/lib/libssl.so.3", "/opt/x/libssl.so.1.1", "/lib/libc.so.6"];

    #[test]
    fn both_formats_and_the_two_together() {
        assert_eq!(read(&new_cache(LIBRARIES)), LIBRARIES);
        assert_eq!(read(&old_cache(LIBRARIES)), LIBRARIES);
        let mut both = old_cache(&[]);
        both.resize(both.len().next_multiple_of(8), 0);
        both.extend(new_cache(LIBRARIES));
        assert_eq!(read(&both), LIBRARIES);
    }

    #[test]
    fn the_cache_of_this_machine() {
        let cache = std::fs::read("/etc/ld.so.cache").unwrap();
        assert!(read(&cache).iter().any(|path| path.ends_with("/libc.so.6")));
    }

    #[test]
    fn what_is_no_cache_is_empty() {
        assert!(read(b"").is_empty());
        assert!(read(NEW_MAGIC).is_empty());
        assert!(read(&[0x7f; 100]).is_empty());
    }

    #[test]
    fn no_damage_panics() {
        let mut random = crate::finder::tests::Random(3);
        for cache in [new_cache(LIBRARIES), old_cache(LIBRARIES)] {
            for end in 0..cache.len() {
                let whole = read(&cache[..end]);
                assert!(whole.iter().all(|p| LIBRARIES.contains(&p.as_str())));
            }
            for _ in 0..20_000 {
                let mut cache = cache.clone();
                for _ in 0..=random.below(5) {
                    let at = random.below(cache.len());
                    cache[at] = random.below(256) as u8;
                }
                assert!(paths(&cache).count() <= cache.len() / OLD_ENTRY);
            }
        }
    }
}
