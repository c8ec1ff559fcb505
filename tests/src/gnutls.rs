//! GnuTLS: `fixtures/gnutls_peer.c`, and `tlscope gnutls`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::{Peer, Tlscope, fixtures};

/// The library of the system.
pub const SYSTEM_LIBGNUTLS: &str = if cfg!(target_arch = "x86_64") {
    "/usr/lib/x86_64-linux-gnu/libgnutls.so.30"
} else {
    "/usr/lib/aarch64-linux-gnu/libgnutls.so.30"
};

/// Whether this is GnuTLS, by its file name.
pub fn is_library(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| name.starts_with("libgnutls"))
}

/// The compiled fixture.
#[track_caller]
pub fn compiled_peer() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| fixtures::compile("gnutls_peer", HEADERS, &["-ldl", "-lpthread"]))
}

/// Of `gnutls_peer.c`.
pub const HEADERS: &[&str] = &["libgnutls.h", "sha256.h"];

/// A client and a server on the system's library.
pub fn peer() -> Peer {
    Peer::on(Path::new(SYSTEM_LIBGNUTLS))
}

/// `tlscope gnutls`, as records.
pub fn json() -> Tlscope {
    Tlscope::new("gnutls").arg("--json")
}
