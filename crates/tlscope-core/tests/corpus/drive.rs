//! Any bytes through every decoder, with what must hold whatever they are.
//!
//! Shared by the corpus test and the fuzz targets: each function takes one
//! input and panics if an invariant breaks.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tlscope_core::event::{
    Close, Comm, ConnectionKey, Data, Direction, Event, Process, Socket, Timestamp,
};
use tlscope_core::item::Item;
use tlscope_core::pipeline::{Pipeline, PipelineOptions};
use tlscope_core::sink::{JsonOptions, JsonSink, KeylogSink, Sink, TextOptions, TextSink};
use tlscope_core::summary::{CaptureCounters, Summary};

use Direction::{Received, Sent};

/// Gives back what the text sink wrote.
pub(crate) type Target = fn(&[u8]) -> Vec<u8>;

/// Every target by name: the fuzz target's, and the corpus folder's.
#[allow(dead_code)] // each fuzz target uses one function only
pub(crate) const TARGETS: &[(&str, Target)] = &[
    ("core_content", content),
    ("core_http1", http1),
    ("core_http2", http2),
    ("core_keylog", keylog),
    ("core_pipeline", pipeline),
    ("core_websocket", websocket),
];

/// Requests and responses: the first byte says how they are cut.
pub(crate) fn http1(input: &[u8]) -> Vec<u8> {
    let Some((&size, input)) = input.split_first() else {
        return Vec::new();
    };
    let (requests, responses) = halves(input);
    let mut run = Run::new();
    run.call(Sent, requests, usize::from(size) + 1);
    run.call(Received, responses, usize::from(size) + 1);
    run.finish()
}

/// Frames behind the preface of the client and the SETTINGS of the server.
pub(crate) fn http2(input: &[u8]) -> Vec<u8> {
    let Some((&size, input)) = input.split_first() else {
        return Vec::new();
    };
    let (client, server) = halves(input);
    let mut run = Run::new();
    run.call(Sent, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", usize::MAX);
    run.call(Received, b"\0\0\0\x04\0\0\0\0\0", usize::MAX);
    run.call(Sent, client, usize::from(size) + 1);
    run.call(Received, server, usize::from(size) + 1);
    run.finish()
}

/// Frames behind an upgrade that agreed on compression.
pub(crate) fn websocket(input: &[u8]) -> Vec<u8> {
    let Some((&size, input)) = input.split_first() else {
        return Vec::new();
    };
    let (client, server) = halves(input);
    let mut run = Run::new();
    run.call(
        Sent,
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        usize::MAX,
    );
    let response = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n\r\n";
    run.call(Received, response, usize::MAX);
    run.call(Sent, client, usize::from(size) + 1);
    run.call(Received, server, usize::from(size) + 1);
    run.finish()
}

/// A coded body: the first byte chooses the coding.
pub(crate) fn content(input: &[u8]) -> Vec<u8> {
    let Some((&choice, input)) = input.split_first() else {
        return Vec::new();
    };
    let coding = ["gzip", "deflate", "br", "zstd"][usize::from(choice) % 4];
    let mut run = Run::new();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\n\r\n");
    run.call(Received, head.as_bytes(), usize::MAX);
    run.call(Received, input, usize::from(choice) + 1);
    run.finish()
}

/// A script of calls, losses, repetitions, ticks and ends: two bytes say what
/// and how long, and calls take their bytes from what follows.
pub(crate) fn pipeline(mut input: &[u8]) -> Vec<u8> {
    let mut run = Run::new();
    while let [what, length, rest @ ..] = input {
        let direction = if what & 1 == 0 { Sent } else { Received };
        let length = usize::from(*length);
        input = rest;
        match what >> 1 & 7 {
            0..=3 => {
                let (bytes, rest) = input.split_at(length.min(input.len()));
                run.call(direction, bytes, usize::from(!what >> 4) * 16 + 1);
                input = rest;
            }
            4 => run.lose(direction, length as u64 * 100),
            5 => run.repeat(
                direction,
                length as u64,
                rest.get(..length).unwrap_or_default(),
            ),
            6 => run.tick(length as u64),
            _ => run.close(length as u64),
        }
    }
    run.finish()
}

/// An existing key log.
pub(crate) fn keylog(input: &[u8]) -> Vec<u8> {
    KeylogSink::new(io::sink())
        .with_existing(input)
        .expect("reading a slice does not fail");
    Vec::new()
}

fn with_exchanges() -> TextOptions {
    TextOptions {
        exchanges: true,
        ..TextOptions::default()
    }
}

fn halves(input: &[u8]) -> (&[u8], &[u8]) {
    // A separator that a mutator moves easily, and that text seeds can show.
    match input.windows(4).position(|window| window == b"----") {
        Some(at) => (&input[..at], &input[at + 4..]),
        None => (input, b""),
    }
}

/// A pipeline with all sinks, and what was put in.
struct Run {
    pipeline: Pipeline,
    text: Shared,
    json: Shared,
    shown: Arc<Mutex<[Vec<u8>; 2]>>,
    sent: [Vec<u8>; 2],
    offsets: [u64; 2],
    /// What the pipeline was told to be the whole.
    known: [u64; 2],
    time: u64,
}

const KEY: ConnectionKey = ConnectionKey {
    pid: 1,
    object: 2,
    generation: 3,
};

fn fuzz() -> Process {
    Process {
        pid: 1,
        tid: 1,
        uid: 0,
        comm: Comm(*b"fuzz\x1b[31m\0\0\0\0\0\0\0"),
    }
}

impl Run {
    fn new() -> Self {
        let (text, json) = (Shared::default(), Shared::default());
        let shown = Arc::new(Mutex::new([Vec::new(), Vec::new()]));
        let options = PipelineOptions {
            max_block: 4096,
            ..PipelineOptions::default()
        };
        let sinks: Vec<Box<dyn Sink + Send>> = vec![
            Box::new(TextSink::new(text.clone(), with_exchanges())),
            Box::new(JsonSink::new(json.clone(), JsonOptions::default())),
            Box::new(Collector(Arc::clone(&shown))),
        ];
        let pipeline = Pipeline::new(options, sinks);
        Self {
            pipeline,
            text,
            json,
            shown,
            sent: [vec![], vec![]],
            offsets: [0; 2],
            known: [0; 2],
            time: 0,
        }
    }

    fn call(&mut self, direction: Direction, bytes: &[u8], size: usize) {
        let call_offset = self.offsets[direction as usize];
        for piece in bytes.chunks(size) {
            let offset = self.offsets[direction as usize];
            self.event(direction, offset, call_offset, bytes.len() as u64, piece);
            self.offsets[direction as usize] += piece.len() as u64;
            self.sent[direction as usize].extend_from_slice(piece);
        }
    }

    fn lose(&mut self, direction: Direction, length: u64) {
        self.offsets[direction as usize] += length;
    }

    fn repeat(&mut self, direction: Direction, back: u64, bytes: &[u8]) {
        let next = self.offsets[direction as usize];
        let offset = next.saturating_sub(back);
        // Only bytes seen before: those behind would be new.
        let length = bytes.len().min((next - offset) as usize);
        if self.sent[direction as usize].len() as u64 == next {
            self.event(direction, offset, offset, length as u64, &bytes[..length]);
        }
    }

    fn tick(&mut self, time: u64) {
        self.time += time * 100_000_000;
        self.pipeline
            .tick(Timestamp(self.time))
            .expect("memory takes all");
    }

    /// The connection goes on behind its end as late events do.
    fn close(&mut self, more: u64) {
        let total = self.offsets.map(|offset| offset + more);
        let close = Close {
            time: Timestamp(self.time),
            process: fuzz(),
            connection: KEY,
            socket: Socket::default(),
            total,
        };
        (self.offsets, self.known) = (total, total);
        self.pipeline
            .event(Event::Close(close))
            .expect("memory takes all");
    }

    fn event(&mut self, direction: Direction, offset: u64, call: u64, length: u64, bytes: &[u8]) {
        let known = &mut self.known[direction as usize];
        *known = (*known).max(call + length);
        let data = Data {
            time: Timestamp(self.time),
            process: fuzz(),
            connection: KEY,
            socket: Socket::default(),
            direction,
            offset,
            call_offset: call,
            call_length: length,
            payload: bytes,
        };
        self.pipeline
            .event(Event::Data(data))
            .expect("memory takes all");
    }

    fn finish(self) -> Vec<u8> {
        let summary = self
            .pipeline
            .finish(&CaptureCounters::default())
            .expect("memory takes all");
        for direction in Direction::BOTH {
            let (sent, known) = (
                &self.sent[direction as usize],
                self.known[direction as usize],
            );
            let bytes = summary.of(direction);
            assert_eq!(bytes.captured, sent.len() as u64, "every byte counts once");
            assert_eq!(bytes.captured + bytes.lost, known, "captured + lost = sent");
            let shown = &self.shown.lock().expect("no panic before")[direction as usize];
            assert!(shown == sent, "blocks are the bytes that came, in order");
        }
        let text = self.text.take();
        assert_safe(&text);
        let json = self.json.take();
        assert_safe(&json);
        assert!(json.ends_with(b"}\n") && json.starts_with(b"{\"v\":1,"));
        text
    }
}

/// Valid UTF-8 without anything that acts on a terminal.
fn assert_safe(output: &[u8]) {
    let text = std::str::from_utf8(output).expect("output is UTF-8");
    let harmful = text
        .char_indices()
        .find(|&(at, character)| match character {
            '\n' | '\t' => false,
            '\r' => !text[at + 1..].starts_with('\n'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
            _ => character.is_control(),
        });
    assert_eq!(harmful, None);
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().expect("no panic before"))
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("no panic before")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps the payloads of data blocks, by direction.
struct Collector(Arc<Mutex<[Vec<u8>; 2]>>);

impl Sink for Collector {
    fn name(&self) -> &'static str {
        "collector"
    }

    fn item(&mut self, item: &Item<'_>) -> io::Result<()> {
        if let Item::Data(block) = item {
            let shown = &mut self.0.lock().expect("no panic before")[block.direction as usize];
            shown.extend_from_slice(block.payload);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _summary: &Summary) -> io::Result<()> {
        Ok(())
    }
}
