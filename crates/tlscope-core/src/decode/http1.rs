//! HTTP/1.0 and 1.1 (RFC 9112): where messages begin and end.
//!
//! Either direction may carry the requests; the bytes tell. Heads are held
//! until complete, up to 64 KiB; bodies stream. What is not HTTP, and what
//! follows lost bytes, is plain data until a call begins with a start line.

mod body;
mod exchanges;
mod start;

use std::sync::Arc;

use super::exchange::Message;
use super::http2::PREFACE;
use super::{Decode, Input, Lost, MessageKind, NotePart, Output, Show, Step, ViewPart};
use crate::event::{Direction, Timestamp};
use body::{Body, BodyPart, Progress};
pub(super) use exchanges::Switch;
use exchanges::{Begun, Exchanges};
use start::{HeadEnd, LineKind};

/// Servers take 8 to 64 KiB of head; nothing longer is held for one.
const MAX_HEAD: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Http1 {
    halves: [Half; 2],
    exchanges: Exchanges,
}

impl Http1 {
    pub(super) fn step(&mut self, input: Input<'_>, output: &mut Output) -> Step {
        self.halves[input.direction as usize].step(input, &mut self.exchanges, output)
    }

    pub(super) fn lose(&mut self, lost: Lost, output: &mut Output) {
        self.halves[lost.direction as usize].lose(lost, &mut self.exchanges, output);
    }

    pub(super) fn end(&mut self, direction: Direction, time: Timestamp, output: &mut Output) {
        self.halves[direction as usize].end(time, output);
    }

    /// A message, or a call of unknown bytes, begins with the next byte.
    pub(super) fn may_switch(&self, direction: Direction) -> bool {
        let half = &self.halves[direction as usize];
        match half.state {
            State::Start => half.held.is_empty(),
            State::Opaque => true,
            State::Head(_) | State::Body(_) => false,
        }
    }

    /// No message of HTTP/1 was seen.
    pub(super) fn is_unknown(&self) -> bool {
        self.exchanges.is_unused()
    }

    /// Another protocol goes on from here, if the last response said so.
    pub(super) fn switched(&mut self) -> Option<Switch> {
        self.exchanges.switched.take()
    }
}

#[derive(Debug, Default)]
struct Half {
    state: State,
    /// The part of a head or of trailers that came in earlier inputs.
    held: Vec<u8>,
    /// No head ends within this much of `held`.
    searched: usize,
    /// When the first byte of the message came.
    begun: Timestamp,
    /// Counts messages, so that two are never in one block.
    number: u64,
}

#[derive(Debug, Default)]
enum State {
    /// A message or nothing begins with the next byte.
    #[default]
    Start,
    /// The start line was complete and HTTP's.
    Head(MessageKind),
    Body(Box<InBody>),
    /// Not HTTP, or not known where in a message.
    Opaque,
}

#[derive(Debug)]
struct InBody {
    message: Message,
    body: Body,
    /// The request was not seen, so that the framing of the response is a guess.
    guessed: bool,
    /// Server-sent events: each is to be seen when it comes.
    urgent: bool,
}

/// What a step may look at and write to beside its own half.
struct Context<'a> {
    time: Timestamp,
    exchanges: &'a mut Exchanges,
    output: &'a mut Output,
}

impl Decode for Half {
    type Shared = Exchanges;

    fn step(&mut self, input: Input<'_>, exchanges: &mut Exchanges, output: &mut Output) -> Step {
        if self.resynchronizes(&input, exchanges) {
            self.begin();
        }
        let number = self.number;
        let mut context = Context {
            time: input.time,
            exchanges,
            output,
        };
        let step = match &mut self.state {
            State::Start if self.held.is_empty() => {
                self.begun = input.time;
                match input
                    .bytes
                    .iter()
                    .take_while(|&&b| b == b'\r' || b == b'\n')
                    .count()
                {
                    0 => self.start(input.bytes, &mut context),
                    blank => Step::of(None, blank),
                }
            }
            State::Start | State::Head(_) => self.start(input.bytes, &mut context),
            State::Body(_) => self.body(input.bytes, &mut context),
            State::Opaque => Step::plain(input.bytes.len()),
        };
        // Plain data is cut by calls alone.
        let message = if step.kind == Some(MessageKind::Plain) {
            0
        } else {
            number
        };
        Step { message, ..step }
    }

    fn lose(&mut self, lost: Lost, exchanges: &mut Exchanges, output: &mut Output) {
        let length = lost.length;
        if let State::Body(in_body) = &mut self.state
            && let Some(ends) = in_body.body.lose(length)
        {
            in_body.message.lose_content(length);
            if ends {
                in_body.message.finish(lost.time, true, output);
                self.begin();
            }
            return;
        }
        if let State::Body(in_body) = &self.state {
            in_body.message.finish(lost.time, false, output);
        }
        exchanges.forget();
        self.become_opaque();
    }
}

impl Half {
    /// Where it is not known what comes, a start line at the beginning of a
    /// call is taken for one: a body that imitates it is rarer than a loss.
    /// Part of one will do where the connection is known to speak HTTP.
    fn resynchronizes(&self, input: &Input<'_>, exchanges: &Exchanges) -> bool {
        let guessing = match &self.state {
            State::Opaque => true,
            State::Body(in_body) => in_body.guessed,
            State::Start | State::Head(_) => false,
        };
        guessing
            && input.call_begins
            && match start::line(input.bytes) {
                LineKind::Http(_) | LineKind::Preface => true,
                LineKind::Incomplete => {
                    matches!(self.state, State::Opaque) && !exchanges.is_unused()
                }
                LineKind::Other => false,
            }
    }

    fn begin(&mut self) {
        self.state = State::Start;
        self.held = Vec::new();
        self.searched = 0;
        self.number += 1;
    }

    fn become_opaque(&mut self) {
        self.begin();
        self.state = State::Opaque;
    }

    fn end(&mut self, time: Timestamp, output: &mut Output) {
        if let State::Body(in_body) = &self.state {
            in_body
                .message
                .finish(time, in_body.body == Body::UntilClose, output);
        }
        self.become_opaque();
    }

    /// Looks for a whole head in what is held and the input.
    fn start(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Step {
        if self.held.is_empty() {
            let step = self.head_in(bytes, bytes.len(), context);
            return Step {
                begins: true,
                ..step
            };
        }
        let mut held = std::mem::take(&mut self.held);
        let fresh = bytes.len().min(MAX_HEAD + 1);
        held.extend_from_slice(&bytes[..fresh]);
        let step = self.head_in(&held, fresh, context);
        if matches!(self.state, State::Start | State::Head(_)) && !step.ends {
            self.held = held;
        }
        step
    }

    /// `window` ends with the `fresh` bytes of the input, of which the step tells.
    fn head_in(&mut self, window: &[u8], fresh: usize, context: &mut Context<'_>) -> Step {
        if matches!(self.state, State::Start) {
            match start::line(window) {
                LineKind::Http(kind) => self.state = State::Head(kind),
                LineKind::Preface => {
                    let behind = window.len() - PREFACE.len();
                    context.exchanges.switched = Some(Switch::Preface);
                    context
                        .output
                        .view
                        .words(format_args!("connection preface\n"));
                    self.begin();
                    let mut step = Step::of(Some(MessageKind::Http2Request), fresh - behind);
                    step.show = Show::View;
                    return step;
                }
                LineKind::Incomplete if window.len() <= MAX_HEAD => {
                    return self.hold(window, Step::of(None, fresh));
                }
                LineKind::Incomplete | LineKind::Other => return self.not_http(fresh),
            }
        }
        let State::Head(kind) = self.state else {
            return self.not_http(fresh);
        };
        let searched = &window[..window.len().min(MAX_HEAD + 1)];
        match start::head_end(searched, self.searched) {
            HeadEnd::At(end) if end <= MAX_HEAD => {
                let consumed = fresh - (window.len() - end);
                self.head(kind, &window[..end], consumed, context)
            }
            HeadEnd::None if window.len() <= MAX_HEAD => {
                self.hold(window, Step::of(Some(kind), fresh))
            }
            _ => self.not_http(fresh),
        }
    }

    fn hold(&mut self, window: &[u8], step: Step) -> Step {
        self.searched = window.len();
        if window.len() == step.consumed {
            self.held.extend_from_slice(window);
        }
        step
    }

    fn not_http(&mut self, fresh: usize) -> Step {
        self.become_opaque();
        Step::plain(fresh)
    }

    fn head(
        &mut self,
        kind: MessageKind,
        text: &[u8],
        consumed: usize,
        context: &mut Context<'_>,
    ) -> Step {
        let Some(head) = start::parse(text, kind) else {
            return self.not_http(consumed);
        };
        let Begun {
            message,
            body,
            guessed,
        } = context.exchanges.begin(kind, Arc::new(head), self.begun);
        message.note(NotePart::Head(Arc::clone(message.head())), context.output);
        let mut step = Step::of(Some(kind), consumed);
        step.heads = message.heads();
        if let Some(body) = body {
            let urgent = message.head().is_event_stream();
            self.held = Vec::new();
            self.state = State::Body(Box::new(InBody {
                message,
                body,
                guessed,
                urgent,
            }));
        } else {
            message.finish(context.time, true, context.output);
            step.ends = true;
            self.begin();
        }
        step
    }

    fn body(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Step {
        let State::Body(in_body) = &mut self.state else {
            return Step::plain(bytes.len());
        };
        let InBody {
            message,
            body,
            urgent,
            ..
        } = &mut **in_body;
        let Progress {
            consumed,
            part,
            ends,
        } = body.step(bytes);
        let mut step = Step::of(Some(message.kind), consumed);
        step.heads = message.heads();
        match part {
            BodyPart::Content => {
                step.show = message.content(bytes, 0..consumed, context.output);
                step.urgent = *urgent;
            }
            BodyPart::Framing => step.show = Show::View,
            BodyPart::Trailers => {
                let line = &bytes[..consumed];
                self.held.extend_from_slice(line);
                step.show = Show::View;
                if !ends {
                    context.output.view.push(ViewPart::Words, line);
                }
            }
            BodyPart::Broken => {
                message.finish(context.time, false, context.output);
                self.become_opaque();
                return step;
            }
        }
        if ends {
            if let Some(trailers) = start::parse_trailers(&self.held) {
                message.note(NotePart::Trailers(Arc::new(trailers)), context.output);
            }
            message.finish(context.time, true, context.output);
            step.ends = true;
            self.begin();
        }
        step
    }
}

#[cfg(test)]
mod tests;
