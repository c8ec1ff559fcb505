//! JSON Lines of a capture (docs/json.md), put together into connections.
//!
//! Reading checks what must hold for every capture: each line is an object of a
//! known kind, the pieces of a stream follow each other without overlap, what is
//! missing between them is told as a gap, and the sums of the end are true.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::digest::Digest;

#[derive(Debug)]
pub struct Records {
    pub connections: Vec<Connection>,
    pub summary: Summary,
}

#[derive(Debug, Default)]
pub struct Connection {
    pub id: String,
    pub pid: u32,
    pub tids: Vec<u32>,
    pub uid: u32,
    pub comm: String,
    pub fd: Option<i32>,
    pub local: Option<String>,
    pub remote: Option<String>,
    pub sent: Stream,
    pub received: Stream,
    /// What each direction's data came with: all that is different.
    pub carriers: [Vec<Carrier>; 2],
    /// The names of its messages in order: Plain, `HTTPRequest`, ...
    pub messages: Vec<String>,
    pub closed: Option<Closed>,
}

/// What carries a connection, as JSON has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Carrier {
    pub fd: Option<i32>,
    pub local: Option<String>,
    pub remote: String,
    pub unknown: Option<String>,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub struct Stream {
    /// What was captured, gaps left out.
    pub bytes: Vec<u8>,
    /// Offset and length of what was lost.
    pub gaps: Vec<(u64, u64)>,
    next: u64,
}

impl Stream {
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    pub fn lost(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.1).sum()
    }

    /// Captured and lost together.
    pub fn length(&self) -> u64 {
        self.next
    }

    #[track_caller]
    fn advance(&mut self, what: &str, offset: u64, length: u64) {
        assert_eq!(
            offset, self.next,
            "{what} of {length} bytes does not follow what came before"
        );
        self.next += length;
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Closed {
    pub reason: String,
    pub sent: Bytes,
    pub received: Bytes,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Bytes {
    pub captured: u64,
    pub lost: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Summary {
    pub connections: u64,
    pub sent: Bytes,
    pub received: Bytes,
    pub gaps: u64,
    pub duplicate_bytes: u64,
    pub evicted_connections: u64,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Record {
    Open(Open),
    Data(Data),
    Gap(Gap),
    /// What was decoded from the data, shown beside it.
    Message {},
    /// What became of a connection between its opening and its close.
    Lifecycle {},
    Close {
        id: String,
        #[serde(flatten)]
        closed: Closed,
    },
    Summary(Summary),
}

#[derive(Deserialize)]
struct Open {
    id: String,
    #[serde(flatten)]
    who: Who,
}

#[derive(Deserialize)]
struct Who {
    pid: u32,
    tid: u32,
    uid: u32,
    comm: String,
    #[serde(flatten)]
    carrier: Carrier,
}

#[derive(Deserialize)]
struct Data {
    id: String,
    #[serde(flatten)]
    who: Who,
    direction: Direction,
    offset: u64,
    length: u64,
    name: String,
    #[serde(rename = "type")]
    number: u32,
    begins: bool,
    text: Option<String>,
    base64: Option<String>,
}

#[derive(Deserialize)]
struct Gap {
    id: String,
    direction: Direction,
    offset: u64,
    length: u64,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Direction {
    Received,
    Sent,
}

impl Records {
    #[track_caller]
    pub fn parse(lines: &[u8]) -> Self {
        assert!(
            lines.ends_with(b"\n"),
            "the output does not end with a whole line"
        );
        let mut connections: BTreeMap<String, Connection> = BTreeMap::new();
        let mut order = Vec::new();
        let mut summary = None;
        for line in lines.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            assert!(summary.is_none(), "lines after the summary");
            match record(line) {
                Record::Summary(s) => summary = Some(s),
                Record::Open(open) => {
                    let id = open.id.clone();
                    order.push(id.clone());
                    let mut connection = Connection {
                        id: open.id,
                        ..Connection::default()
                    };
                    connection.meet(open.who);
                    assert!(connections.insert(id, connection).is_none(), "opened twice");
                }
                Record::Data(data) => find(&mut connections, &data.id).data(data),
                Record::Message {} | Record::Lifecycle {} => {}
                Record::Gap(gap) => find(&mut connections, &gap.id).gap(&gap),
                Record::Close { id, closed } => find(&mut connections, &id).close(closed),
            }
        }
        let summary = summary.expect("the output ends with a summary");
        let connections = order
            .iter()
            .filter_map(|id| connections.remove(id))
            .collect();
        let records = Self {
            connections,
            summary,
        };
        records.check_sums();
        records
    }

    /// The summary against what was shown.
    #[track_caller]
    fn check_sums(&self) {
        let total = |part: fn(&Connection) -> u64| self.connections.iter().map(part).sum::<u64>();
        let shown = [
            total(|c| c.sent.bytes.len() as u64),
            total(|c| c.sent.lost()),
            total(|c| c.received.bytes.len() as u64),
            total(|c| c.received.lost()),
        ];
        let (sent, received) = (self.summary.sent, self.summary.received);
        let told = [sent.captured, sent.lost, received.captured, received.lost];
        assert_eq!(
            shown, told,
            "sent captured, lost, received captured, lost: shown, and summary"
        );
        assert_eq!(
            self.connections.len() as u64,
            self.summary.connections,
            "connections"
        );
    }

    /// The connections of one process.
    pub fn of(&self, pid: u32) -> Vec<&Connection> {
        self.connections.iter().filter(|c| c.pid == pid).collect()
    }

    /// The one connection of a process.
    #[track_caller]
    pub fn only(&self, pid: u32) -> &Connection {
        let mut all = self.of(pid);
        assert_eq!(
            all.len(),
            1,
            "connections of process {pid}: {:#?}",
            self.outline()
        );
        all.remove(0)
    }

    /// The connection of a process between these addresses.
    #[track_caller]
    pub fn between(&self, pid: u32, local: &str, remote: &str) -> &Connection {
        let is_it = |c: &Connection| {
            (c.local.as_deref(), c.remote.as_deref()) == (Some(local), Some(remote))
        };
        let mut all = self.of(pid).into_iter().filter(|c| is_it(c));
        match (all.next(), all.next()) {
            (Some(one), None) => one,
            (None, _) => panic!("nothing from {local} to {remote}: {:#?}", self.outline()),
            _ => panic!(
                "two connections from {local} to {remote}: {:#?}",
                self.outline()
            ),
        }
    }

    /// One line per connection, for failures.
    pub fn outline(&self) -> Vec<String> {
        let line = |c: &Connection| {
            let Connection {
                pid,
                comm,
                fd,
                local,
                remote,
                sent,
                received,
                ..
            } = c;
            let (sent, received) = (sent.bytes.len(), received.bytes.len());
            format!(
                "{pid} {comm} fd {fd:?} {local:?} -> {remote:?} sent {sent} received {received}"
            )
        };
        self.connections.iter().map(line).collect()
    }

    #[track_caller]
    pub fn assert_lossless(&self) {
        assert_eq!(
            (self.summary.sent.lost, self.summary.received.lost),
            (0, 0),
            "lost bytes"
        );
        assert_eq!(self.summary.gaps, 0, "gaps");
        assert_eq!(self.summary.evicted_connections, 0, "evicted connections");
    }
}

impl Connection {
    fn meet(&mut self, who: Who) {
        if !self.tids.contains(&who.tid) {
            self.tids.push(who.tid);
        }
        (self.pid, self.uid, self.comm) = (who.pid, who.uid, who.comm);
        let Carrier {
            fd, local, remote, ..
        } = who.carrier;
        self.fd = fd.or(self.fd);
        self.local = local.or(self.local.take());
        let known = Some(remote).filter(|remote| remote != "unknown");
        self.remote = known.or(self.remote.take());
    }

    fn stream(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::Sent => &mut self.sent,
            Direction::Received => &mut self.received,
        }
    }

    #[track_caller]
    fn data(&mut self, data: Data) {
        let payload = match (data.text, data.base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(code)) => STANDARD.decode(code).expect("base64"),
            _ => panic!("data has text or base64"),
        };
        assert_eq!(payload.len() as u64, data.length, "length of the payload");
        assert_eq!(number_of(&data.name), data.number, "type of {}", data.name);
        if data.begins {
            self.messages.push(data.name);
        }
        let carriers = &mut self.carriers[data.direction as usize];
        if !carriers.contains(&data.who.carrier) {
            carriers.push(data.who.carrier.clone());
        }
        let stream = self.stream(data.direction);
        stream.advance("data", data.offset, data.length);
        stream.bytes.extend_from_slice(&payload);
        self.meet(data.who);
    }

    #[track_caller]
    fn gap(&mut self, gap: &Gap) {
        let stream = self.stream(gap.direction);
        stream.advance("a gap", gap.offset, gap.length);
        stream.gaps.push((gap.offset, gap.length));
    }

    #[track_caller]
    fn close(&mut self, closed: Closed) {
        let count = |s: &Stream| (s.bytes.len() as u64, s.lost());
        let told = |b: Bytes| (b.captured, b.lost);
        assert_eq!(
            count(&self.sent),
            told(closed.sent),
            "sent, at the close of {}",
            self.id
        );
        let received = told(closed.received);
        assert_eq!(
            count(&self.received),
            received,
            "received, at the close of {}",
            self.id
        );
        assert!(self.closed.replace(closed).is_none(), "closed twice");
    }
}

#[track_caller]
fn record(line: &[u8]) -> Record {
    match serde_json::from_slice(line) {
        Ok(record) => record,
        Err(e) => panic!(
            "{e}: {}",
            String::from_utf8_lossy(&line[..line.len().min(500)])
        ),
    }
}

#[track_caller]
fn find<'a>(connections: &'a mut BTreeMap<String, Connection>, id: &str) -> &'a mut Connection {
    connections
        .get_mut(id)
        .unwrap_or_else(|| panic!("connection {id} was not opened"))
}

/// The numbers that go with the names of messages.
pub fn number_of(name: &str) -> u32 {
    match name {
        "Plain" => 0,
        "HTTPRequest" => 1,
        "HTTP2Request" => 2,
        "HTTPResponse" => 3,
        "HTTP2Response" => 4,
        "WebSocket" => 5,
        _ => panic!("a message of unknown kind: {name}"),
    }
}
