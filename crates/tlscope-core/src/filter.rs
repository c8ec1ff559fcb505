//! Which connections and messages a person asked to see: a pure predicate.
//!
//! Criteria of one kind are alternatives; criteria of different kinds must all
//! hold. A response is judged by its request too. What is not a message passes
//! only if no criterion is about messages.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::decode::{Head, MessageKind, Start};
use crate::event::{Address, Process, Socket};
use crate::item::{ConnectionInfo, Item, MessagePart};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// `example.org`, or `*.example.org` for all below it; without port.
    pub hosts: Vec<String>,
    pub path_prefixes: Vec<String>,
    pub methods: Vec<String>,
    /// Of responses; requests pass, for theirs is not known yet.
    pub statuses: Vec<StatusRange>,
    /// Of either end.
    pub ports: Vec<u16>,
    pub comms: Vec<String>,
}

/// `404`, `500-599`, or `5xx` for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRange(pub RangeInclusive<u16>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no status: give 404, 5xx or 500-599")]
pub struct StatusError(String);

impl FromStr for StatusRange {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        let error = || StatusError(text.to_owned());
        let number = |text: &str| text.parse::<u16>().ok().filter(|n| (100..1000).contains(n));
        if let Some(class) = text.strip_suffix("xx") {
            let first = number(&format!("{class}00")).ok_or_else(error)?;
            return Ok(Self(first..=first + 99));
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = number(first)
            .zip(number(last))
            .filter(|(first, last)| first <= last);
        range
            .map(|(first, last)| Self(first..=last))
            .ok_or_else(error)
    }
}

impl Filter {
    pub fn accepts(&self, item: &Item<'_>) -> bool {
        match item {
            Item::Open(connection) => self.accepts_connection(connection),
            Item::Gap(gap) => self.accepts_connection(gap.connection),
            Item::Stage(staged) => self.accepts_connection(staged.connection),
            Item::Close(closed) => self.accepts_connection(closed.connection),
            Item::Data(block) => {
                let heads = (block.request, block.head);
                self.accepts_origin(block.process, block.connection)
                    && self.accepts_message(
                        block.kind,
                        heads.0.map(|h| &**h),
                        heads.1.map(|h| &**h),
                    )
            }
            Item::Message(message) => {
                let (request, head) = match &message.part {
                    MessagePart::Finished(finished) => {
                        (finished.request.as_deref(), finished.response.as_deref())
                    }
                    _ => (message.request.map(|h| &**h), message.head.map(|h| &**h)),
                };
                self.accepts_origin(message.process, message.connection)
                    && self.accepts_message(message.kind, request, head)
            }
            // Before the first byte the address may not be known: data that is shown
            // must not lack its secrets.
            Item::Secret(event) => {
                self.accepts_comm(&event.process)
                    && (matches!(event.socket.address, Address::Unknown(_))
                        || self.accepts_port(event.socket))
            }
        }
    }

    pub fn accepts_connection(&self, connection: &ConnectionInfo) -> bool {
        self.accepts_origin(&connection.process, connection)
    }

    /// Both directions of a connection pass, whichever of its sockets has the port.
    fn accepts_origin(&self, process: &Process, connection: &ConnectionInfo) -> bool {
        let [received, sent] = connection.sockets;
        self.accepts_comm(process) && (self.accepts_port(sent) || self.accepts_port(received))
    }

    fn accepts_comm(&self, process: &Process) -> bool {
        any_or_empty(&self.comms, |wanted| *wanted == process.comm.to_string())
    }

    fn accepts_port(&self, socket: Socket) -> bool {
        any_or_empty(&self.ports, |port| match socket.address {
            Address::Inet { local, remote } => [local, remote]
                .iter()
                .map(SocketAddr::port)
                .any(|known| known == *port),
            Address::Unknown(_) | Address::Unix | Address::Pipe => false,
        })
    }

    /// A message whose head is not complete yet passes: it may be a wanted one.
    pub fn accepts_message(
        &self,
        kind: MessageKind,
        request: Option<&Head>,
        head: Option<&Head>,
    ) -> bool {
        let about_requests =
            !self.hosts.is_empty() || !self.path_prefixes.is_empty() || !self.methods.is_empty();
        if !about_requests && self.statuses.is_empty() {
            return true;
        }
        if kind == MessageKind::Plain {
            return false;
        }
        let request_accepted = match request {
            Some(request) => self.accepts_request(request),
            None => !about_requests || head.is_none(),
        };
        request_accepted && head.is_none_or(|head| self.accepts_status(head))
    }

    fn accepts_request(&self, head: &Head) -> bool {
        let Start::Request { method, target } = head.start() else {
            return false;
        };
        let path = path(target);
        any_or_empty(&self.methods, |wanted| wanted.eq_ignore_ascii_case(method))
            && any_or_empty(&self.path_prefixes, |prefix| {
                path.starts_with(prefix.as_str())
            })
            && any_or_empty(&self.hosts, |pattern| {
                head.host().is_some_and(|host| host_matches(pattern, host))
            })
    }

    fn accepts_status(&self, head: &Head) -> bool {
        match head.start() {
            Start::Response { status, .. } => {
                any_or_empty(&self.statuses, |range| range.0.contains(&status))
            }
            Start::Request { .. } | Start::Trailers => true,
        }
    }
}

fn any_or_empty<T>(criteria: &[T], holds: impl FnMut(&T) -> bool) -> bool {
    criteria.is_empty() || criteria.iter().any(holds)
}

/// A proxy is asked for a whole URL (RFC 9112 section 3.2.2).
fn path(target: &str) -> &str {
    match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    }
}

fn host_matches(pattern: &str, host: &[u8]) -> bool {
    let host = String::from_utf8_lossy(host).to_ascii_lowercase();
    // What follows the last colon is a port, unless it is inside of an IPv6 address.
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => &host,
    };
    let pattern = pattern.to_ascii_lowercase();
    match pattern.strip_prefix('*') {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, host: &str) -> Head {
        let mut head = Head::request("HTTP/1.1", method, target);
        head.push(b"Host", host.as_bytes());
        head
    }

    #[test]
    fn requests_are_judged_by_host_path_and_method() {
        let filter = Filter {
            hosts: vec!["Example.org".into(), "*.example.net".into()],
            path_prefixes: vec!["/api".into()],
            methods: vec!["get".into()],
            ..Filter::default()
        };
        let accepts = |method, target, host| {
            let head = request(method, target, host);
            filter.accepts_message(MessageKind::Http1Request, Some(&head), Some(&head))
        };
        assert!(accepts("GET", "/api/x", "example.org:8443"));
        assert!(accepts("GET", "http://proxy/api", "www.example.NET"));
        assert!(!accepts("POST", "/api/x", "example.org"));
        assert!(!accepts("GET", "/ap", "example.org"));
        assert!(!accepts("GET", "/api", "notexample.org"));
        assert!(!accepts("GET", "/api", ".example.net"));
    }

    #[test]
    fn responses_are_judged_by_status_and_request() {
        let statuses = vec!["5xx".parse().unwrap(), "404".parse().unwrap()];
        let filter = Filter {
            statuses,
            methods: vec!["GET".into()],
            ..Filter::default()
        };
        let accepts = |request: Option<&Head>, status| {
            let head = Head::response("HTTP/1.1", status, "");
            filter.accepts_message(MessageKind::Http1Response, request, Some(&head))
        };
        let (get, post) = (request("GET", "/", "a"), request("POST", "/", "a"));
        assert!(accepts(Some(&get), 500) && accepts(Some(&get), 599) && accepts(Some(&get), 404));
        assert!(!accepts(Some(&get), 200) && !accepts(Some(&post), 500) && !accepts(None, 500));
        assert!(filter.accepts_message(MessageKind::Http1Request, Some(&get), Some(&get)));
        assert!(filter.accepts_message(MessageKind::Http1Response, None, None));
        assert!(!filter.accepts_message(MessageKind::Plain, None, None));
        assert!(Filter::default().accepts_message(MessageKind::Plain, None, None));
    }

    #[test]
    fn statuses_are_read() {
        assert_eq!("500-503".parse(), Ok(StatusRange(500..=503)));
        for wrong in ["", "xx", "0xx", "abc", "99", "1000", "503-500", "5xx-"] {
            assert!(wrong.parse::<StatusRange>().is_err(), "{wrong}");
        }
    }
}
