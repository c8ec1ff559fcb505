//! Programs that hold a library statically: they talk through a relay that ends TLS.
//!
//! `fixtures/witness.py` stands between client and server on the system's OpenSSL. Its bytes
//! and its key log are what the capture of the program is compared with, on both sides.

mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::certificates::certificates;
use crate::keylog::KeyLog;
use crate::program::{self, tool};
use crate::records::{Connection, Records};
use crate::scene::fixture;
use crate::servers::Nginx;
use crate::zoo::fetch::Specimen;
use crate::zoo::live::{Live, SIZES, Watch};
use crate::zoo::targets::{Program, Tls};
use crate::{Scene, digest};

/// A client of the program and, where it has one, a server, in each version of TLS.
#[track_caller]
pub fn run(scene: &Scene, specimen: &Specimen, program: Program, tls: Tls) -> Live {
    let watch = Watch::start(scene, &specimen.image);
    let mut sides = Vec::new();
    let mut truth = KeyLog::default();
    for version in tls.versions() {
        let (seen, keys) = talk(scene, specimen, program, version);
        sides.extend(seen);
        truth = truth.union(&keys);
    }
    let slack = program.slack();
    watch.end(
        |records| {
            for side in &sides {
                side.assert_captured(records, slack);
            }
        },
        &truth,
    )
}

impl Program {
    /// A command line of the program under test; the fixture takes the rest.
    fn command(self, specimen: &Specimen) -> Command {
        match self {
            Self::Node | Self::Bun => {
                let mut command = Command::new(&specimen.image);
                command.arg(fixture("tls_peer.js"));
                command
            }
            Self::Openssl => tools::openssl(specimen),
            Self::Grpc => with_wheel(specimen, "grpc_peer.py"),
            Self::CurlCffi => with_wheel(specimen, "curl_cffi_peer.py"),
            Self::Ffmpeg => {
                let mut command = with_wheel(specimen, "ffmpeg_peer.py");
                command.arg(&specimen.image);
                command
            }
        }
    }

    /// How many of the last bytes sent and received the witness alone, or the program alone, may
    /// have seen.
    fn slack(self) -> Slack {
        let (sent, received) = match self {
            // HTTP/2 says a few more words while a connection ends, which nobody may read.
            Self::Grpc => (256, 256),
            // It ends without a look at the answer to an upload.
            Self::Ffmpeg => (0, 512),
            Self::Node | Self::Bun | Self::Openssl | Self::CurlCffi => (0, 0),
        };
        Slack { sent, received }
    }

    /// Has no server: nginx is behind the witness.
    fn only_client(self) -> bool {
        matches!(self, Self::CurlCffi | Self::Ffmpeg)
    }

    fn alpn(self) -> Option<&'static str> {
        matches!(self, Self::Grpc).then_some("h2")
    }
}

#[derive(Debug, Clone, Copy)]
struct Slack {
    sent: usize,
    received: usize,
}

fn with_wheel(specimen: &Specimen, script: &str) -> Command {
    let mut command = tool("python3", "python3");
    command.env("PYTHONPATH", &specimen.directory);
    command.arg("-B").arg(fixture(script));
    command
}

/// One process and the plaintext of its connections, by the witness.
#[derive(Debug)]
struct Side {
    pid: u32,
    streams: Vec<Streams>,
}

#[derive(Debug, Clone)]
struct Streams {
    sent: Vec<u8>,
    received: Vec<u8>,
}

#[track_caller]
fn talk(scene: &Scene, specimen: &Specimen, program: Program, tls: &str) -> (Vec<Side>, KeyLog) {
    if program == Program::Openssl {
        return tools::talk(scene, specimen, tls);
    }
    let sizes = SIZES.map(|size| size.to_string());
    let (ca, pair) = (&certificates().ca, &certificates().ecdsa);
    let mut nginx = None;
    let mut server = None;
    let server_port = if program.only_client() {
        let nginx = nginx.insert(Nginx::start(scene));
        for size in SIZES {
            nginx.serve(size);
        }
        nginx.port
    } else {
        let mut command = program.command(specimen);
        command.arg("server").arg(&pair.cert).arg(&pair.key);
        if program != Program::Grpc {
            command.args(&sizes);
        }
        port_of(server.insert(start(scene, "server", command)))
    };
    let witness = Witness::start(scene, server_port, tls, program.alpn());
    let mut command = program.command(specimen);
    if !program.only_client() {
        command.arg("client");
    }
    command.arg(ca).arg(witness.port.to_string()).args(&sizes);
    let client = start(scene, "client", command).finish().success();
    let server = server.map(|server| server.finish().success().pid);
    let (streams, keys) = witness.finish(server.is_some());
    (sides_of(client.pid, server, streams), keys)
}

/// What the witness saw, from both sides.
fn sides_of(client: u32, server: Option<u32>, streams: Vec<Streams>) -> Vec<Side> {
    let turned = |s: &Streams| Streams {
        sent: s.received.clone(),
        received: s.sent.clone(),
    };
    let mut seen = Vec::new();
    if let Some(pid) = server {
        let streams = streams.iter().map(turned).collect();
        seen.push(Side { pid, streams });
    }
    let pid = client;
    seen.push(Side { pid, streams });
    seen
}

fn start(scene: &Scene, role: &str, mut command: Command) -> program::Program {
    command.stdin(Stdio::piped());
    program::Program::start(scene, role, command)
}

/// The port that a server prints as its first line.
#[track_caller]
fn port_of(program: &mut program::Program) -> u16 {
    program.until("its port", |p| {
        let out = String::from_utf8(p.stdout_so_far()).ok()?;
        let line = out.split_inclusive('\n').next()?.strip_suffix('\n')?;
        line.strip_prefix("port ")?.parse().ok()
    })
}

#[derive(Debug)]
struct Witness {
    program: program::Program,
    port: u16,
    directory: PathBuf,
}

impl Witness {
    #[track_caller]
    fn start(scene: &Scene, server_port: u16, tls: &str, alpn: Option<&str>) -> Self {
        let directory = scene.fresh("witness");
        fs::create_dir_all(&directory).expect("a directory for the witness");
        let pair = &certificates().ecdsa;
        let mut command = tool("python3", "python3");
        command.arg(fixture("witness.py")).args(["--tls", tls]);
        command
            .arg("--cert")
            .arg(&pair.cert)
            .arg("--key")
            .arg(&pair.key);
        command.args(["--connect", &server_port.to_string()]);
        command.arg("--directory").arg(&directory);
        if let Some(alpn) = alpn {
            command.args(["--alpn", alpn]);
        }
        let mut program = start(scene, "witness", command);
        let port = port_of(&mut program);
        Self {
            program,
            port,
            directory,
        }
    }

    /// What each client sent and received, and the key log of the sides under test.
    #[track_caller]
    fn finish(self, both_sides: bool) -> (Vec<Streams>, KeyLog) {
        let text = self.program.finish().success().text();
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("connections "));
        let count: usize = count.and_then(|n| n.parse().ok()).expect("a count");
        assert!(count > 0, "no connection reached the witness");
        let read = |number: usize, way: &str| {
            fs::read(self.directory.join(format!("{number}.{way}"))).expect("a stream")
        };
        let streams = (0..count).map(|number| Streams {
            sent: read(number, "up"),
            received: read(number, "down"),
        });
        let log = |name: &str| KeyLog::read(&self.directory.join(name));
        let keys = log("front.keylog");
        let keys = if both_sides {
            keys.union(&log("back.keylog"))
        } else {
            keys
        };
        (streams.collect(), keys)
    }
}

impl Side {
    /// Each connection was captured, and no other.
    #[track_caller]
    fn assert_captured(&self, records: &Records, slack: Slack) {
        let mut captured = records.of(self.pid);
        assert_eq!(
            captured.len(),
            self.streams.len(),
            "connections: {:#?}",
            records.outline()
        );
        for streams in &self.streams {
            let fits = |c: &&Connection| streams.is(c, slack);
            let Some(at) = captured.iter().position(fits) else {
                panic!(
                    "nothing captured is {} bytes sent ({}), {} received ({}): {:#?}",
                    streams.sent.len(),
                    start_of(&streams.sent),
                    streams.received.len(),
                    start_of(&streams.received),
                    records.outline()
                );
            };
            captured.remove(at);
        }
    }
}

impl Streams {
    fn is(&self, connection: &Connection, slack: Slack) -> bool {
        alike(&self.sent, &connection.sent.bytes, slack.sent)
            && alike(&self.received, &connection.received.bytes, slack.received)
    }
}

/// Equal, but for at most `slack` bytes more at the end of one of them.
fn alike(a: &[u8], b: &[u8], slack: usize) -> bool {
    let common = a.len().min(b.len());
    a[..common] == b[..common] && a.len().abs_diff(b.len()) <= slack
}

fn start_of(bytes: &[u8]) -> String {
    digest::hex(&bytes[..bytes.len().min(16)])
}

/// How a file that holds a library statically can be run, by what it is called, and the
/// directory that its program is in.
pub fn guess(image: &Path) -> Option<(Program, &Path)> {
    let name = image.file_name()?.to_str()?;
    let directory = image.parent()?;
    Some(match name {
        "node" => (Program::Node, directory),
        "bun" => (Program::Bun, directory),
        _ if name.starts_with("cygrpc.") => (Program::Grpc, directory.parent()?.parent()?),
        _ if name.starts_with("ffmpeg-linux") => (Program::Ffmpeg, directory),
        "_wrapper.abi3.so" => (Program::CurlCffi, directory.parent()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::alike;

    #[test]
    fn streams_differ_by_their_ends_at_most() {
        assert!(alike(b"abc", b"abc", 0));
        assert!(!alike(b"abc", b"ab", 0));
        assert!(alike(b"abc", b"ab", 1));
        assert!(!alike(b"abc", b"abd", 9));
    }
}
