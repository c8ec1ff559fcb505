//! The parts of messages as members of a `message` object.

use std::time::Duration;

use super::{push_payload, push_start};
use crate::decode::{Finished, Head, Start, Timing};
use crate::item::MessagePart;
use crate::sink::json::writer::{Object, push_string};

pub(super) fn push(object: &mut Object<'_>, part: &MessagePart<'_>, truncate: Option<usize>) {
    match part {
        MessagePart::Head(head) => {
            object.text("part", "head");
            push_head(object, head);
        }
        MessagePart::Content { bytes, .. } => {
            object.text("part", "content");
            object.number("length", bytes.len() as u64);
            push_payload(object, bytes, truncate);
        }
        MessagePart::Frame(frame) => {
            object.text("part", "frame");
            object.text("opcode", frame.name());
            object.number("length", frame.length);
            object.flag("final", frame.is_final);
            object.flag("compressed", frame.compressed);
        }
        MessagePart::Trailers(head) => {
            object.text("part", "trailers");
            push_head(object, head);
        }
        MessagePart::Finished(finished) => {
            object.text("part", "end");
            push_finished(object, finished);
        }
    }
}

fn push_head(object: &mut Object<'_>, head: &Head) {
    object.with("http", |out| {
        let mut http = Object::nested(out);
        push_start(&mut http, head);
        http.with("headers", |out| {
            out.push(b'[');
            for (index, (name, value)) in head.fields().enumerate() {
                out.extend_from_slice(if index == 0 { b"[" } else { b",[" });
                push_string(out, &String::from_utf8_lossy(name));
                out.push(b',');
                push_string(out, &String::from_utf8_lossy(value));
                out.push(b']');
            }
            out.push(b']');
        });
        http.close();
    });
}

fn push_finished(object: &mut Object<'_>, finished: &Finished) {
    object.flag("complete", finished.complete);
    object.number("transferred", finished.transferred);
    object.number("decoded", finished.decoded);
    object.number("duration_ns", nanoseconds(finished.duration));
    if let Some(Timing { first_byte, total }) = finished.timing {
        object.number("first_byte_ns", nanoseconds(first_byte));
        object.number("total_ns", nanoseconds(total));
    }
    if let Some(request) = &finished.request
        && let Start::Request { method, target } = request.start()
    {
        object.text("method", method);
        if let Some(host) = request.host() {
            object.lossy("host", host);
        }
        object.text("target", target);
    }
    if let Some(Start::Response { status, .. }) = finished.response.as_ref().map(|h| h.start()) {
        object.number("status", u64::from(status));
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
