//! Making text safe for a terminal, and telling text from other bytes.

use std::io::Write;

use crate::scan;

/// Payload is not text when more than one byte in so many had to be escaped,
/// or when it holds a NUL. Random bytes come to one in two.
const BINARY_SHARE: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// The bytes are harmless; nothing was written.
    Clean,
    /// Written, with escapes.
    Escaped,
    /// No text; nothing was written.
    Binary,
}

pub(super) fn show(out: &mut Vec<u8>, bytes: &[u8]) -> Shown {
    if simdutf8::basic::from_utf8(bytes).is_ok_and(|text| find_control(text, 0).is_none()) {
        return Shown::Clean;
    }
    if memchr::memchr(0, bytes).is_some() {
        return Shown::Binary;
    }
    let (before, limit) = (out.len(), bytes.len() / BINARY_SHARE);
    let mut escaped = 0;
    for chunk in bytes.utf8_chunks() {
        escaped += push_text(out, chunk.valid());
        for byte in chunk.invalid() {
            push_byte(out, *byte);
        }
        escaped += chunk.invalid().len();
        if escaped > limit {
            out.truncate(before);
            return Shown::Binary;
        }
    }
    Shown::Escaped
}

/// The number of bytes that were escaped.
fn push_text(out: &mut Vec<u8>, text: &str) -> usize {
    let (mut from, mut escaped) = (0, 0);
    while let Some((at, character)) = find_control(text, from) {
        out.extend_from_slice(&text.as_bytes()[from..at]);
        match character {
            '\r' => out.extend_from_slice(b"\\r"),
            '\0'..='\x7f' => push_byte(out, character as u8),
            // Writing to a Vec does not fail.
            _ => drop(write!(out, "\\u{{{:x}}}", u32::from(character))),
        }
        from = at + character.len_utf8();
        escaped += character.len_utf8();
    }
    out.extend_from_slice(&text.as_bytes()[from..]);
    escaped
}

fn push_byte(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = [
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ];
    out.extend_from_slice(b"\\x");
    out.extend_from_slice(&digits);
}

/// The next character that may not reach a terminal. Line ends may, tabs too.
fn find_control(text: &str, from: usize) -> Option<(usize, char)> {
    let bytes = text.as_bytes();
    let suspect = |b: u8| scan::may_control(b) && !matches!(b, b'\n' | b'\t');
    let mut suspects = scan::hits(&bytes[from..], suspect).map(|at| from + at);
    suspects.find_map(|at| {
        let character = text[at..].chars().next()?;
        let line_end = character == '\r' && bytes.get(at + 1) == Some(&b'\n');
        (scan::controls(character) && !line_end).then_some((at, character))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], shown: Shown, written: &str) {
        let mut out = b"before ".to_vec();
        assert_eq!(show(&mut out, bytes), shown);
        assert_eq!(String::from_utf8(out).unwrap(), format!("before {written}"));
    }

    #[test]
    fn text_is_clean() {
        check(b"", Shown::Clean, "");
        check(
            "line\n\ttab\r\n\u{e9} \u{20ac} \u{1f600} \u{5d0}".as_bytes(),
            Shown::Clean,
            "",
        );
    }

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        check(b"red: \x1b[31m", Shown::Escaped, r"red: \x1b[31m");
        check(b"bell \x07 del \x7f", Shown::Escaped, r"bell \x07 del \x7f");
        check(
            "c1 csi \u{9b}31m".as_bytes(),
            Shown::Escaped,
            r"c1 csi \u{9b}31m",
        );
        check(
            "user \u{202e}txt.exe".as_bytes(),
            Shown::Escaped,
            r"user \u{202e}txt.exe",
        );
        check(b"shown\rhidden", Shown::Escaped, r"shown\rhidden");
        check(b"cut after\r", Shown::Escaped, r"cut after\r");
        check(
            b"latin1 caf\xe9 au lait",
            Shown::Escaped,
            r"latin1 caf\xe9 au lait",
        );
    }

    #[test]
    fn binary_is_told_from_text() {
        check(b"text with a \0 byte", Shown::Binary, "");
        check(b"\x01\x02\x03abc", Shown::Binary, "");
        check(&[0xff; 64], Shown::Binary, "");
    }
}
