//! HAR 1.2, read strictly: every member that the specification demands is there and of
//! its kind, no other is (but those that begin with an underscore), and the sums are right.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Har {
    log: Log,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    version: String,
    creator: Creator,
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Creator {
    name: String,
    version: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Entry {
    pub started_date_time: String,
    pub time: f64,
    pub request: Request,
    pub response: Response,
    pub cache: Cache,
    pub timings: Timings,
    #[serde(rename = "serverIPAddress")]
    pub server: Option<String>,
    pub connection: Option<String>,
    pub comment: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    pub send: f64,
    pub wait: f64,
    pub receive: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Request {
    pub method: String,
    pub url: String,
    pub http_version: String,
    pub cookies: Vec<Cookie>,
    pub headers: Vec<Pair>,
    pub query_string: Vec<Pair>,
    pub post_data: Option<PostData>,
    headers_size: i64,
    pub body_size: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Response {
    pub status: u16,
    status_text: String,
    pub http_version: String,
    pub cookies: Vec<Cookie>,
    pub headers: Vec<Pair>,
    pub content: Content,
    #[serde(rename = "redirectURL")]
    redirect_url: String,
    headers_size: i64,
    pub body_size: i64,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cookie {
    pub name: String,
    pub value: String,
    pub path: Option<String>,
    pub domain: Option<String>,
    pub http_only: Option<bool>,
    pub secure: Option<bool>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PostData {
    pub mime_type: String,
    pub params: Vec<Pair>,
    text: String,
    #[serde(rename = "_encoding")]
    encoding: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Content {
    pub size: i64,
    pub compression: Option<i64>,
    pub mime_type: String,
    text: String,
    encoding: Option<String>,
}

impl PostData {
    pub fn bytes(&self) -> Vec<u8> {
        bytes(&self.text, self.encoding.as_deref())
    }
}

impl Content {
    pub fn bytes(&self) -> Vec<u8> {
        bytes(&self.text, self.encoding.as_deref())
    }
}

#[track_caller]
fn bytes(text: &str, encoding: Option<&str>) -> Vec<u8> {
    match encoding {
        None => text.as_bytes().to_vec(),
        Some("base64") => STANDARD.decode(text).expect("base64"),
        Some(other) => panic!("encoding {other}"),
    }
}

/// The entries of a file that is what it must be.
#[track_caller]
pub fn read(file: &[u8]) -> Vec<Entry> {
    let value: Value = serde_json::from_slice(file).expect("a HAR file is JSON");
    let har: Har = serde_json::from_value(value).expect("HAR 1.2");
    let Creator { name, version } = har.log.creator;
    assert_eq!((&*har.log.version, &*name), ("1.2", "tlscope"));
    assert!(version.starts_with(|c: char| c.is_ascii_digit()));
    har.log.entries.iter().for_each(check);
    har.log.entries
}

#[track_caller]
fn check(entry: &Entry) {
    let started = entry.started_date_time.as_bytes();
    assert_eq!((started.len(), started[10], started[29]), (30, b'T', b'Z'));
    let Timings {
        send,
        wait,
        receive,
    } = entry.timings;
    assert!(send >= 0.0 && wait >= 0.0 && receive >= 0.0, "{entry:?}");
    let sum = send + wait + receive;
    assert!(
        (sum - entry.time).abs() < 0.001,
        "{sum} ms in parts: {entry:?}"
    );
    let Request {
        method,
        url,
        headers_size,
        body_size,
        ..
    } = &entry.request;
    assert!(!method.is_empty() && *headers_size == -1 && *body_size >= 0);
    let rest = url.strip_prefix("https://").expect("an absolute URL");
    assert!(
        rest.starts_with(|c: char| c.is_ascii_alphanumeric()),
        "{url}"
    );
    assert!(url.bytes().all(|b| b.is_ascii_graphic()), "{url}");
    let response = &entry.response;
    assert_eq!(response.headers_size, -1);
    assert!(response.status_text.is_ascii() && response.redirect_url.is_ascii());
    let content = &response.content;
    assert_eq!(
        content.size,
        i64::try_from(content.bytes().len()).expect("short")
    );
    let saved = content.compression.unwrap_or(0);
    assert!(
        saved == content.size - response.body_size || saved == 0,
        "{content:?}"
    );
}
