//! A stream of TLS records, read as it comes: headers, and the hellos whole.
//!
//! Bodies are passed over unread, so a long certificate costs nothing. The
//! stream must begin at a record.

use std::ops::RangeInclusive;

use super::{ClientHello, ServerHello, client_hello, server_hello};

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
/// Up to heartbeats.
const RECORD_KINDS: RangeInclusive<u8> = CHANGE_CIPHER_SPEC..=24;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
/// 2^14 and what ciphers before TLS 1.3 may add (RFC 5246, section 6.2.3).
const RECORD_MAX: usize = (1 << 14) + 2048;
/// Post-quantum key shares make a hello of some KiB; this is far beyond.
const HELLO_MAX: usize = 64 * 1024;

/// What a reader of the stream learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    ClientHello(ClientHello),
    ServerHello(ServerHello),
    ChangeCipherSpec,
    /// It is no TLS, or not from the beginning of a record: nothing more comes.
    Broken,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub struct RecordStream {
    header: Vec<u8>,
    /// Bytes of the record's body still to come, once the header is whole.
    body: usize,
    message: Message,
    broken: bool,
}

/// A handshake message under way; it may span records.
#[derive(Debug, Default)]
struct Message {
    header: Vec<u8>,
    body: Vec<u8>,
    remaining: usize,
}

impl RecordStream {
    pub fn push(&mut self, mut bytes: &[u8], mut notice: impl FnMut(Notice)) {
        while !bytes.is_empty() && !self.broken {
            if self.body == 0 {
                bytes = fill(&mut self.header, RECORD_HEADER, bytes);
                self.begin_record(&mut notice);
                continue;
            }
            let (part, rest) = bytes.split_at(self.body.min(bytes.len()));
            if self.header[0] == HANDSHAKE {
                self.broken |= !self.message.push(part, &mut notice);
            }
            self.body -= part.len();
            bytes = rest;
            if self.body == 0 {
                self.header.clear();
            }
            if self.broken {
                notice(Notice::Broken);
            }
        }
    }

    fn begin_record(&mut self, notice: &mut impl FnMut(Notice)) {
        let &[kind, major, _, high, low] = self.header.as_slice() else {
            return;
        };
        self.body = usize::from(u16::from_be_bytes([high, low]));
        let known = RECORD_KINDS.contains(&kind) && major == 3;
        if !known || self.body > RECORD_MAX {
            self.broken = true;
            notice(Notice::Broken);
            return;
        }
        if kind == CHANGE_CIPHER_SPEC {
            notice(Notice::ChangeCipherSpec);
        }
        if self.body == 0 {
            self.header.clear();
        }
    }
}

impl Message {
    /// False when a message is longer than any hello.
    fn push(&mut self, mut bytes: &[u8], notice: &mut impl FnMut(Notice)) -> bool {
        while !bytes.is_empty() {
            if self.header.len() < MESSAGE_HEADER {
                bytes = fill(&mut self.header, MESSAGE_HEADER, bytes);
                let &[_, high, middle, low] = self.header.as_slice() else {
                    return true;
                };
                self.remaining = u32::from_be_bytes([0, high, middle, low]) as usize;
                if self.is_hello() && self.remaining > HELLO_MAX {
                    return false;
                }
            }
            let (part, rest) = bytes.split_at(self.remaining.min(bytes.len()));
            if self.is_hello() {
                self.body.extend_from_slice(part);
            }
            self.remaining -= part.len();
            bytes = rest;
            if self.remaining == 0 {
                self.end(notice);
            }
        }
        true
    }

    fn is_hello(&self) -> bool {
        matches!(self.header[0], CLIENT_HELLO | SERVER_HELLO)
    }

    fn end(&mut self, notice: &mut impl FnMut(Notice)) {
        let said = match self.header[0] {
            CLIENT_HELLO => client_hello(&self.body).map(Notice::ClientHello),
            SERVER_HELLO => server_hello(&self.body).map(Notice::ServerHello),
            _ => None,
        };
        *self = Self::default();
        said.into_iter().for_each(notice);
    }
}

/// Moves bytes to `header` until it has `length`; gives the rest.
fn fill<'a>(header: &mut Vec<u8>, length: usize, bytes: &'a [u8]) -> &'a [u8] {
    let missing = length - header.len();
    let (part, rest) = bytes.split_at(missing.min(bytes.len()));
    header.extend_from_slice(part);
    rest
}

/// Of the records of TLS 1.2, encrypted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    ChangeCipherSpec,
    Handshake,
    Other,
}

/// The record that a segment begins with, if it does begin with one.
pub fn record_kind(payload: &[u8]) -> Option<RecordKind> {
    let &[kind, 3, 1..=3, high, low, ..] = payload else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let kind = match kind {
        CHANGE_CIPHER_SPEC => RecordKind::ChangeCipherSpec,
        HANDSHAKE => RecordKind::Handshake,
        _ if RECORD_KINDS.contains(&kind) => RecordKind::Other,
        _ => return None,
    };
    (1..=RECORD_MAX).contains(&length).then_some(kind)
}

/// Whether a segment begins with a `ClientHello`. Encrypted data does so by
/// chance once in 2^50 segments or less.
pub fn begins_client_hello(payload: &[u8]) -> bool {
    let &[HANDSHAKE, 3, minor, high, low, CLIENT_HELLO, 0, ..] = payload else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    minor <= 4 && (MESSAGE_HEADER..=RECORD_MAX).contains(&length)
}

#[cfg(test)]
mod tests;
