use std::fmt::Write;

use super::*;
use crate::decode::Conversation;
use crate::event::Timestamp;

use Direction::{Received, Sent};

const REQUEST: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// A conversation that was upgraded, and what it shows since.
struct Upgraded {
    conversation: Conversation,
    shown: String,
}

impl Upgraded {
    fn new(extensions: &str) -> Self {
        let response =
            format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n{extensions}\r\n");
        let mut upgraded = Self {
            conversation: Conversation::default(),
            shown: String::new(),
        };
        upgraded
            .call(Sent, REQUEST, 1000)
            .call(Received, response.as_bytes(), 1000);
        upgraded.shown.clear();
        upgraded
    }

    fn call(&mut self, direction: Direction, bytes: &[u8], size: usize) -> &mut Self {
        let mut output = Output::default();
        for mut bytes in bytes.chunks(size) {
            while !bytes.is_empty() {
                let input = Input {
                    direction,
                    time: Timestamp(0),
                    bytes,
                    call_begins: false,
                };
                let step = self.conversation.step(input, &mut output);
                if step.kind == Some(MessageKind::Plain) {
                    write!(
                        self.shown,
                        "plain {}",
                        bytes[..step.consumed].escape_ascii()
                    )
                    .unwrap();
                }
                for (_, text) in output.view.parts() {
                    self.shown += str::from_utf8(text).unwrap();
                }
                self.shown += if step.ends { "." } else { "" };
                bytes = &bytes[step.consumed..];
            }
        }
        self
    }

    fn lose(&mut self, direction: Direction, length: u64) {
        let lost = Lost {
            direction,
            time: Timestamp(0),
            length,
        };
        self.conversation.lose(lost, &mut Output::default());
    }

    #[track_caller]
    fn shows(&mut self, expected: &str) {
        assert_eq!(std::mem::take(&mut self.shown), expected);
    }
}

#[test]
fn the_examples_of_rfc_6455_section_5_7() {
    let mut t = Upgraded::new("");
    t.call(Received, b"\x81\x05Hello", 100)
        .shows("TEXT, 5 bytes\nHello.");
    t.call(Sent, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 100)
        .shows("TEXT, 5 bytes\nHello.");
    t.call(Received, b"\x01\x03Hel\x80\x02lo", 100)
        .shows("TEXT, 3 bytes, more follows\nHelCONTINUATION, 2 bytes\nlo.");
    t.call(Received, b"\x89\x05Hello", 100)
        .shows("PING, 5 bytes\nHello.");
    let long = [&b"\x82\x7e\x01\x00"[..], &[b'x'; 256]].concat();
    t.call(Received, &long, 7)
        .shows(&format!("BINARY, 256 bytes\n{}.", "x".repeat(256)));
    let longer = [&b"\x82\x7f\0\0\0\0\0\x01\0\0"[..], &vec![b'y'; 65536]].concat();
    t.call(Received, &longer, 1000)
        .shows(&format!("BINARY, 65536 bytes\n{}.", "y".repeat(65536)));
    t.call(Received, b"\x88\x06\x03\xe8done\x88\0", 100)
        .shows("CLOSE, 6 bytes\ncode 1000 done.CLOSE, 0 bytes\n.");
}

#[test]
fn masks_hold_over_any_cut() {
    let mask = [1, 2, 3, 4];
    let text: Vec<u8> = (0..100).map(|n| b'a' + n % 26).collect();
    let masked = text
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    let frame: Vec<u8> = [0x81, 0xe4, 1, 2, 3, 4].into_iter().chain(masked).collect();
    for size in 1..frame.len() {
        let expected = format!("TEXT, 100 bytes\n{}.", str::from_utf8(&text).unwrap());
        Upgraded::new("").call(Sent, &frame, size).shows(&expected);
    }
}

#[test]
fn the_examples_of_rfc_7692_section_7_2_3() {
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let hello = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00";
    for size in 1..10 {
        let mut t = Upgraded::new(deflate);
        t.call(Received, hello, size)
            .shows("TEXT, 7 bytes, compressed\nHello.");
        // With the window of the first message.
        t.call(Received, b"\xc1\x05\xf2\x00\x11\x00\x00", size)
            .shows("TEXT, 5 bytes, compressed\nHello.");
        // Fragments; and a message that is not compressed.
        t.call(Sent, b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00", size);
        t.shows("TEXT, 3 bytes, compressed, more follows\nHeCONTINUATION, 4 bytes\nllo.");
        t.call(Sent, b"\x81\x02hi", size)
            .shows("TEXT, 2 bytes\nhi.");
        // A block with the final bit set.
        t.call(Sent, b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00", size)
            .shows("TEXT, 8 bytes, compressed\nHello.");
    }
}

#[test]
fn without_takeover_each_message_begins_anew() {
    let mut t = Upgraded::new(
        "Sec-WebSocket-Extensions: x, permessage-deflate; server_no_context_takeover\r\n",
    );
    t.call(Received, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", 100)
        .shown
        .clear();
    // What refers to the first message finds nothing there.
    t.call(Received, b"\xc1\x05\xf2\x00\x11\x00\x00", 100);
    t.shows("TEXT, 5 bytes, compressed\nH\0\0\0\0.");
}

#[test]
fn what_is_no_frame_is_plain() {
    for bytes in [
        &b"\xb1\x05Hello"[..],
        b"\x83\x00",
        b"\x09\x00",
        b"\x89\x7e\0\x01",
    ] {
        let mut t = Upgraded::new("");
        t.call(Received, bytes, 100);
        assert!(t.shown.contains("plain "), "{}", t.shown);
    }
    let mut t = Upgraded::new("");
    t.call(Received, b"\x81\x05He", 100)
        .shows("TEXT, 5 bytes\nHe");
    t.lose(Received, 2);
    t.call(Received, b"o", 100).shows("o.");
    t.lose(Received, 2);
    t.call(Received, b"\x81\x01o", 100)
        .shows("plain \\x81\\x01o");
}
