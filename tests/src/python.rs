//! `fixtures/tls_peer.py`: Python's `ssl` module, which calls `SSL_read_ex` and `SSL_write_ex`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;

use crate::certificates::certificates;
use crate::digest::Digest;
use crate::program::{Program, tool};
use crate::scene::{Scene, fixture};

/// A server that takes a given number of connections and ends.
#[derive(Debug)]
pub struct PythonServer {
    program: Program,
    pub port: u16,
}

/// What one side of one connection logged.
#[derive(Debug, Clone, Deserialize)]
pub struct PythonSide {
    pub pid: u32,
    pub fd: i32,
    pub remote: String,
    sent: u64,
    sent_sha256: String,
    received: u64,
    received_sha256: String,
}

impl PythonSide {
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

/// What the two sides send, and where they log their secrets.
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub up: usize,
    pub down: usize,
    pub connections: usize,
    pub keylog: Option<PathBuf>,
    /// The uid to change to before the first connection.
    pub uid: Option<u32>,
    /// Where the loader looks for libraries first.
    pub library_path: Option<PathBuf>,
}

impl PythonServer {
    #[track_caller]
    pub fn start(scene: &Scene, script: &Script) -> Self {
        let mut program = start(scene, "server", 0, script);
        let port = program.until("the server's port", |p| {
            let out = String::from_utf8(p.stdout_so_far()).ok()?;
            out.lines().next()?.strip_prefix("port ")?.parse().ok()
        });
        Self { program, port }
    }

    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    #[track_caller]
    pub fn finish(self) -> Vec<PythonSide> {
        sides(self.program)
    }
}

#[track_caller]
pub fn client(scene: &Scene, port: u16, script: &Script) -> Vec<PythonSide> {
    sides(start(scene, "client", port, script))
}

fn start(scene: &Scene, role: &str, port: u16, script: &Script) -> Program {
    let mut command = tool("python3", "python3");
    let pair = &certificates().ecdsa;
    command
        .arg(fixture("tls_peer.py"))
        .args([role, "--port", &port.to_string()]);
    command.args([
        "--up",
        &script.up.to_string(),
        "--down",
        &script.down.to_string(),
    ]);
    command.args(["--connections", &script.connections.max(1).to_string()]);
    command
        .arg("--cert")
        .arg(&pair.cert)
        .arg("--key")
        .arg(&pair.key);
    command.arg("--ca").arg(&certificates().ca);
    if let Some(keylog) = &script.keylog {
        command.arg("--keylog").arg(Path::new(keylog));
    }
    if let Some(uid) = script.uid {
        command.args(["--uid", &uid.to_string()]);
    }
    if let Some(path) = &script.library_path {
        command.env("LD_LIBRARY_PATH", path);
    }
    command.stdin(Stdio::null());
    Program::start(scene, &format!("python-{role}"), command)
}

#[track_caller]
fn sides(program: Program) -> Vec<PythonSide> {
    let finished = program.finish().success();
    let text = finished.text();
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).expect("a side's report"))
        .collect()
}
