//! `fixtures/go`: a TLS client and server in one Go program, built as Go programs are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::digest::Digest;
use crate::fixtures;
use crate::program::{Finished, Program, must, tool};
use crate::records::{Connection, Records};
use crate::scene::{Scene, artifacts, fixture};

/// How the program is built; what is not said is as `go build` does it.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    pub name: &'static str,
    pub arguments: &'static [&'static str],
    pub cgo: bool,
}

pub const PLAIN: Build = build("plain", &[]);
pub const STRIPPED: Build = build("stripped", &["-ldflags=-s -w"]);
pub const STRIPPED_PIE: Build = build("stripped-pie", &["-buildmode=pie", "-ldflags=-s -w"]);
/// A library that exports `Exchange`.
pub const SHARED: Build = Build {
    cgo: true,
    ..build("shared", &["-buildmode=c-shared", "-tags=shared"])
};

const fn build(name: &'static str, arguments: &'static [&'static str]) -> Build {
    Build {
        name,
        arguments,
        cgo: false,
    }
}

impl Build {
    /// Builds it with the system's Go, anew when a source changed.
    #[track_caller]
    pub fn program(&self) -> PathBuf {
        let program = artifacts().join(format!("go-peer-{}", self.name));
        fixtures::made(program, &sources(), |to| self.make(go_tool(), to))
    }

    /// Builds it with a Go of one's own.
    #[track_caller]
    pub fn make(&self, mut go: Command, program: &Path) {
        go.current_dir(fixture("go"))
            .env("GOCACHE", artifacts().join("go-cache"))
            .env("GOFLAGS", "-mod=mod")
            .env("GOTOOLCHAIN", "local")
            .env("CGO_ENABLED", if self.cgo { "1" } else { "0" })
            .arg("build")
            .args(self.arguments)
            .arg("-o")
            .arg(program);
        must(go.arg("."));
    }
}

/// The system's.
#[track_caller]
pub fn go_tool() -> Command {
    tool("go", "golang-go")
}

pub fn sources() -> Vec<PathBuf> {
    let files = fs::read_dir(fixture("go")).into_iter().flatten().flatten();
    files.map(|file| file.path()).collect()
}

/// What one side of one connection says that it did.
#[derive(Debug, Clone, Deserialize)]
pub struct GoSide {
    pub side: String,
    pub fd: i32,
    pub local: String,
    pub remote: String,
    sent: u64,
    sent_sha256: String,
    received: u64,
    received_sha256: String,
}

impl GoSide {
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
}

/// A run that has ended, well.
#[derive(Debug)]
pub struct GoTalk {
    pub pid: u32,
    pub sides: Vec<GoSide>,
    pub finished: Finished,
}

/// Starts it, with its arguments in words; it begins when a line is said to it if `--wait` is among the arguments.
#[track_caller]
pub fn start(scene: &Scene, program: &Path, arguments: &str) -> Program {
    let mut command = Command::new(program);
    let words = arguments.split_whitespace();
    command.args(words).stdin(Stdio::piped());
    Program::start(scene, "go-peer", command)
}

#[track_caller]
pub fn run(scene: &Scene, program: &Path, arguments: &str) -> GoTalk {
    end(start(scene, program, arguments))
}

#[track_caller]
pub fn end(program: Program) -> GoTalk {
    let finished = program.finish().success();
    let text = finished.text();
    let lines = text.lines().filter(|line| line.starts_with("{\"fd\""));
    GoTalk {
        pid: finished.pid,
        sides: lines
            .map(|line| serde_json::from_str(line).expect("a side's report"))
            .collect(),
        finished,
    }
}

impl GoTalk {
    /// Every byte of every side, each side a connection of its own, and no other.
    #[track_caller]
    pub fn assert_captured(&self, records: &Records) {
        let digests = |c: &&Connection| (c.sent.digest(), c.received.digest());
        let mut captured: Vec<_> = records.of(self.pid).iter().map(digests).collect();
        let mut truth: Vec<_> = self
            .sides
            .iter()
            .map(|s| (s.sent(), s.received()))
            .collect();
        captured.sort();
        truth.sort();
        assert!(!truth.is_empty(), "no side said what it did");
        assert_eq!(captured, truth, "{:#?}", records.outline());
        records.assert_lossless();
    }

    /// And with the addresses and descriptors that the program knows of. The kernel gives ports
    /// again: two connections may have the same, one after the other.
    #[track_caller]
    pub fn assert_captured_with_addresses(&self, records: &Records) {
        self.assert_captured(records);
        let of_connection = |c: &&Connection| {
            let addresses = [c.local.clone(), c.remote.clone()];
            (addresses, c.fd, c.sent.digest(), c.received.digest())
        };
        let mut captured: Vec<_> = records.of(self.pid).iter().map(of_connection).collect();
        let of_side = |s: &GoSide| {
            let addresses = [Some(s.local.clone()), Some(s.remote.clone())];
            (addresses, Some(s.fd), s.sent(), s.received())
        };
        let mut truth: Vec<_> = self.sides.iter().map(of_side).collect();
        captured.sort();
        truth.sort();
        let wrong = captured.iter().zip(&truth).find(|(c, t)| c != t);
        assert_eq!(wrong, None, "captured, and what the program says");
    }
}
