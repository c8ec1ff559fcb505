//! NSS: a database with our certificate, its own tools, and `fixtures/nss_peer.c`.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::capture::Tlscope;
use crate::certificates::certificates;
use crate::fixtures;
use crate::peer::{RunningPeer, Talk};
use crate::program::{must, tool};
use crate::scene::{Scene, artifacts};

/// The certificate's name in the database.
pub const NICKNAME: &str = "server";

/// `tlscope nss`.
#[must_use]
pub fn tlscope() -> Tlscope {
    Tlscope::new("nss")
}

/// `tlscope nss -m keylog`, to stdout.
#[must_use]
pub fn keylog() -> Tlscope {
    tlscope().args(["-m", "keylog", "-k", "-"])
}

/// A database with the ECDSA certificate and its key: `sql:DIRECTORY`.
#[track_caller]
pub fn database() -> &'static str {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| {
        // Brought into a virtual machine, which has no certutil.
        let brought = artifacts().join("nss-database");
        if brought.exists() {
            return format!("sql:{}", brought.display());
        }
        let directory = artifacts().join(format!("nss-{}", std::process::id()));
        // Of an earlier process with our number, if there is one: certutil makes none anew.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("directory for a database");
        let name = format!("sql:{}", directory.display());
        must(certutil().args(["-N", "--empty-password", "-d", &name]));
        let pair = &certificates().ecdsa;
        let bundle = directory.join("server.p12");
        let mut openssl = tool("openssl", "openssl");
        openssl.args(["pkcs12", "-export", "-passout", "pass:", "-name", NICKNAME]);
        must(
            openssl
                .arg("-in")
                .arg(&pair.cert)
                .arg("-inkey")
                .arg(&pair.key)
                .arg("-out")
                .arg(&bundle),
        );
        let mut import = tool("pk12util", "libnss3-tools");
        import.args(["-d", &name, "-W", ""]);
        must(import.arg("-i").arg(&bundle));
        let trust = ["-A", "-n", "ca", "-t", "C,,", "-d", &name];
        must(certutil().args(trust).arg("-i").arg(&certificates().ca));
        name
    })
}

fn certutil() -> Command {
    tool("certutil", "libnss3-tools")
}

/// The system's library of this name.
#[must_use]
pub fn library(name: &str) -> PathBuf {
    Path::new("/usr/lib")
        .join(format!("{}-linux-gnu", std::env::consts::ARCH))
        .join(name)
}

/// The command line of `nss_peer`.
#[derive(Debug, Clone, Default)]
pub struct NssPeer {
    arguments: Vec<String>,
    /// Where the loader looks for NSS, if not at the system's.
    library_path: Option<PathBuf>,
}

impl NssPeer {
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

    /// On the libraries of this directory, and of its directory `nss`.
    #[must_use]
    pub fn library_path(mut self, directory: &Path) -> Self {
        self.library_path = Some(directory.to_owned());
        self
    }

    /// Runs from start to end.
    #[track_caller]
    pub fn run(&self, scene: &Scene) -> Talk {
        self.start(scene).finish()
    }

    /// Starts, and waits until NSS is ready; with `set("wait")` it goes on when it is told to.
    #[track_caller]
    pub fn start(&self, scene: &Scene) -> RunningPeer {
        let mut command = Command::new(compiled());
        command.args(["--db", database()]).args(&self.arguments);
        command.stdin(Stdio::piped());
        if let Some(directory) = &self.library_path {
            let own = directory.join("nss");
            let paths = format!("{}:{}", directory.display(), own.display());
            command.env("LD_LIBRARY_PATH", paths);
        }
        RunningPeer::start(scene, command)
    }
}

/// The compiled fixture.
#[track_caller]
fn compiled() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let headers = "/usr/include/nss/ssl.h";
        assert!(
            Path::new(headers).exists() || !fixtures::c_source("nss_peer").exists(),
            "{headers} is missing: apt-get install libnss3-dev"
        );
        fixtures::compile("nss_peer", HEADERS, LIBRARIES)
    })
}

/// What `nss_peer.c` is compiled with.
pub const HEADERS: &[&str] = &["sha256.h"];
pub const LIBRARIES: &[&str] = &[
    "-I/usr/include/nss",
    "-I/usr/include/nspr",
    "-lnss3",
    "-lssl3",
    "-lnspr4",
    "-lpthread",
];
