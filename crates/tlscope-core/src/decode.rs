//! Decoding: what the plaintext of a connection says.
//!
//! A conversation takes the bytes of both directions in order and cuts
//! them into steps: so many bytes, belonging to such a message, best shown so.
//! Every byte is in exactly one step. Decoders are total and hold bounded
//! memory: whatever they do not understand is plain data.

mod head;
mod http1;

use std::sync::Arc;

pub use head::{Fields, Head, Start};

use crate::event::Direction;
use http1::Http1;

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
    pub(crate) bytes: &'a [u8],
    /// The first byte is the first of a call: messages tend to begin there.
    pub(crate) call_begins: bool,
}

/// What a non-empty prefix of the input is.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) consumed: usize,
    /// `None` while too little came to tell.
    pub(crate) kind: Option<MessageKind>,
    pub(crate) show: Show,
    pub(crate) begins: bool,
    pub(crate) ends: bool,
    pub(crate) head: Option<Arc<Head>>,
}

/// How a person best sees the bytes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    AsIs,
    /// Framing that says nothing: chunk sizes, for instance.
    Nothing,
}

impl Step {
    pub(crate) fn plain(consumed: usize) -> Self {
        Self::of(Some(MessageKind::Plain), consumed)
    }

    fn of(kind: Option<MessageKind>, consumed: usize) -> Self {
        Self {
            consumed,
            kind,
            show: Show::AsIs,
            begins: false,
            ends: false,
            head: None,
        }
    }
}

/// A state machine for the bytes of one direction.
trait Decode {
    /// What the two directions of the protocol know of each other.
    type Shared;

    /// Tells what a prefix of `input.bytes`, which are never empty, is.
    fn step(&mut self, input: Input<'_>, shared: &mut Self::Shared) -> Step;

    /// So many bytes will never come: the next input follows behind them.
    fn lose(&mut self, length: u64, shared: &mut Self::Shared);
}

/// Both directions of one connection.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    http1: Http1,
}

impl Conversation {
    pub(crate) fn step(&mut self, input: Input<'_>) -> Step {
        let step = self.http1.step(input);
        debug_assert!((1..=input.bytes.len()).contains(&step.consumed));
        step
    }

    pub(crate) fn lose(&mut self, direction: Direction, length: u64) {
        self.http1.lose(direction, length);
    }
}
