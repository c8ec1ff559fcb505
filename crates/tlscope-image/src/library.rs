//! The TLS libraries that tlscope knows: one row per family.

mod boringssl;
mod expand_label;
mod gnutls;
mod go;
mod handshakes;
mod key_block;
mod libressl;
mod lifetime;
mod nss;
mod openssl;
pub(crate) mod others;
#[cfg(test)]
mod plan_tests;
mod sink;
mod ssl_api;
mod workers;

use memchr::memmem;

use crate::ImageError;
use crate::elf::{Address, Elf, Files};
use crate::plan::{Family, Layout, Module, Plan};

/// What makes a library known, and how its plan is derived.
pub trait Library: Sync {
    fn family(&self) -> Family;

    /// What it is recognised by, in words for the user.
    fn marks(&self) -> &'static str;

    /// Texts of which every image with this library holds one.
    fn needles(&self) -> &'static [&'static str];

    /// Whether the image holds this library.
    fn recognise(&self, elf: &Elf<'_>) -> Option<Recognised>;

    fn plan(&self, elf: &Elf<'_>, recognised: Recognised) -> Plan;

    /// The version of a library that the image needs, which tells its own; and that library's name.
    fn version_beside(&self, _elf: &Elf<'_>, _files: &dyn Files) -> Option<(String, String)> {
        None
    }

    /// What is wrong with an image that is much like one of this library, and is not recognised.
    fn near_miss(&self, _elf: &Elf<'_>) -> Option<ImageError> {
        None
    }
}

/// A library that an image was found to hold.
#[derive(Debug, Clone)]
pub struct Recognised {
    pub by: String,
    pub version: Option<String>,
}

/// Asked in this order: forks before what they forked from.
pub const LIBRARIES: &[&dyn Library] = &[
    &boringssl::BoringSsl,
    &libressl::LibreSsl,
    &openssl::OpenSsl,
    &gnutls::GnuTls,
    &go::Go,
    &nss::Nss,
];

pub(crate) fn of_module(module: Module) -> impl Iterator<Item = &'static dyn Library> {
    let rows = LIBRARIES.iter().copied();
    rows.filter(move |library| library.family().module() == module)
}

impl Recognised {
    /// A plan that says what was recognised and plans nothing yet.
    fn into_plan(self, elf: &Elf<'_>, family: Family) -> Plan {
        Plan {
            family,
            arch: elf.arch,
            version: self.version,
            version_of: None,
            build_id: elf.build_id.clone(),
            recognised_by: self.by,
            probes: Vec::new(),
            covered: Vec::new(),
            layout: Layout::default(),
            missing: Vec::new(),
        }
    }
}

/// An answer that must be the only one is certain only if all of the code was looked at.
fn if_all_was_walked<T>(elf: &Elf<'_>, answer: T) -> Result<T, String> {
    if elf.is_spent() {
        return Err(
            "its code is more than tlscope walks through, so nothing in it is certain".into(),
        );
    }
    Ok(answer)
}

/// Where errors name a source file: alone, or as the end of a path. Elsewhere the name may stand
/// behind other text, as in our own image.
fn source_file(elf: &Elf<'_>, name: &str) -> Option<String> {
    const COPIES: usize = 64;
    let begins = |at: &Address| {
        let before = Address(at.0.wrapping_sub(1));
        let byte = elf.bytes_from(before).and_then(<[u8]>::first);
        byte.is_none_or(|byte| *byte == b'/' || byte.is_ascii_control())
    };
    let at = elf.find_text(name, COPIES).into_iter().find(begins)?;
    Some(format!(
        "{name}, the source file that its errors name, at {at}"
    ))
}

/// The release that an image names itself, of so many numbers: `3.0.2` in `OpenSSL 3.0.2 15 Mar
/// 2022`.
fn version_after(elf: &Elf<'_>, name: &str, numbers: usize) -> Option<String> {
    let mut segments = elf.segments().map(|segment| segment.bytes);
    segments.find_map(|bytes| version_in(bytes, name, numbers))
}

fn version_in(bytes: &[u8], name: &str, numbers: usize) -> Option<String> {
    const MOST: usize = 64;
    const LONGEST: usize = 256;
    let places = memmem::find_iter(bytes, name).take(MOST);
    places.into_iter().find_map(|at| {
        let text = bytes.get(at + name.len()..)?;
        let text = text.get(..LONGEST).unwrap_or(text);
        let text = std::str::from_utf8(text.get(..memchr::memchr(0, text)?)?).ok()?;
        let mut words = text.split_whitespace();
        let number = words.next()?;
        // The day of its date, in builds for FIPS behind that word; others only speak of a release.
        let mut rest = words.filter(|word| *word != "FIPS");
        let dated = rest.next().is_none_or(|day| day.parse::<u8>().is_ok());
        (dated && is_release(number, numbers)).then(|| number.to_owned())
    })
}

/// `3.0.2`, `1.1.1w`, `3.0.2+quic`; not the `3.0` of a text that tells of an older release.
fn is_release(text: &str, numbers: usize) -> bool {
    let parts: Vec<&str> = text.splitn(numbers, '.').collect();
    parts.len() == numbers
        && parts
            .iter()
            .all(|part| part.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_dated_or_stands_alone() {
        let of = |bytes: &[u8]| version_in(bytes, "OpenSSL ", 3);
        let text = b"see OpenSSL 1.0.1 or later\0x\0OpenSSL 3.0.2 15 Mar 2022\0";
        assert_eq!(of(text), Some("3.0.2".into()));
        assert_eq!(of(b"OpenSSL 3.0.2\0"), Some("3.0.2".into()));
        let fips = b"OpenSSL 1.1.1k  FIPS 25 Mar 2021\0";
        assert_eq!(of(fips), Some("1.1.1k".into()));
        assert_eq!(of(b"OpenSSL 3.0.2"), None);
        assert_eq!(of(b"OpenSSL \xff\0"), None);
    }

    #[test]
    fn a_release_has_all_its_numbers() {
        for release in ["3.0.2", "1.1.1w", "3.0.2+quic"] {
            assert!(is_release(release, 3), "{release}");
        }
        for other in ["3.0", "3.0's", "3", "", "legacy", "3..1"] {
            assert!(!is_release(other, 3), "{other}");
        }
        assert!(is_release("2.0", 2));
    }
}
