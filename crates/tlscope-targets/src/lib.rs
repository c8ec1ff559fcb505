//! The processes of a machine: which images they map, what starts and ends.
//!
//! `Finder` lists the images that could hold a TLS library: those that running
//! processes map, in every mount namespace, and those that the dynamic loader
//! would find. It knows names and inodes only; what an image really is gets
//! decided by its content, in `tlscope-image`.
#![forbid(unsafe_code)]

mod container;
mod finder;
mod image;
mod names;
mod process;
mod socket;

pub use container::{Container, container};
pub use finder::{Finder, RootFiles, ScanError, ScanReport, texts};
pub use image::{FoundBy, ImageId, Layer, NamedError, Target, beside, named, open_file};
pub use names::{GNUTLS, NSS, NamePattern, OPENSSL, Search};
pub use process::{Life, ProcessInfo, descendants, life, process};
pub use socket::{OpenSocket, Transport, open_sockets};
