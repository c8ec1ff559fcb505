//! One entry of a HAR file: a request, its response, and what came between.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::decode::{Finished, Head, Start, Timing};
use crate::event::{Address, Timestamp};
use crate::item::{ConnectionId, ConnectionInfo, Message};
use crate::sink::json::push_base64;
use crate::sink::json::writer::{Object, push_string};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) begun: Timestamp,
    connection: ConnectionId,
    address: Address,
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
        let ConnectionInfo { id, socket, .. } = message.connection;
        Self {
            begun: message.time,
            connection: *id,
            address: socket.address,
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
        if let Address::Inet { remote, .. } = self.address {
            entry.display("serverIPAddress", &remote.ip().to_canonical());
        }
        entry.display("connection", &self.connection);
        entry.text("comment", &self.comment());
        entry.close();
    }

    fn comment(&self) -> String {
        let mut comment = format!("{} ({})", self.comm, self.pid);
        let cut = self.request.cut + self.response.cut;
        if cut > 0 {
            // Writing to a String does not fail.
            let _ = write!(comment, "; {cut} bytes of content left away");
        }
        if !self.response.finished {
            comment += "; no whole response was seen";
        }
        comment
    }

    fn push_request(&self, out: &mut Vec<u8>) {
        let head = self.request.head.as_deref();
        let mut request = Object::nested(out);
        let (method, url) = match head.map(Head::start) {
            Some(Start::Request { method, target }) => (method, url(head, target)),
            _ => ("", String::new()),
        };
        request.text("method", method);
        request.text("url", &url);
        push_common(&mut request, head);
        request.with("queryString", |out| push_query(out, head));
        request.number("bodySize", self.request.transferred);
        if !self.request.content.is_empty() {
            request.with("postData", |out| {
                let mut data = Object::nested(out);
                data.text("mimeType", &media_type(head));
                data.text("text", &String::from_utf8_lossy(&self.request.content));
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
            let text = &self.response.content;
            content.number("size", text.len() as u64 + self.response.cut);
            content.text("mimeType", &media_type(head));
            if let Ok(text) = str::from_utf8(text) {
                content.text("text", text);
            } else {
                content.with("text", |out| push_base64(out, text));
                content.text("encoding", "base64");
            }
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

/// Members that requests and responses share. Sizes of heads are not known:
/// HTTP/2 compresses them.
fn push_common(object: &mut Object<'_>, head: Option<&Head>) {
    object.text("httpVersion", head.map_or("", Head::version));
    object.with("cookies", |out| out.extend_from_slice(b"[]"));
    object.with("headers", |out| {
        let fields = head.into_iter().flat_map(Head::fields);
        push_pairs(
            out,
            fields.map(|(name, value)| {
                (
                    String::from_utf8_lossy(name).into_owned(),
                    String::from_utf8_lossy(value).into_owned(),
                )
            }),
        );
    });
    object.signed("headersSize", -1);
}

fn push_pairs(out: &mut Vec<u8>, pairs: impl Iterator<Item = (String, String)>) {
    out.push(b'[');
    for (index, (name, value)) in pairs.enumerate() {
        out.extend_from_slice(if index == 0 {
            b"{\"name\":"
        } else {
            b",{\"name\":"
        });
        push_string(out, &name);
        out.extend_from_slice(b",\"value\":");
        push_string(out, &value);
        out.push(b'}');
    }
    out.push(b']');
}

fn push_query(out: &mut Vec<u8>, head: Option<&Head>) {
    let query = match head.map(Head::start) {
        Some(Start::Request { target, .. }) => target.split_once('?').map_or("", |parts| parts.1),
        _ => "",
    };
    let query = query.split('#').next().unwrap_or_default();
    let pairs = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        });
    push_pairs(out, pairs);
}

fn url(head: Option<&Head>, target: &str) -> String {
    if !target.starts_with('/') {
        return target.to_owned();
    }
    let host = head.and_then(Head::host).unwrap_or_default();
    format!("https://{}{target}", String::from_utf8_lossy(host))
}

fn media_type(head: Option<&Head>) -> String {
    let value = head
        .and_then(|head| head.field("content-type"))
        .unwrap_or_default();
    String::from_utf8_lossy(value).into_owned()
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
