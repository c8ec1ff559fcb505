//! The `message` objects of a capture (docs/json.md), put together and paired.
//!
//! Reading checks what must hold for every capture: a part follows its head, a
//! message ends once, its bytes are as many as its end says, and the end of a
//! response names the request that has the same number.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::digest::Digest;

/// A request with its answer, as a peer logs it and as tlscope shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "Logged")]
pub struct Exchange {
    pub method: String,
    pub target: String,
    pub status: u64,
    /// Contents, with content codings undone.
    pub request: Digest,
    pub response: Digest,
}

#[derive(Deserialize)]
struct Logged {
    method: String,
    target: String,
    status: u64,
    request: (u64, String),
    response: (u64, String),
}

impl From<Logged> for Exchange {
    fn from(logged: Logged) -> Self {
        let digest = |(length, sha256)| Digest { length, sha256 };
        Self {
            method: logged.method,
            target: logged.target,
            status: logged.status,
            request: digest(logged.request),
            response: digest(logged.response),
        }
    }
}

impl Exchange {
    /// The lines of a peer's log that are objects.
    #[track_caller]
    pub fn read_log(log: &str) -> Vec<Self> {
        let lines = log.lines().filter(|line| line.starts_with('{'));
        let read = |line| serde_json::from_str(line).expect("an exchange that a peer logged");
        lines.map(read).collect()
    }
}

#[derive(Debug, Default)]
pub struct Message {
    pub pid: u64,
    pub connection: String,
    pub sent: bool,
    pub exchange: u64,
    pub stream: Option<u64>,
    /// `HTTPRequest` and the others.
    pub name: String,
    pub head: Value,
    pub trailers: Value,
    pub body: Vec<u8>,
    pub end: Value,
}

/// A message of WebSocket: its fragments in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketMessage {
    pub pid: u64,
    pub sent: bool,
    pub opcode: String,
    pub payload: Vec<u8>,
    complete: bool,
}

#[derive(Debug, Default)]
pub struct Messages {
    pub all: Vec<Message>,
    pub websocket: Vec<WebSocketMessage>,
    /// The message whose part comes next, by its numbers.
    open: BTreeMap<(Side, u64, Option<u64>), usize>,
    /// The message of the latest frame, by process and whether sent.
    latest: BTreeMap<(u64, bool), usize>,
}

/// Of a connection, and whether sent.
type Side = (String, bool);

impl Messages {
    /// Of these processes: a capture without `--pid` sees what else the machine does.
    #[track_caller]
    pub fn parse(output: &[u8], pids: &[u32]) -> Self {
        let mut messages = Self::default();
        let mut verbatim: BTreeMap<Side, Vec<Vec<u8>>> = BTreeMap::new();
        for line in output
            .split(|&b| b == b'\n')
            .filter(|line| !line.is_empty())
        {
            let object: Value = serde_json::from_slice(line).expect("an object of JSON");
            let is_it = |pid: &u32| object["pid"] == u64::from(*pid);
            if !pids.iter().any(is_it) {
                continue;
            }
            match text(&object, "kind") {
                "message" if text(&object, "name") == "WebSocket" => messages.frame(&object),
                "message" => messages.part(&object),
                "data" if text(&object, "name").starts_with("HTTPRe") => {
                    let held = verbatim.entry(side(&object)).or_default();
                    if object["begins"] == true {
                        held.push(Vec::new());
                    }
                    let last = held.last_mut().expect("data of a message that began");
                    last.extend(payload(&object));
                }
                _ => {}
            }
        }
        messages.add_verbatim(&verbatim);
        messages.all.iter().for_each(Message::check);
        messages
    }

    #[track_caller]
    fn part(&mut self, object: &Value) {
        let (id, sent) = side(object);
        let (exchange, stream) = (number(object, "exchange"), object["stream"].as_u64());
        let key = ((id.clone(), sent), exchange, stream);
        if object["part"] == "head" {
            self.open.insert(key, self.all.len());
            self.all.push(Message {
                pid: number(object, "pid"),
                connection: id,
                sent,
                exchange,
                stream,
                name: text(object, "name").to_owned(),
                head: object["http"].clone(),
                ..Message::default()
            });
            return;
        }
        let Some(&index) = self.open.get(&key) else {
            panic!("a part without its head: {object}");
        };
        let message = &mut self.all[index];
        assert!(message.end.is_null(), "a part behind the end: {object}");
        match text(object, "part") {
            "content" => message.body.extend(payload(object)),
            "trailers" => message.trailers = object["http"].clone(),
            "end" => message.end = object.clone(),
            other => panic!("a part of unknown kind: {other}"),
        }
    }

    /// A control frame may stand between the fragments of a message.
    #[track_caller]
    fn frame(&mut self, object: &Value) {
        let (pid, (_, sent)) = (number(object, "pid"), side(object));
        let fits = |m: &WebSocketMessage| (m.pid, m.sent) == (pid, sent);
        match text(object, "part") {
            "frame" if object["opcode"] == "CONTINUATION" => {
                let open = self.websocket.iter().rposition(|m| fits(m) && !m.complete);
                let open = open.expect("a message to continue");
                self.websocket[open].complete = object["final"] == true;
                self.latest.insert((pid, sent), open);
            }
            "frame" => {
                self.latest.insert((pid, sent), self.websocket.len());
                self.websocket.push(WebSocketMessage {
                    pid,
                    sent,
                    opcode: text(object, "opcode").to_owned(),
                    payload: Vec::new(),
                    complete: object["final"] == true,
                });
            }
            "content" => {
                let latest = self.latest[&(pid, sent)];
                self.websocket[latest].payload.extend(payload(object));
            }
            _ => {}
        }
    }

    /// Content that stands in `data` objects as it is: HTTP/1 with neither chunks nor a coding.
    #[track_caller]
    fn add_verbatim(&mut self, verbatim: &BTreeMap<Side, Vec<Vec<u8>>>) {
        for (side, held) in verbatim {
            let is_it = |m: &&mut Message| (&m.connection, m.sent) == (&side.0, side.1);
            let messages = self.all.iter_mut().filter(is_it);
            let messages: Vec<_> = messages.filter(|m| m.name.starts_with("HTTPRe")).collect();
            assert_eq!(messages.len(), held.len(), "messages and data of {side:?}");
            for (message, bytes) in messages.into_iter().zip(held) {
                if !message.body.is_empty() || message.end["transferred"] == 0 {
                    continue;
                }
                let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
                message.body = bytes[head.expect("the end of a head") + 4..].to_vec();
            }
        }
    }

    /// The requests of a process, each with the one answer that has its number.
    #[track_caller]
    pub fn exchanges(&self, pid: u32) -> Vec<Exchange> {
        let of_pid = || self.all.iter().filter(move |m| m.pid == u64::from(pid));
        let mut answers: BTreeMap<_, &Message> = BTreeMap::new();
        for answer in of_pid().filter(|m| m.is_final_response()) {
            let twice = answers.insert(answer.number(), answer);
            assert!(twice.is_none(), "answered twice: {twice:?} and {answer:?}");
        }
        let mut exchanges = Vec::new();
        for request in of_pid().filter(|m| m.head["method"].is_string()) {
            let answer = answers.remove(&request.number());
            let answer = answer.unwrap_or_else(|| panic!("no answer to {request:?}"));
            for member in ["method", "target"] {
                assert_eq!(answer.end[member], request.head[member], "mispaired");
            }
            exchanges.push(Exchange {
                method: text(&request.head, "method").to_owned(),
                target: text(&request.head, "target").to_owned(),
                status: number(&answer.head, "status"),
                request: Digest::of(&request.body),
                response: Digest::of(&answer.body),
            });
        }
        assert!(answers.is_empty(), "answers to nothing: {answers:?}");
        exchanges.sort();
        exchanges
    }

    /// Shows each exchange that a process logged once, and no other.
    #[track_caller]
    pub fn assert_shows(&self, pid: u32, logged: &[Exchange]) {
        let (shown, mut logged) = (self.exchanges(pid), logged.to_vec());
        logged.sort();
        assert!(!logged.is_empty(), "nothing was logged");
        assert_eq!(shown, logged, "shown, and logged by process {pid}");
    }
}

/// An answer as its end tells it, of a capture that may lack what came before.
#[derive(Debug, Clone)]
pub struct Answer {
    pub pid: u64,
    pub method: String,
    pub target: String,
    pub status: u64,
    pub complete: bool,
    /// All fields of its head were known.
    pub head_is_whole: bool,
    /// Of the content that `message` objects hold.
    pub content: Digest,
}

/// The answers of a capture in the order of their ends. Unlike [`Messages`] this takes
/// a capture with holes.
#[track_caller]
pub fn answers(output: &[u8]) -> Vec<Answer> {
    let mut contents: BTreeMap<_, (bool, Vec<u8>)> = BTreeMap::new();
    let mut answers = Vec::new();
    let lines = output.split(|&b| b == b'\n').filter(|l| !l.is_empty());
    for line in lines {
        let object: Value = serde_json::from_slice(line).expect("an object of JSON");
        let is_answer = object["name"]
            .as_str()
            .is_some_and(|n| n.ends_with("Response"));
        if object["kind"] != "message" || !is_answer {
            continue;
        }
        let key = (
            side(&object),
            number(&object, "exchange"),
            object["stream"].as_u64(),
        );
        match text(&object, "part") {
            "head" => {
                let fields = object["http"]["headers"].as_array().expect("headers");
                let known = |f: &Value| !f[0].as_str().is_some_and(|name| name.starts_with('['));
                contents.insert(key, (fields.iter().all(known), Vec::new()));
            }
            "content" => contents.entry(key).or_default().1.extend(payload(&object)),
            "end" => {
                let (head_is_whole, content) = contents.remove(&key).unwrap_or_default();
                let word = |member: &str| object[member].as_str().unwrap_or_default().to_owned();
                answers.push(Answer {
                    pid: number(&object, "pid"),
                    method: word("method"),
                    target: word("target"),
                    status: number(&object, "status"),
                    complete: object["complete"] == true,
                    head_is_whole,
                    content: Digest::of(&content),
                });
            }
            _ => {}
        }
    }
    answers
}

impl Message {
    /// Its number within the capture, which the answer has too.
    fn number(&self) -> (&str, u64, Option<u64>) {
        (&self.connection, self.exchange, self.stream)
    }

    fn is_final_response(&self) -> bool {
        self.head["status"]
            .as_u64()
            .is_some_and(|status| status >= 200)
    }

    #[track_caller]
    fn check(&self) {
        assert_eq!(self.end["complete"], true, "cut off: {self:?}");
        let decoded = number(&self.end, "decoded");
        assert_eq!(self.body.len() as u64, decoded, "content: {self:?}");
        if self.is_final_response() {
            let (first, total) = (&self.end["first_byte_ns"], &self.end["total_ns"]);
            assert!(
                first.as_u64() <= total.as_u64() && first.is_u64(),
                "{self:?}"
            );
        }
    }
}

fn side(object: &Value) -> Side {
    (text(object, "id").to_owned(), object["direction"] == "sent")
}

#[track_caller]
fn text<'a>(object: &'a Value, member: &str) -> &'a str {
    object[member]
        .as_str()
        .unwrap_or_else(|| panic!("no {member} in {object}"))
}

#[track_caller]
fn number(object: &Value, member: &str) -> u64 {
    object[member]
        .as_u64()
        .unwrap_or_else(|| panic!("no {member} in {object}"))
}

#[track_caller]
fn payload(object: &Value) -> Vec<u8> {
    match (object["text"].as_str(), object["base64"].as_str()) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(code)) => STANDARD.decode(code).expect("base64"),
        _ => panic!("text or base64: {object}"),
    }
}
