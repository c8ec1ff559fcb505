//! Writing JSON objects (RFC 8259) without a tree in between.

use std::fmt;
use std::io::Write;

use crate::scan;

/// The version of the schema: `v` of every line.
const SCHEMA: u64 = 1;

/// An object that is being written. Keys are ours and need no escaping.
#[derive(Debug)]
pub(in crate::sink) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// A line of its own.
    pub(in crate::sink) fn begin(out: &'a mut Vec<u8>, kind: &str) -> Self {
        let mut object = Self::nested(out);
        object.number("v", SCHEMA);
        object.text("kind", kind);
        object
    }

    pub(in crate::sink) fn nested(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    pub(in crate::sink) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        push_string(self.out, value);
    }

    /// `value` shows as printable ASCII without quotes and backslashes.
    pub(in crate::sink) fn display(&mut self, key: &str, value: &impl fmt::Display) {
        self.key(key);
        let _ = write!(self.out, "\"{value}\"");
    }

    /// Bytes that are not UTF-8 become U+FFFD.
    pub(in crate::sink) fn lossy(&mut self, key: &str, value: &[u8]) {
        self.text(key, &String::from_utf8_lossy(value));
    }

    pub(in crate::sink) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        push_number(self.out, value);
    }

    pub(in crate::sink) fn signed(&mut self, key: &str, value: i64) {
        self.key(key);
        // Writing to a Vec does not fail.
        let _ = write!(self.out, "{value}");
    }

    pub(in crate::sink) fn flag(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out
            .extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// `write` writes the value.
    pub(in crate::sink) fn with(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        write(self.out);
    }

    pub(in crate::sink) fn close(self) {
        self.out.push(b'}');
    }

    pub(in crate::sink) fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }

    fn key(&mut self, key: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

fn push_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

pub(in crate::sink) fn push_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let suspect = |b: u8| scan::may_control(b) || matches!(b, b'"' | b'\\');
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let (mut from, mut gathered) = (0, Gathered::default());
    for at in scan::hits(bytes, suspect) {
        if gathered.take(&bytes[from..], at - from) {
            from = at + 1;
            continue;
        }
        gathered.put(out);
        push_run(out, &bytes[from..], at - from);
        from = at + push_suspect(out, &text[at..]);
    }
    gathered.put(out);
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// Each byte that has a short escape, and it.
const SHORT: [[u8; 2]; 256] = {
    let mut short = [[0; 2]; 256];
    short[b'"' as usize] = *b"\\\"";
    short[b'\\' as usize] = *b"\\\\";
    short[b'\n' as usize] = *b"\\n";
    short[b'\r' as usize] = *b"\\r";
    short[b'\t' as usize] = *b"\\t";
    short
};

/// Short runs, each with the escape behind it: JSON in JSON is made of them. An
/// array takes them twice as fast as a vector, which looks for room each time.
#[derive(Debug)]
struct Gathered {
    bytes: [u8; Self::ROOM],
    length: usize,
}

impl Default for Gathered {
    fn default() -> Self {
        Self {
            bytes: [0; Self::ROOM],
            length: 0,
        }
    }
}

impl Gathered {
    const ROOM: usize = 512;
    /// A run is copied as if it had so many bytes; what is too much is overwritten.
    const RUN: usize = 16;

    /// False when it is not such a run and escape, or when there is no room.
    #[inline]
    fn take(&mut self, bytes: &[u8], run: usize) -> bool {
        let (Some(chunk), Some(room)) = (
            bytes.first_chunk::<{ Self::RUN + 1 }>(),
            self.bytes.get_mut(self.length..),
        ) else {
            return false;
        };
        let (Some(room), Some(suspect)) =
            (room.first_chunk_mut::<{ Self::RUN + 2 }>(), chunk.get(run))
        else {
            return false;
        };
        let short = SHORT[usize::from(*suspect)];
        if short[0] == 0 {
            return false;
        }
        room[..=Self::RUN].copy_from_slice(chunk);
        room[run..run + 2].copy_from_slice(&short);
        self.length += run + 2;
        true
    }

    fn put(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[..self.length]);
        self.length = 0;
    }
}

/// The first `length` of `bytes`. Runs between the quotes of JSON are short:
/// copying a fixed length and taking back the rest is 1.5 times as fast.
fn push_run(out: &mut Vec<u8>, bytes: &[u8], length: usize) {
    const SHORT: usize = 16;
    match bytes.first_chunk::<SHORT>() {
        Some(chunk) if length <= SHORT => {
            let end = out.len() + length;
            out.extend_from_slice(chunk);
            out.truncate(end);
        }
        _ => out.extend_from_slice(&bytes[..length]),
    }
}

/// Writes the first character, escaped if need be; returns its length in `text`.
fn push_suspect(out: &mut Vec<u8>, text: &str) -> usize {
    let first = text.as_bytes().first().copied().unwrap_or_default();
    let short = SHORT[usize::from(first)];
    if short[0] == 0 {
        return push_control(out, text);
    }
    out.extend_from_slice(&short);
    1
}

fn push_control(out: &mut Vec<u8>, text: &str) -> usize {
    let Some(character) = text.chars().next() else {
        return 0;
    };
    if scan::controls(character) {
        // Every such character is in the Basic Multilingual Plane.
        let _ = write!(out, "\\u{:04x}", u32::from(character));
    } else {
        out.extend_from_slice(&text.as_bytes()[..character.len_utf8()]);
    }
    character.len_utf8()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, written: &str) {
        let mut out = Vec::new();
        push_string(&mut out, text);
        assert_eq!(String::from_utf8(out.clone()).unwrap(), written);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }

    #[test]
    fn strings_are_escaped() {
        check("", r#""""#);
        check("plain \u{e9}\u{20ac}", "\"plain \u{e9}\u{20ac}\"");
        check("a\"b\\c\r\n\td", r#""a\"b\\c\r\n\td""#);
        check(
            "\0\u{1b}\u{7f}\u{9b}\u{202e}\u{61c}\u{a0}",
            concat!(r#""\u0000\u001b\u007f\u009b\u202e\u061c"#, "\u{a0}\""),
        );
    }

    #[test]
    fn escapes_survive_wherever_they_stand_and_however_many() {
        let unit = "{\"a\":\"b\\n\",\n\t\u{20ac}\r}\u{202e}";
        for repeats in 0..40 {
            for before in 0..20 {
                let text = "x".repeat(before) + &unit.repeat(repeats) + &"\"".repeat(before);
                let mut out = Vec::new();
                push_string(&mut out, &text);
                let written = String::from_utf8(out).unwrap();
                assert!(!written.contains(scan::controls), "{written}");
                assert!(serde_json::from_str::<String>(&written).unwrap() == text);
            }
        }
    }

    #[test]
    fn every_character_survives() {
        let all: String = (0..=u32::from(char::MAX))
            .filter_map(char::from_u32)
            .collect();
        let mut out = Vec::new();
        push_string(&mut out, &all);
        assert!(serde_json::from_slice::<String>(&out).unwrap() == all);
    }
}
