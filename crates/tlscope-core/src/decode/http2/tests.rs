use std::fmt::Write;

use super::*;
use crate::decode::{Conversation, NotePart, ViewPart};

use Direction::{Received, Sent};

/// What a conversation showed, and what it noted, as text.
#[derive(Default)]
struct Transcript {
    conversation: Conversation,
    output: Output,
    shown: String,
    notes: String,
    time: u64,
}

impl Transcript {
    fn call(&mut self, direction: Direction, bytes: &[u8]) -> &mut Self {
        self.pieces(direction, bytes, usize::MAX)
    }

    fn pieces(&mut self, direction: Direction, bytes: &[u8], size: usize) -> &mut Self {
        self.time += 1;
        for (index, mut bytes) in bytes.chunks(size).enumerate() {
            let mut call_begins = index == 0;
            while !bytes.is_empty() {
                let time = Timestamp(self.time);
                let input = Input {
                    direction,
                    time,
                    bytes,
                    call_begins,
                };
                let step = self.conversation.step(input, &mut self.output);
                self.note(&step, &bytes[..step.consumed]);
                (bytes, call_begins) = (&bytes[step.consumed..], false);
            }
        }
        self
    }

    fn lose(&mut self, direction: Direction, length: u64) {
        let lost = Lost {
            direction,
            time: Timestamp(self.time),
            length,
        };
        self.conversation.lose(lost, &mut self.output);
    }

    fn note(&mut self, step: &Step, taken: &[u8]) {
        if step.kind == Some(MessageKind::Plain) {
            writeln!(self.shown, "plain: {}", taken.escape_ascii()).unwrap();
        } else if step.show == Show::AsIs {
            self.shown += str::from_utf8(taken).unwrap();
        } else {
            for (part, bytes) in self.output.view.parts() {
                let mark = if part == ViewPart::Words { "" } else { "|" };
                write!(self.shown, "{mark}{}", str::from_utf8(bytes).unwrap()).unwrap();
            }
        }
        for note in &self.output.notes {
            let said = match &note.part {
                NotePart::Head(head) => format!("{:?}", head.start()),
                NotePart::Content(source) => {
                    let content = self.output.content(source, taken);
                    format!("content {}", content.escape_ascii())
                }
                NotePart::Trailers(_) => "trailers".to_owned(),
                NotePart::Frame(_) => "frame".to_owned(),
                NotePart::Finished(finished) => {
                    let total = finished.timing.map(|timing| timing.total.as_nanos());
                    format!(
                        "finished {} {total:?} {}",
                        finished.transferred, finished.complete
                    )
                }
            };
            let stream = note.stream.unwrap();
            writeln!(
                self.notes,
                "{} {stream} {}: {said}",
                note.exchange,
                note.kind.name()
            )
            .unwrap();
        }
    }

    #[track_caller]
    fn shows(&mut self, expected: &str) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.shown), expected);
        self
    }

    #[track_caller]
    fn notes(&mut self, expected: &str) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.notes), expected);
        self
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `:method: GET`, `:scheme: https`, `:path: /`, `:authority: a` (inserted).
const REQUEST: &[u8] = b"\x82\x87\x84\x41\x01a";
/// `:status: 200`.
const RESPONSE: &[u8] = b"\x88";
const REQUEST_SHOWN: &str = ":method: GET\n:scheme: https\n:path: /\n:authority: a\n\n";

fn settings() -> Vec<u8> {
    frame(4, 0, 0, &[0, 3, 0, 0, 0, 100, 0, 0x55, 0, 0, 0, 1])
}

fn opening() -> Vec<u8> {
    [PREFACE, &settings()].concat()
}

#[test]
fn an_exchange() {
    let mut t = Transcript::default();
    t.call(Sent, &[opening(), frame(1, 0x5, 1, REQUEST)].concat()).shows(&format!(
        "connection preface\nSETTINGS: MAX_CONCURRENT_STREAMS=100, 0x55=1\nHEADERS, stream 1, end of stream\n{REQUEST_SHOWN}"
    ));
    let answer = [
        settings(),
        frame(4, 1, 0, b""),
        frame(1, 4, 1, RESPONSE),
        frame(0, 0, 1, b"he"),
    ];
    t.call(Received, &answer.concat()).shows(
        "SETTINGS: MAX_CONCURRENT_STREAMS=100, 0x55=1\nSETTINGS: acknowledged\n\
         HEADERS, stream 1\n:status: 200\n\nDATA, stream 1\nhe",
    );
    t.call(Received, &frame(0, 1, 1, b"llo\n")).shows("llo\n");
    t.notes(
        "1 1 HTTP2Request: Request { method: \"GET\", target: \"/\" }\n\
         1 1 HTTP2Request: finished 0 None true\n\
         1 1 HTTP2Response: Response { status: 200, reason: \"\" }\n\
         1 1 HTTP2Response: content he\n\
         1 1 HTTP2Response: content llo\\n\n\
         1 1 HTTP2Response: finished 6 Some(2) true\n",
    );
}

#[test]
fn any_cut_gives_the_same_notes_and_words() {
    let client = [
        opening(),
        frame(
            1,
            0x2d,
            1,
            &[b"\x02\0\0\0\0\x10", REQUEST, b"\0\0"].concat(),
        ),
    ]
    .concat();
    let server = [
        settings(),
        frame(5, 4, 1, &[&2_u32.to_be_bytes(), REQUEST].concat()),
        frame(1, 0, 1, RESPONSE),
        frame(9, 4, 1, b"\x40\x01x\x01y"),
        frame(0, 8, 1, b"\x03content\0\0\0"),
        frame(8, 0, 1, &[0, 0, 1, 0]),
        frame(1, 5, 1, b"\x00\x01t\x01v"),
        frame(1, 4, 2, b"\x88\xbe"),
        frame(0, 1, 2, b"pushed"),
        frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
    ]
    .concat();
    let mut whole = Transcript::default();
    whole.call(Sent, &client).call(Received, &server);
    assert!(
        whole
            .shown
            .contains("HEADERS, stream 2\n:status: 200\nx: y\n"),
        "{}",
        whole.shown
    );
    assert!(
        whole.shown.contains("GOAWAY: last stream 1, NO_ERROR\n"),
        "{}",
        whole.shown
    );
    assert!(
        whole.notes.contains("1 1 HTTP2Response: trailers\n"),
        "{}",
        whole.notes
    );
    assert!(
        whole
            .notes
            .contains("2 2 HTTP2Response: finished 6 Some(0) true\n"),
        "{}",
        whole.notes
    );
    for size in 1..40 {
        let mut t = Transcript::default();
        // The first bytes must tell the protocol.
        t.call(Sent, &client).pieces(Received, &server, size.max(9));
        assert_eq!(
            t.shown.replace('|', ""),
            whole.shown.replace('|', ""),
            "size {size}"
        );
        let joined = |notes: &str| notes.replace("\n1 1 HTTP2Response: content ", "");
        let split = t.notes.matches("content").count();
        assert!(
            split >= 2 && joined(&t.notes).contains("finished 7 Some(1) true"),
            "{}",
            t.notes
        );
    }
}

#[test]
fn interleaved_streams_are_told_apart() {
    let mut t = Transcript::default();
    let requests = [1, 3, 5]
        .map(|stream| frame(1, 5, stream, REQUEST))
        .concat();
    t.call(Sent, &[opening(), requests].concat());
    let heads = [5, 1, 3]
        .map(|stream| frame(1, 4, stream, RESPONSE))
        .concat();
    let data = [3, 5, 1]
        .map(|stream| frame(0, 1, stream, &[b'0' + stream as u8]))
        .concat();
    t.notes.clear();
    t.call(Received, &[settings(), heads, data].concat());
    assert_eq!(t.notes.matches("Some(1) true").count(), 3);
    for stream in [1, 3, 5] {
        let exchange = stream / 2 + 1;
        assert!(t.notes.contains(&format!(
            "{exchange} {stream} HTTP2Response: content {stream}\n"
        )));
    }
}

#[test]
fn attached_in_the_middle_frames_are_found() {
    let mut t = Transcript::default();
    t.call(Received, b"rest of a frame")
        .shows("plain: rest of a frame\n");
    t.call(Sent, &frame(1, 5, 7, b"\x82\x87\xbe\xc0")).shows(
        "HEADERS, stream 7, end of stream\n:method: GET\n:scheme: https\n\
         [62]: [unknown]\n[64]: [unknown]\n\n",
    );
    t.call(
        Received,
        &[frame(1, 4, 7, b"\x88\xc5"), frame(0, 1, 7, b"x")].concat(),
    );
    t.shows("HEADERS, stream 7\n:status: 200\n[69]: [unknown]\n\nDATA, stream 7\nx");
    t.call(Sent, &frame(1, 5, 9, b"\x82\x84\x40\x01a\x01b"));
    t.call(Sent, &frame(1, 5, 11, b"\x82\x84\xbe"));
    assert!(t.shown.ends_with(":path: /\na: b\n\n"), "{}", t.shown);
}

#[test]
fn attached_in_the_middle_to_a_server_roles_are_not_guessed_for_good() {
    let mut t = Transcript::default();
    // The end of a request's content, and an answer whose status is not known.
    t.call(Received, &frame(0, 1, 7, b"rest"));
    t.call(Sent, &frame(1, 5, 7, b"\xbe\xbf"));
    t.notes.clear();
    t.call(Received, &frame(1, 5, 9, REQUEST));
    t.call(Sent, &frame(1, 5, 9, RESPONSE));
    assert!(t.notes.contains("9 HTTP2Request: Request"), "{}", t.notes);
    assert!(
        t.notes
            .ends_with("9 HTTP2Response: finished 0 Some(1) true\n"),
        "{}",
        t.notes
    );
    // Nor by a status that is not known, where another field tells.
    let mut t = Transcript::default();
    t.call(Sent, &frame(1, 5, 7, b"\xbe\x76\x01x"));
    t.call(Received, &frame(1, 5, 9, b"\xbe"));
    assert!(t.notes.contains("7 HTTP2Response"), "{}", t.notes);
    assert!(t.notes.contains("9 HTTP2Request"), "{}", t.notes);
}

#[test]
fn lost_content_leaves_the_framing() {
    let mut t = Transcript::default();
    t.call(Sent, &[opening(), frame(1, 5, 1, REQUEST)].concat());
    let data = frame(0, 1, 1, &[b'x'; 100]);
    let answer = [settings(), frame(1, 4, 1, RESPONSE)].concat();
    t.call(Received, &answer).call(Received, &data[..50]);
    t.lose(Received, 40);
    t.notes.clear();
    t.call(Received, &data[90..]);
    assert!(
        t.notes.ends_with("finished 100 Some(3) false\n"),
        "{}",
        t.notes
    );
}

#[test]
fn content_lost_up_to_its_end_ends_the_frame() {
    let mut t = Transcript::default();
    t.call(
        Sent,
        &[opening(), frame(1, 5, 1, REQUEST), frame(1, 5, 3, REQUEST)].concat(),
    );
    let data = frame(0, 1, 1, &[b'x'; 100]);
    let answer = [settings(), frame(1, 4, 1, RESPONSE)].concat();
    t.call(Received, &answer).call(Received, &data[..50]);
    t.notes.clear();
    t.lose(Received, 59);
    t.call(Received, &frame(1, 5, 3, RESPONSE));
    assert!(
        t.notes
            .ends_with("2 3 HTTP2Response: finished 0 Some(3) true\n"),
        "{}",
        t.notes
    );
}

#[test]
fn lost_frames_are_plain_until_a_call_begins_with_frames() {
    let mut t = Transcript::default();
    t.call(Sent, &[opening(), frame(1, 5, 1, REQUEST)].concat());
    t.call(Received, &[settings(), frame(1, 4, 1, RESPONSE)].concat());
    t.lose(Received, 1000);
    t.shown.clear();
    t.call(Received, b"the rest").shows("plain: the rest\n");
    t.call(Received, &frame(0, 1, 1, b"end"))
        .shows("DATA, stream 1\nend");
}

#[test]
fn noise_is_not_taken_for_frames() {
    for noise in [
        &b"\0\0\0\0\0\0\0\0\0"[..],
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc",
        b"+OK\r\n",
        b"\0",
    ] {
        assert!(Http2::resumes(noise).is_none() && Http2::begins(Sent, noise).is_none());
    }
}

#[test]
fn streams_and_held_bytes_are_bounded() {
    let mut t = Transcript::default();
    t.call(Sent, &opening());
    for stream in 0..5000 {
        t.call(Sent, &frame(1, 4, stream * 2 + 1, REQUEST));
    }
    t.shown.clear();
    let long = frame(1, 4, 1, &vec![0x82; 70_000]);
    t.call(Sent, &long)
        .shows("HEADERS, stream 1, type 1, 70000 bytes\n");
    t.call(Sent, &frame(1, 0, 3, REQUEST));
    for _ in 0..1000 {
        t.call(Sent, &frame(9, 0, 3, &[0x82; 1000]));
    }
}

#[test]
fn grpc_messages_are_framed() {
    let mut t = Transcript::default();
    let head = [REQUEST, b"\x5f\x10application/grpc"].concat();
    t.call(
        Sent,
        &[
            opening(),
            frame(1, 4, 1, &head),
            frame(0, 1, 1, b"\0\0\0\0\x02hi"),
        ]
        .concat(),
    );
    assert!(
        t.shown
            .ends_with("DATA, stream 1\ngRPC message, 2 bytes\n|hi"),
        "{}",
        t.shown
    );
}

#[test]
fn an_upgrade_is_answered_on_stream_1() {
    let mut t = Transcript::default();
    // The transcript takes notes of streams only, so these two go past it.
    let request = b"GET /old HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n";
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n";
    for (direction, bytes) in [(Sent, &request[..]), (Received, &switch[..])] {
        let input = Input {
            direction,
            time: Timestamp(0),
            bytes,
            call_begins: true,
        };
        assert_eq!(
            t.conversation.step(input, &mut t.output).consumed,
            bytes.len()
        );
    }
    t.call(Received, &[settings(), frame(1, 5, 1, RESPONSE)].concat())
        .call(Sent, &opening());
    assert!(
        t.notes
            .ends_with("1 1 HTTP2Response: finished 0 Some(1) true\n"),
        "{}",
        t.notes
    );
    assert!(
        t.shown
            .ends_with("preface\nSETTINGS: MAX_CONCURRENT_STREAMS=100, 0x55=1\n"),
        "{}",
        t.shown
    );
}
