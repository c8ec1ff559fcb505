//! One connection, as its packets tell of it: the handshake under way, what waits,
//! in which file it began, and whether more of it may come.

use std::net::SocketAddr;
use std::time::Duration;

use super::handshake::{Handshake, Labels};
use super::{FileNumber, Frame, HeldFrame, Moment};
use crate::packet::{Endpoints, Protocol, Segment};
use crate::tls::{ClientHello, ClientRandom, RecordKind, record_kind};

/// A connection, whichever end a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FlowKey(pub(super) Endpoints);

impl FlowKey {
    pub(super) fn of(endpoints: Endpoints) -> Self {
        if endpoints.source <= endpoints.destination {
            Self(endpoints)
        } else {
            Self(endpoints.reversed())
        }
    }
}

/// A renegotiation says its client random encrypted, so its secret cannot be
/// told from those of others. One end has it before either sends with the new
/// keys; it needs only the time to come through the buffers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewal {
    client: SocketAddr,
    pub(super) under_way: bool,
}

/// The buffers of secrets are looked at after 20 ms, and the output has its turn
/// every 50: twice that, for a busy machine.
pub(super) const RENEWAL: Duration = Duration::from_millis(140);

/// After both ends are done, acknowledgements and retransmissions still come.
const LINGER: Duration = Duration::from_secs(1);
/// QUIC and DTLS end encrypted, so silence has to do: QUIC's own time-out is 30 s
/// in browsers and 60 s in nginx.
const DATAGRAMS_IDLE: Duration = Duration::from_secs(60);

/// The file in which a connection began, and which connection it was: datagrams
/// of another may follow between the same ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) file: FileNumber,
    pub(super) random: Option<ClientRandom>,
}

/// Where in the queue a renegotiation begins, whose secret comes later than what
/// is before it waits for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    at: usize,
    began: Moment,
    until: Moment,
}

#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Under way and not yet decided; `None` before and after.
    handshake: Option<Box<Handshake>>,
    pub(super) random: Option<ClientRandom>,
    pub(super) owned: bool,
    /// It waited for an owner in vain: its packets no longer wait.
    pub(super) unwanted: bool,
    /// Of TLS 1.2, whose keys may be made anew.
    renewal: Option<Renewal>,
    split: Option<Split>,
    pub(super) queue: Vec<HeldFrame>,
    pub(super) until: Moment,
    /// `until` at most, however often it is put off.
    pub(super) at_most: Moment,
    pub(super) home: Option<Home>,
    /// When its last packet came.
    pub(super) last: Moment,
    /// By which end, lower address first.
    ended: [bool; 2],
}

impl Flow {
    /// The same addresses and ports may serve another connection later.
    pub(super) fn restart_if_new(&mut self, segment: &Segment<'_>) {
        if segment.tcp.is_some_and(|tcp| tcp.flags.syn()) && self.ended != [false; 2] {
            *self = Self {
                owned: self.owned,
                ..Self::default()
            };
        }
    }

    pub(super) fn begin_handshake(
        &mut self,
        segment: &Segment<'_>,
        begins: bool,
        file: FileNumber,
    ) {
        let over = |h: &Handshake| h.is_over() && self.ended != [false; 2];
        if begins
            && self.handshake.as_deref().is_none_or(over)
            && let Some(handshake) = Handshake::begin(segment)
        {
            self.random = None;
            self.handshake = Some(Box::new(handshake));
            self.home.get_or_insert(Home { file, random: None });
        }
    }

    pub(super) fn observe(
        &mut self,
        segment: &Segment<'_>,
        file: FileNumber,
    ) -> Option<ClientHello> {
        self.note_end(segment);
        let learned = self.handshake.as_mut()?.segment(segment);
        if let Some(hello) = &learned {
            let random = Some(hello.random);
            self.random = random;
            // A hello sent again tells of no other connection.
            let same = |home: &Home| home.random.is_none() || home.random == random;
            let file = self.home.filter(same).map_or(file, |home| home.file);
            self.home = Some(Home { file, random });
        }
        learned
    }

    pub(super) fn note_end(&mut self, segment: &Segment<'_>) {
        let Some(flags) = segment.tcp.map(|tcp| tcp.flags) else {
            return;
        };
        if flags.finishes() {
            let lower = segment.endpoints.source <= segment.endpoints.destination;
            self.ended[usize::from(!lower)] = true;
        }
        if flags.resets() {
            self.ended = [true; 2];
        }
    }

    pub(super) fn file(&self) -> Option<FileNumber> {
        self.home.map(|home| home.file)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended == [true; 2]
    }

    /// Whether more of it may come.
    pub(super) fn lives(&self, protocol: Protocol, now: Moment) -> bool {
        let silence = now.0.saturating_sub(self.last.0);
        match protocol {
            Protocol::Tcp => !self.has_ended() || silence < LINGER,
            Protocol::Udp => silence < DATAGRAMS_IDLE,
        }
    }

    /// Nothing of it is waited for, and no handshake is under way.
    pub(super) fn is_settled(&self) -> bool {
        self.owned && self.handshake.is_none() && self.ended == [false; 2]
    }

    pub(super) fn is_open(&self, labels: Labels) -> bool {
        let secrets = self
            .handshake
            .as_ref()
            .is_none_or(|h| h.has_secrets(labels));
        self.owned && secrets && !self.is_renewing()
    }

    /// Whether the segment belongs to a renegotiation (RFC 5246, section 7.4.1.1):
    /// outside, all that shows is the type of the record that the segment begins with.
    pub(super) fn renews(&self, segment: &Segment<'_>) -> bool {
        let Some(renewal) = self.renewal.filter(|_| self.handshake.is_none()) else {
            return false;
        };
        match record_kind(segment.payload) {
            // The client begins; what ends the first handshake comes from the server,
            // or begins with ChangeCipherSpec.
            Some(RecordKind::Handshake) if segment.endpoints.source == renewal.client => true,
            Some(RecordKind::Handshake | RecordKind::ChangeCipherSpec) => renewal.under_way,
            _ => false,
        }
    }

    pub(super) fn begin_renewal(&mut self, segment: &Segment<'_>) -> bool {
        let renews = self.renews(segment);
        if let Some(renewal) = self.renewal.as_mut().filter(|_| renews) {
            renewal.under_way = true;
        }
        renews
    }

    /// To be asked ahead of `observe` and `keep`, while the first handshake waits.
    pub(super) fn note_early_renewal(&mut self, segment: &Segment<'_>, now: Moment) {
        let handshake = self.handshake.as_deref();
        let under_way = self.split.is_some();
        if !handshake.is_some_and(|h| h.is_renewed_by(segment, under_way)) {
            return;
        }
        let split = self.split.get_or_insert(Split {
            at: self.queue.len(),
            began: now,
            until: now,
        });
        split.until = now.after(RENEWAL);
    }

    /// What waits for more than the first handshake's secrets stays: true if there is some.
    pub(super) fn keep_renewal(&mut self, frames: &mut Vec<HeldFrame>, cap: Duration) -> bool {
        let (Some(split), Some(renewal)) = (self.split.take(), &mut self.renewal) else {
            return false;
        };
        renewal.under_way = true;
        self.queue = frames.split_off(split.at.min(frames.len()));
        self.at_most = split.began.after(cap);
        self.until = split.until.min(self.at_most);
        true
    }

    pub(super) fn is_renewing(&self) -> bool {
        self.renewal.is_some_and(|renewal| renewal.under_way)
    }

    /// After a release: a handshake that has been decided needs no more watching.
    pub(super) fn settle(&mut self) {
        if let Some(renewal) = &mut self.renewal {
            renewal.under_way = false;
        }
        if let Some(client) = self.handshake.as_ref().and_then(|h| h.client_of_tls12()) {
            let under_way = false;
            self.renewal = Some(Renewal { client, under_way });
        }
        let done = |h: &Handshake| h.is_over() || h.is_decided();
        if self.handshake.as_deref().is_some_and(done) {
            self.handshake = None;
        } else if let Some(handshake) = &mut self.handshake {
            handshake.stop_waiting_for_early();
        }
    }

    pub(super) fn keep(&mut self, frame: Frame<'_>, endpoints: Endpoints, bytes: &mut usize) {
        *bytes += frame.bytes.len();
        self.queue.push(HeldFrame {
            interface: frame.interface,
            time: frame.time,
            original_length: frame.original_length,
            bytes: frame.bytes.into(),
            endpoints,
            home: None,
        });
    }
}
