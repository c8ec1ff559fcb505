//! One entry of a HAR file: a request, its response, and what came between.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::fields;
use crate::decode::{Finished, Head, MessageKind, Start, Timing};
use crate::event::{Address, Direction, Timestamp};
use crate::item::{ConnectionId, Message};
use crate::sink::canonical;
use crate::sink::json::push_base64;
use crate::sink::json::writer::Object;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) begun: Timestamp,
    connection: ConnectionId,
    address: Address,
    /// This process is the server.
    serves: bool,
    pid: u32,
    comm: String,
    request: Side,
    response: Side,
    timing: Option<Timing>,
    request_duration: Duration,
}

#[derive(Debug, Default)]
struct Side {
    head: Option<Arc<Head>>,
    content: Vec<u8>,
    /// Content that was left away.
    cut: u64,
    transferred: u64,
    finished: bool,
}

impl Entry {
    pub(super) fn new(message: &Message<'_>) -> Self {
        let is_request = matches!(
            message.kind,
            MessageKind::Http1Request | MessageKind::Http2Request
        );
        Self {
            begun: message.time,
            connection: message.connection.id,
            address: message.connection.carries(message.direction).address,
            serves: is_request == (message.direction == Direction::Received),
            pid: message.process.pid,
            comm: message.process.comm.to_string(),
            request: Side::default(),
            response: Side::default(),
            timing: None,
            request_duration: Duration::ZERO,
        }
    }

    /// An interim response is replaced by the final one.
    pub(super) fn head(&mut self, head: &Arc<Head>) {
        let side = self.side_of(Some(head));
        *side = Side {
            head: Some(Arc::clone(head)),
            ..std::mem::take(side)
        };
    }

    /// Keeps up to `room` bytes of content in all; returns how many it took.
    pub(super) fn content(&mut self, bytes: &[u8], message: &Message<'_>, room: usize) -> usize {
        let side = self.side_of(message.head);
        let taken = bytes.len().min(room.saturating_sub(side.content.len()));
        side.content.extend_from_slice(&bytes[..taken]);
        side.cut += (bytes.len() - taken) as u64;
        taken
    }

    /// Tells whether the exchange is over.
    pub(super) fn finish(&mut self, finished: &Finished) -> bool {
        let Some(response) = &finished.response else {
            self.request.transferred = finished.transferred;
            self.request.finished = true;
            self.request_duration = finished.duration;
            return self.response.finished;
        };
        if self.request.head.is_none() {
            self.request.head.clone_from(&finished.request);
        }
        let interim = matches!(
            response.start(),
            Start::Response {
                status: 100..200,
                ..
            }
        );
        if interim && !matches!(response.start(), Start::Response { status: 101, .. }) {
            return false;
        }
        self.response.transferred = finished.transferred;
        self.response.finished = true;
        self.timing = finished.timing;
        self.request.finished || finished.request.is_none()
    }

    pub(super) fn kept(&self) -> usize {
        self.request.content.len() + self.response.content.len()
    }

    fn side_of(&mut self, head: Option<&Arc<Head>>) -> &mut Side {
        match head.map(|head| head.start()) {
            Some(Start::Request { .. }) => &mut self.request,
            _ => &mut self.response,
        }
    }

    pub(super) fn push(&self, out: &mut Vec<u8>) {
        let Timing { first_byte, total } = self.timing.unwrap_or(Timing {
            first_byte: self.request_duration,
            total: self.request_duration,
        });
        let mut entry = Object::nested(out);
        entry.display("startedDateTime", &self.begun);
        entry.with("time", |out| push_milliseconds(out, total));
        entry.with("request", |out| self.push_request(out));
        entry.with("response", |out| self.push_response(out));
        entry.with("cache", |out| Object::nested(out).close());
        entry.with("timings", |out| {
            let send = self.request_duration.min(first_byte);
            let mut timings = Object::nested(out);
            timings.with("send", |out| push_milliseconds(out, send));
            timings.with("wait", |out| {
                push_milliseconds(out, first_byte.saturating_sub(send));
            });
            let receive = total.saturating_sub(first_byte);
            timings.with("receive", |out| push_milliseconds(out, receive));
            timings.close();
        });
        if let Some(server) = self.server() {
            entry.display("serverIPAddress", &server.ip());
        }
        entry.display("connection", &self.connection);
        entry.text("comment", &self.comment());
        entry.close();
    }

    fn server(&self) -> Option<SocketAddr> {
        let Address::Inet { local, remote } = self.address else {
            return None;
        };
        Some(canonical(if self.serves { local } else { remote }))
    }

    fn comment(&self) -> String {
        let mut comment = format!("{} ({})", self.comm, self.pid);
        let cut = self.request.cut + self.response.cut;
        if cut > 0 {
            // Writing to a String does not fail.
            let _ = write!(comment, "; {cut} bytes of content left away");
        }
        if self.request.head.is_none() {
            comment += "; no request was seen";
        }
        if !self.response.finished {
            comment += "; no whole response was seen";
        }
        comment
    }

    fn push_request(&self, out: &mut Vec<u8>) {
        let head = self.request.head.as_deref();
        let mut request = Object::nested(out);
        let method = match head.map(Head::start) {
            Some(Start::Request { method, .. }) => method,
            _ => "[unknown]",
        };
        let server = self.server().map(|server| server.to_string());
        let server = server.as_deref().unwrap_or("unknown.invalid");
        request.text("method", method);
        request.text("url", &fields::url(head, server));
        push_common(&mut request, head);
        request.with("queryString", |out| fields::push_query(out, head));
        request.number("bodySize", self.request.transferred);
        if !self.request.content.is_empty() {
            request.with("postData", |out| {
                let mut data = Object::nested(out);
                data.text("mimeType", &fields::media_type(head));
                data.with("params", |out| out.extend_from_slice(b"[]"));
                // HAR has no encoding for what is sent; members of one's own begin so.
                push_text(&mut data, &self.request.content, "_encoding");
                data.close();
            });
        }
        request.close();
    }

    fn push_response(&self, out: &mut Vec<u8>) {
        let head = self.response.head.as_deref();
        let mut response = Object::nested(out);
        let (status, reason) = match head.map(Head::start) {
            Some(Start::Response { status, reason }) => (status, reason),
            _ => (0, ""),
        };
        response.number("status", u64::from(status));
        response.text("statusText", reason);
        push_common(&mut response, head);
        response.with("content", |out| {
            let mut content = Object::nested(out);
            let Side {
                content: text,
                cut,
                transferred,
                ..
            } = &self.response;
            let size = text.len() as u64 + cut;
            content.number("size", size);
            if size > *transferred {
                content.number("compression", size - transferred);
            }
            content.text("mimeType", &fields::media_type(head));
            push_text(&mut content, text, "encoding");
            content.close();
        });
        let location = head
            .and_then(|head| head.field("location"))
            .unwrap_or_default();
        response.lossy("redirectURL", location);
        response.number("bodySize", self.response.transferred);
        response.close();
    }
}

fn push_text(object: &mut Object<'_>, content: &[u8], encoding: &str) {
    if let Ok(text) = str::from_utf8(content) {
        object.text("text", text);
    } else {
        object.with("text", |out| push_base64(out, content));
        object.text(encoding, "base64");
    }
}

/// Members that requests and responses share. Sizes of heads are not known:
/// HTTP/2 compresses them.
fn push_common(object: &mut Object<'_>, head: Option<&Head>) {
    object.text("httpVersion", head.map_or("", Head::version));
    object.with("cookies", |out| fields::push_cookies(out, head));
    object.with("headers", |out| fields::push_headers(out, head));
    object.signed("headersSize", -1);
}

fn push_milliseconds(out: &mut Vec<u8>, duration: Duration) {
    use std::io::Write;
    // Writing to a Vec does not fail.
    let _ = write!(
        out,
        "{}.{:06}",
        duration.as_millis(),
        duration.as_nanos() % 1_000_000
    );
}
