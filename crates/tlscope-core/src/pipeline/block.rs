//! Gathering steps into blocks: what is shown under one header line.
//!
//! Plain data makes a block of each call. A message makes one block, however
//! many calls brought it; it is cut where 256 KiB have come, where a tick
//! comes, where the other direction or another thread takes over, and where
//! bytes were lost. A block that came in one piece is passed on uncopied.

use std::sync::Arc;

use crate::decode::{Head, MessageKind, Show, Step};
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
    view: Option<Vec<u8>>,
    kind: Option<MessageKind>,
    head: Option<Arc<Head>>,
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
        let complete = part.step.ends;
        if pending
            .as_ref()
            .is_some_and(|block| !self.continues(block, part))
        {
            self.flush(pending, connection, outlet)?;
        }
        match pending {
            None if part.step.show == Show::AsIs
                && (complete || part.bytes.len() >= self.max_block) =>
            {
                return outlet.item(&Item::Data(whole(part, connection)));
            }
            None => *pending = Some(self.begin(part)),
            Some(block) => block.adopt(part),
        }
        if let Some(block) = pending {
            self.append(block, part);
            if complete {
                return self.flush(pending, connection, outlet);
            }
            if block.payload.len() >= self.max_block {
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
        block.view.into_iter().for_each(|view| self.keep(view));
        shown
    }

    fn continues(&self, block: &Pending, part: &Part<'_>) -> bool {
        let same_message = match (block.kind, part.step.kind) {
            (None, _) => true,
            (Some(kind), Some(next)) => kind == next && !part.step.begins,
            (Some(_), None) => false,
        };
        same_message
            && block.direction == part.data.direction
            && block.process.tid == part.data.process.tid
            && block.payload.len() + part.bytes.len() <= self.max_block
            && block.offset + block.payload.len() as u64 == part.offset
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
            head: part.step.head.clone(),
            begins: part.step.begins,
            ends: part.step.ends,
        }
    }

    fn append(&mut self, block: &mut Pending, part: &Part<'_>) {
        if part.step.show != Show::AsIs && block.view.is_none() {
            let mut view = self.buffer();
            view.extend_from_slice(&block.payload);
            block.view = Some(view);
        }
        if let (Some(view), Show::AsIs) = (&mut block.view, part.step.show) {
            view.extend_from_slice(part.bytes);
        }
        block.payload.extend_from_slice(part.bytes);
        self.waiting_bytes += part.bytes.len();
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
    /// What a later part of the block may tell of the whole.
    fn adopt(&mut self, part: &Part<'_>) {
        self.begins |= self.kind.is_none() && part.step.begins;
        self.kind = self.kind.or(part.step.kind);
        if self.head.is_none() {
            self.head.clone_from(&part.step.head);
        }
        self.ends = part.step.ends;
    }

    /// Takes the bytes of an incomplete last character off, into a block that
    /// goes on where this one then ends. Its payload is the caller's to fill.
    fn split_character(&mut self) -> Option<(Self, Vec<u8>)> {
        let tail = incomplete_character(&self.payload);
        let cut = self.payload.len() - tail;
        let shown = self
            .view
            .as_ref()
            .is_none_or(|view| view.ends_with(&self.payload[cut..]));
        if tail == 0 || cut == 0 || !shown {
            return None;
        }
        if let Some(view) = &mut self.view {
            view.truncate(view.len() - tail);
        }
        let bytes = self.payload.split_off(cut);
        let rest = Self {
            process: self.process.clone(),
            offset: self.offset + cut as u64,
            payload: Vec::new(),
            view: None,
            head: self.head.clone(),
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
            view: self.view.as_deref(),
            kind: self.kind.unwrap_or(MessageKind::Plain),
            head: self.head.as_ref(),
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
        view: None,
        kind: part.step.kind.unwrap_or(MessageKind::Plain),
        head: part.step.head.as_ref(),
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
        for (text, incomplete) in [(&b""[..], 0), (b"a", 0), (b"\x80", 0), (b"\xff", 0)] {
            assert_eq!(incomplete_character(text), incomplete);
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
