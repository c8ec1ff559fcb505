//! HTTP/1.0 and 1.1 (RFC 9112): where messages begin and end.
//!
//! Either direction may carry the requests; the bytes tell. Heads are held
//! until complete, up to 64 KiB; bodies stream. What is not HTTP, and what
//! follows lost bytes, is plain data until a call begins with a start line.

mod body;
mod start;

use std::collections::VecDeque;
use std::sync::Arc;

use super::head::Head;
use super::{Decode, Input, MessageKind, Show, Start, Step};
use crate::event::Direction;
use body::{Body, Progress};
use start::{HeadEnd, LineKind};

/// Servers take 8 to 64 KiB of head; nothing longer is held for one.
const MAX_HEAD: usize = 64 * 1024;
/// Clients that pipeline deeper than this are not paired any more.
const MAX_OUTSTANDING: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Http1 {
    halves: [Half; 2],
    exchanges: Exchanges,
}

impl Http1 {
    pub(super) fn step(&mut self, input: Input<'_>) -> Step {
        self.halves[input.direction as usize].step(input, &mut self.exchanges)
    }

    pub(super) fn lose(&mut self, direction: Direction, length: u64) {
        self.halves[direction as usize].lose(length, &mut self.exchanges);
    }
}

/// Requests that wait for their response: its framing depends on the method
/// (RFC 9112 section 6.3).
#[derive(Debug, Default)]
struct Exchanges {
    outstanding: VecDeque<Arc<Head>>,
    /// CONNECT or Upgrade succeeded: both directions are another protocol's now.
    tunnel: bool,
}

impl Exchanges {
    fn request(&mut self, head: &Arc<Head>) {
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.forget();
        }
        self.outstanding.push_back(Arc::clone(head));
    }

    /// The request that a response answers; an interim response leaves it waiting.
    fn answered(&mut self, status: u16) -> Option<Arc<Head>> {
        if (100..200).contains(&status) && status != 101 {
            return self.outstanding.front().cloned();
        }
        self.outstanding.pop_front()
    }

    /// What was outstanding is no longer sure.
    fn forget(&mut self) {
        self.outstanding.clear();
    }
}

#[derive(Debug, Default)]
struct Half {
    state: State,
    /// The part of a head that came in earlier inputs.
    held: Vec<u8>,
    /// No head ends within this much of `held`.
    searched: usize,
    message: Option<Arc<Head>>,
    kind: Option<MessageKind>,
    /// The request was not seen, so that the framing of the response is a guess.
    framing_guessed: bool,
}

#[derive(Debug, Default)]
enum State {
    /// A message or nothing begins with the next byte.
    #[default]
    Start,
    /// The start line was complete and HTTP's.
    Head,
    Body(Body),
    /// Not HTTP, or not known where in a message.
    Opaque,
}

impl Decode for Half {
    type Shared = Exchanges;

    fn step(&mut self, input: Input<'_>, exchanges: &mut Exchanges) -> Step {
        if exchanges.tunnel {
            return Step::plain(input.bytes.len());
        }
        if self.resynchronizes(&input) {
            self.begin();
        }
        match &mut self.state {
            State::Start if self.held.is_empty() => {
                let blank = input
                    .bytes
                    .iter()
                    .take_while(|&&b| b == b'\r' || b == b'\n')
                    .count();
                if blank > 0 {
                    Step::of(None, blank)
                } else {
                    self.start(input.bytes, exchanges)
                }
            }
            State::Start | State::Head => self.start(input.bytes, exchanges),
            State::Body(body) => {
                let progress = body.step(input.bytes);
                self.body_step(&progress)
            }
            State::Opaque => Step::plain(input.bytes.len()),
        }
    }

    fn lose(&mut self, length: u64, exchanges: &mut Exchanges) {
        if let State::Body(body) = &mut self.state
            && let Some(ends) = body.lose(length)
        {
            if ends {
                self.begin();
            }
            return;
        }
        exchanges.forget();
        self.become_opaque();
    }
}

impl Half {
    /// Where it is not known what comes, a start line at the beginning of a
    /// call is taken for one: a body that imitates it is rarer than a loss.
    fn resynchronizes(&self, input: &Input<'_>) -> bool {
        let guessing = match self.state {
            State::Opaque => true,
            State::Body(_) => self.framing_guessed,
            State::Start | State::Head => false,
        };
        guessing && input.call_begins && matches!(start::line(input.bytes), LineKind::Http(_))
    }

    fn begin(&mut self) {
        self.state = State::Start;
        self.held = Vec::new();
        self.searched = 0;
        self.message = None;
        self.framing_guessed = false;
    }

    fn become_opaque(&mut self) {
        self.begin();
        self.state = State::Opaque;
        self.kind = None;
    }

    /// Looks for a whole head in what is held and `bytes`.
    fn start(&mut self, bytes: &[u8], exchanges: &mut Exchanges) -> Step {
        let begins = self.held.is_empty();
        let step = if begins {
            self.head_in(bytes, bytes.len(), exchanges)
        } else {
            let mut held = std::mem::take(&mut self.held);
            let fresh = bytes.len().min(MAX_HEAD + 1);
            held.extend_from_slice(&bytes[..fresh]);
            let step = self.head_in(&held, fresh, exchanges);
            if matches!(self.state, State::Start | State::Head) && !step.ends {
                self.held = held;
            }
            step
        };
        Step { begins, ..step }
    }

    /// `window` ends with the `fresh` bytes of the input, of which the step tells.
    fn head_in(&mut self, window: &[u8], fresh: usize, exchanges: &mut Exchanges) -> Step {
        if matches!(self.state, State::Start) {
            match start::line(window) {
                LineKind::Http(kind) => {
                    self.kind = Some(kind);
                    self.state = State::Head;
                }
                LineKind::Incomplete if window.len() <= MAX_HEAD => {
                    return self.hold(window, Step::of(None, fresh));
                }
                LineKind::Incomplete | LineKind::Other => return self.not_http(fresh),
            }
        }
        match start::head_end(&window[..window.len().min(MAX_HEAD + 1)], self.searched) {
            HeadEnd::At(end) if end <= MAX_HEAD => {
                self.head(&window[..end], window, fresh, exchanges)
            }
            HeadEnd::None if window.len() <= MAX_HEAD => {
                self.hold(window, Step::of(self.kind, fresh))
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
        text: &[u8],
        window: &[u8],
        fresh: usize,
        exchanges: &mut Exchanges,
    ) -> Step {
        let Some(head) = start::parse(text, self.kind) else {
            return self.not_http(fresh);
        };
        let head = Arc::new(head);
        let body = self.body_of(&head, exchanges);
        let ends = body.is_none();
        let mut step = Step::of(self.kind, fresh - (window.len() - text.len()));
        step.ends = ends;
        step.head = Some(Arc::clone(&head));
        let guessed = self.framing_guessed;
        self.begin();
        if let Some(body) = body {
            self.state = State::Body(body);
            self.message = Some(head);
            self.framing_guessed = guessed;
        }
        step
    }

    fn body_of(&mut self, head: &Arc<Head>, exchanges: &mut Exchanges) -> Option<Body> {
        match head.start() {
            Start::Request { .. } => {
                exchanges.request(head);
                Body::of_request(head)
            }
            Start::Response { status, .. } => {
                let request = exchanges.answered(status);
                self.framing_guessed = request.is_none();
                let method = request
                    .as_deref()
                    .and_then(|request| match request.start() {
                        Start::Request { method, .. } => Some(method),
                        Start::Response { .. } => None,
                    });
                exchanges.tunnel = body::begins_tunnel(method, status);
                Body::of_response(method, status, head)
            }
        }
    }

    fn body_step(&mut self, progress: &Progress) -> Step {
        let mut step = Step::of(self.kind, progress.consumed);
        step.show = if progress.content {
            Show::AsIs
        } else {
            Show::Nothing
        };
        step.head.clone_from(&self.message);
        if progress.broken {
            self.become_opaque();
        } else if progress.ends {
            step.ends = true;
            self.begin();
        }
        step
    }
}

#[cfg(test)]
mod tests;
