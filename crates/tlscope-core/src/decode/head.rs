//! Message heads: a start line and header fields, of any HTTP version.
//!
//! A head is two allocations: all its text, and where in it each field stands.

use std::borrow::Cow;
use std::ops::Range;

/// What a message begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    Request {
        method: &'a str,
        target: &'a str,
    },
    Response {
        status: u16,
        reason: &'a str,
    },
    /// Fields behind the content.
    Trailers,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    text: Vec<u8>,
    start: StartRanges,
    fields: Vec<(Range<u32>, Range<u32>)>,
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum StartRanges {
    Request {
        method: Range<u32>,
        target: Range<u32>,
    },
    Response {
        status: u16,
        reason: Range<u32>,
    },
    Trailers,
}

impl Head {
    pub(crate) fn request(version: &'static str, method: &str, target: &str) -> Self {
        let mut text = Vec::with_capacity(512);
        let method = append(&mut text, method.as_bytes());
        let target = append(&mut text, target.as_bytes());
        Self {
            text,
            start: StartRanges::Request { method, target },
            fields: Vec::new(),
            version,
        }
    }

    pub(crate) fn response(version: &'static str, status: u16, reason: &str) -> Self {
        let mut text = Vec::with_capacity(512);
        let reason = append(&mut text, reason.as_bytes());
        Self {
            text,
            start: StartRanges::Response { status, reason },
            fields: Vec::new(),
            version,
        }
    }

    /// Makes a head of fields alone a request's; their values are its method and target.
    pub(crate) fn into_request(mut self, method: Option<usize>, target: Option<usize>) -> Self {
        let (method, target) = (self.text_of(method), self.text_of(target));
        self.start = StartRanges::Request { method, target };
        self
    }

    pub(crate) fn into_response(mut self, status: u16) -> Self {
        self.start = StartRanges::Response {
            status,
            reason: 0..0,
        };
        self
    }

    /// Where the value of a field stands as text.
    fn text_of(&mut self, field: Option<usize>) -> Range<u32> {
        let Some((_, value)) = field.and_then(|field| self.fields.get(field)) else {
            return append(&mut self.text, b"[unknown]");
        };
        let value = value.clone();
        match String::from_utf8_lossy(self.bytes(&value)) {
            Cow::Borrowed(_) => value,
            Cow::Owned(text) => append(&mut self.text, text.as_bytes()),
        }
    }

    pub(crate) fn trailers(version: &'static str) -> Self {
        Self {
            text: Vec::with_capacity(512),
            start: StartRanges::Trailers,
            fields: Vec::new(),
            version,
        }
    }

    /// The number of fields so far: the index of the next.
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        let field = (append(&mut self.text, name), append(&mut self.text, value));
        self.fields.push(field);
    }

    pub fn start(&self) -> Start<'_> {
        match &self.start {
            StartRanges::Request { method, target } => Start::Request {
                method: self.str(method),
                target: self.str(target),
            },
            StartRanges::Response { status, reason } => Start::Response {
                status: *status,
                reason: self.str(reason),
            },
            StartRanges::Trailers => Start::Trailers,
        }
    }

    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// Of a request.
    pub fn host(&self) -> Option<&[u8]> {
        self.field(":authority").or_else(|| self.field("host"))
    }

    /// The content is server-sent events.
    pub(crate) fn is_event_stream(&self) -> bool {
        self.has_media_type(b"text/event-stream")
    }

    /// The media type begins so; parameters and subtypes behind it are any.
    pub(crate) fn has_media_type(&self, prefix: &[u8]) -> bool {
        let value = self
            .field("content-type")
            .and_then(|value| value.get(..prefix.len()));
        value.is_some_and(|value| value.eq_ignore_ascii_case(prefix))
    }

    pub fn fields(&self) -> Fields<'_> {
        Fields {
            head: self,
            next: 0,
        }
    }

    /// The first field of a name, whatever its case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields()
            .find(|field| field.0.eq_ignore_ascii_case(name.as_bytes()))
            .map(|f| f.1)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = move |field: &(&[u8], &[u8])| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields().filter(named).map(|field| field.1)
    }

    /// The elements of a comma-separated list field, from all its lines
    /// (RFC 9110 section 5.6.1).
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let elements = |value: &'a [u8]| value.split(|&b| b == b',').map(<[u8]>::trim_ascii);
        self.all(name)
            .flat_map(elements)
            .filter(|element| !element.is_empty())
    }

    pub fn lists(&self, name: &str, element: &str) -> bool {
        self.list(name)
            .any(|listed| listed.eq_ignore_ascii_case(element.as_bytes()))
    }

    fn str(&self, range: &Range<u32>) -> &str {
        std::str::from_utf8(self.bytes(range)).unwrap_or_default()
    }

    fn bytes(&self, range: &Range<u32>) -> &[u8] {
        self.text
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }
}

fn append(text: &mut Vec<u8>, bytes: &[u8]) -> Range<u32> {
    let start = text.len() as u32;
    text.extend_from_slice(bytes);
    start..text.len() as u32
}

/// Name and value of each field, in the order of the message.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    head: &'a Head,
    next: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.head.fields.get(self.next)?;
        self.next += 1;
        Some((self.head.bytes(name), self.head.bytes(value)))
    }
}
