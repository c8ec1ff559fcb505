//! As much of QUIC as can be read on the wire: which packets a datagram holds,
//! and the client's Initial packets, whose keys come out of their own header
//! (RFC 9001, section 5.2). Enough to know a connection's `ClientHello`.

mod frame;
mod initial;
mod packet;

pub use frame::crypto_frames;
pub use initial::ClientKeys;
pub use packet::{Initial, Packet, Version, begins_initial, packets};

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;
