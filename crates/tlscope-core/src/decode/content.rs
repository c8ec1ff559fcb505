//! Content codings (RFC 9110 section 8.4.1): gzip, deflate, br and zstd undone
//! for display, within bounds: a small body must not become gigabytes.

mod zstd;

use std::fmt;
use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::head::Head;
use zstd::Zstd;

/// What one message's content may come to. Deflate reaches 1032 to 1, so a
/// piece of 16 KiB comes to 16 MiB at most.
const MAX_CONTENT: u64 = 64 << 20;
const BROTLI_BUFFER: usize = 4096;

/// Undoes the coding of one message's content.
#[derive(Debug, Default)]
pub(super) struct Content {
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Identity,
    /// The first byte tells the two forms of deflate apart.
    DeflateOrZlib,
    Coded(Box<dyn Coding>),
    /// Bytes are missing, which was not told yet.
    Lost,
    /// What follows cannot be decoded; the reason was told.
    Broken,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "Identity",
            Self::DeflateOrZlib => "DeflateOrZlib",
            Self::Coded(_) => "Coded",
            Self::Lost => "Lost",
            Self::Broken => "Broken",
        })
    }
}

/// Why content is not decoded any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentError {
    Malformed,
    TooLong,
    Lost,
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "-- the content does not decode --\n",
            Self::TooLong => "-- the content expands beyond 64 MiB; the rest is not shown --\n",
            Self::Lost => "-- the content cannot be decoded behind lost bytes --\n",
        })
    }
}

impl Content {
    /// By the head's Content-Encoding. Several codings at once are not undone.
    pub(super) fn of(head: &Head) -> Self {
        let mut codings = head.list("content-encoding");
        match (codings.next(), codings.next()) {
            (Some(coding), None) => Self::named(coding),
            _ => Self::default(),
        }
    }

    /// By the name of a coding; identity for one that is not known.
    pub(super) fn named(coding: &[u8]) -> Self {
        let state = match coding.to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => coded(MultiGzDecoder::new(Budget::new())),
            b"deflate" => State::DeflateOrZlib,
            b"br" => coded(brotli_decompressor::DecompressorWriter::new(
                Budget::new(),
                BROTLI_BUFFER,
            )),
            b"zstd" => coded(Zstd::new(Budget::new())),
            _ => State::Identity,
        };
        Self { state }
    }

    /// The content is the bytes themselves.
    pub(super) fn is_identity(&self) -> bool {
        matches!(self.state, State::Identity)
    }

    /// Appends what `bytes` decode to. After an error nothing more comes.
    pub(super) fn decode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ContentError> {
        if let (State::DeflateOrZlib, Some(first)) = (&self.state, bytes.first()) {
            // RFC 1950 section 2.2: method 8 in the low bits. Some servers send bare deflate.
            self.state = if first & 15 == 8 {
                coded(ZlibDecoder::new(Budget::new()))
            } else {
                coded(DeflateDecoder::new(Budget::new()))
            };
        }
        if matches!(self.state, State::Lost) {
            self.state = State::Broken;
            return Err(ContentError::Lost);
        }
        let State::Coded(coding) = &mut self.state else {
            return Ok(());
        };
        let decoded = coding.write_all(bytes).and_then(|()| coding.flush());
        let budget = coding.budget();
        out.append(&mut budget.out);
        let exhausted = budget.left == 0;
        decoded.map_err(|_| {
            self.state = State::Broken;
            if exhausted {
                ContentError::TooLong
            } else {
                ContentError::Malformed
            }
        })
    }

    /// Bytes of the content will not come.
    pub(super) fn lose(&mut self) {
        if matches!(self.state, State::DeflateOrZlib | State::Coded(_)) {
            self.state = State::Lost;
        }
    }
}

fn coded(coding: impl Coding + 'static) -> State {
    State::Coded(Box::new(coding))
}

/// A decoder as a writer, with the budget that it writes to.
trait Coding: Write + Send {
    fn budget(&mut self) -> &mut Budget;
}

impl Coding for MultiGzDecoder<Budget> {
    fn budget(&mut self) -> &mut Budget {
        self.get_mut()
    }
}

impl Coding for ZlibDecoder<Budget> {
    fn budget(&mut self) -> &mut Budget {
        self.get_mut()
    }
}

impl Coding for DeflateDecoder<Budget> {
    fn budget(&mut self) -> &mut Budget {
        self.get_mut()
    }
}

impl Coding for brotli_decompressor::DecompressorWriter<Budget> {
    fn budget(&mut self) -> &mut Budget {
        self.get_mut()
    }
}

impl Coding for Zstd {
    fn budget(&mut self) -> &mut Budget {
        self.budget()
    }
}

/// Takes so many bytes and no more.
#[derive(Debug)]
struct Budget {
    out: Vec<u8>,
    left: u64,
}

impl Budget {
    fn new() -> Self {
        Self {
            out: Vec::new(),
            left: MAX_CONTENT,
        }
    }
}

impl Write for Budget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        self.out.extend_from_slice(&bytes[..taken]);
        self.left -= taken as u64;
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
