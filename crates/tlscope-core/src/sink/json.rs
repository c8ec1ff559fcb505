//! JSON Lines for programs: one object a line, as docs/json.md describes it.
//!
//! Objects are written straight into one buffer: payloads are scanned for what
//! needs escaping and copied in runs. Also what acts on a terminal is escaped.

mod part;
pub(super) mod writer;

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Sink;
use crate::decode::{Head, Start};
use crate::event::{Address, Process, SecretEvent, Socket, Timestamp};
use crate::item::{Block, Closed, ConnectionInfo, Gap, Item, Message, MessagePart, Staged};
use crate::secret::SecretSet;
use crate::secret::push_hex;
use crate::summary::{Bytes, Summary};
use writer::Object;

/// What is gathered before the writer is called.
const BUFFER: usize = 64 * 1024;

#[derive(Debug, Clone)]
pub struct JsonOptions {
    /// Write secrets too.
    pub secrets: bool,
    /// Write messages beside the bytes that they came in.
    pub messages: bool,
    /// Write so many bytes of each payload at most; `length` stays whole.
    pub truncate: Option<usize>,
}

impl Default for JsonOptions {
    fn default() -> Self {
        Self {
            secrets: false,
            messages: true,
            truncate: None,
        }
    }
}

#[derive(Debug)]
pub struct JsonSink<W> {
    writer: W,
    options: JsonOptions,
    out: Vec<u8>,
    seen: SecretSet,
    secrets: u64,
    duplicate_secrets: u64,
}

impl<W: Write> JsonSink<W> {
    pub fn new(writer: W, options: JsonOptions) -> Self {
        let (out, seen) = (Vec::new(), SecretSet::default());
        Self {
            writer,
            options,
            out,
            seen,
            secrets: 0,
            duplicate_secrets: 0,
        }
    }

    fn open(&mut self, connection: &ConnectionInfo) {
        let mut object = Object::begin(&mut self.out, "open");
        push_time(&mut object, connection.opened);
        object.display("id", &connection.id);
        push_process(&mut object, &connection.process);
        push_socket(&mut object, connection.socket());
        if let Some(container) = &connection.container {
            object.text("container", &container.id);
            if let Some(pod) = &container.pod {
                object.text("pod", pod);
            }
        }
        object.end();
    }

    fn stage(&mut self, staged: &Staged<'_>) {
        let mut object = Object::begin(&mut self.out, "lifecycle");
        push_time(&mut object, staged.time);
        object.display("id", &staged.connection.id);
        object.number("pid", u64::from(staged.connection.key.pid));
        object.text("stage", staged.stage.name());
        object.end();
    }

    fn data(&mut self, block: &Block<'_>) {
        let mut object = Object::begin(&mut self.out, "data");
        push_time(&mut object, block.time);
        object.display("id", &block.connection.id);
        push_process(&mut object, block.process);
        push_socket(&mut object, block.connection.carries(block.direction));
        object.text("direction", block.direction.name());
        object.number("offset", block.offset);
        object.number("length", block.payload.len() as u64);
        object.text("name", block.kind.name());
        object.number("type", u64::from(block.kind.number()));
        object.flag("begins", block.begins);
        object.flag("ends", block.ends);
        if let Some(head) = block.head {
            push_head(&mut object, head);
        }
        push_payload(&mut object, block.payload, self.options.truncate);
        object.end();
    }

    /// Content that a data object holds as it is is not repeated.
    fn message(&mut self, message: &Message<'_>) {
        let verbatim = matches!(message.part, MessagePart::Content { verbatim: true, .. });
        if !self.options.messages || verbatim {
            return;
        }
        let mut object = Object::begin(&mut self.out, "message");
        push_time(&mut object, message.time);
        object.display("id", &message.connection.id);
        push_process(&mut object, message.process);
        push_socket(&mut object, message.connection.carries(message.direction));
        object.text("direction", message.direction.name());
        object.text("name", message.kind.name());
        object.number("type", u64::from(message.kind.number()));
        object.number("exchange", message.exchange);
        if let Some(stream) = message.stream {
            object.number("stream", u64::from(stream));
        }
        part::push(&mut object, &message.part, self.options.truncate);
        object.end();
    }

    fn gap(&mut self, gap: &Gap<'_>) {
        let mut object = Object::begin(&mut self.out, "gap");
        push_time(&mut object, gap.time);
        object.display("id", &gap.connection.id);
        object.number("pid", u64::from(gap.connection.key.pid));
        object.text("direction", gap.direction.name());
        object.number("offset", gap.offset);
        object.number("length", gap.length);
        object.end();
    }

    fn close(&mut self, closed: &Closed<'_>) {
        let mut object = Object::begin(&mut self.out, "close");
        push_time(&mut object, closed.time);
        object.display("id", &closed.connection.id);
        object.number("pid", u64::from(closed.connection.key.pid));
        object.text("reason", closed.reason.name());
        push_bytes(&mut object, closed.bytes);
        object.end();
    }

    fn secret(&mut self, event: &SecretEvent) {
        let SecretEvent {
            label,
            client_random,
            secret,
            ..
        } = event;
        if !self.options.secrets {
            return;
        }
        if !self
            .seen
            .insert(label.as_str(), client_random, secret.expose())
        {
            self.duplicate_secrets += 1;
            return;
        }
        self.secrets += 1;
        let mut object = Object::begin(&mut self.out, "secret");
        push_time(&mut object, event.time);
        push_process(&mut object, &event.process);
        push_socket(&mut object, event.socket);
        object.text("label", label.as_str());
        object.with("client_random", |out| push_quoted_hex(out, client_random));
        object.with("secret", |out| push_quoted_hex(out, secret.expose()));
        object.end();
    }

    fn summary(&mut self, summary: &Summary) {
        let mut object = Object::begin(&mut self.out, "summary");
        object.number("connections", summary.connections);
        push_bytes(&mut object, summary.bytes);
        object.number("gaps", summary.gaps);
        object.number("duplicate_events", summary.duplicate_events);
        object.number("duplicate_bytes", summary.duplicate_bytes);
        object.number("evicted_connections", summary.evicted_connections);
        object.number("secrets_written", summary.secrets_written.unwrap_or(0));
        object.number("duplicate_secrets", summary.duplicate_secrets);
        object.with("counters", |out| {
            let mut counters = Object::nested(out);
            for (name, value) in &summary.counters.0 {
                counters.number(name, *value);
            }
            counters.close();
        });
        object.end();
    }

    fn drain(&mut self) -> io::Result<()> {
        let written = self.writer.write_all(&self.out);
        self.out.clear();
        written
    }
}

impl<W: Write> Sink for JsonSink<W> {
    fn name(&self) -> &'static str {
        "json"
    }

    fn item(&mut self, item: &Item<'_>) -> io::Result<()> {
        match item {
            Item::Open(connection) => self.open(connection),
            Item::Data(block) => self.data(block),
            Item::Gap(gap) => self.gap(gap),
            Item::Secret(event) => self.secret(event),
            Item::Stage(staged) => self.stage(staged),
            Item::Close(closed) => self.close(closed),
            Item::Message(message) => self.message(message),
        }
        if self.out.len() >= BUFFER {
            self.drain()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.writer.flush()
    }

    fn report(&self, summary: &mut Summary) {
        if self.options.secrets {
            summary.add_secrets(self.secrets, self.duplicate_secrets);
        }
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        self.summary(summary);
        self.flush()
    }
}

/// Records of a stream of JSON Lines that its reader did not get.
#[derive(Debug, Clone, Copy)]
pub struct LostRecords {
    pub time: Timestamp,
    /// How many records of the capture come before them.
    pub first: u64,
    pub records: u64,
    pub bytes: u64,
}

impl LostRecords {
    /// As a line of that stream.
    pub fn push(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out, "lost");
        push_time(&mut object, self.time);
        object.number("first", self.first);
        object.number("records", self.records);
        object.number("bytes", self.bytes);
        object.end();
    }
}

fn push_time(object: &mut Object<'_>, time: Timestamp) {
    object.display("time", &time);
}

fn push_process(object: &mut Object<'_>, process: &Process) {
    object.number("pid", u64::from(process.pid));
    object.number("tid", u64::from(process.tid));
    object.number("uid", u64::from(process.uid));
    object.text("comm", &process.comm.to_string());
}

fn push_socket(object: &mut Object<'_>, socket: Socket) {
    if let Some(fd) = socket.fd {
        object.signed("fd", i64::from(fd));
    }
    match socket.address {
        Address::Unknown(why) => {
            object.text("remote", "unknown");
            object.text("unknown", why.name());
        }
        Address::Unix => object.text("remote", "unix"),
        Address::Pipe => object.text("remote", "pipe"),
        Address::Inet { local, remote } => {
            object.display("local", &super::canonical(local));
            object.display("remote", &super::canonical(remote));
        }
    }
}

fn push_bytes(object: &mut Object<'_>, bytes: [Bytes; 2]) {
    for direction in crate::event::Direction::BOTH {
        let Bytes { captured, lost } = bytes[direction as usize];
        object.with(direction.name(), |out| {
            let mut object = Object::nested(out);
            object.number("captured", captured);
            object.number("lost", lost);
            object.close();
        });
    }
}

fn push_head(object: &mut Object<'_>, head: &Head) {
    object.with("http", |out| {
        let mut http = Object::nested(out);
        push_start(&mut http, head);
        http.close();
    });
}

fn push_start(http: &mut Object<'_>, head: &Head) {
    http.text("version", head.version());
    match head.start() {
        Start::Request { method, target } => {
            http.text("method", method);
            http.text("target", target);
            if let Some(host) = head.host() {
                http.lossy("host", host);
            }
        }
        Start::Response { status, reason } => {
            http.number("status", u64::from(status));
            http.text("reason", reason);
        }
        Start::Trailers => {}
    }
}

fn push_payload(object: &mut Object<'_>, payload: &[u8], limit: Option<usize>) {
    let limit = super::boundary(payload, limit.unwrap_or(usize::MAX));
    if limit < payload.len() {
        object.flag("truncated", true);
    }
    let payload = &payload[..limit];
    match simdutf8::basic::from_utf8(payload) {
        Ok(text) => object.text("text", text),
        Err(_) => object.with("base64", |out| push_base64(out, payload)),
    }
}

pub(super) fn push_base64(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + payload.len().div_ceil(3) * 4, 0);
    // The room is exact, so encoding cannot fail; were it to, the string is empty.
    let written = STANDARD
        .encode_slice(payload, &mut out[start..])
        .unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

fn push_quoted_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    push_hex(out, bytes);
    out.push(b'"');
}
