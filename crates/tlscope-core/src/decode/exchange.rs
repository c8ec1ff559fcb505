//! Requests and their responses: who answers what, and how long it took.

use std::sync::Arc;
use std::time::Duration;

use super::content::Content;
use super::head::{Head, Start};
use super::{Heads, MessageKind, Note, NotePart, Output, Show, Source};
use crate::event::Timestamp;

/// A message that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The request's head, whether the message is the request or the response.
    pub request: Option<Arc<Head>>,
    pub response: Option<Arc<Head>>,
    /// Content as transferred, and as decoded.
    pub transferred: u64,
    pub decoded: u64,
    /// From the message's own first byte to its last.
    pub duration: Duration,
    /// Of a response whose request was seen.
    pub timing: Option<Timing>,
    /// Its framing said that it ended, and nothing of it was lost.
    pub complete: bool,
}

/// Counted from the first byte of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    pub first_byte: Duration,
    pub total: Duration,
}

/// A request as its response needs it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) exchange: u64,
    pub(super) begun: Timestamp,
    pub(super) head: Arc<Head>,
}

impl Asked {
    pub(super) fn method(&self) -> Option<&str> {
        match self.head.start() {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } | Start::Trailers => None,
        }
    }
}

/// A message whose head is complete.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: MessageKind,
    pub(super) exchange: u64,
    pub(super) stream: Option<u32>,
    begun: Timestamp,
    head: Arc<Head>,
    /// Of a response.
    asked: Option<Asked>,
    content: Content,
    /// The protocol's framing stands between the content.
    framed: bool,
    transferred: u64,
    decoded: u64,
    /// Bytes of the content were lost.
    holed: bool,
}

impl Message {
    pub(super) fn new(
        kind: MessageKind,
        exchange: u64,
        stream: Option<u32>,
        begun: Timestamp,
        head: Arc<Head>,
    ) -> Self {
        let content = Content::of(&head);
        let (asked, framed, transferred, decoded, holed) = (None, false, 0, 0, false);
        Self {
            kind,
            exchange,
            stream,
            begun,
            head,
            asked,
            content,
            framed,
            transferred,
            decoded,
            holed,
        }
    }

    pub(super) fn answers(self, asked: Option<Asked>) -> Self {
        Self { asked, ..self }
    }

    /// Pairs a response whose request came later, as events of two threads may.
    pub(super) fn answers_late(&mut self, asked: Option<&Asked>) {
        if self.asked.is_none() && !matches!(self.head.start(), Start::Request { .. }) {
            self.asked = asked.cloned();
        }
    }

    pub(super) fn framed(self, framed: bool) -> Self {
        Self { framed, ..self }
    }

    pub(super) fn head(&self) -> &Arc<Head> {
        &self.head
    }

    pub(super) fn heads(&self) -> Heads {
        let request = match self.head.start() {
            Start::Request { .. } => Some(Arc::clone(&self.head)),
            _ => self.asked.as_ref().map(|asked| Arc::clone(&asked.head)),
        };
        Heads {
            head: Some(Arc::clone(&self.head)),
            request,
        }
    }

    pub(super) fn note(&self, part: NotePart, output: &mut Output) {
        let Self {
            exchange,
            stream,
            kind,
            ..
        } = *self;
        let heads = self.heads();
        output.notes.push(Note {
            exchange,
            stream,
            kind,
            heads,
            part,
        });
    }

    /// Content came: `input[range]`. Tells how it is best shown, if it is the whole step.
    pub(super) fn content(
        &mut self,
        input: &[u8],
        range: std::ops::Range<usize>,
        output: &mut Output,
    ) -> Show {
        let bytes = &input[range.clone()];
        self.transferred += bytes.len() as u64;
        if self.content.is_identity() {
            self.decoded += bytes.len() as u64;
            let source = if self.framed {
                Source::Framed
            } else {
                Source::Verbatim
            };
            self.note(NotePart::Content(source(range)), output);
            return Show::AsIs;
        }
        let from = output.content.len();
        let decoded = self.content.decode(bytes, &mut output.content);
        let to = output.content.len();
        self.decoded += (to - from) as u64;
        output.view.content(&output.content[from..to]);
        if let Err(error) = decoded {
            output.view.words(format_args!("{error}"));
        }
        if to > from {
            self.note(NotePart::Content(Source::Decoded(from..to)), output);
        }
        Show::View
    }

    /// Bytes of the content are lost; 0 if it is not known how many.
    pub(super) fn lose_content(&mut self, length: u64) {
        self.holed = true;
        self.transferred += length;
        self.content.lose();
    }

    pub(super) fn finish(&self, time: Timestamp, complete: bool, output: &mut Output) {
        let is_request = matches!(self.head.start(), Start::Request { .. });
        let heads = self.heads();
        let finished = Finished {
            request: heads.request,
            response: heads.head.filter(|_| !is_request),
            transferred: self.transferred,
            decoded: self.decoded,
            duration: time.since(self.begun),
            timing: self.asked.as_ref().map(|asked| Timing {
                first_byte: self.begun.since(asked.begun),
                total: time.since(asked.begun),
            }),
            complete: complete && !self.holed,
        };
        self.note(NotePart::Finished(finished), output);
    }
}
