//! `fixtures/peer.c`: a TLS client and server on any libssl, which log what they did; and
//! `fixtures/gnutls_peer.c`, the same on any libgnutls.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::certificates::certificates;
use crate::digest::Digest;
use crate::keylog::KeyLog;
use crate::program::{Finished, Program, must, tool};
use crate::records::Records;
use crate::scene::{Scene, artifacts};
use crate::{SYSTEM_LIBSSL, fixtures, gnutls, wait};

/// The command line of a peer.
#[derive(Debug, Clone)]
pub struct Peer {
    library: PathBuf,
    arguments: Vec<String>,
    /// What starts the program, where it is not its own path.
    launcher: Vec<OsString>,
    /// Where the loader looks for the library's dependencies.
    library_path: Option<PathBuf>,
    /// Paths of the key logs that client and server write.
    pub client_keylog: Option<PathBuf>,
    pub server_keylog: Option<PathBuf>,
}

impl Default for Peer {
    fn default() -> Self {
        Self::on(Path::new(SYSTEM_LIBSSL))
    }
}

impl Peer {
    /// A client and a server, in one process, on this library.
    pub fn on(library: &Path) -> Self {
        let pair = &certificates().ecdsa;
        Self {
            library: library.to_owned(),
            arguments: Vec::new(),
            launcher: Vec::new(),
            library_path: None,
            client_keylog: None,
            server_keylog: None,
        }
        .with("cert", pair.cert.display())
        .with("key", pair.key.display())
    }

    /// `--name value`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        self.arguments
            .extend([format!("--{name}"), value.to_string()]);
        self
    }

    /// `--name`.
    #[must_use]
    pub fn set(mut self, name: &str) -> Self {
        self.arguments.push(format!("--{name}"));
        self
    }

    /// Bytes that the client sends, and that the server answers with.
    #[must_use]
    pub fn sizes(self, up: usize, down: usize) -> Self {
        self.with("up", up).with("down", down)
    }

    /// What the client's and the server's own key logs hold together.
    #[track_caller]
    pub fn logged(&self) -> KeyLog {
        let logs = [&self.client_keylog, &self.server_keylog].map(|path| match path {
            Some(path) if path.exists() => KeyLog::read(path),
            _ => KeyLog::default(),
        });
        logs[0].union(&logs[1])
    }

    /// Both sides write key logs.
    #[must_use]
    pub fn keylogs(mut self, scene: &Scene) -> Self {
        let client = scene.fresh("peer-client.keylog");
        let server = scene.fresh("peer-server.keylog");
        self = self
            .with("client-keylog", client.display())
            .with("server-keylog", server.display());
        self.client_keylog = Some(client);
        self.server_keylog = Some(server);
        self
    }

    /// Starts by these words, of which the last is the program: `chroot ROOT /peer`.
    #[must_use]
    pub fn launched_by(mut self, words: impl IntoIterator<Item = OsString>) -> Self {
        self.launcher = words.into_iter().collect();
        self
    }

    /// The library's dependencies are here.
    #[must_use]
    pub fn library_path(mut self, directory: &Path) -> Self {
        self.library_path = Some(directory.to_owned());
        self
    }

    /// What drives the library.
    #[track_caller]
    pub fn program(&self) -> &'static Path {
        if gnutls::is_library(&self.library) {
            gnutls::compiled_peer()
        } else {
            compiled()
        }
    }

    /// On the library of the system.
    pub fn is_system(&self) -> bool {
        self.library == Path::new(SYSTEM_LIBSSL)
    }

    /// Changes to this uid once the library is loaded and the keys are read.
    #[must_use]
    pub fn as_user(self, uid: u32) -> Self {
        self.with("uid", uid)
    }

    /// Runs from start to end.
    #[track_caller]
    pub fn run(&self, scene: &Scene) -> Talk {
        self.start(scene).finish()
    }

    /// Starts, and waits until the library is loaded and the server listens. With
    /// `set("wait")` the client begins when it is told to.
    #[track_caller]
    pub fn start(&self, scene: &Scene) -> RunningPeer {
        let mut command = match self.launcher.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest);
                command
            }
            None => Command::new(self.program()),
        };
        if let Some(directory) = &self.library_path {
            command.env("LD_LIBRARY_PATH", directory);
        }
        command
            .args(&self.arguments)
            .arg(&self.library)
            .stdin(Stdio::piped());
        RunningPeer::start(scene, command)
    }
}

#[derive(Debug)]
pub struct RunningPeer {
    program: Program,
    pub port: u16,
    pub pid: u32,
}

impl RunningPeer {
    /// Waits for the line that says that it is ready.
    #[track_caller]
    pub fn start(scene: &Scene, command: Command) -> Self {
        let mut program = Program::start(scene, "peer", command);
        let ready = program.until("the peer to be ready", |p| {
            let out = p.stdout_so_far();
            let line = out.split_inclusive(|&b| b == b'\n').next()?;
            line.ends_with(b"\n")
                .then(|| serde_json::from_slice::<Ready>(line).expect("ready"))
        });
        Self {
            program,
            port: ready.port,
            pid: ready.pid,
        }
    }

    /// Lets a peer that waits go on.
    pub fn go(&mut self) {
        self.program.say(b"\n");
    }

    /// Waits until this many sides of connections have ended.
    #[track_caller]
    pub fn until_ended(&mut self, sides: usize) {
        self.program.until("connections to end", |p| {
            (lines(&p.stdout_so_far()) > sides).then_some(())
        });
    }

    /// Waits for the end of one that does not report.
    #[track_caller]
    pub fn end(self) {
        let _ = self.program.finish().success();
    }

    #[track_caller]
    pub fn finish(self) -> Talk {
        Talk::read(&self.program.finish().success())
    }
}

#[derive(Deserialize)]
struct Ready {
    port: u16,
    pid: u32,
}

/// What both sides of all connections logged.
#[derive(Debug)]
pub struct Talk {
    pub pid: u32,
    pub sides: Vec<Side>,
}

/// One side of one connection.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Side {
    pub side: String,
    pub connection: u32,
    pub pid: u32,
    pub tid: u32,
    pub fd: i32,
    pub local: String,
    pub remote: String,
    sent: u64,
    sent_sha256: String,
    received: u64,
    received_sha256: String,
    pub version: String,
    pub cipher: String,
    pub reused: bool,
    pub early_accepted: bool,
    pub write_calls: u64,
    pub retried: u64,
}

impl Side {
    pub fn sent(&self) -> Digest {
        Digest {
            length: self.sent,
            sha256: self.sent_sha256.clone(),
        }
    }

    pub fn received(&self) -> Digest {
        Digest {
            length: self.received,
            sha256: self.received_sha256.clone(),
        }
    }

    /// The bytes that it sent, made again; not for early data or `text`.
    #[track_caller]
    pub fn sent_bytes(&self) -> Vec<u8> {
        let seed = 2 * u64::from(self.connection) + u64::from(self.side == "server");
        let bytes = filled(self.sent, seed);
        assert_eq!(
            Digest::of(&bytes),
            self.sent(),
            "what peer.c sends has changed"
        );
        bytes
    }
}

/// What `fill` in peer.c makes: the bytes of one direction of one connection.
fn filled(length: u64, seed: u64) -> Vec<u8> {
    let mut x = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    (0..length).map(next).collect()
}

impl Talk {
    fn read(finished: &Finished) -> Self {
        let text = finished.text();
        let lines = text.lines().skip(1);
        let sides: Vec<Side> = lines
            .map(|l| serde_json::from_str(l).expect("a peer's report"))
            .collect();
        assert!(!sides.is_empty(), "the peer held no connection");
        Self {
            pid: finished.pid,
            sides,
        }
    }

    pub fn of(&self, side: &str) -> impl Iterator<Item = &Side> {
        self.sides.iter().filter(move |s| s.side == side)
    }

    /// Every byte of every side was captured, by the right process, thread and
    /// descriptor, with the right addresses.
    #[track_caller]
    pub fn assert_captured(&self, records: &Records) {
        for side in &self.sides {
            let connection = records.between(self.pid, &side.local, &side.remote);
            let name = format!("{} {} ({})", side.side, side.connection, side.cipher);
            assert_eq!(connection.sent.digest(), side.sent(), "sent by {name}");
            assert_eq!(
                connection.received.digest(),
                side.received(),
                "received by {name}"
            );
            assert_eq!(connection.fd, Some(side.fd), "descriptor of {name}");
            assert_eq!(connection.tids, [side.tid], "threads of {name}");
            assert_eq!(connection.comm, "peer", "comm of {name}");
        }
        assert_eq!(
            records.of(self.pid).len(),
            self.sides.len(),
            "{:#?}",
            records.outline()
        );
    }

    /// Bytes that all sides sent and received.
    pub fn bytes(&self) -> u64 {
        self.sides.iter().map(|s| s.sent + s.received).sum()
    }
}

/// The compiled fixture.
pub fn compiled() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| fixtures::compile("peer", HEADERS, &["-ldl", "-lpthread"]))
}

/// What stands in for a LibreSSL with TLS 1.3, without names of its own functions: with
/// `tls13_derive_secret` inlined, or `DERIVE_ALONE`.
#[track_caller]
pub fn libressl_shape(form: &str) -> PathBuf {
    let name = "libressl_shape";
    let program = artifacts().join(format!("{name}-{form}"));
    fixtures::made(program, &fixtures::sources(name, &["sha256.h"]), |to| {
        let mut gcc = tool("gcc", "gcc libc6-dev");
        gcc.args([
            "-O2",
            "-s",
            "-fvisibility=hidden",
            "-rdynamic",
            "-D",
            form,
            "-o",
        ]);
        must(gcc.arg(to).arg(fixtures::c_source(name)));
    })
}

/// Of `peer.c`.
pub const HEADERS: &[&str] = &["libssl.h", "memory_bio.h", "sha256.h"];

fn lines(text: &[u8]) -> usize {
    text.split(|&b| b == b'\n').count() - 1
}

/// Waits until a file has at least this many lines.
#[track_caller]
pub fn until_lines(path: &Path, lines: usize) {
    wait::until(&format!("{lines} lines in {}", path.display()), || {
        let content = fs::read(path).unwrap_or_default();
        (self::lines(&content) >= lines).then_some(())
    });
}

/// The system's library under another name: what is probed there, nobody runs.
#[track_caller]
pub fn copied_libssl(scene: &Scene) -> PathBuf {
    let copy = scene.fresh("libssl.so.3");
    fs::copy(SYSTEM_LIBSSL, &copy).expect("copy of the library");
    copy
}
