//! What sinks are given: connections opening and closing, blocks of plaintext,
//! gaps, and secrets. Items borrow; a sink keeps what it copies.

use std::fmt;
use std::sync::Arc;

use crate::decode::{Finished, Head, MessageKind, View, WebSocketFrame};
use crate::event::{Address, ConnectionKey, Direction, Process, SecretEvent, Socket, Timestamp};
use crate::summary::Bytes;

#[derive(Debug)]
pub enum Item<'a> {
    Open(&'a ConnectionInfo),
    Data(Block<'a>),
    Message(Message<'a>),
    Gap(Gap<'a>),
    Secret(&'a SecretEvent),
    Stage(Staged<'a>),
    Close(Closed<'a>),
}

/// A connection as people and programs name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    pub id: ConnectionId,
    pub key: ConnectionKey,
    pub opened: Timestamp,
    /// Who used it last.
    pub process: Process,
    /// By direction, the latest that is known: it stays when later events come without.
    pub sockets: [Socket; 2],
    /// Where the process runs, if that is known to be a container.
    pub container: Option<Arc<Container>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits, or a name.
    pub id: String,
    /// The uid of the Kubernetes pod.
    pub pod: Option<String>,
}

/// A container's id as `docker ps` shows it; a name stays whole.
pub fn short_id(id: &str) -> &str {
    const DIGITS: usize = 64;
    const SHOWN: usize = 12;
    let is_id = id.len() == DIGITS && id.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id { &id[..SHOWN] } else { id }
}

impl ConnectionInfo {
    pub(crate) fn update(&mut self, process: &Process, of: Option<Direction>, socket: Socket) {
        if self.process != *process {
            self.process = process.clone();
        }
        let Some(direction) = of else { return };
        let kept = &mut self.sockets[direction as usize];
        kept.fd = socket.fd.or(kept.fd);
        let known = |address| !matches!(address, Address::Unknown(_));
        let tells_more = socket.address != Address::default() && !known(kept.address);
        if known(socket.address) || tells_more {
            kept.address = socket.address;
        }
    }

    /// What carries one direction.
    pub fn carries(&self, direction: Direction) -> Socket {
        self.sockets[direction as usize]
    }

    /// What carries it, for what has no direction.
    pub fn socket(&self) -> Socket {
        let [received, sent] = self.sockets;
        if sent == Socket::default() {
            received
        } else {
            sent
        }
    }
}

/// An identity for the life of a connection, the same in every output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// Mixed from all that tells connections apart, time included: one object
    /// address serves many connections, one pid many processes.
    pub fn new(key: &ConnectionKey, opened: Timestamp) -> Self {
        let words = [u64::from(key.pid), key.object, key.generation, opened.0];
        Self(
            words
                .into_iter()
                .fold(0x746c_7363_6f70_6531, |state, word| mix(state ^ word)),
        )
    }
}

/// The finalizer of `SplitMix64`: a bijection, so equal ids need equal inputs or chance.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Contiguous plaintext of one connection, direction and thread.
#[derive(Debug)]
pub struct Block<'a> {
    /// When its first byte was seen.
    pub time: Timestamp,
    pub connection: &'a ConnectionInfo,
    pub process: &'a Process,
    pub direction: Direction,
    pub offset: u64,
    /// The bytes as the program sent or received them.
    pub payload: &'a [u8],
    /// What to show to a person instead: bodies without chunk headers, frames
    /// in words. `None` when the payload is best shown as it is.
    pub view: Option<&'a View>,
    pub kind: MessageKind,
    /// The head of the message that the block belongs to, once it is complete.
    pub head: Option<&'a Arc<Head>>,
    /// The request that the message is or answers.
    pub request: Option<&'a Arc<Head>>,
    /// The block's first byte is its message's first.
    pub begins: bool,
    /// The block's last byte is its message's last.
    pub ends: bool,
}

/// A part of a decoded message. It may come before the block of its bytes.
#[derive(Debug)]
pub struct Message<'a> {
    pub time: Timestamp,
    pub connection: &'a ConnectionInfo,
    pub process: &'a Process,
    pub direction: Direction,
    pub kind: MessageKind,
    /// Numbers a request and its response alike, within the connection.
    pub exchange: u64,
    /// Of HTTP/2.
    pub stream: Option<u32>,
    pub head: Option<&'a Arc<Head>>,
    /// The request that the message is or answers.
    pub request: Option<&'a Arc<Head>>,
    pub part: MessagePart<'a>,
}

#[derive(Debug)]
pub enum MessagePart<'a> {
    Head(&'a Arc<Head>),
    Content {
        bytes: &'a [u8],
        /// They stand in a data block as they are, with no framing between.
        verbatim: bool,
    },
    /// Its content follows.
    Frame(WebSocketFrame),
    Trailers(&'a Arc<Head>),
    Finished(&'a Finished),
}

/// Bytes that were sent or received and could not be captured.
#[derive(Debug)]
pub struct Gap<'a> {
    pub time: Timestamp,
    pub connection: &'a ConnectionInfo,
    pub direction: Direction,
    pub offset: u64,
    pub length: u64,
}

/// A stage in the life of a connection, between its opening and its close.
#[derive(Debug)]
pub struct Staged<'a> {
    pub time: Timestamp,
    pub connection: &'a ConnectionInfo,
    pub stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A later event found it, for the first time.
    Found,
    /// It ended, and is kept for a while for events that are under way.
    Scheduled,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Scheduled => "scheduled",
        }
    }
}

#[derive(Debug)]
pub struct Closed<'a> {
    pub time: Timestamp,
    pub connection: &'a ConnectionInfo,
    pub reason: CloseReason,
    /// By direction: `Direction as usize`.
    pub bytes: [Bytes; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The program freed the connection or began another with its object.
    Closed,
    ProcessExited,
    /// Too many connections were open; this one was idle the longest.
    Evicted,
    /// The capture ended first.
    CaptureEnded,
}

impl CloseReason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::ProcessExited => "process_exited",
            Self::Evicted => "evicted",
            Self::CaptureEnded => "capture_ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ConnectionKey = ConnectionKey {
        pid: 7,
        object: 0x5555_0000,
        generation: 1,
    };

    #[test]
    fn ids_differ_by_generation_and_time() {
        let id = ConnectionId::new(&KEY, Timestamp(1));
        assert_eq!(id, ConnectionId::new(&KEY, Timestamp(1)));
        assert_ne!(id, ConnectionId::new(&KEY, Timestamp(2)));
        let next = ConnectionKey {
            generation: 2,
            ..KEY
        };
        assert_ne!(id, ConnectionId::new(&next, Timestamp(1)));
        assert_eq!(id.to_string().len(), 16);
    }
}
