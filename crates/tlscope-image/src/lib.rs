//! What to probe in a binary: an ELF file in, a plan out.
//!
//! Pure: no kernel, no file system. The caller hands over the bytes of an image
//! and gets a [`plan::Plan`], in which every probe and every offset says what it was
//! derived from.
#![forbid(unsafe_code)]

mod code;
pub mod elf;
#[cfg(test)]
mod fixture;
pub mod library;
pub mod plan;

use elf::{Elf, Files};
use library::Library;
use plan::{Module, Plan};

/// Why an image has no plan. Each message names the user's next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    #[error(
        "not an ELF file: give the path of a shared library or of a program, not of a script or an archive"
    )]
    NotElf,
    #[error(
        "a 32-bit ELF file: tlscope reads 64-bit images only; give the 64-bit build of this library or program"
    )]
    Elf32,
    #[error(
        "made for {0}: tlscope reads images for x86_64 and aarch64; give a build for one of these"
    )]
    UnsupportedArch(String),
    #[error("a damaged ELF file: {0}; compare it with the package it came from")]
    Malformed(String),
    #[error(
        "no TLS library in this image (searched: {searched}); give the library that the program loads \
         (`ldd PROGRAM` lists them), or the program itself if it is linked statically"
    )]
    NothingFound { searched: String },
    #[error(
        "it holds {0}, a TLS library that tlscope does not capture; the other end of its connections may \
         be captured, where that runs on this machine"
    )]
    NotCaptured(String),
    #[error(
        "not a Go program: no function table and no build information of Go in it; `tlscope inspect` \
         tells what else it holds, and `tlscope tls`, `gnutls` and `nss` capture C libraries"
    )]
    NotGo,
    #[error(
        "a Go program ({0}) without crypto/tls: it speaks no TLS, or its names were obfuscated, or it \
         calls a C library, which the other subcommands capture (`tlscope inspect` shows what an image \
         holds)"
    )]
    GoWithoutTls(String),
    #[error(
        "a Go program ({0}) whose function table cannot be read: it may be packed or obfuscated; give \
         the program as Go's linker wrote it"
    )]
    GoWithoutTable(String),
}

/// Derives the plan of the first library that the image is found to hold.
pub fn analyze(bytes: &[u8]) -> Result<Plan, ImageError> {
    let mut plans = analyze_with(bytes, &(), &Module::ALL)?;
    Ok(plans.swap_remove(0))
}

/// Derives a plan for each of the modules that the image holds a library of: one at least. Names
/// come from separate debug files where the image itself has none, and so may its version.
pub fn analyze_with(
    bytes: &[u8],
    files: &dyn Files,
    modules: &[Module],
) -> Result<Vec<Plan>, ImageError> {
    let elf = Elf::parse(bytes, files)?;
    let of_module = |module: &Module| {
        library::of_module(*module).find_map(|library| {
            let recognised = library.recognise(&elf)?;
            let mut plan = library.plan(&elf, recognised);
            if plan.version.is_none() {
                (plan.version, plan.version_of) = library.version_beside(&elf, files).unzip();
            }
            Some(plan)
        })
    };
    let plans: Vec<Plan> = modules.iter().filter_map(of_module).collect();
    if plans.is_empty() {
        let rows = modules.iter().flat_map(|m| library::of_module(*m));
        let (near, marks): (Vec<_>, Vec<_>) = rows
            .map(|library| (library.near_miss(&elf), library.marks()))
            .unzip();
        let near = near.into_iter().flatten().next();
        let other = || library::others::held(&elf).map(|name| ImageError::NotCaptured(name.into()));
        return Err(near.or_else(other).unwrap_or_else(|| match modules {
            [Module::Gotls] => ImageError::NotGo,
            _ => ImageError::NothingFound {
                searched: marks.join("; "),
            },
        }));
    }
    Ok(plans)
}

/// The TLS library in an image that is known by sight alone.
pub fn not_captured(bytes: &[u8]) -> Option<&'static str> {
    library::others::may_hold(bytes).then_some(())?;
    library::others::held(&Elf::parse(bytes, &()).ok()?)
}

/// Whether an image may hold a library of these modules. Far cheaper than [`analyze`]: for a
/// look at every file that processes map. `true` may be wrong, `false` is not.
pub fn might_hold(bytes: &[u8], modules: &[Module]) -> bool {
    bytes.starts_with(b"\x7fELF")
        && modules
            .iter()
            .flat_map(|module| library::of_module(*module))
            .flat_map(Library::needles)
            .any(|needle| memchr::memmem::find(bytes, needle.as_bytes()).is_some())
}
