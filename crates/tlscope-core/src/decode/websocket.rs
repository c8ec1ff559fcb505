//! WebSocket (RFC 6455) behind an Upgrade, with permessage-deflate (RFC 7692).
//!
//! Payload streams through, unmasked and inflated. Behind lost bytes the frames
//! of a direction cannot be found again: it is plain data from there on.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Decode, Heads, Input, Lost, MessageKind, Note, NotePart, Output, Show, Step};
use crate::event::Direction;

/// Flags, lengths of 2, 4 or 10 octets in all, and a mask of 4.
const MAX_HEADER: usize = 14;
const CONTROL: u8 = 8;
const CLOSE: u8 = 8;
/// What one call's inflated payload may come to.
const MAX_INFLATED: usize = 16 << 20;
/// What the sender leaves away behind a compressed message (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

#[derive(Debug)]
pub(super) struct WebSocket {
    halves: [Half; 2],
    /// The exchange that switched protocols.
    exchange: u64,
    heads: Heads,
}

impl WebSocket {
    /// `heads` are those of the exchange that switched protocols.
    pub(super) fn new(client: Direction, exchange: u64, heads: Heads) -> Self {
        let deflate = heads.head.as_ref().and_then(|response| {
            let mut extensions = response.list("sec-websocket-extensions");
            extensions.find_map(Deflate::offered)
        });
        let half = |direction| Half {
            inflater: deflate.map(|deflate| Inflater {
                inflate: Decompress::new(false),
                forgets: deflate.forgets[usize::from(direction == client)],
            }),
            ..Half::default()
        };
        Self {
            halves: Direction::BOTH.map(half),
            exchange,
            heads,
        }
    }

    pub(super) fn step(&mut self, input: Input<'_>, output: &mut Output) -> Step {
        let step = self.halves[input.direction as usize].step(input, &mut (), output);
        for note in &mut output.notes {
            (note.exchange, note.heads) = (self.exchange, self.heads.clone());
        }
        Step {
            heads: self.heads.clone(),
            ..step
        }
    }

    pub(super) fn lose(&mut self, lost: Lost, output: &mut Output) {
        self.halves[lost.direction as usize].lose(lost, &mut (), output);
    }
}

/// What permessage-deflate was agreed on: who begins each message anew.
#[derive(Debug, Clone, Copy)]
struct Deflate {
    /// By server (0) and client (1).
    forgets: [bool; 2],
}

impl Deflate {
    fn offered(extension: &[u8]) -> Option<Self> {
        let mut parameters = extension.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        if parameters.next()? != b"permessage-deflate" {
            return None;
        }
        let mut forgets = [false; 2];
        for parameter in parameters {
            forgets[0] |= parameter == b"server_no_context_takeover";
            forgets[1] |= parameter == b"client_no_context_takeover";
        }
        Some(Self { forgets })
    }
}

#[derive(Debug)]
struct Inflater {
    inflate: Decompress,
    forgets: bool,
}

#[derive(Debug, Default)]
struct Half {
    stage: Stage,
    inflater: Option<Inflater>,
    /// The data message in progress is compressed.
    compressed: bool,
    number: u64,
}

#[derive(Debug)]
enum Stage {
    /// So much of the next frame's header came.
    Header([u8; MAX_HEADER], usize),
    Payload(Frame),
    Lost,
}

impl Default for Stage {
    fn default() -> Self {
        Self::Header([0; MAX_HEADER], 0)
    }
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    said: WebSocketFrame,
    left: u64,
    mask: Option<[u8; 4]>,
}

/// A frame as its header says (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebSocketFrame {
    pub opcode: u8,
    /// The last of its message.
    pub is_final: bool,
    /// The first bit reserved for extensions, permessage-deflate's.
    pub compressed: bool,
    pub length: u64,
}

impl WebSocketFrame {
    pub fn name(self) -> &'static str {
        match self.opcode {
            0 => "CONTINUATION",
            1 => "TEXT",
            2 => "BINARY",
            8 => "CLOSE",
            9 => "PING",
            _ => "PONG",
        }
    }
}

impl Decode for Half {
    type Shared = ();

    fn step(&mut self, input: Input<'_>, (): &mut (), output: &mut Output) -> Step {
        let bytes = input.bytes;
        let number = self.number;
        let step = match &mut self.stage {
            Stage::Header(held, filled) => {
                held[*filled] = bytes[0];
                *filled += 1;
                match Frame::parse(&held[..*filled]) {
                    Parsed::Incomplete => view(1),
                    Parsed::Malformed => self.become_lost(1),
                    Parsed::Frame(frame) => self.begin(frame, output),
                }
            }
            Stage::Payload(_) => self.payload(bytes, output),
            Stage::Lost => return Step::plain(bytes.len()),
        };
        Step {
            message: number,
            ..step
        }
    }

    fn lose(&mut self, lost: Lost, (): &mut (), _output: &mut Output) {
        let length = lost.length;
        match &mut self.stage {
            Stage::Payload(frame) if frame.left > length && self.inflater.is_none() => {
                frame.left -= length;
            }
            _ => self.stage = Stage::Lost,
        }
    }
}

impl Half {
    fn become_lost(&mut self, consumed: usize) -> Step {
        self.stage = Stage::Lost;
        Step::plain(consumed)
    }

    fn begin(&mut self, frame: Frame, output: &mut Output) -> Step {
        if frame.said.opcode < CONTROL && frame.said.opcode != 0 {
            self.compressed = frame.said.compressed && self.inflater.is_some();
        }
        let fragment = if frame.said.is_final {
            ""
        } else {
            ", more follows"
        };
        let compressed = if frame.said.compressed {
            ", compressed"
        } else {
            ""
        };
        let (name, length) = (frame.said.name(), frame.said.length);
        output.view.words(format_args!(
            "{name}, {length} bytes{compressed}{fragment}\n"
        ));
        self.stage = Stage::Payload(frame);
        note(NotePart::Frame(frame.said), output);
        let mut step = view(1);
        step.begins = frame.said.opcode != 0;
        if frame.left == 0 {
            step.ends = self.end(frame, output);
        }
        step
    }

    fn payload(&mut self, bytes: &[u8], output: &mut Output) -> Step {
        let Stage::Payload(frame) = &mut self.stage else {
            return Step::plain(bytes.len());
        };
        let consumed = usize::try_from(frame.left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let mut text = bytes[..consumed].to_vec();
        frame.unmask(&mut text);
        frame.left -= consumed as u64;
        let frame = *frame;
        if self.compressed && frame.said.opcode < CONTROL {
            self.inflate(&text, output);
        } else if frame.said.opcode == CLOSE && frame.left + consumed as u64 == frame.said.length {
            close(&text, output);
            note_content(&text, output);
        } else {
            output.view.content(&text);
            note_content(&text, output);
        }
        let mut step = view(consumed);
        if frame.left == 0 {
            step.ends = self.end(frame, output);
        }
        step
    }

    /// Control frames may stand between the fragments of a message.
    fn end(&mut self, frame: Frame, output: &mut Output) -> bool {
        self.stage = Stage::default();
        self.number += 1;
        if frame.said.opcode >= CONTROL || !frame.said.is_final {
            return frame.said.opcode >= CONTROL;
        }
        if self.compressed {
            self.inflate(&TAIL, output);
            if let Some(inflater) = self.inflater.as_mut().filter(|inflater| inflater.forgets) {
                inflater.inflate.reset(false);
            }
            self.compressed = false;
        }
        true
    }

    fn inflate(&mut self, mut bytes: &[u8], output: &mut Output) {
        let Some(inflater) = &mut self.inflater else {
            return;
        };
        let (mut text, mut buffer) = (Vec::new(), [0; 8192]);
        let inflate = &mut inflater.inflate;
        loop {
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress(bytes, &mut buffer, FlushDecompress::Sync);
            let taken = (inflate.total_in() - before_in) as usize;
            let written = (inflate.total_out() - before_out) as usize;
            text.extend_from_slice(&buffer[..written]);
            bytes = &bytes[taken..];
            let stuck = taken == 0 && written == 0;
            match status {
                Ok(Status::StreamEnd) => inflate.reset(false),
                Ok(_) if !stuck && text.len() <= MAX_INFLATED => {}
                Ok(_) if stuck && bytes.is_empty() => break,
                _ => {
                    self.inflater = None;
                    output.view.content(&text);
                    note_content(&text, output);
                    output
                        .view
                        .words(format_args!("-- the content does not decode --\n"));
                    return;
                }
            }
        }
        output.view.content(&text);
        note_content(&text, output);
    }
}

/// Notes are completed by [`WebSocket::step`].
fn note(part: NotePart, output: &mut Output) {
    let (kind, heads) = (MessageKind::WebSocket, Heads::default());
    output.notes.push(Note {
        exchange: 0,
        stream: None,
        kind,
        heads,
        part,
    });
}

fn note_content(text: &[u8], output: &mut Output) {
    if !text.is_empty() {
        let source = output.keep(text);
        note(NotePart::Content(source), output);
    }
}

fn view(consumed: usize) -> Step {
    Step {
        show: Show::View,
        ..Step::of(Some(MessageKind::WebSocket), consumed)
    }
}

/// RFC 6455 section 5.5.1: a code, and a reason in words.
fn close(payload: &[u8], output: &mut Output) {
    match payload.split_first_chunk::<2>() {
        Some((code, reason)) => {
            output
                .view
                .words(format_args!("code {} ", u16::from_be_bytes(*code)));
            output.view.content(reason);
        }
        None => output.view.content(payload),
    }
}

enum Parsed {
    Incomplete,
    Malformed,
    Frame(Frame),
}

impl Frame {
    /// RFC 6455 section 5.2. `bytes` grow one by one.
    fn parse(bytes: &[u8]) -> Parsed {
        let &[flags, second, ref rest @ ..] = bytes else {
            return Parsed::Incomplete;
        };
        let (opcode, is_masked) = (flags & 15, second & 0x80 != 0);
        let is_final = flags & 0x80 != 0;
        let known = matches!(opcode, 0..=2 | 8..=10);
        let short = opcode < CONTROL || (is_final && second & 0x7f <= 125);
        if flags & 0x30 != 0 || !known || !short {
            return Parsed::Malformed;
        }
        let (length, rest) = match second & 0x7f {
            126 => match rest.split_first_chunk::<2>() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Parsed::Incomplete,
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Parsed::Incomplete,
            },
            length => (u64::from(length), rest),
        };
        let mask = match (is_masked, rest.first_chunk()) {
            (true, None) => return Parsed::Incomplete,
            (true, Some(mask)) => Some(*mask),
            (false, _) => None,
        };
        let compressed = flags & 0x40 != 0;
        let said = WebSocketFrame {
            opcode,
            is_final,
            compressed,
            length,
        };
        Parsed::Frame(Self {
            said,
            left: length,
            mask,
        })
    }

    /// `text` begins where `left` bytes are to come.
    fn unmask(self, text: &mut [u8]) {
        let Some(mask) = self.mask else { return };
        let phase = ((self.said.length - self.left) % 4) as usize;
        let mask: [u8; 4] = std::array::from_fn(|index| mask[(index + phase) % 4]);
        let word = u32::from_ne_bytes(mask);
        let mut words = text.chunks_exact_mut(4);
        for chunk in &mut words {
            if let Ok(bytes) = <[u8; 4]>::try_from(&*chunk) {
                chunk.copy_from_slice(&(u32::from_ne_bytes(bytes) ^ word).to_ne_bytes());
            }
        }
        words
            .into_remainder()
            .iter_mut()
            .zip(mask)
            .for_each(|(byte, mask)| *byte ^= mask);
    }
}

#[cfg(test)]
mod tests;
