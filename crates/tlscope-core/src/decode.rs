//! Decoding: what the plaintext of a connection says.
//!
//! A conversation takes the bytes of both directions in order and cuts them
//! into steps: so many bytes, belonging to such a message, best shown so.
//! Every byte is in exactly one step. Decoders are total and hold bounded
//! memory: whatever they do not understand is plain data.

mod content;
mod exchange;
mod grpc;
mod head;
mod hpack;
mod http1;
mod http2;
mod view;
mod websocket;

use std::ops::Range;
use std::sync::Arc;

pub use exchange::{Finished, Timing};
pub use head::{Fields, Head, Start};
pub use view::{View, ViewPart};
pub use websocket::WebSocketFrame;

use crate::event::{Direction, Timestamp};
use http1::{Http1, Switch};
use http2::Http2;
use websocket::WebSocket;

/// The kinds of message that outputs tell apart. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    Plain = 0,
    Http1Request = 1,
    Http2Request = 2,
    Http1Response = 3,
    Http2Response = 4,
    WebSocket = 5,
}

impl MessageKind {
    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "Plain",
            Self::Http1Request => "HTTPRequest",
            Self::Http2Request => "HTTP2Request",
            Self::Http1Response => "HTTPResponse",
            Self::Http2Response => "HTTP2Response",
            Self::WebSocket => "WebSocket",
        }
    }
}

/// Contiguous bytes of one direction, at most one call's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) direction: Direction,
    pub(crate) time: Timestamp,
    pub(crate) bytes: &'a [u8],
    /// The first byte is the first of a call: messages tend to begin there.
    pub(crate) call_begins: bool,
}

/// Bytes of one direction that will never come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost {
    pub(crate) direction: Direction,
    pub(crate) time: Timestamp,
    pub(crate) length: u64,
}

/// What a non-empty prefix of the input is.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) consumed: usize,
    /// `None` while too little came to tell.
    pub(crate) kind: Option<MessageKind>,
    /// Bytes of different messages of one kind have different numbers.
    pub(crate) message: u64,
    pub(crate) show: Show,
    pub(crate) begins: bool,
    pub(crate) ends: bool,
    /// To be shown now, though the message goes on.
    pub(crate) urgent: bool,
    pub(crate) heads: Heads,
}

/// The message that bytes belong to, and the request that it answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heads {
    pub(crate) head: Option<Arc<Head>>,
    pub(crate) request: Option<Arc<Head>>,
}

/// How a person best sees the bytes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    AsIs,
    /// By `Output::view`, which may be empty.
    View,
}

impl Step {
    pub(crate) fn plain(consumed: usize) -> Self {
        Self::of(Some(MessageKind::Plain), consumed)
    }

    fn of(kind: Option<MessageKind>, consumed: usize) -> Self {
        Self {
            consumed,
            kind,
            message: 0,
            show: Show::AsIs,
            begins: false,
            ends: false,
            urgent: false,
            heads: Heads::default(),
        }
    }
}

/// What a step says beside how its bytes are cut.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) view: View,
    pub(crate) notes: Vec<Note>,
    /// Content that is not in the input as it is.
    content: Vec<u8>,
}

/// A part of a message that came.
#[derive(Debug)]
pub(crate) struct Note {
    /// Numbers the request and its response alike, within the connection.
    pub(crate) exchange: u64,
    pub(crate) stream: Option<u32>,
    pub(crate) kind: MessageKind,
    pub(crate) heads: Heads,
    pub(crate) part: NotePart,
}

#[derive(Debug)]
pub(crate) enum NotePart {
    Head(Arc<Head>),
    Content(Source),
    Frame(WebSocketFrame),
    Trailers(Arc<Head>),
    Finished(Finished),
}

/// Where a note's content is.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// In the input, and so in a data block, as it is.
    Verbatim(Range<usize>),
    /// In the input, between the framing of the protocol.
    Framed(Range<usize>),
    Decoded(Range<usize>),
}

impl Output {
    pub(crate) fn clear(&mut self) {
        self.view.clear();
        self.notes.clear();
        self.content.clear();
    }

    /// Keeps decoded content for a note.
    fn keep(&mut self, content: &[u8]) -> Source {
        let from = self.content.len();
        self.content.extend_from_slice(content);
        Source::Decoded(from..self.content.len())
    }

    /// `input` is what the step was given.
    pub(crate) fn content<'a>(&'a self, source: &Source, input: &'a [u8]) -> &'a [u8] {
        match source {
            Source::Verbatim(range) | Source::Framed(range) => {
                input.get(range.clone()).unwrap_or_default()
            }
            Source::Decoded(range) => self.content.get(range.clone()).unwrap_or_default(),
        }
    }
}

/// A state machine for the bytes of one direction.
trait Decode {
    /// What the two directions of the protocol know of each other.
    type Shared;

    /// Tells what a prefix of `input.bytes`, which are never empty, is.
    fn step(&mut self, input: Input<'_>, shared: &mut Self::Shared, output: &mut Output) -> Step;

    /// So many bytes will never come: the next input follows behind them.
    fn lose(&mut self, lost: Lost, shared: &mut Self::Shared, output: &mut Output);
}

/// Both directions of one connection.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    protocol: Protocol,
}

#[derive(Debug)]
enum Protocol {
    /// HTTP/1, or nothing known yet.
    Http1(Http1),
    Http2(Box<Http2>),
    WebSocket(Box<WebSocket>),
}

impl Default for Protocol {
    fn default() -> Self {
        Self::Http1(Http1::default())
    }
}

impl Conversation {
    /// `output` is cleared first.
    pub(crate) fn step(&mut self, input: Input<'_>, output: &mut Output) -> Step {
        output.clear();
        self.recognize(&input);
        let step = match &mut self.protocol {
            Protocol::Http1(http1) => http1.step(input, output),
            Protocol::Http2(http2) => http2.step(input, output),
            Protocol::WebSocket(websocket) => websocket.step(input, output),
        };
        debug_assert!((1..=input.bytes.len()).contains(&step.consumed));
        if let Protocol::Http1(http1) = &mut self.protocol
            && let Some(switch) = http1.switched()
        {
            self.switch(switch, input.direction, input.time);
        }
        step
    }

    /// HTTP/2 is told by its first bytes, or by frames where a call begins.
    fn recognize(&mut self, input: &Input<'_>) {
        let Input {
            direction,
            bytes,
            call_begins,
            ..
        } = *input;
        if let Protocol::Http1(http1) = &self.protocol
            && call_begins
            && http1.may_switch(direction)
        {
            let begun = Http2::begins(direction, bytes);
            let http2 = begun.or_else(|| http1.is_unknown().then(|| Http2::resumes(bytes))?);
            if let Some(http2) = http2 {
                self.protocol = Protocol::Http2(Box::new(http2));
            }
        }
    }

    /// `direction` carried what said so: the server's response, or the client's preface.
    fn switch(&mut self, switch: Switch, direction: Direction, time: Timestamp) {
        let client = direction.opposite();
        self.protocol = match switch {
            Switch::Http2(heads) => {
                Protocol::Http2(Box::new(Http2::upgraded(client, heads.request, time)))
            }
            Switch::WebSocket { exchange, heads } => {
                Protocol::WebSocket(Box::new(WebSocket::new(client, exchange, heads)))
            }
            Switch::Preface => Protocol::Http2(Box::new(Http2::behind_preface(direction))),
            // It may be HTTP again: that of the server behind a proxy.
            Switch::Unknown => Protocol::default(),
        };
    }

    /// `output` is cleared first.
    pub(crate) fn lose(&mut self, lost: Lost, output: &mut Output) {
        output.clear();
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.lose(lost, output),
            Protocol::Http2(http2) => http2.lose(lost, output),
            Protocol::WebSocket(websocket) => websocket.lose(lost, output),
        }
    }

    /// No more bytes will come in a direction: what lasts until the end has ended.
    pub(crate) fn end(&mut self, direction: Direction, time: Timestamp, output: &mut Output) {
        output.clear();
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.end(direction, time, output),
            Protocol::Http2(http2) => http2.end(direction, time, output),
            Protocol::WebSocket(_) => {}
        }
    }
}
