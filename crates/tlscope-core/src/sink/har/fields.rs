//! What HAR wants of heads beside their fields: cookies, queries, a URL that parses.

use std::borrow::Cow;
use std::fmt::Write;

use crate::decode::{Head, Start};
use crate::sink::json::writer::{Object, push_string};

pub(super) fn push_headers(out: &mut Vec<u8>, head: Option<&Head>) {
    let fields = head.into_iter().flat_map(Head::fields);
    push_pairs(out, fields.map(|(name, value)| (text(name), text(value))));
}

/// Of a request, all; of a response, those that it sets.
pub(super) fn push_cookies(out: &mut Vec<u8>, head: Option<&Head>) {
    let cookies = head.into_iter().flat_map(|head| head.all("cookie"));
    let pairs = cookies.flat_map(|value| value.split(|&b| b == b';'));
    let sets = head.into_iter().flat_map(|head| head.all("set-cookie"));
    let cookies = pairs.chain(sets).map(<[u8]>::trim_ascii);
    push_list(
        out,
        cookies.filter(|cookie| !cookie.is_empty()),
        push_cookie,
    );
}

/// RFC 6265 section 4.1.1. `Expires` is left away: it would have to become an ISO date.
fn push_cookie(out: &mut Vec<u8>, cookie: &[u8]) {
    let mut attributes = cookie.split(|&b| b == b';').map(<[u8]>::trim_ascii);
    let (name, value) = pair(attributes.next().unwrap_or_default(), b'=');
    let mut object = Object::nested(out);
    object.lossy("name", name);
    object.lossy("value", value);
    for attribute in attributes {
        let (name, value) = pair(attribute, b'=');
        match name.to_ascii_lowercase().as_slice() {
            b"path" => object.lossy("path", value),
            b"domain" => object.lossy("domain", value),
            b"httponly" => object.flag("httpOnly", true),
            b"secure" => object.flag("secure", true),
            _ => {}
        }
    }
    object.close();
}

pub(super) fn push_query(out: &mut Vec<u8>, head: Option<&Head>) {
    let query = match head.map(Head::start) {
        Some(Start::Request { target, .. }) => target.split_once('?').map_or("", |parts| parts.1),
        _ => "",
    };
    let query = query.split('#').next().unwrap_or_default().as_bytes();
    let parameters = query.split(|&b| b == b'&').filter(|p| !p.is_empty());
    push_pairs(
        out,
        parameters.map(|parameter| {
            let (name, value) = pair(parameter, b'=');
            (text(name), text(value))
        }),
    );
}

/// Absolute, as readers demand. `server` stands in for a host that is not known.
pub(super) fn url(head: Option<&Head>, server: &str) -> String {
    let host = head.and_then(Head::host).map(text);
    let host = host
        .as_deref()
        .filter(|host| !host.is_empty())
        .unwrap_or(server);
    let mut url = match head.map(Head::start) {
        Some(Start::Request { target, .. }) if target.contains("://") => target.to_owned(),
        // CONNECT names a host and a port alone.
        Some(Start::Request {
            method: "CONNECT",
            target,
        }) => {
            format!("https://{target}")
        }
        Some(Start::Request { target, .. }) if target.starts_with('/') => {
            format!("https://{host}{target}")
        }
        _ => format!("https://{host}/"),
    };
    escape(&mut url);
    url
}

/// Percent-encodes what no URL may hold (RFC 3986 section 2).
fn escape(url: &mut String) {
    let is_allowed = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b);
    if url.bytes().all(is_allowed) {
        return;
    }
    let mut escaped = String::with_capacity(url.len() + 16);
    for byte in url.bytes() {
        if is_allowed(byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    *url = escaped;
}

pub(super) fn media_type(head: Option<&Head>) -> Cow<'_, str> {
    text(
        head.and_then(|head| head.field("content-type"))
            .unwrap_or_default(),
    )
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn pair(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(separator, text) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, b""),
    }
}

fn push_pairs<'a>(out: &mut Vec<u8>, pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>) {
    push_list(out, pairs, |out, (name, value)| {
        out.extend_from_slice(b"{\"name\":");
        push_string(out, &name);
        out.extend_from_slice(b",\"value\":");
        push_string(out, &value);
        out.push(b'}');
    });
}

fn push_list<T>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    mut push: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push(out, item);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str) -> Head {
        let mut head = Head::request("HTTP/1.1", method, target);
        head.push(b"Host", b"a.example");
        head
    }

    #[test]
    fn every_url_is_absolute_and_parses() {
        for (method, target, expected) in [
            ("GET", "/a?b=c", "https://a.example/a?b=c"),
            ("GET", "http://b.example/", "http://b.example/"),
            ("CONNECT", "b.example:443", "https://b.example:443"),
            ("OPTIONS", "*", "https://a.example/"),
            ("GET", "/a b\"\u{e9}", "https://a.example/a%20b%22%C3%A9"),
        ] {
            assert_eq!(url(Some(&request(method, target)), "1.2.3.4:5"), expected);
        }
        assert_eq!(url(None, "1.2.3.4:5"), "https://1.2.3.4:5/");
    }

    #[test]
    fn cookies_are_taken_apart() {
        let mut head = request("GET", "/");
        head.push(b"Cookie", b"a=1; b=x=y; c");
        head.push(b"cookie", b"d=2");
        let mut out = Vec::new();
        push_cookies(&mut out, Some(&head));
        let expected = r#"[{"name":"a","value":"1"},{"name":"b","value":"x=y"},{"name":"c","value":""},{"name":"d","value":"2"}]"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut head = Head::response("HTTP/1.1", 200, "");
        head.push(
            b"Set-Cookie",
            b"id=7; Path=/x; Secure; HttpOnly; SameSite=Lax",
        );
        let mut out = Vec::new();
        push_cookies(&mut out, Some(&head));
        let expected = r#"[{"name":"id","value":"7","path":"/x","secure":true,"httpOnly":true}]"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
