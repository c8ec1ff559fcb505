//! Gathering steps into blocks: what is shown under one header line.
//!
//! Plain data makes a block of each call. A message makes one block, however
//! many calls brought it; it is cut where 256 KiB have come, where a tick
//! comes, where the other direction or another thread takes over, and where
//! bytes were lost. A block that came in one piece is passed on uncopied.

use crate::decode::{Heads, MessageKind, Output, Show, Step, View};
use crate::event::{Data, Direction, Process, Timestamp};
use crate::item::{Block, ConnectionInfo, Item};
use crate::scan::utf8_length;
use crate::sink::{Outlet, SinkError};

/// Buffers kept for reuse: as many as blocks tend to wait between two ticks.
const KEPT_BUFFERS: usize = 64;

/// One step's bytes and where they come from.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) data: &'a Data<'a>,
    pub(super) step: Step,
    pub(super) output: &'a Output,
    pub(super) bytes: &'a [u8],
    pub(super) offset: u64,
}

/// A block that may still grow.
#[derive(Debug)]
pub(super) struct Pending {
    time: Timestamp,
    process: Process,
    direction: Direction,
    offset: u64,
    payload: Vec<u8>,
    view: Option<View>,
    kind: Option<MessageKind>,
    message: u64,
    heads: Heads,
    begins: bool,
    ends: bool,
}

#[derive(Debug)]
pub(super) struct Assembler {
    max_block: usize,
    waiting_bytes: usize,
    buffers: Vec<Vec<u8>>,
}

impl Assembler {
    pub(super) fn new(max_block: usize) -> Self {
        Self {
            max_block,
            waiting_bytes: 0,
            buffers: Vec::new(),
        }
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(super) fn add(
        &mut self,
        part: &Part<'_>,
        pending: &mut Option<Pending>,
        connection: &ConnectionInfo,
        outlet: &mut Outlet,
    ) -> Result<(), SinkError> {
        let complete = part.step.ends || part.step.urgent;
        if pending
            .as_ref()
            .is_some_and(|block| !block.goes_on_with(part))
        {
            self.flush(pending, connection, outlet)?;
        }
        let waiting = pending.as_ref().map_or(0, |block| block.payload.len());
        if waiting > 0 && waiting + part.bytes.len() > self.max_block {
            self.cut(pending, connection, outlet)?;
        }
        match pending {
            None if complete || part.bytes.len() >= self.max_block => {
                return outlet.item(&Item::Data(whole(part, connection)));
            }
            None => *pending = Some(self.begin(part)),
            Some(block) => block.adopt(part),
        }
        if let Some(block) = pending {
            block.append(part);
            self.waiting_bytes += part.bytes.len();
            if complete {
                return self.flush(pending, connection, outlet);
            }
            if block.size() >= self.max_block {
                return self.cut(pending, connection, outlet);
            }
        }
        Ok(())
    }

    /// Hands what came of a block to the sinks. A character that came in part
    /// is held back for the next block, but not twice.
    pub(super) fn cut(
        &mut self,
        pending: &mut Option<Pending>,
        connection: &ConnectionInfo,
        outlet: &mut Outlet,
    ) -> Result<(), SinkError> {
        let held_back = pending.as_mut().and_then(Pending::split_character);
        self.waiting_bytes -= held_back.as_ref().map_or(0, |(_, bytes)| bytes.len());
        self.flush(pending, connection, outlet)?;
        if let Some((mut rest, bytes)) = held_back {
            rest.payload = self.buffer();
            rest.payload.extend_from_slice(&bytes);
            self.waiting_bytes += bytes.len();
            *pending = Some(rest);
        }
        Ok(())
    }

    /// Hands a waiting block to the sinks.
    pub(super) fn flush(
        &mut self,
        pending: &mut Option<Pending>,
        connection: &ConnectionInfo,
        outlet: &mut Outlet,
    ) -> Result<(), SinkError> {
        let Some(block) = pending.take() else {
            return Ok(());
        };
        self.waiting_bytes -= block.payload.len();
        let shown = outlet.item(&Item::Data(block.as_block(connection)));
        self.keep(block.payload);
        shown
    }

    fn begin(&mut self, part: &Part<'_>) -> Pending {
        Pending {
            time: part.data.time,
            process: part.data.process.clone(),
            direction: part.data.direction,
            offset: part.offset,
            payload: self.buffer(),
            view: None,
            kind: part.step.kind,
            message: part.step.message,
            heads: part.step.heads.clone(),
            begins: part.step.begins,
            ends: part.step.ends,
        }
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < KEPT_BUFFERS {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

impl Pending {
    /// Decoded content counts too: a little of it may expand to much.
    fn size(&self) -> usize {
        self.payload
            .len()
            .max(self.view.as_ref().map_or(0, View::len))
    }

    fn goes_on_with(&self, part: &Part<'_>) -> bool {
        let same_message = match (self.kind, part.step.kind) {
            (None, _) => true,
            (Some(kind), Some(next)) => kind == next && self.message == part.step.message,
            (Some(_), None) => false,
        };
        same_message
            && self.direction == part.data.direction
            && self.process.tid == part.data.process.tid
            && self.offset.saturating_add(self.payload.len() as u64) == part.offset
    }

    /// What a later part of the block may tell of the whole.
    fn adopt(&mut self, part: &Part<'_>) {
        if self.kind.is_none() {
            self.kind = part.step.kind;
            self.message = part.step.message;
            self.begins |= part.step.begins;
        }
        if self.heads.head.is_none() {
            self.heads.clone_from(&part.step.heads);
        }
        self.ends = part.step.ends;
    }

    fn append(&mut self, part: &Part<'_>) {
        if part.step.show == Show::View {
            let payload = &self.payload;
            let view = self.view.get_or_insert_with(|| {
                let mut view = View::default();
                view.content(payload);
                view
            });
            view.append(&part.output.view);
        } else if let Some(view) = &mut self.view {
            view.content(part.bytes);
        }
        self.payload.extend_from_slice(part.bytes);
    }

    /// Takes the bytes of an incomplete last character off, into a block that
    /// goes on where this one then ends. Its payload is the caller's to fill.
    fn split_character(&mut self) -> Option<(Self, Vec<u8>)> {
        let tail = incomplete_character(&self.payload);
        let cut = self.payload.len() - tail;
        if tail == 0 || cut == 0 {
            return None;
        }
        if let Some(view) = &mut self.view
            && !view.take_off_content(&self.payload[cut..])
        {
            return None;
        }
        let bytes = self.payload.split_off(cut);
        let rest = Self {
            process: self.process.clone(),
            offset: self.offset + cut as u64,
            payload: Vec::new(),
            view: None,
            heads: self.heads.clone(),
            begins: false,
            ..*self
        };
        Some((rest, bytes))
    }

    fn as_block<'a>(&'a self, connection: &'a ConnectionInfo) -> Block<'a> {
        Block {
            time: self.time,
            connection,
            process: &self.process,
            direction: self.direction,
            offset: self.offset,
            payload: &self.payload,
            view: self.view.as_ref(),
            kind: self.kind.unwrap_or(MessageKind::Plain),
            head: self.heads.head.as_ref(),
            request: self.heads.request.as_ref(),
            begins: self.begins,
            ends: self.ends,
        }
    }
}

fn whole<'a>(part: &'a Part<'a>, connection: &'a ConnectionInfo) -> Block<'a> {
    Block {
        time: part.data.time,
        connection,
        process: &part.data.process,
        direction: part.data.direction,
        offset: part.offset,
        payload: part.bytes,
        view: (part.step.show == Show::View).then_some(&part.output.view),
        kind: part.step.kind.unwrap_or(MessageKind::Plain),
        head: part.step.heads.head.as_ref(),
        request: part.step.heads.request.as_ref(),
        begins: part.step.begins,
        ends: part.step.ends,
    }
}

/// How many bytes at the end begin a UTF-8 character and do not complete it.
fn incomplete_character(bytes: &[u8]) -> usize {
    let is_first = |b: &u8| !(0x80..0xc0).contains(b);
    let Some(back) = bytes.iter().rev().take(4).position(is_first) else {
        return 0;
    };
    let first = bytes[bytes.len() - back - 1];
    if (0xc2..0xf5).contains(&first) && utf8_length(first) > back + 1 {
        back + 1
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_characters_are_found() {
        for text in [&b""[..], b"a", b"\x80", b"\xff", b"\x80\x80\x80\x80\x80"] {
            assert_eq!(incomplete_character(text), 0);
        }
        for character in ["\u{e9}", "\u{20ac}", "\u{1f600}"] {
            let text = format!("a{character}");
            assert_eq!(incomplete_character(text.as_bytes()), 0);
            for length in 1..character.len() {
                assert_eq!(incomplete_character(&text.as_bytes()[..=length]), length);
            }
        }
    }
}
