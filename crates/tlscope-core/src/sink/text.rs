//! Text for people: a header line, the payload, a blank line.
//!
//! A block is a call of plain data or a message, cut at 256 KiB and at each
//! tick (`pipeline::block`), so a long body is a few blocks, shown as it comes.
//! Nothing but `raw` lets a byte through that acts on a terminal: what is not
//! printable text is escaped (`\x1b`, `\u{202e}`), and payload that is mostly
//! not text is dumped in hex. A carriage return shows only if no newline follows.

mod escape;
mod exchange;
mod hexdump;

use std::io::{self, Write};

use super::Sink;
use crate::decode::ViewPart;
use crate::event::{Address, Direction, Process, Socket};
use crate::item::{Block, ConnectionInfo, Gap, Item, Message, MessagePart, short_id};
use crate::summary::Summary;
use escape::Shown;

/// What is gathered before the writer is called.
const BUFFER: usize = 64 * 1024;
/// What is dumped at a time; it comes to five times as much.
const DUMPED: usize = 4096;

#[derive(Debug, Clone, Default)]
pub struct TextOptions {
    pub payload: Payload,
    /// Show so many bytes of each block at most.
    pub truncate: Option<usize>,
    /// Write behind each response what it answers, and how long it took.
    pub exchanges: bool,
    /// Write when a connection is created, found, scheduled for destruction and destroyed.
    pub lifecycle: bool,
    pub color: bool,
    /// Columns of the terminal: lines of our own are cut to fit.
    pub width: Option<usize>,
}

/// How payload is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Payload {
    /// Decoded, as text where it is text.
    #[default]
    Readable,
    /// Every byte in hex.
    Hex,
    /// Untouched.
    Raw,
}

#[derive(Debug)]
pub struct TextSink<W> {
    writer: W,
    options: TextOptions,
    out: Vec<u8>,
}

impl<W: Write> TextSink<W> {
    pub fn new(writer: W, options: TextOptions) -> Self {
        Self {
            writer,
            options,
            out: Vec::new(),
        }
    }

    fn block(&mut self, block: &Block<'_>) -> io::Result<()> {
        let color = color_of(block.direction);
        self.colored(color, |out| {
            out.extend_from_slice(b"UUID:");
            let socket = block.connection.carries(block.direction);
            push_identity(out, block.process, socket, block.direction);
            let (kind, length) = (block.kind, block.payload.len());
            write!(
                out,
                ", Name:{}, Type:{}, Length:{length}",
                kind.name(),
                kind.number()
            )?;
            let Some(container) = &block.connection.container else {
                return Ok(());
            };
            write!(out, ", Container:{}", short_id(&container.id))?;
            match &container.pod {
                Some(pod) => write!(out, ", Pod:{pod}"),
                None => Ok(()),
            }
        })?;
        self.out.push(b'\n');
        self.payload(block)?;
        self.end_line()
    }

    fn payload(&mut self, block: &Block<'_>) -> io::Result<()> {
        let as_bytes = self.options.payload != Payload::Readable;
        let mut left = self.options.truncate.unwrap_or(usize::MAX);
        let mut hidden = 0;
        let mut show = |sink: &mut Self, bytes: &[u8], offset| {
            let shown = super::boundary(bytes, left);
            left -= shown;
            hidden += bytes.len() - shown;
            sink.bytes(&bytes[..shown], offset)
        };
        match block.view.filter(|_| !as_bytes) {
            None => show(self, block.payload, block.offset)?,
            Some(view) => {
                for (part, bytes) in view.parts() {
                    match part {
                        ViewPart::Words => self.bytes(bytes, 0)?,
                        // Decoded content has offsets of its own.
                        ViewPart::Content => show(self, bytes, 0)?,
                    }
                }
            }
        }
        if hidden > 0 {
            self.mark(RED, format_args!("-- {hidden} more bytes not shown --"))?;
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.options.payload {
            Payload::Raw => self.write(bytes)?,
            Payload::Hex => self.dump(bytes, offset)?,
            Payload::Readable => match escape::show(&mut self.out, bytes) {
                Shown::Clean => self.write(bytes)?,
                Shown::Escaped => {}
                Shown::Binary => self.dump(bytes, offset)?,
            },
        }
        self.new_line(bytes);
        Ok(())
    }

    /// In pieces, so that what is written is in the cache still.
    fn dump(&mut self, bytes: &[u8], mut offset: u64) -> io::Result<()> {
        for piece in bytes.chunks(DUMPED) {
            if self.out.len() >= BUFFER {
                self.drain()?;
            }
            hexdump::push(&mut self.out, piece, offset);
            offset = offset.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    /// A header of its own would be mistaken for a message, so a gap is a mark.
    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        let Gap {
            direction,
            offset,
            length,
            connection,
            ..
        } = *gap;
        let mut identity = Vec::new();
        push_identity(
            &mut identity,
            &connection.process,
            connection.carries(direction),
            direction,
        );
        let identity = String::from_utf8_lossy(&identity);
        let direction = direction.name();
        self.mark(
            RED,
            format_args!(
                "-- {length} bytes lost ({direction}, offset {offset}) -- UUID:{identity}"
            ),
        )?;
        self.end_line()
    }

    /// `-- connection 0123456789abcdef created: pid 7 (curl), fd 5, 192.0.2.1:443 --`
    fn lifecycle(&mut self, stage: &str, connection: &ConnectionInfo) -> io::Result<()> {
        if !self.options.lifecycle {
            return Ok(());
        }
        let ConnectionInfo {
            id,
            ref process,
            ref container,
            ..
        } = *connection;
        let socket = connection.socket();
        let fd = socket.fd.map(|fd| format!(", fd {fd}")).unwrap_or_default();
        let peer = match socket.address {
            Address::Unknown(why) => format!("address unknown: {why}"),
            Address::Inet { remote, .. } => super::canonical(remote).to_string(),
            Address::Unix => "unix".to_owned(),
            Address::Pipe => "pipe".to_owned(),
        };
        let within = container.as_ref().map(|container| match &container.pod {
            Some(pod) => format!(", container {} of pod {pod}", container.id),
            None => format!(", container {}", container.id),
        });
        let within = within.unwrap_or_default();
        let (pid, comm) = (process.pid, process.comm);
        self.mark(
            YELLOW,
            format_args!("-- connection {id} {stage}: pid {pid} ({comm}){fd}, {peer}{within} --"),
        )?;
        self.end_line()
    }

    fn message(&mut self, message: &Message<'_>) -> io::Result<()> {
        let MessagePart::Finished(finished) = &message.part else {
            return Ok(());
        };
        if !self.options.exchanges {
            return Ok(());
        }
        let Some(line) = exchange::line(finished, self.options.width) else {
            return Ok(());
        };
        self.mark(YELLOW, format_args!("{line}"))?;
        self.end_line()
    }

    fn mark(&mut self, color: &[u8], mark: std::fmt::Arguments<'_>) -> io::Result<()> {
        self.colored(color, |out| out.write_fmt(mark))?;
        self.out.push(b'\n');
        Ok(())
    }

    fn colored(
        &mut self,
        color: &[u8],
        write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.options.color {
            return write(&mut self.out);
        }
        self.out.extend_from_slice(color);
        write(&mut self.out)?;
        self.out.extend_from_slice(RESET);
        Ok(())
    }

    /// Behind payload that did not end its line itself.
    fn new_line(&mut self, payload: &[u8]) {
        let last = if self.out.is_empty() {
            payload.last()
        } else {
            self.out.last()
        };
        if last.is_some_and(|&last| last != b'\n') {
            self.out.push(b'\n');
        }
    }

    fn end_line(&mut self) -> io::Result<()> {
        self.out.push(b'\n');
        if self.out.len() >= BUFFER {
            self.drain()
        } else {
            Ok(())
        }
    }

    /// What is as large as the buffer goes past it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() < BUFFER / 4 {
            self.out.extend_from_slice(bytes);
            return Ok(());
        }
        self.drain()?;
        self.writer.write_all(bytes)
    }

    fn drain(&mut self) -> io::Result<()> {
        let written = self.writer.write_all(&self.out);
        self.out.clear();
        written
    }
}

impl<W: Write> Sink for TextSink<W> {
    fn name(&self) -> &'static str {
        "text"
    }

    fn item(&mut self, item: &Item<'_>) -> io::Result<()> {
        match item {
            Item::Data(block) => self.block(block),
            Item::Gap(gap) => self.gap(gap),
            Item::Message(message) => self.message(message),
            Item::Open(connection) => self.lifecycle("created", connection),
            Item::Stage(staged) => self.lifecycle(staged.stage.name(), staged.connection),
            Item::Close(closed) => self.lifecycle("destroyed", closed.connection),
            Item::Secret(_) => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.writer.flush()
    }

    fn finish(&mut self, _summary: &Summary) -> io::Result<()> {
        self.flush()
    }
}

const RESET: &[u8] = b"\x1b[0m";
const RED: &[u8] = b"\x1b[31m";
const YELLOW: &[u8] = b"\x1b[33m";

fn color_of(direction: Direction) -> &'static [u8] {
    match direction {
        Direction::Sent => b"\x1b[36m",
        Direction::Received => b"\x1b[32m",
    }
}

/// `<pid>_<tid>_<comm>_<fd>_<direction>_<tuple>`
fn push_identity(out: &mut Vec<u8>, process: &Process, socket: Socket, direction: Direction) {
    use std::fmt::Write;
    let Process { pid, tid, comm, .. } = process;
    let fd = socket.fd.unwrap_or(-1);
    let mut text = String::with_capacity(96);
    // Writing to a String does not fail.
    let _ = write!(text, "{pid}_{tid}_{comm}_{fd}_{}_", direction as u8);
    let _ = match socket.address {
        Address::Unknown(_) => text.write_str("unknown"),
        Address::Unix => text.write_str("unix"),
        Address::Pipe => text.write_str("pipe"),
        Address::Inet { remote, .. } => write!(text, "{}", super::canonical(remote)),
    };
    out.extend_from_slice(text.as_bytes());
}
