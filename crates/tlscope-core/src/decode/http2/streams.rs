//! HTTP/2 streams: which message of which direction is in progress on each.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decode::exchange::{Asked, Message};
use crate::decode::grpc::Grpc;
use crate::decode::head::{Head, Start};
use crate::decode::{MessageKind, NotePart, Output};
use crate::event::{Direction, Timestamp};

/// Streams held at once; the one opened longest ago gives way. Servers allow
/// 100 to 1000 at a time.
const MAX_STREAMS: usize = 2048;

#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: BTreeMap<u32, Stream>,
    exchanges: u64,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    exchange: u64,
    asked: Option<Asked>,
    pub(super) sides: [Side; 2],
}

/// One direction of a stream.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) message: Option<Message>,
    pub(super) grpc: Option<Grpc>,
    finished: bool,
}

/// A header block that is complete.
pub(super) struct Block {
    pub(super) direction: Direction,
    pub(super) time: Timestamp,
    pub(super) kind: MessageKind,
    pub(super) head: Head,
}

impl Streams {
    pub(super) fn side(&mut self, stream: u32, direction: Direction) -> Option<&mut Side> {
        self.streams
            .get_mut(&stream)
            .map(|stream| &mut stream.sides[direction as usize])
    }

    /// A head begins a message, unless it is a trailer section's.
    pub(super) fn head(&mut self, number: u32, block: Block, output: &mut Output) {
        let Block {
            direction,
            time,
            kind,
            head,
        } = block;
        let head = Arc::new(head);
        let stream = self.get_or_create(number);
        let exchange = stream.exchange;
        if head.start() == Start::Trailers {
            if let Some(message) = &stream.sides[direction as usize].message {
                message.note(NotePart::Trailers(head), output);
            }
            return;
        }
        let is_request = matches!(head.start(), Start::Request { .. });
        if is_request {
            stream.asked = Some(Asked {
                exchange,
                begun: time,
                head: Arc::clone(&head),
            });
        }
        let asked = stream.asked.clone().filter(|_| !is_request);
        let message = Message::new(kind, exchange, Some(number), time, head)
            .answers(asked)
            .framed(true);
        message.note(NotePart::Head(Arc::clone(message.head())), output);
        let grpc = Grpc::of(message.head());
        stream.sides[direction as usize] = Side {
            message: Some(message),
            grpc,
            finished: false,
        };
    }

    /// A request that was not made on its stream: the server's promise, or the
    /// request of HTTP/1 that switched protocols.
    pub(super) fn promise(&mut self, promised: u32, head: Arc<Head>, time: Timestamp) {
        let stream = self.get_or_create(promised);
        let exchange = stream.exchange;
        stream.asked = Some(Asked {
            exchange,
            begun: time,
            head,
        });
    }

    /// One direction has ended; a stream that ended in both is forgotten.
    pub(super) fn end(
        &mut self,
        number: u32,
        direction: Direction,
        time: Timestamp,
        output: &mut Output,
    ) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        let side = &mut stream.sides[direction as usize];
        side.finished = true;
        if let Some(mut message) = side.message.take() {
            message.answers_late(stream.asked.as_ref());
            message.finish(time, true, output);
        }
        if stream.sides.iter().all(|side| side.finished) {
            self.streams.remove(&number);
        }
    }

    /// What lasted was cut off.
    pub(super) fn reset(&mut self, number: u32, time: Timestamp, output: &mut Output) {
        let Some(stream) = self.streams.remove(&number) else {
            return;
        };
        for message in stream.sides.into_iter().filter_map(|side| side.message) {
            message.finish(time, false, output);
        }
    }

    pub(super) fn lose(&mut self, direction: Direction) {
        for stream in self.streams.values_mut() {
            let side = &mut stream.sides[direction as usize];
            side.grpc = None;
            if let Some(message) = &mut side.message {
                message.lose_content(0);
            }
        }
    }

    pub(super) fn end_all(&mut self, direction: Direction, time: Timestamp, output: &mut Output) {
        for stream in self.streams.values_mut() {
            if let Some(message) = stream.sides[direction as usize].message.take() {
                message.finish(time, false, output);
            }
        }
    }

    fn get_or_create(&mut self, number: u32) -> &mut Stream {
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&number) {
            self.streams.pop_first();
        }
        let exchanges = &mut self.exchanges;
        self.streams.entry(number).or_insert_with(|| {
            *exchanges += 1;
            Stream {
                exchange: *exchanges,
                ..Stream::default()
            }
        })
    }
}
