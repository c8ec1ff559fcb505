//! Which response answers which request, and what its framing is for that.

use std::collections::VecDeque;
use std::sync::Arc;

use super::body::{self, Body};
use crate::decode::exchange::{Asked, Message};
use crate::decode::{Head, Heads, MessageKind, Start};
use crate::event::Timestamp;

/// Clients that pipeline deeper than this are not paired any more.
const MAX_OUTSTANDING: usize = 1024;

/// The protocol that both directions speak from here on.
#[derive(Debug, Clone)]
pub(in crate::decode) enum Switch {
    /// The response's head names the extensions.
    WebSocket { exchange: u64, heads: Heads },
    /// By an Upgrade to h2c.
    Http2(Heads),
    /// HTTP/2 from the beginning: this direction is the client's.
    Preface,
    /// CONNECT, or a protocol that is not decoded.
    Unknown,
}

/// Requests that wait for their response: its framing depends on the method
/// (RFC 9112 section 6.3).
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    outstanding: VecDeque<Asked>,
    begun: u64,
    /// A response came whose request had not been seen. Where one thread reads
    /// and another writes, the event of the request may be the later one.
    answered_unseen: bool,
    pub(super) switched: Option<Switch>,
}

/// A message whose head is complete. Without a body it is complete itself.
pub(super) struct Begun {
    pub(super) message: Message,
    pub(super) body: Option<Body>,
    /// The request was not seen.
    pub(super) guessed: bool,
}

impl Exchanges {
    pub(super) fn begin(&mut self, kind: MessageKind, head: Arc<Head>, begun: Timestamp) -> Begun {
        let Start::Response { status, .. } = head.start() else {
            return self.request(kind, head, begun);
        };
        let asked = self.answered(status);
        let exchange = asked
            .as_ref()
            .map_or_else(|| self.number(), |asked| asked.exchange);
        let method = asked.as_ref().and_then(Asked::method);
        let body = Body::of_response(method, status, &head);
        if body::begins_tunnel(method, status) {
            self.switched = Some(Switch::of(exchange, status, &head, asked.as_ref()));
        }
        let guessed = asked.is_none();
        let message = Message::new(kind, exchange, None, begun, head).answers(asked);
        let message = message.framed(body.as_ref().is_some_and(Body::is_framed));
        Begun {
            message,
            body,
            guessed,
        }
    }

    pub(super) fn is_unused(&self) -> bool {
        self.begun == 0
    }

    fn request(&mut self, kind: MessageKind, head: Arc<Head>, begun: Timestamp) -> Begun {
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.forget();
        }
        // Hardly a client sends a request before the last was answered: that
        // answer was the response that came ahead of its request's event.
        let pipelined = self
            .outstanding
            .front()
            .is_none_or(|asked| asked.begun == begun);
        if self.answered_unseen && !pipelined {
            self.outstanding.pop_front();
            self.answered_unseen = false;
        }
        let exchange = self.number();
        self.outstanding.push_back(Asked {
            exchange,
            begun,
            head: Arc::clone(&head),
        });
        let body = Body::of_request(&head);
        let framed = body.as_ref().is_some_and(Body::is_framed);
        let message = Message::new(kind, exchange, None, begun, head).framed(framed);
        Begun {
            message,
            body,
            guessed: false,
        }
    }

    fn number(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// The request that a response answers; an interim response leaves it waiting.
    fn answered(&mut self, status: u16) -> Option<Asked> {
        if (100..200).contains(&status) && status != 101 {
            return self.outstanding.front().cloned();
        }
        let asked = self.outstanding.pop_front();
        self.answered_unseen = asked.is_none();
        asked
    }

    /// What is outstanding is no longer sure.
    pub(super) fn forget(&mut self) {
        self.outstanding.clear();
    }
}

impl Switch {
    fn of(exchange: u64, status: u16, head: &Arc<Head>, asked: Option<&Asked>) -> Self {
        let request = asked.map(|asked| Arc::clone(&asked.head));
        let heads = Heads {
            head: Some(Arc::clone(head)),
            request,
        };
        if status == 101 && head.lists("upgrade", "websocket") {
            Self::WebSocket { exchange, heads }
        } else if status == 101 && head.lists("upgrade", "h2c") {
            Self::Http2(heads)
        } else {
            Self::Unknown
        }
    }
}
