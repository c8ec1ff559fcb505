//! Header blocks: what is HPACK's of a frame, and the head that the fields make.

use super::frame::{self, FrameHeader};
use crate::decode::hpack::Hpack;
use crate::decode::{Head, MessageKind, View, ViewPart};

/// Fields that requests alone have (RFC 9113 section 8.3.1, RFC 9110 section 10.1)...
const OF_REQUESTS: [&str; 11] = [
    ":scheme",
    ":authority",
    "accept",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cookie",
    "origin",
    "referer",
    "te",
    "user-agent",
];
/// ... and responses alone (RFC 9110 sections 10.2 and 8.8).
const OF_RESPONSES: [&str; 11] = [
    "accept-ranges",
    "age",
    "alt-svc",
    "date",
    "etag",
    "last-modified",
    "location",
    "server",
    "set-cookie",
    "vary",
    "www-authenticate",
];

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

impl HeaderBlock {
    /// Shows the block in words; what decodes of it is in the fields.
    pub(super) fn decode(&self, hpack: &mut Hpack, view: &mut View) -> Fields {
        let (name, stream) = (self.header.name(), self.header.stream);
        let ends = if self.header.ends_stream() {
            ", end of stream"
        } else {
            ""
        };
        match self.promised {
            None => view.words(format_args!("{name}, stream {stream}{ends}\n")),
            Some(promised) => {
                view.words(format_args!(
                    "{name}, stream {stream}, promises stream {promised}\n"
                ));
            }
        }
        let mut fields = Fields::new();
        let decoded = hpack.decode(&self.fragments, |name, value| {
            for words in [name, b": ", value, b"\n"] {
                view.push(ViewPart::Words, words);
            }
            fields.push(name, value);
        });
        if decoded.is_err() {
            view.words(format_args!("-- the header block does not decode --\n"));
        }
        view.push(ViewPart::Words, b"\n");
        fields
    }
}

/// The fields of one block, pseudo-header fields told from others.
#[derive(Debug)]
pub(super) struct Fields {
    head: Head,
    /// Which field it is.
    method: Option<usize>,
    path: Option<usize>,
    status: Option<u16>,
}

impl Fields {
    pub(super) fn new() -> Self {
        Self {
            head: Head::trailers("HTTP/2"),
            method: None,
            path: None,
            status: None,
        }
    }

    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        let place = Some(self.head.len());
        match name {
            b":method" => self.method = place,
            b":path" => self.path = place,
            b":status" => self.status = str::from_utf8(value).ok().and_then(|s| s.parse().ok()),
            _ => {}
        }
        self.head.push(name, value);
    }

    /// What the fields are of, as far as they tell by themselves: of a connection
    /// that was attached to late, pseudo-header fields may not be known.
    pub(super) fn told(&self) -> Option<MessageKind> {
        if self.status.is_some() {
            return Some(MessageKind::Http2Response);
        }
        if self.method.is_some() || self.path.is_some() {
            return Some(MessageKind::Http2Request);
        }
        self.head.fields().find_map(|(name, _)| {
            let of = |names: &[&str]| names.iter().any(|known| known.as_bytes() == name);
            if of(&OF_REQUESTS) {
                Some(MessageKind::Http2Request)
            } else {
                of(&OF_RESPONSES).then_some(MessageKind::Http2Response)
            }
        })
    }

    /// Without the pseudo-header fields that tell, a block behind a head is a
    /// trailer section, and another is a head of which they are not known.
    pub(super) fn into_head(self, kind: MessageKind, behind_head: bool) -> Head {
        let Self {
            head,
            method,
            path,
            status,
        } = self;
        let is_known = method.is_some() || path.is_some();
        match status {
            Some(status) => head.into_response(status),
            None if is_known => head.into_request(method, path),
            None if behind_head => head,
            None if kind == MessageKind::Http2Request => head.into_request(None, None),
            None => head.into_response(0),
        }
    }
}
