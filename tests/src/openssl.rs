//! `openssl s_server` and `openssl s_client`: own BIOs, and key logs of their own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::certificates::{Pair, certificates};
use crate::program::{Finished, Program, tool};
use crate::scene::{Scene, free_port, until_listening};

/// A server that writes what it receives to its stdout.
#[derive(Debug)]
pub struct SServer {
    pub program: Program,
    pub port: u16,
    pub keylog: PathBuf,
}

impl SServer {
    #[track_caller]
    pub fn start(scene: &Scene, pair: &Pair, arguments: &[&str]) -> Self {
        Self::start_at(scene, pair, arguments, Path::new("."))
    }

    /// With the scene's directory as its own: with `-WWW` it serves the files there.
    #[track_caller]
    pub fn start_in(scene: &Scene, pair: &Pair, arguments: &[&str]) -> Self {
        Self::start_at(scene, pair, arguments, scene.directory())
    }

    #[track_caller]
    fn start_at(scene: &Scene, pair: &Pair, arguments: &[&str], directory: &Path) -> Self {
        let port = free_port();
        let keylog = scene.fresh("s_server.keylog");
        let mut command = tool("openssl", "openssl");
        command.args(["s_server", "-accept", &format!("127.0.0.1:{port}")]);
        command
            .arg("-cert")
            .arg(&pair.cert)
            .arg("-key")
            .arg(&pair.key);
        command.arg("-keylogfile").arg(&keylog).args(arguments);
        command.stdin(Stdio::piped()).current_dir(directory);
        let mut program = Program::start(scene, "s_server", command);
        until_listening(&mut program, port);
        Self {
            program,
            port,
            keylog,
        }
    }
}

/// Sends a file and stays for `expect` bytes of an answer; its stdout is what it received.
#[derive(Debug)]
pub struct SClient {
    pub keylog: PathBuf,
    program: Program,
}

impl SClient {
    #[track_caller]
    pub fn start(scene: &Scene, port: u16, input: Option<&Path>, arguments: &[&str]) -> Self {
        let keylog = scene.fresh("s_client.keylog");
        let mut command = tool("openssl", "openssl");
        command.args([
            "s_client",
            "-connect",
            &format!("127.0.0.1:{port}"),
            "-CAfile",
        ]);
        command
            .arg(&certificates().ca)
            .args(["-servername", "localhost", "-verify_return_error"]);
        command.arg("-keylogfile").arg(&keylog).args(arguments);
        give_input(&mut command, input);
        Self {
            keylog,
            program: Program::start(scene, "s_client", command),
        }
    }

    #[track_caller]
    pub fn finish(self) -> Finished {
        self.program.finish().success()
    }

    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

fn give_input(command: &mut Command, input: Option<&Path>) {
    match input {
        Some(path) => command.stdin(File::open(path).expect("input of s_client")),
        None => command.stdin(Stdio::piped()),
    };
}

/// `s_server` of DTLS 1.2: its stdout is what it receives.
#[track_caller]
pub fn dtls_server(scene: &Scene, port: u16) -> Program {
    let pair = &certificates().ecdsa;
    let mut command = tool("openssl", "openssl");
    command.args(["s_server", "-dtls1_2", "-accept", &port.to_string()]);
    command.arg("-cert").arg(&pair.cert);
    command.arg("-key").arg(&pair.key).stdin(Stdio::piped());
    let mut program = Program::start(scene, "s_server", command);
    program.until("s_server", |p| {
        let out = String::from_utf8_lossy(&p.stdout_so_far()).into_owned();
        out.contains("ACCEPT").then_some(())
    });
    program
}
