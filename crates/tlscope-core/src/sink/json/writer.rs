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
    let mut from = 0;
    for at in scan::hits(bytes, suspect) {
        push_run(out, &bytes[from..], at - from);
        from = at + push_suspect(out, &text[at..]);
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
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
    let short: &[u8; 2] = match text.as_bytes().first() {
        Some(b'"') => b"\\\"",
        Some(b'\\') => b"\\\\",
        Some(b'\n') => b"\\n",
        Some(b'\r') => b"\\r",
        Some(b'\t') => b"\\t",
        _ => return push_control(out, text),
    };
    out.extend_from_slice(short);
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
    fn every_character_survives() {
        let all: String = (0..=u32::from(char::MAX))
            .filter_map(char::from_u32)
            .collect();
        let mut out = Vec::new();
        push_string(&mut out, &all);
        assert!(serde_json::from_slice::<String>(&out).unwrap() == all);
    }
}
