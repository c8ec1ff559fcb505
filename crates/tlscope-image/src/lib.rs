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

use elf::{DebugFiles, Elf};
use plan::Plan;

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
}

/// Derives the plan of an image. The library family is recognised from the image itself.
pub fn analyze(bytes: &[u8]) -> Result<Plan, ImageError> {
    analyze_with(bytes, &())
}

/// As [`analyze`], with names from separate debug files where the image itself has none.
pub fn analyze_with(bytes: &[u8], files: &dyn DebugFiles) -> Result<Plan, ImageError> {
    let elf = Elf::parse(bytes, files)?;
    let mut searched = Vec::new();
    for library in library::LIBRARIES {
        if let Some(recognised) = library.recognise(&elf) {
            return Ok(library.plan(&elf, recognised));
        }
        searched.push(library.marks());
    }
    Err(ImageError::NothingFound {
        searched: searched.join("; "),
    })
}

/// Whether an image may hold a library that tlscope knows. Far cheaper than [`analyze`]: for a
/// look at every file that processes map. `true` may be wrong, `false` is not.
pub fn might_hold(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
        && library::LIBRARIES
            .iter()
            .flat_map(|library| library.needles())
            .any(|needle| memchr::memmem::find(bytes, needle.as_bytes()).is_some())
}
