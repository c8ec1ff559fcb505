//! Start lines and heads: recognizing, delimiting and parsing them.

use crate::decode::http2::PREFACE;
use crate::decode::{Head, MessageKind};

/// The longest method taken for one; the longest registered has 17 letters.
const MAX_METHOD: usize = 24;
/// Heads with more fields than this are not parsed.
const MAX_FIELDS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineKind {
    Http(MessageKind),
    /// HTTP/2's preface, whole (RFC 9113 section 3.4).
    Preface,
    /// May become a start line.
    Incomplete,
    Other,
}

/// What the first line of `bytes` is.
pub(super) fn line(bytes: &[u8]) -> LineKind {
    const VERSION: &[u8] = b"HTTP/1.";
    let (line, complete) = match memchr::memchr(b'\n', &bytes[..bytes.len().min(super::MAX_HEAD)]) {
        Some(end) => (
            bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]),
            true,
        ),
        None => (bytes, false),
    };
    if let Some(preface) = preface(bytes) {
        return preface;
    }
    if line.starts_with(VERSION) || (!complete && VERSION.starts_with(line)) {
        return status_line(&line[VERSION.len().min(line.len())..], complete);
    }
    request_line(line, complete)
}

fn preface(bytes: &[u8]) -> Option<LineKind> {
    if bytes.starts_with(PREFACE) {
        Some(LineKind::Preface)
    } else {
        PREFACE.starts_with(bytes).then_some(LineKind::Incomplete)
    }
}

/// `rest` follows `HTTP/1.` (RFC 9112 section 4): minor version, status.
fn status_line(rest: &[u8], complete: bool) -> LineKind {
    let fits = |(index, byte): (usize, &u8)| match index {
        1 | 5 => *byte == b' ',
        _ => byte.is_ascii_digit(),
    };
    let well_formed = rest.iter().take(6).enumerate().all(fits);
    match (well_formed, complete) {
        // The space behind the status may be missing with an empty reason.
        (true, true) if rest.len() >= 5 => LineKind::Http(MessageKind::Http1Response),
        (true, false) => LineKind::Incomplete,
        (true | false, _) => LineKind::Other,
    }
}

/// RFC 9112 section 3. HTTP/0.9 has no version and is not recognized.
fn request_line(line: &[u8], complete: bool) -> LineKind {
    let allowed = |b: &&u8| b.is_ascii_uppercase() || matches!(b, b'-' | b'_');
    let method = line.iter().take(MAX_METHOD + 1).take_while(allowed).count();
    let named = method > 0 && method <= MAX_METHOD;
    let visible = |b: &u8| *b >= 0x20 && *b != 0x7f;
    match line.get(method) {
        Some(b' ') if named && line[method..].iter().all(visible) => {
            let version = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
            match (complete, version) {
                (true, true) => LineKind::Http(MessageKind::Http1Request),
                (true, false) => LineKind::Other,
                // A carriage return is the last byte of a line cut short.
                (false, _) => LineKind::Incomplete,
            }
        }
        None if named && !complete => LineKind::Incomplete,
        _ => incomplete_at_return(line, complete),
    }
}

/// A line whose carriage return came and whose line feed did not.
fn incomplete_at_return(line: &[u8], complete: bool) -> LineKind {
    match line.strip_suffix(b"\r") {
        Some(line) if !complete && matches!(request_line(line, true), LineKind::Http(_)) => {
            LineKind::Incomplete
        }
        _ => LineKind::Other,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadEnd {
    /// The length of the head, blank line included.
    At(usize),
    None,
}

/// Finds the blank line; the first `searched` bytes are known to hold no end.
pub(super) fn head_end(bytes: &[u8], searched: usize) -> HeadEnd {
    // An end that was cut short has at most its last byte in the new part.
    let from = searched.saturating_sub(2);
    for at in memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at) {
        match bytes[at + 1..] {
            [b'\n', ..] => return HeadEnd::At(at + 2),
            [b'\r', b'\n', ..] => return HeadEnd::At(at + 3),
            _ => {}
        }
    }
    HeadEnd::None
}

/// `None` when the head is malformed.
pub(super) fn parse(text: &[u8], kind: MessageKind) -> Option<Head> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut config = httparse::ParserConfig::default();
    config.allow_obsolete_multiline_headers_in_responses(true);
    config.allow_spaces_after_header_name_in_responses(true);
    let (mut head, fields) = if kind == MessageKind::Http1Request {
        let mut request = httparse::Request::new(&mut fields);
        config.parse_request(&mut request, text).ok()?;
        let head = Head::request(version(request.version?), request.method?, request.path?);
        (head, request.headers)
    } else {
        let mut response = httparse::Response::new(&mut fields);
        config.parse_response(&mut response, text).ok()?;
        let reason = response.reason.unwrap_or_default();
        (
            Head::response(version(response.version?), response.code?, reason),
            response.headers,
        )
    };
    for field in fields.iter() {
        head.push(field.name.as_bytes(), field.value);
    }
    Some(head)
}

/// The fields of a trailer section with its blank line.
pub(super) fn parse_trailers(text: &[u8]) -> Option<Head> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let httparse::Status::Complete((_, fields)) =
        httparse::parse_headers(text, &mut fields).ok()?
    else {
        return None;
    };
    let mut head = Head::trailers("HTTP/1.1");
    for field in fields {
        head.push(field.name.as_bytes(), field.value);
    }
    (!fields.is_empty()).then_some(head)
}

fn version(minor: u8) -> &'static str {
    if minor == 0 { "HTTP/1.0" } else { "HTTP/1.1" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], kind: LineKind) {
        assert_eq!(line(bytes), kind, "{}", bytes.escape_ascii());
    }

    #[test]
    fn start_lines_are_told_from_others() {
        let request = LineKind::Http(MessageKind::Http1Request);
        let response = LineKind::Http(MessageKind::Http1Response);
        check(b"GET / HTTP/1.1\r\n", request);
        check(b"M-SEARCH * HTTP/1.0\n", request);
        check(b"HTTP/1.1 200 OK\r\n", response);
        check(b"HTTP/1.0 404\r\n", response);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest", LineKind::Preface);
        check(b"PRI * HTTP/2.0\r\n\r\nS", LineKind::Incomplete);
        check(b"PRI * HTTP/2.0\r\nHost", LineKind::Other);
        check(b"GET /\r\n", LineKind::Other);
        check(b"get / HTTP/1.1\r\n", LineKind::Other);
        check(b"GET / HTTP/3.1\r\n", LineKind::Other);
        check(b"GET /\x1b HTTP/1.1\r\n", LineKind::Other);
        check(b"HTTP/1.1 2x0 OK\r\n", LineKind::Other);
        check(b"HTTP/1.1 20\r\n", LineKind::Other);
        check(b"*1\r\n$4\r\nPING\r\n", LineKind::Other);
        check(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1\r\n",
            LineKind::Other,
        );
        check(b"\x16\x03\x01", LineKind::Other);
    }

    #[test]
    fn every_prefix_of_a_start_line_is_incomplete() {
        for text in [&b"OPTIONS /a?b HTTP/1.1\r\n"[..], b"HTTP/1.1 200 OK\r\n"] {
            for length in 1..text.len() {
                check(&text[..length], LineKind::Incomplete);
            }
        }
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_is_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for searched in 0..head.len() {
            assert_eq!(head_end(&head[..searched], 0), HeadEnd::None);
            assert_eq!(head_end(head, searched), HeadEnd::At(head.len()));
        }
        assert_eq!(head_end(b"a\nb\n\nc", 0), HeadEnd::At(5));
    }
}
