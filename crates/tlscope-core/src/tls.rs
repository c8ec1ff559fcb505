//! As much of TLS as can be read on the wire: record headers and hellos.
//!
//! Enough to know a connection's client random, its server name, its version,
//! and from which packet on a reader needs its secrets.

mod hello;
mod record;

pub use hello::{ClientHello, ServerHello, client_hello, server_hello};
pub use record::{Notice, RecordKind, RecordStream, begins_client_hello, record_kind};

/// The 32 bytes that name a connection in a key log.
pub type ClientRandom = [u8; 32];

/// Which key schedule a connection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2 and before: one master secret, in use from `ChangeCipherSpec` on.
    Tls12,
    /// Encrypted from right after the `ServerHello`.
    Tls13,
}
