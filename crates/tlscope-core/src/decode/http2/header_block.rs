//! Header blocks: what is HPACK's of a frame, and the head that the fields make.

use super::frame::{self, FrameHeader};
use crate::decode::{Head, MessageKind};

#[derive(Debug)]
pub(super) struct HeaderBlock {
    pub(super) header: FrameHeader,
    pub(super) promised: Option<u32>,
    pub(super) fragments: Vec<u8>,
}

impl HeaderBlock {
    /// Strips what stands around the fragment (RFC 9113 sections 6.2 and 6.6).
    pub(super) fn begin(header: FrameHeader, mut payload: &[u8]) -> Self {
        if header.has(frame::PADDED)
            && let Some((&padding, rest)) = payload.split_first()
        {
            payload = rest
                .get(..rest.len().saturating_sub(usize::from(padding)))
                .unwrap_or(rest);
        }
        if header.kind == frame::HEADERS && header.has(frame::PRIORITIZED) {
            payload = payload.get(5..).unwrap_or_default();
        }
        let mut promised = None;
        if header.kind == frame::PUSH_PROMISE
            && let Some((stream, rest)) = payload.split_first_chunk::<4>()
        {
            promised = Some(u32::from_be_bytes(*stream) & 0x7fff_ffff);
            payload = rest;
        }
        Self {
            header,
            promised,
            fragments: payload.to_vec(),
        }
    }
}

/// The fields of one block, pseudo-header fields told from others.
#[derive(Default)]
pub(super) struct Fields {
    method: Option<String>,
    path: Option<String>,
    status: Option<u16>,
    all: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Fields {
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        let text = || Some(String::from_utf8_lossy(value).into_owned());
        match name {
            b":method" => self.method = text(),
            b":path" => self.path = text(),
            b":status" => self.status = str::from_utf8(value).ok().and_then(|s| s.parse().ok()),
            _ => {}
        }
        self.all.push((name.to_vec(), value.to_vec()));
    }

    /// Without the pseudo-header fields that tell, a block behind a head is a
    /// trailer section, and another is a head of which they are not known.
    pub(super) fn into_head(self, kind: MessageKind, behind_head: bool) -> Head {
        const UNKNOWN: &str = "[unknown]";
        let is_request = kind == MessageKind::Http2Request;
        let mut head = match (self.method, self.path, self.status) {
            (_, _, Some(status)) => Head::response("HTTP/2", status, ""),
            (None, None, None) if behind_head => Head::trailers("HTTP/2"),
            (None, None, None) if !is_request => Head::response("HTTP/2", 0, ""),
            (method, path, None) => {
                let method = method.as_deref().unwrap_or(UNKNOWN);
                Head::request("HTTP/2", method, path.as_deref().unwrap_or(UNKNOWN))
            }
        };
        for (name, value) in &self.all {
            head.push(name, value);
        }
        head
    }
}
