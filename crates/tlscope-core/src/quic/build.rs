//! Packets made for tests, as a client protects them.

use aes_gcm::{AeadInOut, Aes128Gcm, KeyInit};

use super::{ClientKeys, Version};
use crate::packet::build;

/// The messages of a hello without the header of their record.
pub(crate) fn client_hello(random: [u8; 32], early: bool) -> Vec<u8> {
    build::client_hello(random, "example.org", early)[5..].to_vec()
}

/// Lengths below 64 in one byte, others in two.
pub(crate) fn varint(value: usize) -> Vec<u8> {
    match value {
        0..64 => vec![value as u8],
        _ => (0x4000 | value as u16).to_be_bytes().to_vec(),
    }
}

pub(crate) fn crypto(offset: usize, bytes: &[u8]) -> Vec<u8> {
    [&[6], &varint(offset)[..], &varint(bytes.len()), bytes].concat()
}

/// A client's Initial packet with keys of `made_of`, naming `destination`.
pub(crate) fn initial(
    version: Version,
    made_of: &[u8],
    destination: &[u8],
    number: u16,
    frames: &[u8],
) -> Vec<u8> {
    let (first, version_bytes): (u8, [u8; 4]) = match version {
        Version::One => (0xc1, [0, 0, 0, 1]),
        Version::Two => (0xd1, [0x6b, 0x33, 0x43, 0xcf]),
        Version::Draft29 => (0xc1, [0xff, 0, 0, 29]),
    };
    let mut sealed = frames.to_vec();
    // The sample of the header protection must exist.
    sealed.resize(sealed.len().max(20), 0);
    let mut packet = [
        &[first][..],
        &version_bytes,
        &[destination.len() as u8],
        destination,
        &[2, 0xaa, 0xbb, 0],
        &varint(2 + sealed.len() + 16),
    ]
    .concat();
    let number_at = packet.len();
    packet.extend_from_slice(&number.to_be_bytes());

    let keys = ClientKeys::derive(version, made_of);
    let mut nonce = keys.nonce;
    nonce[10] ^= packet[number_at];
    nonce[11] ^= packet[number_at + 1];
    let tag = Aes128Gcm::new(&keys.key.into())
        .encrypt_inout_detached(&nonce.into(), &packet, sealed.as_mut_slice().into())
        .unwrap();
    packet.extend_from_slice(&sealed);
    packet.extend_from_slice(&tag);
    let sample = packet[number_at + 4..].first_chunk().unwrap();
    let mask = keys.mask(sample);
    packet[0] ^= mask[0] & 0x0f;
    packet[number_at] ^= mask[1];
    packet[number_at + 1] ^= mask[2];
    packet
}

/// What a server answers: an Initial packet that nobody opens here, and a protected one.
pub(crate) fn answer() -> Vec<u8> {
    let sealed = [0x5a; 40];
    let header = [0xc1, 0, 0, 0, 1, 2, 0xaa, 0xbb, 4, 1, 2, 3, 4, 0];
    let protected = [0xe1, 0, 0, 0, 1, 2, 0xaa, 0xbb, 4, 1, 2, 3, 4];
    let length = varint(sealed.len());
    [&header[..], &length, &sealed, &protected, &length, &sealed].concat()
}

pub(crate) fn retry(new_id: &[u8]) -> Vec<u8> {
    let id = [&[new_id.len() as u8], new_id].concat();
    [&[0xf0, 0, 0, 0, 1, 2, 0xaa, 0xbb], &id[..], &[9; 20]].concat()
}
