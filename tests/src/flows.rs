//! What carries a connection: styles of I/O, each with a program that shows it, and
//! what the ends of its connections say of themselves against what was captured.
//!
//! `STYLES` drives the tests of `tests/flows.rs` and is the table of docs/flows.md.

mod packets;
mod servers;
mod sockets;

pub use packets::assert_packets_named;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::certificates::certificates;
use crate::program::{Program, tool};
use crate::records::{Carrier, Connection, Records};
use crate::scene::{Scene, fixture};
use crate::{Tlscope, fixtures};

/// What one end of a connection says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct End {
    pub pid: u32,
    /// What it writes to, and reads from if that is something else.
    #[serde(flatten)]
    pub written: Carrier,
    pub read: Option<Carrier>,
    pub sent: String,
    pub received: String,
    /// The texts are but parts of what it sent and received.
    #[serde(default)]
    pub parts: bool,
}

/// A BPF object, and its way to sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Best,
    /// As before kernel 6.3.
    Syscalls,
    /// Without CO-RE.
    Noncore,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Best, Self::Syscalls, Self::Noncore];

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Best => &["-b", "1"],
            Self::Syscalls => &["-b", "1", "--sockets", "syscall"],
            Self::Noncore => &["-b", "2"],
        }
    }
}

/// What a way shows instead of what the best one shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Same,
    /// The addresses, and no descriptor.
    Addresses,
    /// `unknown`, and why.
    Unknown(&'static str),
}

/// For want of a way.
const UNKNOWN: Shown = Shown::Unknown("kernel");
/// `io_uring` makes no system call for each.
const UNSEEN: Shown = Shown::Unknown("no_socket");

/// Which rows are run by one test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The library itself reads and writes.
    Library,
    /// The program carries the records between the library and their way.
    Program,
    Apache,
    Haproxy,
    Stunnel,
    Postgres,
    /// They were there before the capture.
    Older,
    Node,
}

/// One row of the table.
#[derive(Debug)]
pub struct Style {
    pub group: Group,
    pub what: &'static str,
    pub shown_by: &'static str,
    /// By the system call tracepoints.
    pub syscalls: Shown,
    pub noncore: Shown,
    run: Run,
}

/// How a row's ends come about.
#[derive(Debug)]
enum Run {
    /// A style of `flows_peer.py`.
    Python(&'static str),
    /// A style of `flows_peer.c`.
    C(&'static str),
    Program(fn(&Scene, Begin<'_>) -> Vec<End>),
}

/// Starts the capture, of this process alone or of all, unless it runs already.
type Begin<'a> = &'a mut dyn FnMut(Option<u32>);

const fn python(group: Group, style: &'static str, what: &'static str) -> Style {
    Style {
        group,
        what,
        shown_by: "Python",
        syscalls: Shown::Same,
        noncore: Shown::Same,
        run: Run::Python(style),
    }
}

const fn c(group: Group, style: &'static str, what: &'static str, noncore: Shown) -> Style {
    Style {
        group,
        what,
        shown_by: "a program in C",
        syscalls: Shown::Same,
        noncore,
        run: Run::C(style),
    }
}

const fn program(
    group: Group,
    what: &'static str,
    shown_by: &'static str,
    run: fn(&Scene, Begin<'_>) -> Vec<End>,
) -> Style {
    Style {
        group,
        what,
        shown_by,
        syscalls: Shown::Same,
        noncore: Shown::Same,
        run: Run::Program(run),
    }
}

const fn unknown_to_noncore(style: Style) -> Style {
    Style {
        noncore: UNKNOWN,
        ..style
    }
}

const fn by_ring(style: Style) -> Style {
    Style {
        syscalls: UNSEEN,
        ..style
    }
}

/// Text of one style may follow from another one: each is run all the same.
pub const STYLES: &[Style] = &[
    python(Group::Library, "set_fd", "a socket given by `SSL_set_fd`"),
    python(Group::Library, "ipv6", "the same over IPv6"),
    python(
        Group::Library,
        "mapped",
        "IPv4 on a socket of IPv6 (mapped): shown as IPv4",
    ),
    python(Group::Library, "unix", "a Unix socket: `unix`"),
    python(
        Group::Library,
        "reuse",
        "the same descriptors again for the next connection",
    ),
    python(
        Group::Library,
        "dup",
        "a descriptor made by `dup`, the first one closed",
    ),
    python(
        Group::Library,
        "passed",
        "a socket that another process passed (`SCM_RIGHTS`)",
    ),
    python(
        Group::Library,
        "prefork",
        "workers that share a listener they inherited",
    ),
    python(
        Group::Library,
        "threads",
        "two threads on one connection, one reads and one writes",
    ),
    python(
        Group::Library,
        "proxy",
        "one thread between two connections",
    ),
    c(
        Group::Library,
        "two_sockets",
        "one socket to read and another to write (`SSL_set_rfd`, `SSL_set_wfd`)",
        Shown::Same,
    ),
    c(
        Group::Library,
        "moves",
        "a connection that goes on by another descriptor of its socket",
        Shown::Same,
    ),
    c(
        Group::Library,
        "pipes",
        "two pipes, the same way: `pipe`",
        UNKNOWN,
    ),
    by_ring(c(
        Group::Library,
        "uring_bio",
        "a BIO of the program's own that uses io_uring",
        Shown::Addresses,
    )),
    c(
        Group::Library,
        "callback",
        "a callback that sends to a log daemon before the handshake does",
        Shown::Same,
    ),
    program(
        Group::Apache,
        "a BIO of the program's own; pre-forked workers",
        "Apache httpd, prefork",
        servers::apache_prefork,
    ),
    program(
        Group::Apache,
        "the same; threads",
        "Apache httpd, event",
        servers::apache_event,
    ),
    program(
        Group::Haproxy,
        "a proxy: TLS in and TLS out, one thread",
        "HAProxy",
        servers::haproxy,
    ),
    program(
        Group::Stunnel,
        "a proxy: TLS in, and TLS out again; a thread for each",
        "stunnel",
        servers::stunnel,
    ),
    program(
        Group::Stunnel,
        "standard input and output, one socket by two descriptors",
        "stunnel as inetd starts it",
        servers::stunnel_on_socket,
    ),
    program(
        Group::Stunnel,
        "standard input and output, two different sockets",
        "stunnel as inetd starts it",
        servers::stunnel_on_sockets,
    ),
    unknown_to_noncore(program(
        Group::Stunnel,
        "standard input and output, two pipes: `pipe`",
        "stunnel as inetd starts it",
        servers::stunnel_on_pipes,
    )),
    program(
        Group::Postgres,
        "BIOs of the programs' own; a process for each connection",
        "psql and PostgreSQL",
        servers::postgres,
    ),
    unknown_to_noncore(python(
        Group::Program,
        "asyncio",
        "memory BIOs, several connections at once",
    )),
    unknown_to_noncore(program(
        Group::Node,
        "memory BIOs of the program's own",
        "Node.js",
        node,
    )),
    c(
        Group::Program,
        "two_sockets_memory",
        "memory BIOs, one socket to read and another to write",
        UNKNOWN,
    ),
    c(
        Group::Program,
        "pieces",
        "memory BIOs, and records that are read in two pieces, head and body",
        UNKNOWN,
    ),
    by_ring(c(
        Group::Program,
        "uring",
        "memory BIOs, sent and received by io_uring",
        UNKNOWN,
    )),
    by_ring(c(
        Group::Program,
        "uring_messages",
        "the same by `sendmsg` and `recvmsg` of io_uring",
        UNKNOWN,
    )),
    by_ring(c(
        Group::Program,
        "uring_writes",
        "the same by `write` and `read` of io_uring",
        UNKNOWN,
    )),
    c(
        Group::Program,
        "callback_memory",
        "memory BIOs, and a callback that sends to a log daemon",
        UNKNOWN,
    ),
    unknown_to_noncore(python(
        Group::Program,
        "callback_connects",
        "memory BIOs, and a callback that makes a connection of its own",
    )),
    unknown_to_noncore(python(
        Group::Program,
        "relayed",
        "memory BIOs, and a relay between them in the same process",
    )),
    unknown_to_noncore(python(
        Group::Program,
        "pipe",
        "memory BIOs, carried through pipes: `unknown`, `no_socket`",
    )),
    c(
        Group::Program,
        "callback_pipes",
        "the same, and a callback that uses a socket",
        UNKNOWN,
    ),
    python(Group::Older, "old", "older than the capture: `SSL_set_fd`"),
    program(
        Group::Older,
        "older than the capture: BIOs of the programs' own",
        "psql and PostgreSQL",
        servers::postgres_before,
    ),
    unknown_to_noncore(python(
        Group::Older,
        "old_memory",
        "older than the capture: memory BIOs: `unknown`, `older`",
    )),
];

/// The rows of a group, one after the other: under one capture, unless they begin before it.
#[track_caller]
pub fn assert_group(scene: &Scene, group: Group, way: Way) {
    let rows = STYLES.iter().filter(|style| style.group == group);
    if matches!(group, Group::Older | Group::Node) {
        for style in rows {
            let mut capture = None;
            let ends = style.run(scene, &mut |pid| {
                let tlscope = Tlscope::json().args(way.flags());
                let tlscope = match pid {
                    Some(pid) => of_process(scene, tlscope, pid),
                    None => tlscope,
                };
                capture = Some(tlscope.start(scene));
            });
            let capture = capture.expect("the row began the capture");
            assert_row(style, &ends, way, &capture.stop().records());
        }
        return;
    }
    let capture = Tlscope::json().args(way.flags()).start(scene);
    let rows: Vec<_> = rows.map(|row| (row, row.run(scene, &mut |_| {}))).collect();
    let records = capture.stop().records();
    for (style, ends) in rows {
        assert_row(style, &ends, way, &records);
    }
}

#[track_caller]
fn assert_row(style: &Style, ends: &[End], way: Way, records: &Records) {
    let shown = match way {
        Way::Best => Shown::Same,
        Way::Syscalls => style.syscalls,
        Way::Noncore => style.noncore,
    };
    assert!(!ends.is_empty(), "{}: no end", style.what);
    for end in ends {
        end.assert_captured(records, shown, style.what);
    }
}

impl Style {
    #[track_caller]
    fn run(&self, scene: &Scene, begin: Begin<'_>) -> Vec<End> {
        let older = self.group == Group::Older;
        let mut program = match &self.run {
            Run::Program(run) => return run(scene, begin),
            Run::Python(style) => {
                let mut command = tool("python3", "python3");
                command.arg(fixture("flows_peer.py")).arg(style);
                Program::start(scene, style, with_certificates(command))
            }
            Run::C(style) => {
                let pair = &certificates().ecdsa;
                let mut command = std::process::Command::new(peer());
                command.args([style.as_ref(), pair.cert.as_os_str(), pair.key.as_os_str()]);
                Program::start(scene, style, command)
            }
        };
        if older {
            program.until("the connection", |p| {
                p.stdout_so_far()
                    .starts_with(b"established\n")
                    .then_some(())
            });
            begin(None);
            program.say(b"go\n");
        }
        ends(&program.finish().success().text())
    }
}

/// Certificate, key and CA as arguments.
fn with_certificates(mut command: std::process::Command) -> std::process::Command {
    let (pair, ca) = (&certificates().ecdsa, &certificates().ca);
    command
        .args([&pair.cert, &pair.key, ca])
        .stdin(Stdio::piped());
    command
}

fn peer() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED
        .get_or_init(|| fixtures::compile("flows_peer", &[], &["-lssl", "-lcrypto", "-lpthread"]))
}

/// The ends that a program reports, a line each.
#[track_caller]
fn ends(text: &str) -> Vec<End> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).expect("an end's report"))
        .collect()
}

/// A program that holds the library itself is named.
fn of_process(scene: &Scene, tlscope: Tlscope, pid: u32) -> Tlscope {
    let image = fs::read_link(format!("/proc/{pid}/exe")).expect("its program");
    let holds_one = Tlscope::new("inspect").arg(&image).run(scene).code() == Some(0);
    let tlscope = tlscope.pid(pid);
    if holds_one {
        tlscope.arg("--libssl").arg(&image)
    } else {
        tlscope
    }
}

fn node(scene: &Scene, begin: Begin<'_>) -> Vec<End> {
    let mut command = tool("node", "nodejs");
    command.arg(fixture("flows_peer.js"));
    let mut node = Program::start(scene, "node", with_certificates(command));
    begin(Some(node.pid()));
    node.say(b"go\n");
    ends(&node.finish().success().text())
}

impl End {
    /// The connection with just these bytes has just these carriers, in every event.
    #[track_caller]
    fn assert_captured(&self, records: &Records, shown: Shown, what: &str) {
        let mut found = records.of(self.pid).into_iter().filter(|c| self.is(c));
        let (Some(ours), None) = (found.next(), found.next()) else {
            panic!("{what}: not once: {self:?}: {:#?}", records.outline());
        };
        let read = self.read.as_ref().unwrap_or(&self.written);
        for (captured, said) in ours.carriers.iter().zip([read, &self.written]) {
            let expected = as_shown(said, shown);
            let mut captured = captured.clone();
            // Node keeps some descriptors to itself.
            if said.fd.is_none() && said.local.is_some() {
                for carrier in &mut captured {
                    carrier.fd = None;
                }
            }
            assert_eq!(captured, [expected], "{what}: {self:?}");
        }
    }

    fn is(&self, captured: &Connection) -> bool {
        let same = |said: &str, bytes: &[u8]| {
            let whole = bytes == said.as_bytes();
            whole || self.parts && String::from_utf8_lossy(bytes).contains(said)
        };
        same(&self.sent, &captured.sent.bytes) && same(&self.received, &captured.received.bytes)
    }
}

fn as_shown(said: &Carrier, shown: Shown) -> Carrier {
    let plain = |address: &String| address.replace("[::ffff:127.0.0.1]", "127.0.0.1");
    match shown {
        Shown::Same | Shown::Addresses => Carrier {
            fd: said.fd.filter(|_| shown == Shown::Same),
            local: said.local.as_ref().map(plain),
            remote: plain(&said.remote),
            unknown: said.unknown.clone(),
        },
        Shown::Unknown(why) => Carrier {
            remote: "unknown".into(),
            unknown: Some(why.into()),
            ..Carrier::default()
        },
    }
}

/// The table of docs/flows.md.
fn table() -> String {
    let words = |shown: Shown| match shown {
        Shown::Same => "the same".to_owned(),
        Shown::Addresses => "addresses, no descriptor".to_owned(),
        Shown::Unknown(why) => format!("`unknown`, `{why}`"),
    };
    let row = |style: &Style| {
        let [syscalls, noncore] = [style.syscalls, style.noncore].map(words);
        let Style { what, shown_by, .. } = style;
        format!("| {what} | {shown_by} | {syscalls} | {noncore} |\n")
    };
    let head = "| what carries the connection | shown by | as before kernel 6.3 | with the \
                noncore object |\n|---|---|---|---|\n";
    std::iter::once(head.to_owned())
        .chain(STYLES.iter().map(row))
        .collect()
}

/// docs/flows.md as it is, and with the table as it has to be.
#[track_caller]
pub fn page() -> (PathBuf, String, String) {
    const MARKS: [&str; 2] = ["<!-- tests/src/flows.rs -->\n", "<!-- end -->"];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/flows.md");
    let text = fs::read_to_string(&path).expect("docs/flows.md");
    let (before, rest) = text.split_once(MARKS[0]).expect("where the table begins");
    let (_, after) = rest.split_once(MARKS[1]).expect("where the table ends");
    let expected = format!("{before}{}\n{}\n{}{after}", MARKS[0], table(), MARKS[1]);
    (path, text, expected)
}
