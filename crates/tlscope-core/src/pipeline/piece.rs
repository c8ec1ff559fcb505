//! One data event on its way: cut into steps, told to the sinks as blocks and
//! as parts of messages.

use super::State;
use super::block::{Assembler, Part};
use crate::decode::{self, Input, MessageKind, Note, NotePart, Output, Source, Step};
use crate::event::{Data, Direction, Process, Timestamp};
use crate::flow::{Flow, Lost};
use crate::item::{ConnectionInfo, Gap, Item, Message, MessagePart};
use crate::sink::{Outlet, SinkError};
use crate::summary::Summary;

/// The part of a data event that was not seen before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) data: &'a Data<'a>,
    pub(super) bytes: &'a [u8],
    pub(super) offset: u64,
    pub(super) decode: bool,
}

/// Where what is found goes.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) assembler: &'a mut Assembler,
    pub(super) outlet: &'a mut Outlet,
    pub(super) output: &'a mut Output,
    pub(super) summary: &'a mut Summary,
}

impl Target<'_> {
    pub(super) fn open(&mut self, connection: &ConnectionInfo) -> Result<(), SinkError> {
        self.summary.connections += 1;
        self.outlet.item(&Item::Open(connection))
    }

    pub(super) fn flush(&mut self, flow: &mut Flow<State>) -> Result<(), SinkError> {
        self.assembler
            .flush(&mut flow.state.pending, &flow.info, self.outlet)
    }

    /// Bytes that came, and bytes that had come before.
    pub(super) fn count(&mut self, direction: Direction, fresh: u64, repeated: u64) {
        let captured = &mut self.summary.bytes[direction as usize].captured;
        *captured = captured.saturating_add(fresh);
        self.summary.duplicate_events += u64::from(repeated > 0);
        self.summary.duplicate_bytes += repeated;
    }

    /// Tells what was lost, and what the decoder makes of that.
    pub(super) fn lose(
        &mut self,
        flow: &mut Flow<State>,
        direction: Direction,
        time: Timestamp,
        lost: Lost,
    ) -> Result<(), SinkError> {
        self.flush(flow)?;
        let Lost { offset, length } = lost;
        let total = &mut self.summary.bytes[direction as usize].lost;
        *total = total.saturating_add(length);
        self.summary.gaps += 1;
        let connection = &flow.info;
        self.outlet.item(&Item::Gap(Gap {
            time,
            connection,
            direction,
            offset,
            length,
        }))?;
        let lost = decode::Lost {
            direction,
            time,
            length,
        };
        flow.state.conversation.lose(lost, self.output);
        self.tell(flow, direction, time)
    }

    /// No more will come in a direction.
    pub(super) fn end(
        &mut self,
        flow: &mut Flow<State>,
        direction: Direction,
        time: Timestamp,
    ) -> Result<(), SinkError> {
        flow.state.conversation.end(direction, time, self.output);
        self.tell(flow, direction, time)
    }

    /// Hands on what the decoder noted without input.
    fn tell(
        &mut self,
        flow: &Flow<State>,
        direction: Direction,
        time: Timestamp,
    ) -> Result<(), SinkError> {
        let (connection, process) = (&flow.info, &flow.info.process);
        let origin = Origin {
            time,
            connection,
            process,
            direction,
        };
        origin.tell(self.output, &[], self.outlet)
    }
}

impl Piece<'_> {
    pub(super) fn show(
        self,
        flow: &mut Flow<State>,
        target: &mut Target<'_>,
    ) -> Result<(), SinkError> {
        let Self {
            data,
            mut bytes,
            mut offset,
            ..
        } = self;
        let call_end = data.call_offset.saturating_add(data.call_length);
        while !bytes.is_empty() {
            let call_begins = offset == data.call_offset;
            let mut step = self.step(flow, bytes, call_begins, target.output);
            let (taken, rest) = bytes.split_at(step.consumed.clamp(1, bytes.len()));
            let end = offset.saturating_add(taken.len() as u64);
            if step.kind == Some(MessageKind::Plain) {
                (step.begins, step.ends) = (call_begins, end == call_end);
            }
            let output = &*target.output;
            let part = Part {
                data,
                step,
                output,
                bytes: taken,
                offset,
            };
            let pending = &mut flow.state.pending;
            target
                .assembler
                .add(&part, pending, &flow.info, target.outlet)?;
            let origin = Origin {
                time: data.time,
                connection: &flow.info,
                process: &data.process,
                direction: data.direction,
            };
            origin.tell(output, taken, target.outlet)?;
            (bytes, offset) = (rest, end);
        }
        Ok(())
    }

    fn step(
        &self,
        flow: &mut Flow<State>,
        bytes: &[u8],
        call_begins: bool,
        output: &mut Output,
    ) -> Step {
        if !self.decode {
            return Step::plain(bytes.len());
        }
        let Data {
            direction, time, ..
        } = *self.data;
        let input = Input {
            direction,
            time,
            bytes,
            call_begins,
        };
        flow.state.conversation.step(input, output)
    }
}

/// What the parts of messages found in one step have in common.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    time: Timestamp,
    connection: &'a ConnectionInfo,
    process: &'a Process,
    direction: Direction,
}

impl Origin<'_> {
    /// Hands on what the decoder noted of `input`.
    fn tell(self, output: &Output, input: &[u8], outlet: &mut Outlet) -> Result<(), SinkError> {
        output.notes.iter().try_for_each(|note| {
            let part = part_of(note, output, input);
            let Self {
                time,
                connection,
                process,
                direction,
            } = self;
            let Note {
                exchange,
                stream,
                kind,
                ..
            } = *note;
            outlet.item(&Item::Message(Message {
                time,
                connection,
                process,
                direction,
                kind,
                exchange,
                stream,
                head: note.heads.head.as_ref(),
                request: note.heads.request.as_ref(),
                part,
            }))
        })
    }
}

fn part_of<'a>(note: &'a Note, output: &'a Output, input: &'a [u8]) -> MessagePart<'a> {
    match &note.part {
        NotePart::Head(head) => MessagePart::Head(head),
        NotePart::Content(source) => MessagePart::Content {
            bytes: output.content(source, input),
            verbatim: matches!(source, Source::Verbatim(_)),
        },
        NotePart::Frame(frame) => MessagePart::Frame(*frame),
        NotePart::Trailers(head) => MessagePart::Trailers(head),
        NotePart::Finished(finished) => MessagePart::Finished(finished),
    }
}
