//! HTTP/2 frames (RFC 9113 sections 4 and 6): headers, names, and the words
//! for what is not a message.

use std::fmt::Write;

pub(super) const HEADER: usize = 9;
/// What endpoints may send unless told otherwise (RFC 9113 section 4.2).
const DEFAULT_MAX_LENGTH: u32 = 16_384;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITIZED: u8 = 0x20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHeader {
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Self {
        Self {
            length: u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]),
            kind: bytes[3],
            flags: bytes[4],
            stream: u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]) & 0x7fff_ffff,
        }
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn ends_stream(self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.has(END_STREAM)
    }

    /// What RFC 9113 section 6 asks of lengths and streams by type. A peer that
    /// breaks it ends the connection; here it means that this is no frame.
    pub(super) fn is_sound(self) -> bool {
        match self.kind {
            DATA | HEADERS | CONTINUATION => self.stream != 0,
            PUSH_PROMISE => self.stream != 0 && self.length >= 4,
            PRIORITY => self.stream != 0 && self.length == 5,
            RST_STREAM => self.stream != 0 && self.length == 4,
            SETTINGS => self.stream == 0 && self.length.is_multiple_of(6),
            PING => self.stream == 0 && self.length == 8,
            GOAWAY => self.stream == 0 && self.length >= 8,
            WINDOW_UPDATE => self.length == 4,
            // Extensions (RFC 9113 section 5.5) are told from noise by their length alone.
            _ => self.length <= DEFAULT_MAX_LENGTH,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self.kind {
            DATA => "DATA",
            HEADERS => "HEADERS",
            PRIORITY => "PRIORITY",
            RST_STREAM => "RST_STREAM",
            SETTINGS => "SETTINGS",
            PUSH_PROMISE => "PUSH_PROMISE",
            PING => "PING",
            GOAWAY => "GOAWAY",
            WINDOW_UPDATE => "WINDOW_UPDATE",
            CONTINUATION => "CONTINUATION",
            _ => "unknown frame",
        }
    }

    /// The line for a frame that is no part of a message.
    pub(super) fn words(self, payload: &[u8]) -> String {
        let mut line = self.name().to_owned();
        if self.stream != 0 {
            let _ = write!(line, ", stream {}", self.stream);
        }
        let word = |at: usize| {
            payload
                .get(at..)?
                .first_chunk()
                .copied()
                .map(u32::from_be_bytes)
        };
        let number = |at| word(at).unwrap_or_default() & 0x7fff_ffff;
        let _ = match self.kind {
            SETTINGS | PING if self.has(ACK) => write!(line, ": acknowledged"),
            SETTINGS => settings(&mut line, payload),
            RST_STREAM => write!(line, ": {}", error(word(0).unwrap_or_default())),
            WINDOW_UPDATE => write!(line, ": {}", number(0)),
            GOAWAY => {
                let error = error(word(4).unwrap_or_default());
                write!(line, ": last stream {}, {error}", number(0))
            }
            PING | PRIORITY => Ok(()),
            _ => write!(line, ", type {}, {} bytes", self.kind, self.length),
        };
        line.push('\n');
        line
    }
}

/// Whether bytes at the beginning of a call are frames from there to the
/// call's end: each header sound, the last frame allowed to go on.
pub(super) fn are_frames(mut bytes: &[u8]) -> bool {
    let mut seen = 0;
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let header = FrameHeader::parse(header);
        let telling = header.kind <= CONTINUATION && header.flags & !0x2d == 0;
        if !telling || !header.is_sound() || header.length > DEFAULT_MAX_LENGTH {
            return false;
        }
        seen += 1;
        bytes = rest.get(header.length as usize..).unwrap_or_default();
    }
    seen > 0 && bytes.is_empty()
}

/// The frame that a connection begins with, of the server and behind the
/// client's preface (RFC 9113 section 3.4).
pub(super) fn begins_with_settings(bytes: &[u8]) -> bool {
    bytes
        .first_chunk::<HEADER>()
        .map(FrameHeader::parse)
        .is_some_and(|header| {
            header.kind == SETTINGS
                && header.flags == 0
                && header.length <= 256
                && header.is_sound()
        })
}

fn settings(line: &mut String, payload: &[u8]) -> std::fmt::Result {
    const NAMES: [&str; 10] = [
        "",
        "HEADER_TABLE_SIZE",
        "ENABLE_PUSH",
        "MAX_CONCURRENT_STREAMS",
        "INITIAL_WINDOW_SIZE",
        "MAX_FRAME_SIZE",
        "MAX_HEADER_LIST_SIZE",
        "",
        "ENABLE_CONNECT_PROTOCOL",
        "NO_RFC7540_PRIORITIES",
    ];
    for (index, setting) in payload.chunks_exact(6).enumerate() {
        let identifier = u16::from_be_bytes([setting[0], setting[1]]);
        let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
        line.push_str(if index == 0 { ": " } else { ", " });
        match NAMES
            .get(usize::from(identifier))
            .filter(|name| !name.is_empty())
        {
            Some(name) => write!(line, "{name}={value}")?,
            None => write!(line, "{identifier:#x}={value}")?,
        }
    }
    Ok(())
}

/// RFC 9113 section 7.
fn error(code: u32) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let name = NAMES.get(code as usize).map(|name| (*name).to_owned());
    name.unwrap_or_else(|| format!("error {code:#x}"))
}
