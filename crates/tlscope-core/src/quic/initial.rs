//! The protection of a client's Initial packets (RFC 9001, section 5).
//!
//! It keeps nobody out, as the keys are made of the packet's own header; but its
//! tag tells an Initial packet of a client from any other bytes.

use aes_gcm::aes::Aes128;
use aes_gcm::aes::cipher::BlockCipherEncrypt;
use aes_gcm::{AeadInOut, Aes128Gcm, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;

use super::packet::{Initial, Version};

const TAG: usize = 16;
const SAMPLE: usize = 16;
/// The sample is taken as if the packet number were of the greatest length.
const NUMBER_MAX: usize = 4;

/// Salt, and the labels of key, nonce and header protection.
struct Schedule {
    salt: [u8; 20],
    labels: [&'static str; 3],
}

const ONE: Schedule = Schedule {
    salt: [
        0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c,
        0xad, 0xcc, 0xbb, 0x7f, 0x0a,
    ],
    labels: ["quic key", "quic iv", "quic hp"],
};
const TWO: Schedule = Schedule {
    salt: [
        0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d,
        0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
    ],
    labels: ["quicv2 key", "quicv2 iv", "quicv2 hp"],
};
const DRAFT_29: Schedule = Schedule {
    salt: [
        0xaf, 0xbf, 0xec, 0x28, 0x99, 0x93, 0xd2, 0x4c, 0x9e, 0x97, 0x86, 0xf1, 0x9c, 0x61, 0x11,
        0xe0, 0x43, 0x90, 0xa8, 0x99,
    ],
    labels: ONE.labels,
};

/// What opens the Initial packets of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientKeys {
    pub(super) key: [u8; 16],
    pub(super) nonce: [u8; 12],
    pub(super) header: [u8; 16],
}

impl ClientKeys {
    /// `destination`: the connection ID that the client's first packet names.
    pub fn derive(version: Version, destination: &[u8]) -> Self {
        let schedule = match version {
            Version::One => ONE,
            Version::Two => TWO,
            Version::Draft29 => DRAFT_29,
        };
        let initial = Hkdf::<Sha256>::new(Some(&schedule.salt), destination);
        let client: [u8; 32] = expand_label(&initial, "client in");
        // Of the hash's own length, so it is taken.
        let client = Hkdf::from_prk(&client).unwrap_or(initial);
        let [key, nonce, header] = schedule.labels;
        Self {
            key: expand_label(&client, key),
            nonce: expand_label(&client, nonce),
            header: expand_label(&client, header),
        }
    }

    /// The frames of the packet; `None` if these keys are not its own.
    pub fn open(&self, initial: &Initial<'_>) -> Option<Vec<u8>> {
        let number_at = initial.number_at;
        let sample_at = number_at + NUMBER_MAX;
        let sample = initial.bytes.get(sample_at..sample_at + SAMPLE)?;
        let mask = self.mask(sample.first_chunk()?);
        let first = initial.bytes[0] ^ (mask[0] & 0x0f);
        let number_length = usize::from(first & 3) + 1;

        let (header, sealed) = initial.bytes.split_at_checked(number_at + number_length)?;
        let mut header = header.to_vec();
        header[0] = first;
        let mut nonce = self.nonce;
        for i in 0..number_length {
            header[number_at + i] ^= mask[i + 1];
            nonce[nonce.len() - number_length + i] ^= header[number_at + i];
        }
        let (sealed, tag) = sealed.split_last_chunk::<TAG>()?;
        let mut frames = sealed.to_vec();
        Aes128Gcm::new(&self.key.into())
            .decrypt_inout_detached(
                &nonce.into(),
                &header,
                frames.as_mut_slice().into(),
                tag.into(),
            )
            .ok()?;
        Some(frames)
    }

    pub(super) fn mask(&self, sample: &[u8; SAMPLE]) -> [u8; SAMPLE] {
        let mut block = (*sample).into();
        Aes128::new(&self.header.into()).encrypt_block(&mut block);
        block.into()
    }
}

/// HKDF-Expand-Label of TLS 1.3 without context (RFC 8446, section 7.1).
fn expand_label<const N: usize>(secret: &Hkdf<Sha256>, label: &str) -> [u8; N] {
    let mut info = (N as u16).to_be_bytes().to_vec();
    info.push(b"tls13 ".len() as u8 + label.len() as u8);
    info.extend_from_slice(b"tls13 ");
    info.extend_from_slice(label.as_bytes());
    info.push(0);
    let mut out = [0; N];
    // It fails only for more than 255 times the hash's length.
    let _ = secret.expand(&info, &mut out);
    out
}
