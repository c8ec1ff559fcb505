//! What the kernel side saw, as the pure side takes it: one enum.
//!
//! Events borrow their payload from the ring buffer: a byte is copied once on
//! its way from the target to the sink's buffer.

use std::fmt;
use std::net::SocketAddr;

/// One thing that happened in a target process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// Plaintext that a successful read or write carried.
    Data(Data<'a>),
    /// A TLS secret, at the moment it was born.
    Secret(SecretEvent),
    /// A connection object was freed or made ready for another connection.
    Close(Close),
}

/// A piece of one call's plaintext. A long call comes in several pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data<'a> {
    pub time: Timestamp,
    pub process: Process,
    pub connection: ConnectionKey,
    pub socket: Socket,
    pub direction: Direction,
    /// Where the piece begins in its connection and direction, in bytes.
    /// A jump ahead of what was seen is a gap: those bytes are lost.
    pub offset: u64,
    /// Where the call that carried the piece begins, and its whole length.
    pub call_offset: u64,
    pub call_length: u64,
    pub payload: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEvent {
    pub time: Timestamp,
    pub process: Process,
    pub socket: Socket,
    pub label: SecretLabel,
    pub client_random: [u8; 32],
    pub secret: Secret,
}

/// The end of a connection, with what the kernel side knows of its whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    pub time: Timestamp,
    /// Who freed it.
    pub process: Process,
    pub connection: ConnectionKey,
    /// As far as it is known here: what the connection's data said stays.
    pub socket: Socket,
    /// Bytes that calls carried, captured or lost, by direction (`Direction as usize`).
    pub total: [u64; 2],
}

/// A process that has ended, and is not to be taken for the one that has its number now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedProcess {
    pub pid: u32,
    /// When that one began.
    pub successor: Option<Timestamp>,
}

impl EndedProcess {
    /// Whether a connection opened then is not the successor's.
    pub(crate) fn opened(self, time: Timestamp) -> bool {
        self.successor.is_none_or(|successor| time < successor)
    }
}

/// Wall-clock time in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    pub comm: Comm,
}

/// A thread's name as the kernel keeps it: up to 15 bytes, any byte but NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// Cut as the kernel cuts it.
    pub fn new(name: &[u8]) -> Self {
        let mut comm = [0; 16];
        for (to, from) in comm.iter_mut().take(15).zip(name) {
            *to = *from;
        }
        Self(comm)
    }
}

impl fmt::Display for Comm {
    /// What acts on a terminal or would split a header line is shown as `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(self.0.len());
        for c in String::from_utf8_lossy(&self.0[..end]).chars() {
            let shown = if crate::scan::controls(c) || c.is_whitespace() {
                '?'
            } else {
                c
            };
            write!(f, "{shown}")?;
        }
        Ok(())
    }
}

/// A connection as the kernel side tells them apart. `generation` differs for
/// each connection that one object serves in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    pub pid: u32,
    pub object: u64,
    pub generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    Received = 0,
    Sent = 1,
}

/// The transport under a connection, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Socket {
    pub fd: Option<i32>,
    pub address: Address,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    Unknown(Unknown),
    Inet {
        local: SocketAddr,
        remote: SocketAddr,
    },
    Unix,
    /// The library itself reads or writes a pipe.
    Pipe,
}

impl Default for Address {
    fn default() -> Self {
        Self::Unknown(Unknown::default())
    }
}

/// Why there is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// No call of this connection has touched a socket yet, and its first message passed none
    /// that could be seen.
    #[default]
    NoSocket,
    /// The same, and the connection is older than the capture: its first message is not known.
    Older,
    /// This kernel, or the BPF object in use, has no way from a call to its socket.
    Kernel,
    /// A socket of this family, whose addresses are of another kind.
    Family(u16),
    /// A datagram socket that is not connected to one peer.
    NoPeer,
}

impl Unknown {
    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSocket => "no_socket",
            Self::Older => "older",
            Self::Kernel => "kernel",
            Self::Family(_) => "family",
            Self::NoPeer => "no_peer",
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSocket => f.write_str("no socket was seen to carry it"),
            Self::Older => f.write_str("it began before the capture, and touches no socket itself"),
            Self::Kernel => f.write_str("this kernel has no way to its socket"),
            Self::Family(number) => write!(f, "its socket is of address family {number}"),
            Self::NoPeer => f.write_str("its socket is not connected"),
        }
    }
}

/// The label of a key log line, checked to be one printable word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretLabel(String);

impl SecretLabel {
    /// Longest label accepted, in bytes; the longest in use has 31.
    pub const MAX: usize = 48;

    /// `None` unless the bytes are 1 to `MAX` of `A-Z`, `0-9` and `_`.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let valid = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
        if bytes.is_empty() || bytes.len() > Self::MAX || !bytes.iter().all(valid) {
            return None;
        }
        String::from_utf8(bytes.to_vec()).ok().map(Self)
    }

    /// What a key log calls a secret that TLS 1.3 derives under this label (RFC 8446, section 7.1);
    /// `None` for what no key log holds.
    pub fn of_derivation(label: &[u8]) -> Option<Self> {
        let name = match label {
            b"c e traffic" => "CLIENT_EARLY_TRAFFIC_SECRET",
            b"e exp master" => "EARLY_EXPORTER_SECRET",
            b"c hs traffic" => "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            b"s hs traffic" => "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            b"c ap traffic" => "CLIENT_TRAFFIC_SECRET_0",
            b"s ap traffic" => "SERVER_TRAFFIC_SECRET_0",
            b"exp master" => "EXPORTER_SECRET",
            _ => return None,
        };
        Some(Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Key material. Its bytes reach a key log and nothing else: `Debug` redacts.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Longest secret accepted, in bytes (SHA-512 output).
    pub const MAX: usize = 64;

    /// `None` for an empty secret or one over `MAX`.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=Self::MAX)
            .contains(&bytes.len())
            .then(|| Self(bytes.to_vec()))
    }

    /// The bytes themselves, for the sinks that exist to write them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes, redacted)", self.0.len())
    }
}
