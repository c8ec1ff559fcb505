//! What Go's linker says about a build: the release that compiled it.
//!
//! `debug/buildinfo` of the Go sources. The header is aligned to 16 bytes, in a segment that is
//! written. Go 1.13 to 1.17 point at two strings; from 1.18 on the strings follow. Before 1.13
//! there is only the variable `runtime.buildVersion`.

use crate::elf::{Address, Elf};

const MAGIC: &[u8] = b"\xff Go buildinf:";
const ALIGNMENT: u64 = 16;
const POINTER_SIZE: usize = 14;
const FLAGS: usize = 15;
const HEADER: u64 = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BuildInfo {
    pub(super) address: Address,
    /// `go1.22rc1`, `devel go1.22-4f1e...`, `go1.19.8 X:boringcrypto`.
    pub(super) version: String,
}

impl BuildInfo {
    pub(super) fn find(elf: &Elf<'_>) -> Option<Self> {
        // A program that reads build information has the magic among its own data.
        const MOST: usize = 64;
        let places = elf.find_bytes(MAGIC, MOST).into_iter();
        let mut aligned =
            places.filter(|at| at.0.is_multiple_of(ALIGNMENT) && elf.is_writable(*at));
        aligned.find_map(|address| {
            let version = version_at(elf, address)?;
            Some(Self { address, version })
        })
    }
}

/// The variable `runtime.buildVersion`, without symbols: a Go string in data that says a release.
/// For images of before Go 1.13.
pub(super) fn build_version(elf: &Elf<'_>) -> Option<String> {
    // Texts of programs speak of releases too, but no string of theirs is only that.
    const MOST: usize = 16;
    let texts = elf.find_bytes(b"go1.", MOST).into_iter();
    let mut strings = texts.flat_map(|text| elf.slots_holding(text, MOST));
    strings.find_map(|string| {
        let version = text_at(elf, string).and_then(as_version)?;
        let is_release = version
            .chars()
            .skip(4)
            .all(|c| c.is_ascii_alphanumeric() || c == '.');
        is_release.then_some(version)
    })
}

fn version_at(elf: &Elf<'_>, address: Address) -> Option<String> {
    const INLINE: u8 = 2;
    const BIG_ENDIAN: u8 = 1;
    let header = elf.bytes_from(address)?;
    let flags = *header.get(FLAGS)?;
    if flags & INLINE != 0 {
        return inline_text(elf.bytes_from(address.checked_add(HEADER)?)?).and_then(as_version);
    }
    if flags & BIG_ENDIAN != 0 || *header.get(POINTER_SIZE)? != 8 {
        return None;
    }
    let text = elf.pointer_at(address.checked_add(16)?)?;
    text_at(elf, text).and_then(as_version)
}

/// A length of seven bits a byte, and as many bytes.
fn inline_text(bytes: &[u8]) -> Option<&[u8]> {
    const CONTINUES: u8 = 0x80;
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & !CONTINUES) << (7 * index);
        if byte & CONTINUES == 0 {
            return bytes.get(index + 1..)?.get(..length);
        }
    }
    None
}

/// A Go string: a pointer and a length.
fn text_at<'d>(elf: &Elf<'d>, string: Address) -> Option<&'d [u8]> {
    let length = usize::try_from(elf.word_at(string.checked_add(8)?)?).ok()?;
    elf.bytes_from(elf.pointer_at(string)?)?.get(..length)
}

/// Whoever builds Go names the release as they like; it is only shown.
fn as_version(text: &[u8]) -> Option<String> {
    const LONGEST: usize = 256;
    let text = std::str::from_utf8(text).ok()?;
    let printable = !text.is_empty() && !text.chars().any(char::is_control);
    (printable && text.len() <= LONGEST).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_every_kind() {
        for version in [
            "go1.22.3",
            "go1.22rc1",
            "devel go1.22-4f1eaa4 Mon Jan 1 00:00:00 2024 +0000",
            "devel +b7a85e0003 linux/amd64",
            "go1.21.5-fips",
            "go1.19.8 X:boringcrypto",
        ] {
            assert_eq!(as_version(version.as_bytes()).as_deref(), Some(version));
        }
        for other in [&b""[..], b"\xff\xfe", b"go1.2\x1b[31m", &[b'g'; 300]] {
            assert_eq!(as_version(other), None, "{other:?}");
        }
    }

    #[test]
    fn an_inline_text_has_its_length_before_it() {
        assert_eq!(inline_text(b"\x03go1rest"), Some(&b"go1"[..]));
        assert_eq!(inline_text(b"\x04go1"), None);
        assert_eq!(inline_text(b""), None);
        let long = [&[0x80, 0x01][..], &[b'x'; 128]].concat();
        assert_eq!(inline_text(&long).map(<[u8]>::len), Some(128));
        assert_eq!(inline_text(&[0xff; 16]), None);
    }
}
