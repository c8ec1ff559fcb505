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
#[cfg(test)]
mod plan_tests;
mod sink;
mod ssl_api;
mod workers;

use crate::ImageError;
use crate::elf::Elf;
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
            build_id: elf.build_id.clone(),
            recognised_by: self.by,
            probes: Vec::new(),
            covered: Vec::new(),
            layout: Layout::default(),
            missing: Vec::new(),
        }
    }
}

/// The release that an image names itself, of so many numbers: `3.0.2` in `OpenSSL 3.0.2 15 Mar
/// 2022`.
fn version_after(elf: &Elf<'_>, name: &str, numbers: usize) -> Option<String> {
    const MOST: usize = 64;
    elf.find_bytes(name.as_bytes(), MOST)
        .into_iter()
        .find_map(|at| {
            let mut words = elf.text_at(at)?.strip_prefix(name)?.split_whitespace();
            let number = words.next()?;
            // The day of its date; other texts only speak of a release.
            let dated = words.next().is_none_or(|day| day.parse::<u8>().is_ok());
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
