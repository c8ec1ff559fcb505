//! The harness of the end-to-end tests: real programs as guards.
//!
//! A test makes a `Scene` (its directory, and its turn: scenes do not overlap),
//! starts servers and a `Capture` in it, lets clients talk, stops the capture and
//! compares bytes. Everything started ends with its guard; nothing sleeps.
#![forbid(unsafe_code)]

pub mod capture;
pub mod certificates;
pub mod cgroup;
pub mod digest;
pub mod fixtures;
pub mod flows;
pub mod gnutls;
pub mod go;
pub mod har;
pub mod jail;
pub mod kernels;
pub mod keylog;
pub mod messages;
pub mod mixture;
pub mod network;
pub mod nss;
pub mod openssl;
pub mod pcap;
pub mod peer;
pub mod program;
pub mod python;
pub mod records;
pub mod scene;
pub mod servers;
pub mod tcpdump;
pub mod text;
pub mod wait;
pub mod zoo;

pub use capture::{Capture, Captured, Tlscope};
pub use digest::Digest;
pub use peer::Peer;
pub use program::{Finished, Program};
pub use scene::Scene;

/// The library of the system, which most programs here use.
pub const SYSTEM_LIBSSL: &str = if cfg!(target_arch = "x86_64") {
    "/usr/lib/x86_64-linux-gnu/libssl.so.3"
} else {
    "/usr/lib/aarch64-linux-gnu/libssl.so.3"
};

/// Body sizes of interest: one byte, around a TLS record, and long.
pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;
