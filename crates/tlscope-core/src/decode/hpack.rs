//! HPACK (RFC 7541): header fields from header blocks.
//!
//! Dynamic entries are counted from the newest, so a decoder that came late or
//! lost blocks knows every entry inserted since; one it cannot know is named by
//! its index in brackets, which no field name can have.

mod huffman;
mod static_table;

use std::borrow::Cow;
use std::collections::VecDeque;

use static_table::STATIC;

/// RFC 7541 section 4.1: what an entry counts beside its octets.
const ENTRY_OVERHEAD: usize = 32;
/// The size of a table whose encoder said nothing (RFC 9113 section 6.5.2).
const DEFAULT_SIZE: usize = 4096;
/// What is kept whatever size the peers agreed on.
const MAX_SIZE: usize = 64 * 1024;
/// What one block's fields may come to: one octet can stand for a long entry.
const MAX_FIELDS: usize = 256 * 1024;
/// The value of a field of which only the index is known.
const UNKNOWN: &[u8] = b"[unknown]";

#[derive(Debug)]
pub(super) struct Hpack {
    entries: VecDeque<Entry>,
    size: usize,
    /// As the encoder set it; `None` if that may have been missed.
    max_size: Option<usize>,
}

/// Name and value.
type Entry = (Box<[u8]>, Box<[u8]>);
type Field<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Default for Hpack {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max_size: Some(DEFAULT_SIZE),
        }
    }
}

impl Hpack {
    /// Blocks were missed: what they inserted is not known.
    pub(super) fn lose(&mut self) {
        *self = Self {
            max_size: None,
            ..Self::default()
        };
    }

    /// Hands each field to `field`. After an error the table is not known any more.
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        mut field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Malformed> {
        let (mut reader, mut left) = (Reader { rest: block }, MAX_FIELDS);
        let mut bounded = |name: &[u8], value: &[u8]| {
            left = left.saturating_sub(name.len() + value.len() + ENTRY_OVERHEAD);
            if left > 0 {
                field(name, value);
            }
        };
        while let Some(&first) = reader.rest.first() {
            let decoded = self.representation(first, &mut reader, &mut bounded);
            if decoded.is_none() {
                self.lose();
                return Err(Malformed);
            }
        }
        Ok(())
    }

    /// RFC 7541 section 6.
    fn representation(
        &mut self,
        first: u8,
        reader: &mut Reader<'_>,
        field: &mut impl FnMut(&[u8], &[u8]),
    ) -> Option<()> {
        match first {
            0x80.. => {
                let index = reader.integer(7)?;
                let (name, value) = self.entry(index)?;
                field(&name, &value);
            }
            0x40.. => {
                let (name, value) = self.literal(reader, 6)?;
                field(&name, &value);
                self.insert(name.into_owned(), value.into_owned());
            }
            0x20.. => {
                let size = reader.integer(5)?;
                self.max_size = Some(size);
                self.evict_to(size.min(MAX_SIZE));
            }
            _ => {
                let (name, value) = self.literal(reader, 4)?;
                field(&name, &value);
            }
        }
        Some(())
    }

    /// A literal's name, indexed or not, and its value.
    fn literal<'a>(&self, reader: &mut Reader<'a>, prefix: u32) -> Option<Field<'a>> {
        let name = match reader.integer(prefix)? {
            0 => reader.string()?,
            index => Cow::Owned(self.entry(index)?.0.into_owned()),
        };
        Some((name, reader.string()?))
    }

    fn entry(&self, index: usize) -> Option<Field<'_>> {
        let index = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Some((name.as_bytes().into(), value.as_bytes().into()));
        }
        Some(match self.entries.get(index - STATIC.len()) {
            Some((name, value)) => ((&**name).into(), (&**value).into()),
            None => (
                format!("[{}]", index + 1).into_bytes().into(),
                UNKNOWN.into(),
            ),
        })
    }

    /// RFC 7541 section 4.4: an entry beyond the table's size empties it.
    fn insert(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let size = entry_size(&name, &value);
        let max_size = self.max_size.unwrap_or(MAX_SIZE).min(MAX_SIZE);
        self.evict_to(max_size.saturating_sub(size));
        if size <= max_size {
            self.size += size;
            self.entries.push_front((name.into(), value.into()));
        }
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size
            && let Some((name, value)) = self.entries.pop_back()
        {
            self.size -= entry_size(&name, &value);
        }
    }
}

fn entry_size(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + ENTRY_OVERHEAD
}

/// RFC 7541 section 5.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// With a prefix of so many bits; at most 28 bits behind it.
    fn integer(&mut self, prefix: u32) -> Option<usize> {
        let mask = (1_usize << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Some(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.byte()?);
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        let is_huffman = self.rest.first()? & 0x80 != 0;
        let length = self.integer(7)?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        if is_huffman {
            huffman::decode(text).map(Cow::Owned)
        } else {
            Some(text.into())
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }
}

#[cfg(test)]
mod tests;
