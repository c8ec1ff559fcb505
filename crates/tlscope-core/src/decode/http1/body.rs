//! Message bodies: framed by length, by chunks, or by the end of the connection
//! (RFC 9112 sections 6 and 7). Nothing of a body is held.

use crate::decode::Head;

/// The longest line of a chunk's size or a trailer that is accepted.
const MAX_LINE: u32 = 16 * 1024;
/// The longest trailer section that is accepted.
const MAX_TRAILERS: u32 = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes are still to come; never 0.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chunked {
    Size(SizeLine),
    Content(u64),
    /// The line end behind the content.
    Ending,
    Trailers {
        line: u32,
        total: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SizeLine {
    size: u64,
    digits: u32,
    /// Behind the digits: extensions, and the line end.
    rest: u32,
}

/// What a prefix of the input was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) consumed: usize,
    pub(super) part: BodyPart,
    pub(super) ends: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyPart {
    Content,
    Framing,
    /// Of the trailer section, its blank line included.
    Trailers,
    /// The framing is malformed: what follows is not known.
    Broken,
}

/// Whether what follows a response is another protocol: after a switch, or in
/// the tunnel that CONNECT asked for (RFC 9110 sections 9.3.6 and 15.2.2).
pub(super) fn begins_tunnel(method: Option<&str>, status: u16) -> bool {
    status == 101 || (method == Some("CONNECT") && (200..300).contains(&status))
}

impl Body {
    pub(super) fn of_request(head: &Head) -> Option<Self> {
        if head.field("transfer-encoding").is_some() {
            return Some(Self::chunked());
        }
        match content_length(head) {
            None | Some(Ok(0)) => None,
            Some(Ok(length)) => Some(Self::Length(length)),
            Some(Err(Unusable)) => Some(Self::UntilClose),
        }
    }

    /// RFC 9112 section 6.3, in its order. `method` is the request's, if known.
    pub(super) fn of_response(method: Option<&str>, status: u16, head: &Head) -> Option<Self> {
        let bodiless = matches!(status, 100..200 | 204 | 304);
        if method == Some("HEAD") || bodiless || begins_tunnel(method, status) {
            return None;
        }
        if head.field("transfer-encoding").is_some() {
            let chunked = head
                .list("transfer-encoding")
                .last()
                .is_some_and(is_chunked);
            return Some(if chunked {
                Self::chunked()
            } else {
                Self::UntilClose
            });
        }
        match content_length(head) {
            Some(Ok(0)) => None,
            Some(Ok(length)) => Some(Self::Length(length)),
            None | Some(Err(Unusable)) => Some(Self::UntilClose),
        }
    }

    fn chunked() -> Self {
        Self::Chunked(Chunked::Size(SizeLine::default()))
    }

    pub(super) fn is_framed(&self) -> bool {
        matches!(self, Self::Chunked(_))
    }

    pub(super) fn step(&mut self, input: &[u8]) -> Progress {
        match self {
            Self::Length(left) => {
                let consumed = take(left, input.len());
                Progress {
                    ends: *left == 0,
                    ..content(consumed)
                }
            }
            Self::Chunked(chunked) => chunked.step(input),
            Self::UntilClose => content(input.len()),
        }
    }

    /// Skips lost bytes if it is known what they were: then tells whether the
    /// body ended with them.
    pub(super) fn lose(&mut self, length: u64) -> Option<bool> {
        match self {
            Self::Length(left) if *left >= length => {
                *left -= length;
                Some(*left == 0)
            }
            Self::Chunked(Chunked::Content(left)) if *left > length => {
                *left -= length;
                Some(false)
            }
            Self::UntilClose => Some(false),
            Self::Length(_) | Self::Chunked(_) => None,
        }
    }
}

fn is_chunked(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"chunked")
}

struct Unusable;

/// Repeated equal values are one (RFC 9112 section 6.3, item 5).
fn content_length(head: &Head) -> Option<Result<u64, Unusable>> {
    let mut values = head.list("content-length").map(|value| {
        let digits = value.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(value)
            .ok()
            .filter(|_| digits)?
            .parse::<u64>()
            .ok()
    });
    let first = values.next()?;
    let same = values.all(|value| value == first);
    Some(first.filter(|_| same).ok_or(Unusable))
}

impl Chunked {
    fn step(&mut self, input: &[u8]) -> Progress {
        match self {
            Self::Size(line) => match line.step(input) {
                Line::Incomplete => framing(input.len()),
                Line::Malformed => broken(input.len()),
                Line::Ends(consumed) => {
                    *self = match line.size {
                        0 => Self::Trailers { line: 0, total: 0 },
                        size => Self::Content(size),
                    };
                    framing(consumed)
                }
            },
            Self::Content(left) => {
                let consumed = take(left, input.len());
                if *left == 0 {
                    *self = Self::Ending;
                }
                content(consumed)
            }
            Self::Ending => self.ending(input),
            Self::Trailers { .. } => self.trailers(input),
        }
    }

    fn ending(&mut self, input: &[u8]) -> Progress {
        match input {
            [b'\r', b'\n', ..] => {
                *self = Self::Size(SizeLine::default());
                framing(2)
            }
            [b'\n', ..] => {
                *self = Self::Size(SizeLine::default());
                framing(1)
            }
            [b'\r'] => framing(1),
            _ => broken(input.len()),
        }
    }

    fn trailers(&mut self, input: &[u8]) -> Progress {
        let Self::Trailers { line, total } = self else {
            return framing(input.len());
        };
        let end = memchr::memchr(b'\n', input).map(|end| end + 1);
        let consumed = end.unwrap_or(input.len());
        let text = &input[..consumed];
        let length = u32::try_from(consumed).unwrap_or(u32::MAX);
        *total = total.saturating_add(length);
        if *total > MAX_TRAILERS {
            return broken(input.len());
        }
        let visible = text.iter().filter(|&&b| b != b'\r' && b != b'\n').count() as u32;
        *line += visible;
        let ends = end.is_some() && *line == 0;
        if end.is_some() {
            *line = 0;
        }
        Progress {
            consumed,
            part: BodyPart::Trailers,
            ends,
        }
    }
}

enum Line {
    Incomplete,
    Malformed,
    /// Behind so many bytes.
    Ends(usize),
}

impl SizeLine {
    fn step(&mut self, input: &[u8]) -> Line {
        for (index, &byte) in input.iter().enumerate() {
            match (byte, char::from(byte).to_digit(16)) {
                (b'\n', _) if self.digits > 0 => return Line::Ends(index + 1),
                (_, Some(digit)) if self.rest == 0 && self.digits < 16 => {
                    self.size = self.size << 4 | u64::from(digit);
                    self.digits += 1;
                }
                (b' ' | b'\t' | b';' | b'\r', _) if self.digits > 0 && self.rest == 0 => {
                    self.rest = 1;
                }
                _ if self.rest > 0 && self.rest < MAX_LINE => self.rest += 1,
                _ => return Line::Malformed,
            }
        }
        Line::Incomplete
    }
}

/// Takes as much of what is left as there is.
fn take(left: &mut u64, available: usize) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left -= taken as u64;
    taken
}

fn content(consumed: usize) -> Progress {
    Progress {
        consumed,
        part: BodyPart::Content,
        ends: false,
    }
}

fn framing(consumed: usize) -> Progress {
    Progress {
        consumed,
        part: BodyPart::Framing,
        ends: false,
    }
}

fn broken(consumed: usize) -> Progress {
    Progress {
        consumed,
        part: BodyPart::Broken,
        ends: false,
    }
}
