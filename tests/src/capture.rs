//! tlscope itself as a guard: started, ready, stopped, collected.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::keylog::KeyLog;
use crate::program::{Finished, Program, tool};
use crate::records::Records;
use crate::scene::Scene;
use crate::text::Blocks;

/// The program under test. Without it there is nothing to test, so that fails.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("TLSCOPE_BIN") {
        let path = PathBuf::from(path);
        assert!(
            path.is_file(),
            "TLSCOPE_BIN={}: no such file",
            path.display()
        );
        return path;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let built = ["checked", "release", "debug"]
        .map(|profile| workspace.join("target").join(profile).join("tlscope"));
    let time = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).ok();
    match built
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(time)
    {
        Some(newest) => newest,
        None => panic!("tlscope is not built: `make build`, or set TLSCOPE_BIN"),
    }
}

/// tlscope in the hands of a user without any privilege: a copy, for the way to
/// the original may be closed to others.
#[track_caller]
pub fn tlscope_of_nobody(scene: &Scene) -> Command {
    let copy = scene.path("tlscope");
    fs::copy(binary(), &copy).expect("a copy that everybody may run");
    let mut setpriv = tool("setpriv", "util-linux");
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    setpriv
        .args(["--inh-caps=-all", "--bounding-set=-all"])
        .arg(copy);
    setpriv
}

/// A command line of tlscope.
#[derive(Debug)]
pub struct Tlscope {
    command: Command,
    /// What tlscope itself runs, after `--`.
    run: Vec<OsString>,
}

impl Tlscope {
    /// `tlscope COMMAND`.
    pub fn new(command: &str) -> Self {
        let mut tlscope = Command::new(binary());
        tlscope.arg(command);
        Self {
            command: tlscope,
            run: Vec::new(),
        }
    }

    /// `tlscope tls`, as records.
    pub fn json() -> Self {
        Self::new("tls").arg("--json")
    }

    /// `tlscope tls`, as a person sees it.
    pub fn text() -> Self {
        Self::new("tls")
    }

    /// `tlscope tls -m keylog`, to stdout.
    pub fn keylog() -> Self {
        Self::new("tls").arg("-m").arg("keylog").arg("-k").arg("-")
    }

    /// `tlscope tls -m pcap`, on an interface.
    pub fn pcap(interface: &str) -> Self {
        Self::new("tls").args(["-m", "pcap", "-i", interface])
    }

    /// `-- COMMAND ARGS...`
    #[must_use]
    pub fn running(mut self, words: &[&str]) -> Self {
        self.run = words.iter().map(Into::into).collect();
        self
    }

    #[must_use]
    pub fn args(self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// `--name value`.
    #[must_use]
    pub fn with(self, name: &str, value: impl Display) -> Self {
        self.arg(format!("--{name}")).arg(value.to_string())
    }

    /// `-b`: 1 for the core object, 2 for the noncore one.
    #[must_use]
    pub fn object(self, number: u8) -> Self {
        self.arg("-b").arg(number.to_string())
    }

    #[must_use]
    pub fn pid(self, pid: u32) -> Self {
        self.with("pid", pid)
    }

    /// The same in another program's hands: `setpriv ... tlscope ...`.
    #[must_use]
    pub fn under(self, mut wrapper: Command) -> Self {
        wrapper
            .arg(self.command.get_program())
            .args(self.command.get_args());
        Self {
            command: wrapper,
            run: self.run,
        }
    }

    /// The same by a copy of the program, in the hands of this user.
    #[must_use]
    pub fn as_user(self, copy: &Path, uid: u32) -> Self {
        let mut command = Command::new(copy);
        command.args(self.command.get_args()).uid(uid).gid(uid);
        Self {
            command,
            run: self.run,
        }
    }

    /// The same, in a mount namespace of its own in which this was mounted before: shell words.
    #[must_use]
    #[track_caller]
    pub fn mounting(self, mounts: &str) -> Self {
        let mut unshare = tool("unshare", "util-linux");
        unshare.args(["--mount", "sh", "-c"]);
        unshare.arg(format!("{mounts} && exec \"$0\" \"$@\""));
        self.under(unshare)
    }

    /// Runs to its end, for what is not a capture.
    #[track_caller]
    pub fn run(self, scene: &Scene) -> Finished {
        Program::start(scene, "tlscope", self.command).finish()
    }

    /// Starts a capture and waits until every probe is attached.
    #[track_caller]
    pub fn start(self, scene: &Scene) -> Capture {
        let stdout = scene.fresh("tlscope.stdout");
        let out = fs::File::create(&stdout).expect("stdout file");
        self.start_to(scene, stdout, out.into())
    }

    /// As `start`, with a stdout of another kind.
    #[track_caller]
    pub fn start_to(mut self, scene: &Scene, stdout: PathBuf, out: Stdio) -> Capture {
        let ready = scene.fresh("ready");
        self.command.arg("--ready-file").arg(&ready);
        if !self.run.is_empty() {
            self.command.arg("--").args(&self.run);
        }
        // Shown when the test fails.
        eprintln!("{:?}", self.command);
        let mut program = Program::start_to(scene, "tlscope", self.command, stdout, out);
        program.until("tlscope to be ready", |_| ready.exists().then_some(()));
        Capture { program }
    }
}

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    program: Program,
}

impl Capture {
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Ctrl-C, then all that was captured. It must end well.
    #[track_caller]
    pub fn stop(self) -> Captured {
        self.stop_by(Signal::INT).success()
    }

    #[track_caller]
    pub fn stop_by(self, signal: Signal) -> Captured {
        self.program.signal(signal);
        self.end()
    }

    /// Waits for an end that comes by itself.
    #[track_caller]
    pub fn end(self) -> Captured {
        Captured {
            finished: self.program.finish(),
        }
    }

    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

impl Capture {
    /// A command of its own, which creates `ready` when it is.
    #[track_caller]
    pub fn started(scene: &Scene, command: Command, ready: &Path) -> Self {
        let mut program = Program::start(scene, "tlscope", command);
        program.until("tlscope to be ready", |_| ready.exists().then_some(()));
        Self { program }
    }
}

/// A capture that has ended.
#[derive(Debug)]
pub struct Captured {
    pub finished: Finished,
}

impl Captured {
    #[track_caller]
    #[must_use]
    pub fn success(self) -> Self {
        Self {
            finished: self.finished.success(),
        }
    }

    #[track_caller]
    pub fn records(&self) -> Records {
        Records::parse(&self.finished.stdout)
    }

    #[track_caller]
    pub fn keylog(&self) -> KeyLog {
        KeyLog::parse(&self.finished.text())
    }

    #[track_caller]
    pub fn blocks(&self) -> Blocks {
        Blocks::parse(&self.finished.stdout)
    }
}
