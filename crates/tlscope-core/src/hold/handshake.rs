//! A TLS handshake over TCP, watched from beside: both directions put in order
//! as far as needed, and which secrets a reader needs from here on.
//!
//! Measured with tshark 4.0, single pass: it looks the early secret up at the
//! `ClientHello`, the handshake secrets at the `ServerHello`, the application
//! secrets at the (encrypted) Finished messages, the master secret of TLS 1.2
//! at `ChangeCipherSpec`. What is missing then is never looked up again.

use std::net::SocketAddr;

use crate::packet::{Segment, TcpHeader};
use crate::tls::{ClientHello, Notice, RecordStream, Version};

/// Which secrets of one client random are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Labels(u8);

impl Labels {
    const MASTER: Self = Self(1);
    const EARLY: Self = Self(2);
    const CLIENT_HANDSHAKE: Self = Self(4);
    const SERVER_HANDSHAKE: Self = Self(8);
    const CLIENT_TRAFFIC: Self = Self(16);
    const SERVER_TRAFFIC: Self = Self(32);
    /// Finished cannot be told from the other encrypted messages of its flight,
    /// so the application secrets are waited for together with the others.
    const ALL_OF_TLS13: Self = Self(4 | 8 | 16 | 32);

    #[must_use]
    pub(crate) fn with(self, label: &str) -> Self {
        let one = match label {
            "CLIENT_RANDOM" => Self::MASTER,
            "CLIENT_EARLY_TRAFFIC_SECRET" => Self::EARLY,
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET" => Self::CLIENT_HANDSHAKE,
            "SERVER_HANDSHAKE_TRAFFIC_SECRET" => Self::SERVER_HANDSHAKE,
            "CLIENT_TRAFFIC_SECRET_0" => Self::CLIENT_TRAFFIC,
            "SERVER_TRAFFIC_SECRET_0" => Self::SERVER_TRAFFIC,
            _ => Self(0),
        };
        Self(self.0 | one.0)
    }

    fn has(self, all: Self) -> bool {
        self.0 & all.0 == all.0
    }
}

/// What packets from here on need ahead of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// The client offers early data: its secret, or word that the server
    /// declined, which is that the handshake went on without.
    Early,
    Master,
    Tls13,
}

#[derive(Debug)]
pub(super) struct Handshake {
    client: SocketAddr,
    /// From the client, from the server.
    streams: [Stream; 2],
    need: Need,
    version: Option<Version>,
    broken: bool,
}

impl Handshake {
    /// `header`: of the segment that begins with the `ClientHello`.
    pub(super) fn new(client: SocketAddr, header: TcpHeader) -> Self {
        Self {
            client,
            streams: [header.sequence, header.acknowledged].map(Stream::from),
            need: Need::Nothing,
            version: None,
            broken: false,
        }
    }

    /// Gives the `ClientHello` when the segment completes one.
    pub(super) fn segment(
        &mut self,
        segment: &Segment<'_>,
        header: TcpHeader,
    ) -> Option<ClientHello> {
        if self.is_over() || segment.payload.is_empty() {
            return None;
        }
        let from_server = usize::from(segment.endpoints.source != self.client);
        let mut notices = Vec::new();
        let syn = u32::from(header.flags.syn());
        let sequence = header.sequence.wrapping_add(syn);
        let stream = &mut self.streams[from_server];
        self.broken |= !stream.segment(sequence, segment.payload, &mut notices);
        let mut learned = None;
        for notice in notices {
            match notice {
                Notice::ClientHello(hello) if from_server == 0 => {
                    if hello.early_data {
                        self.need = Need::Early;
                    }
                    learned = Some(hello);
                }
                Notice::ServerHello(hello) if from_server == 1 && !hello.retry => {
                    self.version = Some(hello.version);
                    if hello.version == Version::Tls13 {
                        self.need = Need::Tls13;
                    }
                }
                Notice::ChangeCipherSpec if self.version == Some(Version::Tls12) => {
                    self.need = Need::Master;
                }
                Notice::Broken => self.broken = true,
                _ => {}
            }
        }
        learned
    }

    pub(super) fn has_secrets(&self, labels: Labels) -> bool {
        match self.need {
            Need::Nothing => true,
            Need::Early => labels.has(Labels::EARLY) || labels.has(Labels::CLIENT_HANDSHAKE),
            Need::Master => labels.has(Labels::MASTER),
            Need::Tls13 => labels.has(Labels::ALL_OF_TLS13),
        }
    }

    /// All is known that decides what the rest of the connection needs.
    pub(super) fn is_over(&self) -> bool {
        self.broken || matches!(self.need, Need::Master | Need::Tls13)
    }

    pub(super) fn stop_waiting_for_early(&mut self) {
        if self.need == Need::Early {
            self.need = Need::Nothing;
        }
    }
}

/// One direction, with what came too early.
#[derive(Debug)]
struct Stream {
    next: u32,
    records: RecordStream,
    early: Vec<(u32, Box<[u8]>)>,
    early_bytes: usize,
}

impl From<u32> for Stream {
    fn from(next: u32) -> Self {
        Self {
            next,
            records: RecordStream::default(),
            early: Vec::new(),
            early_bytes: 0,
        }
    }
}

impl Stream {
    /// A hole of so many bytes is not waited out: the capture lost a packet.
    const EARLY_MAX: usize = 64 * 1024;

    /// False when the stream cannot be followed any longer.
    fn segment(&mut self, sequence: u32, payload: &[u8], notices: &mut Vec<Notice>) -> bool {
        if self.ahead(sequence) > 0 {
            self.early_bytes += payload.len();
            self.early.push((sequence, payload.into()));
            return self.early_bytes <= Self::EARLY_MAX;
        }
        self.push(sequence, payload, notices);
        while let Some(at) = self.early.iter().position(|e| self.ahead(e.0) <= 0) {
            let (sequence, payload) = self.early.swap_remove(at);
            self.early_bytes -= payload.len();
            self.push(sequence, &payload, notices);
        }
        true
    }

    /// How far past the expected byte; sequence numbers wrap.
    fn ahead(&self, sequence: u32) -> i32 {
        sequence.wrapping_sub(self.next).cast_signed()
    }

    /// Takes what was not seen before: a retransmission may reach further.
    fn push(&mut self, sequence: u32, payload: &[u8], notices: &mut Vec<Notice>) {
        let seen = self.next.wrapping_sub(sequence) as usize;
        let Some(fresh) = payload.get(seen..) else {
            return;
        };
        self.next = self.next.wrapping_add(fresh.len() as u32);
        self.records.push(fresh, |notice| notices.push(notice));
    }
}
