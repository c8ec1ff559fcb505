//! TLS over TCP: both directions put in order as far as needed.

use super::{Need, Side, Sign};
use crate::packet::TcpHeader;
use crate::tls::{Notice, RecordStream, Version};

#[derive(Debug)]
pub(super) struct Records {
    client: Stream,
    server: Stream,
    version: Option<Version>,
}

impl Records {
    /// `header`: of the segment that begins with the `ClientHello`.
    pub(super) fn new(header: TcpHeader) -> Self {
        Self {
            client: header.sequence.into(),
            server: header.acknowledged.into(),
            version: None,
        }
    }

    pub(super) fn segment(
        &mut self,
        side: Side,
        header: TcpHeader,
        payload: &[u8],
        signs: &mut Vec<Sign>,
    ) {
        let syn = u32::from(header.flags.syn());
        let sequence = header.sequence.wrapping_add(syn);
        let stream = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let mut notices = Vec::new();
        if !stream.segment(sequence, payload, &mut notices) {
            signs.push(Sign::Broken);
        }
        for notice in notices {
            match notice {
                Notice::ClientHello(hello) if side == Side::Client => {
                    signs.push(Sign::Client(hello));
                }
                Notice::ServerHello(hello) if side == Side::Server && !hello.retry => {
                    self.version = Some(hello.version);
                    if hello.version == Version::Tls13 {
                        signs.push(Sign::Need(Need::Tls13));
                    }
                }
                // TLS 1.3 sends it too, for middleboxes, and it means nothing.
                Notice::ChangeCipherSpec if self.version == Some(Version::Tls12) => {
                    signs.push(Sign::Need(Need::Master));
                }
                Notice::Broken => signs.push(Sign::Broken),
                _ => {}
            }
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
