//! HAR 1.2: one file of all exchanges, as browsers' tools open it.
//!
//! An entry is written when its response ends, so a long capture holds only
//! what is in progress. Bodies are bounded, each and together; what is cut is
//! said in the entry's comment. A capture that is killed lacks the last two
//! brackets of its file.

mod entry;
mod fields;

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::Sink;
use super::json::writer::Object;
use crate::decode::MessageKind;
use crate::item::{ConnectionId, Item, Message, MessagePart};
use crate::summary::Summary;
use entry::Entry;

const BUFFER: usize = 64 * 1024;
/// The content kept of one message.
const MAX_BODY: usize = 8 << 20;
/// The content kept of all messages in progress.
const MAX_BODIES: usize = 256 << 20;
/// Exchanges in progress; the oldest gives way.
const MAX_ENTRIES: usize = 16_384;

#[derive(Debug)]
pub struct HarSink<W> {
    writer: W,
    out: Vec<u8>,
    /// By connection, and within it by exchange.
    entries: BTreeMap<(ConnectionId, u64), Entry>,
    kept: usize,
    written: u64,
}

impl<W: Write> HarSink<W> {
    pub fn new(writer: W) -> Self {
        let (out, entries) = (Vec::new(), BTreeMap::new());
        Self {
            writer,
            out,
            entries,
            kept: 0,
            written: 0,
        }
    }

    /// What comes behind an upgrade belongs to no entry.
    fn message(&mut self, message: &Message<'_>) -> io::Result<()> {
        if message.kind == MessageKind::WebSocket {
            return Ok(());
        }
        let key = (message.connection.id, message.exchange);
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&key) {
            self.write_oldest()?;
        }
        let entry = self
            .entries
            .entry(key)
            .or_insert_with(|| Entry::new(message));
        let room = MAX_BODIES.saturating_sub(self.kept);
        match &message.part {
            MessagePart::Head(head) => entry.head(head),
            MessagePart::Content { bytes, .. } => {
                self.kept += entry.content(bytes, message, MAX_BODY.min(room));
            }
            MessagePart::Trailers(_) | MessagePart::Frame(_) => {}
            MessagePart::Finished(finished) => {
                if entry.finish(finished) {
                    return self.write(key);
                }
            }
        }
        Ok(())
    }

    fn write_oldest(&mut self) -> io::Result<()> {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.begun);
        let Some(key) = oldest.map(|(key, _)| *key) else {
            return Ok(());
        };
        self.write(key)
    }

    fn write_connection(&mut self, id: ConnectionId) -> io::Result<()> {
        let range = self.entries.range((id, 0)..=(id, u64::MAX));
        let keys: Vec<_> = range.map(|(key, _)| *key).collect();
        keys.into_iter().try_for_each(|key| self.write(key))
    }

    fn write(&mut self, key: (ConnectionId, u64)) -> io::Result<()> {
        let Some(entry) = self.entries.remove(&key) else {
            return Ok(());
        };
        self.kept -= entry.kept();
        self.begin();
        self.out
            .extend_from_slice(if self.written == 0 { b"\n" } else { b",\n" });
        self.written += 1;
        entry.push(&mut self.out);
        if self.out.len() >= BUFFER {
            self.drain()
        } else {
            Ok(())
        }
    }

    /// What stands ahead of the entries, once.
    fn begin(&mut self) {
        if self.written > 0 {
            return;
        }
        self.out
            .extend_from_slice(b"{\"log\":{\"version\":\"1.2\",\"creator\":");
        let mut creator = Object::nested(&mut self.out);
        creator.text("name", "tlscope");
        creator.text("version", env!("CARGO_PKG_VERSION"));
        creator.close();
        self.out.extend_from_slice(b",\"entries\":[");
    }

    fn drain(&mut self) -> io::Result<()> {
        let written = self.writer.write_all(&self.out);
        self.out.clear();
        written
    }
}

impl<W: Write> Sink for HarSink<W> {
    fn name(&self) -> &'static str {
        "har"
    }

    fn item(&mut self, item: &Item<'_>) -> io::Result<()> {
        match item {
            Item::Message(message) => self.message(message),
            Item::Close(closed) => self.write_connection(closed.connection.id),
            Item::Open(_) | Item::Data(_) | Item::Gap(_) | Item::Secret(_) | Item::Stage(_) => {
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.writer.flush()
    }

    fn finish(&mut self, _summary: &Summary) -> io::Result<()> {
        while !self.entries.is_empty() {
            self.write_oldest()?;
        }
        self.begin();
        self.out.extend_from_slice(b"\n]}}\n");
        self.flush()
    }
}
