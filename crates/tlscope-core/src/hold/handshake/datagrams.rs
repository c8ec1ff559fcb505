//! DTLS and QUIC: handshakes whose datagrams may be lost, doubled and mixed up.

use super::pieces::Pieces;
use super::{Need, Side, Sign};
use crate::dtls::{self, Part};
use crate::quic::{ClientKeys, Initial, Packet, crypto_frames, packets};
use crate::reader::Reader;
use crate::tls::{ClientHello, client_hello};

#[derive(Debug, Default)]
pub(super) struct Dtls {
    hello: Pieces,
    /// Of the hello under way: a second one, with the cookie, is of another length.
    length: usize,
}

impl Dtls {
    pub(super) fn datagram(&mut self, side: Side, payload: &[u8], signs: &mut Vec<Sign>) {
        for part in dtls::parts(payload) {
            match part {
                Part::ClientHello {
                    length,
                    offset,
                    bytes,
                } if side == Side::Client => {
                    signs.extend(self.piece(length, offset, bytes));
                }
                Part::ChangeCipherSpec => signs.push(Sign::Need(Need::Master)),
                Part::Ciphertext => signs.push(Sign::Need(Need::Tls13)),
                Part::ClientHello { .. } => {}
            }
        }
    }

    fn piece(&mut self, length: usize, offset: usize, bytes: &[u8]) -> Option<Sign> {
        if self.length != length {
            *self = Self {
                length,
                ..Self::default()
            };
        }
        let Some(whole) = self.hello.push(offset as u64, bytes) else {
            return Some(Sign::Broken);
        };
        let body = whole.get(..length)?;
        client_hello(body).map(Sign::Client)
    }
}

#[derive(Debug)]
pub(super) struct Quic {
    keys: ClientKeys,
    hello: Pieces,
}

impl Quic {
    /// `None` for an Initial packet that is no client's first one.
    pub(super) fn begin(datagram: &[u8]) -> Option<Self> {
        packets(datagram).find_map(|packet| match packet {
            Packet::Initial(initial) => Self::of(&initial).map(|(quic, _)| quic),
            _ => None,
        })
    }

    /// With the keys that the packet itself names, and its frames.
    fn of(initial: &Initial<'_>) -> Option<(Self, Vec<u8>)> {
        let keys = ClientKeys::derive(initial.version, initial.destination);
        let frames = keys.open(initial)?;
        let hello = Pieces::default();
        Some((Self { keys, hello }, frames))
    }

    pub(super) fn datagram(&mut self, side: Side, payload: &[u8], signs: &mut Vec<Sign>) {
        for packet in packets(payload) {
            match (packet, side) {
                (Packet::Initial(initial), Side::Client) => self.initial(&initial, signs),
                // The server's Initial packets go in one datagram with what is encrypted.
                (Packet::Initial(_), Side::Server) | (Packet::Protected, _) => {
                    signs.push(Sign::Need(Need::Tls13));
                }
                // Early data is what the hello says comes.
                (Packet::ZeroRtt | Packet::Again, _) => {}
            }
        }
    }

    fn initial(&mut self, initial: &Initial<'_>, signs: &mut Vec<Sign>) {
        let frames = match self.keys.open(initial) {
            Some(frames) => frames,
            // After a Retry the keys are made of the ID that the server chose.
            None => match Self::of(initial) {
                Some((again, frames)) => {
                    *self = again;
                    frames
                }
                None => return,
            },
        };
        for (offset, bytes) in crypto_frames(&frames) {
            match self.hello.push(offset, bytes).map(whole_hello) {
                Some(hello) => signs.extend(hello.map(Sign::Client)),
                None => signs.push(Sign::Broken),
            }
        }
    }
}

/// Out of a stream of handshake messages that begins with it.
fn whole_hello(stream: &[u8]) -> Option<ClientHello> {
    const CLIENT_HELLO: u8 = 1;
    let mut rest = Reader(stream);
    let kind = rest.u8()?;
    let length = rest.u24()?;
    client_hello(rest.take(length)?).filter(|_| kind == CLIENT_HELLO)
}
