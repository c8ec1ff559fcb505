//! HTTP/2 (RFC 9113): frames, header blocks and streams.
//!
//! DATA streams through; other frames are held until complete, up to 64 KiB.
//! Behind lost bytes, and when attached to in the middle, a direction is plain
//! data until a call begins with frames; HPACK then fills up anew.

mod frame;
mod header_block;
mod streams;

use std::sync::Arc;

use super::exchange::Message;
use super::head::Head;
use super::hpack::Hpack;
use super::{Decode, Heads, Input, Lost, MessageKind, Output, Show, Step};
use crate::event::{Direction, Timestamp};
use frame::FrameHeader;
use header_block::HeaderBlock;
use streams::{Block, Streams};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest frame but DATA, and the longest header block, that is held.
const MAX_HELD: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Http2 {
    halves: [Half; 2],
    shared: Shared,
}

/// What the directions know of each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Who sends the requests, once that is known.
    client: Option<Direction>,
    streams: Streams,
}

impl Http2 {
    /// `bytes`, of `direction`, are the first that the server sends.
    pub(super) fn begins(direction: Direction, bytes: &[u8]) -> Option<Self> {
        frame::begins_with_settings(bytes).then(|| Self::new(direction.opposite()))
    }

    /// The client has sent its preface.
    pub(super) fn behind_preface(client: Direction) -> Self {
        let mut http2 = Self::new(client);
        http2.halves[client as usize].preface = 0;
        http2
    }

    /// Both directions are at their beginning.
    fn new(client: Direction) -> Self {
        let halves = Direction::BOTH.map(|direction| {
            let preface = if direction == client {
                PREFACE.len()
            } else {
                0
            };
            Half {
                preface,
                ..Half::new(direction)
            }
        });
        Self {
            halves,
            shared: Shared {
                client: Some(client),
                ..Shared::default()
            },
        }
    }

    /// Behind an Upgrade to h2c: stream 1 answers the request (RFC 7540 section 3.2).
    pub(super) fn upgraded(client: Direction, request: Option<Arc<Head>>, time: Timestamp) -> Self {
        let mut http2 = Self::new(client);
        if let Some(request) = request {
            http2.shared.streams.promise(1, request, time);
        }
        http2
    }

    /// `bytes`, of some direction and at the beginning of a call, are frames of
    /// a connection that began earlier.
    pub(super) fn resumes(bytes: &[u8]) -> Option<Self> {
        let late = |direction| {
            let mut half = Half::new(direction);
            half.hpack.lose();
            Half {
                stage: Stage::Lost,
                ..half
            }
        };
        frame::are_frames(bytes).then(|| Self {
            halves: Direction::BOTH.map(late),
            shared: Shared::default(),
        })
    }

    pub(super) fn step(&mut self, input: Input<'_>, output: &mut Output) -> Step {
        self.halves[input.direction as usize].step(input, &mut self.shared, output)
    }

    pub(super) fn lose(&mut self, lost: Lost, output: &mut Output) {
        self.halves[lost.direction as usize].lose(lost, &mut self.shared, output);
    }

    pub(super) fn end(&mut self, direction: Direction, time: Timestamp, output: &mut Output) {
        self.shared.streams.end_all(direction, time, output);
    }
}

#[derive(Debug)]
struct Half {
    direction: Direction,
    /// What is left of the client's preface.
    preface: usize,
    stage: Stage,
    hpack: Hpack,
    /// A header block that CONTINUATION frames complete.
    block: Option<HeaderBlock>,
    /// The stream whose DATA was shown last: its next is shown without a line.
    shown: Option<u32>,
    /// Of the message whose head was the last frame; it may be over already.
    begun: Option<Heads>,
}

#[derive(Debug)]
enum Stage {
    /// So much of the next frame's header came; nothing between frames.
    Header([u8; frame::HEADER], usize),
    Data(DataFrame),
    /// Any other frame, with what came of its payload.
    Payload(FrameHeader, Vec<u8>),
    /// A frame too long to hold; so much of it is to come.
    Skipped(FrameHeader, u32),
    Lost,
}

#[derive(Debug, Clone, Copy)]
struct DataFrame {
    header: FrameHeader,
    /// The pad length octet is still to come.
    pad_length: bool,
    content: u32,
    padding: u32,
}

const BETWEEN: Stage = Stage::Header([0; frame::HEADER], 0);

struct Context<'a> {
    time: Timestamp,
    shared: &'a mut Shared,
    output: &'a mut Output,
}

impl Decode for Half {
    type Shared = Shared;

    fn step(&mut self, input: Input<'_>, shared: &mut Shared, output: &mut Output) -> Step {
        if self.preface > 0 {
            let consumed = self.preface.min(input.bytes.len());
            self.preface -= consumed;
            if self.preface == 0 {
                output.view.words(format_args!("connection preface\n"));
            }
            return Step {
                begins: true,
                ..self.framing(shared, 0, consumed)
            };
        }
        if matches!(self.stage, Stage::Lost) && input.call_begins && frame::are_frames(input.bytes)
        {
            self.stage = BETWEEN;
        }
        let mut context = Context {
            time: input.time,
            shared,
            output,
        };
        match &mut self.stage {
            Stage::Header(..) => self.header(input.bytes, &mut context),
            Stage::Data(_) => self.data(input.bytes, &mut context),
            Stage::Payload(..) => self.payload(input.bytes, &mut context),
            Stage::Skipped(..) => self.skip(input.bytes, &mut context),
            Stage::Lost => Step::plain(input.bytes.len()),
        }
    }

    fn lose(&mut self, lost: Lost, shared: &mut Shared, output: &mut Output) {
        let Lost { time, length, .. } = lost;
        let Some(header) = self.lose_content(length) else {
            self.become_lost(shared);
            return;
        };
        if let Some(side) = shared.streams.side(header.stream, self.direction) {
            side.grpc = None;
            if let Some(message) = &mut side.message {
                message.lose_content(length);
            }
        }
        if matches!(self.stage, Stage::Data(data) if data.is_complete()) {
            self.complete(&mut Context {
                time,
                shared,
                output,
            });
        }
    }
}

impl DataFrame {
    fn is_complete(self) -> bool {
        self.content == 0 && self.padding == 0
    }
}

impl Half {
    fn new(direction: Direction) -> Self {
        Self {
            direction,
            preface: 0,
            stage: BETWEEN,
            hpack: Hpack::default(),
            block: None,
            shown: None,
            begun: None,
        }
    }

    /// Takes lost bytes for content of a frame whose length is known. `None` if
    /// they were more than that.
    fn lose_content(&mut self, length: u64) -> Option<FrameHeader> {
        let Stage::Data(data) = &mut self.stage else {
            return None;
        };
        let left = u64::from(data.content)
            .checked_sub(length)
            .filter(|_| !data.pad_length)?;
        data.content = left as u32;
        Some(data.header)
    }

    fn become_lost(&mut self, shared: &mut Shared) {
        self.hpack.lose();
        self.block = None;
        self.shown = None;
        self.preface = 0;
        self.stage = Stage::Lost;
        shared.streams.lose(self.direction);
    }

    fn kind(&self, shared: &Shared) -> MessageKind {
        // Until a head tells, whoever this process is to the peer: it sends.
        if shared.client.unwrap_or(Direction::Sent) == self.direction {
            MessageKind::Http2Request
        } else {
            MessageKind::Http2Response
        }
    }

    /// Bytes that are shown by the output's view alone.
    fn framing(&self, shared: &Shared, stream: u32, consumed: usize) -> Step {
        let mut step = Step::of(Some(self.kind(shared)), consumed);
        step.show = Show::View;
        step.message = u64::from(stream);
        step
    }

    fn framing_of(&self, context: &mut Context<'_>, stream: u32, consumed: usize) -> Step {
        let heads = self.heads(context.shared, stream);
        Step {
            heads,
            ..self.framing(context.shared, stream, consumed)
        }
    }

    fn heads(&self, shared: &mut Shared, stream: u32) -> Heads {
        let message = shared
            .streams
            .side(stream, self.direction)
            .and_then(|s| s.message.as_ref());
        message.map(Message::heads).unwrap_or_default()
    }

    fn header(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Step {
        let Stage::Header(held, filled) = &mut self.stage else {
            return Step::plain(bytes.len());
        };
        let consumed = bytes.len().min(frame::HEADER - *filled);
        held[*filled..*filled + consumed].copy_from_slice(&bytes[..consumed]);
        *filled += consumed;
        if *filled < frame::HEADER {
            return Step {
                show: Show::View,
                ..Step::of(None, consumed)
            };
        }
        let header = FrameHeader::parse(held);
        if !header.is_sound() {
            self.become_lost(context.shared);
            return Step::plain(consumed);
        }
        let mut step = self.framing_of(context, header.stream, consumed);
        step.begins = header.kind == frame::HEADERS && step.heads.head.is_none();
        if header.kind == frame::DATA {
            self.begin_data(header, context);
        } else if header.length as usize > MAX_HELD {
            self.stage = Stage::Skipped(header, header.length);
        } else {
            self.stage = Stage::Payload(header, Vec::new());
        }
        if header.length == 0 {
            step.ends = self.complete(context);
        }
        step
    }

    fn begin_data(&mut self, header: FrameHeader, context: &mut Context<'_>) {
        let pad_length = header.has(frame::PADDED);
        self.stage = Stage::Data(DataFrame {
            header,
            pad_length,
            content: header.length,
            padding: 0,
        });
        let stream = header.stream;
        if self.shown.replace(stream) != Some(stream) {
            context
                .output
                .view
                .words(format_args!("DATA, stream {stream}\n"));
        }
    }

    fn data(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Step {
        let Stage::Data(data) = &mut self.stage else {
            return Step::plain(bytes.len());
        };
        let stream = data.header.stream;
        if data.pad_length {
            // RFC 9113 section 6.1: padding as long as the rest is an error.
            data.pad_length = false;
            data.content -= 1;
            data.padding = u32::from(bytes[0]).min(data.content);
            data.content -= data.padding;
            let complete = data.is_complete();
            let mut step = self.framing_of(context, stream, 1);
            step.ends = complete && self.complete(context);
            return step;
        }
        let is_content = data.content > 0;
        let left = if is_content {
            &mut data.content
        } else {
            &mut data.padding
        };
        let consumed = bytes.len().min((*left).max(1) as usize);
        *left = left.saturating_sub(consumed as u32);
        let complete = data.is_complete();
        let mut step = self.framing_of(context, stream, consumed);
        if is_content {
            step.show = self.content(stream, bytes, consumed, context);
            step.urgent = step
                .heads
                .head
                .as_ref()
                .is_some_and(|head| head.is_event_stream());
        }
        step.ends = complete && self.complete(context);
        step
    }

    fn content(&self, stream: u32, bytes: &[u8], length: usize, context: &mut Context<'_>) -> Show {
        let side = context.shared.streams.side(stream, self.direction);
        let Some(side) = side else { return Show::AsIs };
        let Some(message) = &mut side.message else {
            return Show::AsIs;
        };
        let show = message.content(bytes, 0..length, context.output);
        match &mut side.grpc {
            Some(grpc) if show == Show::AsIs => {
                grpc.view(&bytes[..length], &mut context.output.view);
                Show::View
            }
            _ => show,
        }
    }

    fn payload(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Step {
        let Stage::Payload(header, held) = &mut self.stage else {
            return Step::plain(bytes.len());
        };
        let (header, left) = (*header, header.length as usize - held.len());
        let consumed = bytes.len().min(left);
        held.extend_from_slice(&bytes[..consumed]);
        let ends = consumed == left && self.complete(context);
        let mut step = self.framing_of(context, header.stream, consumed);
        step.ends = ends;
        if let Some(heads) = self.begun.take() {
            step.heads = heads;
        }
        step
    }

    fn skip(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Step {
        let Stage::Skipped(header, left) = &mut self.stage else {
            return Step::plain(bytes.len());
        };
        let consumed = bytes.len().min(*left as usize);
        *left -= consumed as u32;
        let (header, complete) = (*header, *left == 0);
        if complete {
            self.complete(context);
        }
        self.framing_of(context, header.stream, consumed)
    }

    /// A frame is complete. Tells whether its stream's message ended with it.
    fn complete(&mut self, context: &mut Context<'_>) -> bool {
        match std::mem::replace(&mut self.stage, BETWEEN) {
            Stage::Data(data) => self.ended(data.header, context),
            Stage::Payload(header, payload) => self.frame(header, &payload, context),
            Stage::Skipped(header, _) => {
                self.shown = None;
                context
                    .output
                    .view
                    .words(format_args!("{}", header.words(&[])));
                if matches!(
                    header.kind,
                    frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION
                ) {
                    self.hpack.lose();
                    self.block = None;
                }
                self.ended(header, context)
            }
            Stage::Header(..) | Stage::Lost => false,
        }
    }

    fn ended(&mut self, header: FrameHeader, context: &mut Context<'_>) -> bool {
        if header.ends_stream() {
            let Context {
                time,
                shared,
                output,
            } = context;
            shared
                .streams
                .end(header.stream, self.direction, *time, output);
        }
        header.ends_stream()
    }

    fn frame(&mut self, header: FrameHeader, payload: &[u8], context: &mut Context<'_>) -> bool {
        self.shown = None;
        match header.kind {
            frame::HEADERS | frame::PUSH_PROMISE => {
                let block = HeaderBlock::begin(header, payload);
                self.fragment(block, header.has(frame::END_HEADERS), context)
            }
            frame::CONTINUATION => {
                let Some(mut block) = self.block.take() else {
                    return false;
                };
                block.fragments.extend_from_slice(payload);
                self.fragment(block, header.has(frame::END_HEADERS), context)
            }
            _ => {
                context
                    .output
                    .view
                    .words(format_args!("{}", header.words(payload)));
                if header.kind == frame::RST_STREAM {
                    let Context {
                        time,
                        shared,
                        output,
                    } = context;
                    shared.streams.reset(header.stream, *time, output);
                }
                header.kind == frame::RST_STREAM
            }
        }
    }

    fn fragment(&mut self, block: HeaderBlock, complete: bool, context: &mut Context<'_>) -> bool {
        if complete {
            return self.header_block(&block, context);
        }
        if block.fragments.len() > MAX_HELD {
            self.hpack.lose();
        } else {
            self.block = Some(block);
        }
        false
    }

    fn header_block(&mut self, block: &HeaderBlock, context: &mut Context<'_>) -> bool {
        let Context {
            time,
            shared,
            output,
        } = context;
        let HeaderBlock {
            header, promised, ..
        } = *block;
        let fields = block.decode(&mut self.hpack, &mut output.view);
        let behind_head = self.has_message(header.stream, shared);
        if promised.is_some() {
            self.learn(Some(MessageKind::Http2Response), shared);
        } else if !behind_head {
            self.learn(fields.told(), shared);
        }
        let head = fields.into_head(self.kind(shared), behind_head);
        if let Some(promised) = promised {
            shared.streams.promise(promised, Arc::new(head), *time);
            return false;
        }
        let (direction, kind) = (self.direction, self.kind(shared));
        let block = Block {
            direction,
            time: *time,
            kind,
            head,
        };
        shared.streams.head(header.stream, block, output);
        self.begun = Some(self.heads(shared, header.stream));
        self.ended(header, context)
    }

    fn has_message(&self, stream: u32, shared: &mut Shared) -> bool {
        shared
            .streams
            .side(stream, self.direction)
            .is_some_and(|side| side.message.is_some())
    }

    /// What this direction carries tells who the client is, if that was not seen.
    fn learn(&self, carries: Option<MessageKind>, shared: &mut Shared) {
        if shared.client.is_none() {
            shared.client = carries.map(|kind| match kind {
                MessageKind::Http2Request => self.direction,
                _ => self.direction.opposite(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
