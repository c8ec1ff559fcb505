//! What to probe in a binary: an ELF file in, a plan out.
#![forbid(unsafe_code)]
pub mod elf;
pub mod plan;
