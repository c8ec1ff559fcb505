//! A handshake of TLS, watched from beside: whose it is, and which secrets a
//! reader needs from here on. What it looks like on the wire is told by the
//! transports: records over TCP, DTLS, QUIC.
//!
//! Measured with tshark 4.0, single pass: it looks the early secret up at the
//! `ClientHello`, the handshake secrets at the `ServerHello`, the application
//! secrets at the (encrypted) Finished messages, the master secret of TLS 1.2
//! at `ChangeCipherSpec`; those of QUIC at the first packet that needs each.
//! What is missing then is never looked up again.

mod datagrams;
mod pieces;
mod records;

use std::net::SocketAddr;

use crate::packet::Segment;
use crate::tls::{ClientHello, ClientRandom, RecordKind, begins_client_hello, record_kind};
use crate::{dtls, quic};
use datagrams::{Dtls, Quic};
use records::Records;

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    #[default]
    Nothing,
    /// The client offers early data: its secret, or word that the server
    /// declined, which is that the handshake went on without.
    Early,
    Master,
    Tls13,
}

/// What a transport reads out of a segment.
#[derive(Debug)]
enum Sign {
    Client(ClientHello),
    Need(Need),
    /// It cannot be followed any longer.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

#[derive(Debug)]
enum Transport {
    Records(Records),
    Dtls(Dtls),
    Quic(Quic),
}

#[derive(Debug)]
pub(super) struct Handshake {
    client: SocketAddr,
    transport: Transport,
    need: Need,
    /// Once the client has said it.
    random: Option<ClientRandom>,
    /// The client sends with the keys of TLS 1.2.
    client_changed: bool,
    broken: bool,
}

/// Whether a handshake may begin with this segment: a look at a few bytes.
pub(super) fn may_begin(segment: &Segment<'_>) -> bool {
    let payload = segment.payload;
    match segment.tcp {
        Some(_) => begins_client_hello(payload),
        None => dtls::begins_client_hello(payload) || quic::begins_initial(payload),
    }
}

impl Handshake {
    /// With the segment that begins it, which is still to be given to `segment`.
    pub(super) fn begin(segment: &Segment<'_>) -> Option<Self> {
        let transport = match segment.tcp {
            Some(header) => Transport::Records(Records::new(header)),
            None if dtls::begins_client_hello(segment.payload) => Transport::Dtls(Dtls::default()),
            None => Transport::Quic(Quic::begin(segment.payload)?),
        };
        Some(Self {
            client: segment.endpoints.source,
            transport,
            need: Need::Nothing,
            random: None,
            client_changed: false,
            broken: false,
        })
    }

    /// Gives the `ClientHello` when the segment completes one.
    pub(super) fn segment(&mut self, segment: &Segment<'_>) -> Option<ClientHello> {
        let side = if segment.endpoints.source == self.client {
            Side::Client
        } else {
            Side::Server
        };
        if side == Side::Client && is_change_cipher_spec(segment) {
            self.client_changed = true;
        }
        if self.is_over() || segment.payload.is_empty() {
            return None;
        }
        let mut signs = Vec::new();
        match (&mut self.transport, segment.tcp) {
            (Transport::Records(records), Some(header)) => {
                records.segment(side, header, segment.payload, &mut signs);
            }
            (Transport::Dtls(dtls), None) => dtls.datagram(side, segment.payload, &mut signs),
            (Transport::Quic(quic), None) => quic.datagram(side, segment.payload, &mut signs),
            _ => {}
        }
        let mut learned = None;
        for sign in signs {
            match sign {
                // Sent again: lost, or asked for by the server, and then without early data.
                Sign::Client(hello) if self.random == Some(hello.random) => {}
                Sign::Client(hello) => {
                    if hello.early_data {
                        self.need = self.need.max(Need::Early);
                    }
                    self.random = Some(hello.random);
                    learned = Some(hello);
                }
                Sign::Need(need) => {
                    self.client_changed |= side == Side::Client;
                    self.need = self.need.max(need);
                }
                Sign::Broken => self.broken = true,
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
        self.broken || (self.is_decided() && self.random.is_some())
    }

    /// The need is the last one, whether or not it is known whose it is.
    pub(super) fn is_decided(&self) -> bool {
        matches!(self.need, Need::Master | Need::Tls13)
    }

    /// Whether the segment, which is still to be given to `segment`, belongs to a
    /// renegotiation: a handshake record of a client that has changed its keys, and
    /// what follows it. That of its own Finished goes with `ChangeCipherSpec`.
    pub(super) fn is_renewed_by(&self, segment: &Segment<'_>, under_way: bool) -> bool {
        if self.client_of_tls12().is_none() {
            return false;
        }
        let begun = self.client_changed && segment.endpoints.source == self.client;
        match record_kind(segment.payload) {
            Some(RecordKind::Handshake) => begun || under_way,
            Some(RecordKind::ChangeCipherSpec) => under_way,
            _ => false,
        }
    }

    /// Over TCP alone: renegotiations of DTLS are not watched for.
    pub(super) fn client_of_tls12(&self) -> Option<SocketAddr> {
        let records = matches!(self.transport, Transport::Records(_));
        (records && self.need == Need::Master).then_some(self.client)
    }

    pub(super) fn stop_waiting_for_early(&mut self) {
        if self.need == Need::Early {
            self.need = Need::Nothing;
        }
    }
}

fn is_change_cipher_spec(segment: &Segment<'_>) -> bool {
    segment.tcp.is_some() && record_kind(segment.payload) == Some(RecordKind::ChangeCipherSpec)
}
