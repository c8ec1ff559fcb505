use std::fmt::Write;

use super::*;
use crate::decode::Conversation;
use Direction::{Received, Sent};

/// What the steps of a conversation said, in short: `Q` request, `R` response,
/// `P` plain, `?` not known yet; content in parentheses; `.` ends a message.
#[derive(Default)]
struct Transcript {
    conversation: Conversation,
    output: Output,
    text: String,
}

impl Transcript {
    fn call(&mut self, direction: Direction, bytes: &[u8]) -> &mut Self {
        self.pieces(direction, bytes, bytes.len().max(1))
    }

    /// One call that comes in pieces.
    fn pieces(&mut self, direction: Direction, bytes: &[u8], size: usize) -> &mut Self {
        for (index, mut piece) in bytes.chunks(size).enumerate() {
            let mut call_begins = index == 0;
            while !piece.is_empty() {
                let input = Input {
                    time: Timestamp(0),
                    direction,

                    bytes: piece,
                    call_begins,
                };
                let step = self.conversation.step(input, &mut self.output);
                assert!((1..=piece.len()).contains(&step.consumed));
                let (taken, rest) = piece.split_at(step.consumed);
                self.note(&step, taken);
                (piece, call_begins) = (rest, false);
            }
        }
        self
    }

    fn note(&mut self, step: &Step, taken: &[u8]) {
        self.text.push(match step.kind {
            None => '?',
            Some(MessageKind::Plain) => 'P',
            Some(MessageKind::Http1Request) => 'Q',
            Some(MessageKind::Http1Response) => 'R',
            Some(_) => '!',
        });
        if step.show == Show::AsIs {
            let last = taken.len().saturating_sub(7);
            write!(self.text, "({})", taken[last..].escape_ascii()).unwrap();
        }
        self.text += if step.ends { ". " } else { " " };
    }

    fn lose(&mut self, direction: Direction, length: u64) -> &mut Self {
        let lost = Lost {
            direction,
            time: Timestamp(0),
            length,
        };
        self.conversation.lose(lost, &mut self.output);
        self.text += "- ";
        self
    }

    #[track_caller]
    fn check(&mut self, expected: &str) -> &mut Self {
        assert_eq!(self.text.trim_end(), expected);
        self.text.clear();
        self
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK_5: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\nhello\r\n1\r\n!\r\n0\r\nT: 1\r\n\r\n";

#[test]
fn messages_are_delimited_by_length() {
    let mut t = Transcript::default();
    t.call(Sent, GET).check(r"Q(: a\r\n\r\n).");
    t.call(Received, OK_5).check(r"R(: 5\r\n\r\n) R(hello).");
    t.call(Sent, b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
        .check(r"Q(: 3\r\n\r\n) Q(abc).");
}

#[test]
fn pipelined_messages_are_told_apart() {
    let mut t = Transcript::default();
    t.call(Sent, &[GET, HEAD, GET].concat());
    t.check(r"Q(: a\r\n\r\n). Q(: a\r\n\r\n). Q(: a\r\n\r\n).");
    let head_response = &OK_5[..OK_5.len() - 5];
    t.call(Received, &[OK_5, head_response, OK_5].concat());
    t.check(r"R(: 5\r\n\r\n) R(hello). R(: 5\r\n\r\n). R(: 5\r\n\r\n) R(hello).");
}

#[test]
fn chunks_hide_their_framing() {
    let mut t = Transcript::default();
    t.call(Sent, GET).check(r"Q(: a\r\n\r\n).");
    t.call(Received, CHUNKED)
        .check(r"R(ked\r\n\r\n) R R(hello) R R R(!) R R R R.");
    t.call(Received, OK_5).check(r"R(: 5\r\n\r\n) R(hello).");
}

#[test]
fn any_cut_gives_the_same_messages() {
    let stream = [CHUNKED, OK_5, CHUNKED].concat();
    for size in 1..stream.len() {
        let mut t = Transcript::default();
        for _ in 0..3 {
            t.call(Sent, GET);
        }
        t.text.clear();
        t.pieces(Received, &stream, size);
        assert_eq!(t.text.matches(". ").count(), 3, "size {size}: {}", t.text);
        assert!(
            !t.text.contains("P(") || t.text.contains("?(P)"),
            "size {size}: {}",
            t.text
        );
    }
}

#[test]
fn responses_without_a_body() {
    let mut t = Transcript::default();
    t.call(Sent, &GET.repeat(3));
    t.text.clear();
    t.call(Received, b"HTTP/1.1 100 Continue\r\n\r\n")
        .check(r"R(nue\r\n\r\n).");
    t.call(Received, b"HTTP/1.1 204 No Content\r\n\r\n")
        .check(r"R(ent\r\n\r\n).");
    t.call(
        Received,
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    );
    t.check(r"R(: 9\r\n\r\n).");
    t.call(Received, b"HTTP/1.0 200 OK\r\n\r\nuntil")
        .check(r"R( OK\r\n\r\n) R(until)");
    t.call(Received, b" close").check("R( close)");
}

#[test]
fn a_tunnel_is_begun_anew() {
    let mut t = Transcript::default();
    t.call(Sent, b"CONNECT a:1 HTTP/1.1\r\n\r\n")
        .check(r"Q(1.1\r\n\r\n).");
    t.call(Received, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        .check(r"R(: 9\r\n\r\n). P(x)");
    t.call(Sent, b"\x16\x03\x01").check(r"P(\x16\x03\x01)");
    t.call(Sent, GET).check(r"Q(: a\r\n\r\n).");
}

#[test]
fn what_is_not_http_is_plain() {
    let mut t = Transcript::default();
    t.call(Sent, b"*1\r\n$4\r\nPING\r\n")
        .check(r"P(\nPING\r\n)");
    t.call(Received, b"+PONG\r\n").check(r"P(+PONG\r\n)");
    t.call(Sent, b"GET").check("P(GET)");
    let mut t = Transcript::default();
    t.call(Sent, b"GE").check("?(GE)");
    t.call(Sent, b"T /").check("?(T /)");
    t.call(Sent, b"\r\n").check(r"P(\r\n)");
}

#[test]
fn a_connection_attached_to_in_a_body_resynchronizes() {
    let mut t = Transcript::default();
    t.call(Received, b"rest of a body").check("P( a body)");
    t.call(Received, OK_5).check(r"R(: 5\r\n\r\n) R(hello).");
    // The request of this one was not seen: it may have been HEAD.
    t.call(Received, &OK_5[..OK_5.len() - 5])
        .check(r"R(: 5\r\n\r\n)");
    t.call(Received, OK_5).check(r"R(: 5\r\n\r\n) R(hello).");
}

#[test]
fn lost_bytes_of_a_body_leave_its_framing() {
    let mut t = Transcript::default();
    t.call(Sent, GET)
        .call(Received, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    t.text.clear();
    t.lose(Received, 95)
        .call(Received, b"hello")
        .check("- R(hello).");
    t.call(Sent, GET)
        .call(Received, OK_5)
        .check(r"Q(: a\r\n\r\n). R(: 5\r\n\r\n) R(hello).");
}

#[test]
fn lost_framing_is_plain_until_the_next_message() {
    let mut t = Transcript::default();
    t.call(Sent, GET)
        .call(Received, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
    t.text.clear();
    t.lose(Received, 20)
        .call(Received, b"lost in the middle")
        .check("- P( middle)");
    t.call(Received, OK_5).check(r"R(: 5\r\n\r\n) R(hello).");
}

#[test]
fn a_head_without_end_is_plain() {
    let mut t = Transcript::default();
    t.call(Sent, b"GET / HTTP/1.1\r\n");
    for _ in 0..10 {
        t.call(Sent, &b"x: y\r\n".repeat(2000));
    }
    assert!(t.text.trim_end().ends_with(r"P(\nx: y\r\n)"), "{}", t.text);
}

#[test]
fn conflicting_lengths_are_not_trusted() {
    let mut t = Transcript::default();
    t.call(Sent, GET);
    t.text.clear();
    t.call(
        Received,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!!",
    );
    t.check(r"R(: 6\r\n\r\n) R(hello!!)");
}

/// The targets of the requests that responses were paired with.
fn paired(events: &[(Direction, &str)]) -> Vec<Option<String>> {
    let (mut conversation, mut output, mut paired) =
        (Conversation::default(), Output::default(), Vec::new());
    for (index, (direction, text)) in events.iter().enumerate() {
        let (time, bytes) = (Timestamp(index as u64), text.as_bytes());
        let input = Input {
            direction: *direction,
            time,
            bytes,
            call_begins: true,
        };
        let step = conversation.step(input, &mut output);
        assert_eq!(step.consumed, bytes.len());
        if step.kind == Some(MessageKind::Http1Response) {
            let request = step.heads.request;
            paired.push(
                request
                    .map(|head| format!("{:?}", head.start()))
                    .map(|start| start.split('"').nth(3).unwrap_or_default().to_owned()),
            );
        }
    }
    paired
}

#[test]
fn a_response_whose_event_came_first_shifts_no_other() {
    let response = (Received, "HTTP/1.1 204 No Content\r\n\r\n");
    let [a, b, c] = ["a", "b", "c"].map(|path| format!("GET /{path} HTTP/1.1\r\n\r\n"));
    let crossed = [
        response,
        (Sent, &a),
        (Sent, &b),
        response,
        (Sent, &c),
        response,
    ];
    assert_eq!(
        paired(&crossed),
        [None, Some("/b".into()), Some("/c".into())]
    );
    let late = [response, (Sent, &a), response, (Sent, &b), response];
    assert_eq!(paired(&late), [None, Some("/a".into()), Some("/b".into())]);
}
