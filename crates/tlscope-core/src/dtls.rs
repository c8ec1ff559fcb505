//! DTLS on the wire, as far as it is not encrypted (RFC 6347, section 4; RFC 9147).

use crate::reader::Reader;

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The first byte of the ciphertext of DTLS 1.3 begins with these bits.
const UNIFIED: u8 = 0b001;
/// Versions 1.0 and 1.2, which stand in the records of 1.3 too.
const VERSIONS: [u16; 2] = [0xfeff, 0xfefd];
/// The sequence number of a record.
const SEQUENCE: usize = 6;

/// What a datagram holds that tells of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Of a `ClientHello`: where in its body the bytes stand, and the body's length.
    ClientHello {
        length: usize,
        offset: usize,
        bytes: &'a [u8],
    },
    ChangeCipherSpec,
    /// A record of DTLS 1.3.
    Ciphertext,
}

/// Whether a datagram begins with the beginning of a `ClientHello`.
pub fn begins_client_hello(payload: &[u8]) -> bool {
    let first = parts(payload).next();
    matches!(first, Some(Part::ClientHello { offset: 0, .. }))
}

/// Ends at what is no record.
pub fn parts(datagram: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut rest = Reader(datagram);
    let mut messages = Reader(&[]);
    std::iter::from_fn(move || {
        loop {
            if let Some(part) = client_hello(&mut messages) {
                return Some(part);
            }
            if rest.0.first()? >> 5 == UNIFIED {
                rest = Reader(&[]);
                return Some(Part::Ciphertext);
            }
            let (kind, body) = record(&mut rest)?;
            match kind {
                CHANGE_CIPHER_SPEC => return Some(Part::ChangeCipherSpec),
                HANDSHAKE => messages = Reader(body),
                _ => {}
            }
        }
    })
}

/// Kind and body of the next record; no body of an encrypted one.
fn record<'a>(rest: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    let kind = rest.u8()?;
    let version = rest.u16()?;
    let epoch = rest.u16()?;
    rest.take(SEQUENCE)?;
    let body = rest.vector16()?;
    let clear = if epoch == 0 { body } else { &[] };
    VERSIONS.contains(&version).then_some((kind, clear))
}

/// The next part of one among the messages of a record; the others are passed over.
fn client_hello<'a>(messages: &mut Reader<'a>) -> Option<Part<'a>> {
    loop {
        let kind = messages.u8()?;
        let length = messages.u24()?;
        let _message_number = messages.u16()?;
        let offset = messages.u24()?;
        let part = messages.u24()?;
        let bytes = messages.take(part)?;
        if kind == CLIENT_HELLO {
            return Some(Part::ClientHello {
                length,
                offset,
                bytes,
            });
        }
    }
}

#[cfg(test)]
mod tests;
