//! A program under the harness: its own process group, output in files, killed on drop.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::scene::Scene;
use crate::wait;

/// A command for a program that a Debian package holds.
#[track_caller]
pub fn tool(program: &str, package: &str) -> Command {
    let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .into_iter()
        .map(|dir| PathBuf::from(dir).join(program))
        .find(|path| path.exists());
    match found {
        Some(path) => Command::new(path),
        None => panic!("{program} is missing: apt-get install {package}"),
    }
}

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    pub name: String,
    pub pid: u32,
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Program {
    /// Starts `command`; its stdin is what the command says, else empty.
    #[track_caller]
    pub fn start(scene: &Scene, name: &str, command: Command) -> Self {
        let stdout = scene.fresh(&format!("{name}.stdout"));
        let out = File::create(&stdout).expect("stdout file");
        Self::start_to(scene, name, command, stdout, out.into())
    }

    /// As `start`, with a stdout of another kind.
    #[track_caller]
    pub fn start_to(
        scene: &Scene,
        name: &str,
        mut command: Command,
        stdout: PathBuf,
        out: Stdio,
    ) -> Self {
        let stderr = scene.fresh(&format!("{name}.stderr"));
        let errors = File::create(&stderr).expect("stderr file");
        command.stdout(out).stderr(errors).process_group(0);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(e) => panic!("{command:?}: {e}"),
        };
        Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        // It may have ended already; `finish` tells how.
        let _ = kill_process(self.id(), signal);
    }

    /// Writes to the program's piped stdin; it stays open.
    pub fn say(&mut self, text: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("stdin is a pipe");
        stdin
            .write_all(text)
            .and_then(|()| stdin.flush())
            .expect("write to stdin");
    }

    /// Leaves a program that writes into a pipe without a reader.
    pub fn close_stdout(&mut self) {
        self.child.stdout = None;
    }

    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    pub fn stdout_so_far(&self) -> Vec<u8> {
        fs::read(&self.stdout).unwrap_or_default()
    }

    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child")
    }

    /// Panics with the program's own words when it ends before `ask` has an answer.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&Self) -> Option<T>) -> T {
        let answer = wait::poll(wait::BOUND, || {
            if let Some(answer) = ask(self) {
                return Some(answer);
            }
            self.ended()
                .map(|status| self.give_up(what, &format!("it ended with {status}")))
        });
        answer.unwrap_or_else(|| self.give_up(what, "not in time"))
    }

    /// Waits for the end.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        self.close_stdin();
        let Some(status) = wait::poll(wait::BOUND * 4, || self.ended()) else {
            self.give_up("the end", "not in time")
        };
        let stdout = self.stdout_so_far();
        let stderr = self.stderr_so_far();
        Finished {
            name: self.name.clone(),
            pid: self.pid(),
            status,
            stdout,
            stderr,
        }
    }

    #[track_caller]
    fn give_up(&self, what: &str, why: &str) -> ! {
        panic!(
            "{}: waited for {what}: {why}\nstdout: {}\nstderr: {}",
            self.name,
            tail(&String::from_utf8_lossy(&self.stdout_so_far())),
            tail(&self.stderr_so_far()),
        )
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = kill_process_group(self.id(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

impl Finished {
    #[track_caller]
    #[must_use]
    pub fn success(self) -> Self {
        assert!(
            self.status.success(),
            "{} ended with {}\nstdout: {}\nstderr: {}",
            self.name,
            self.status,
            tail(&String::from_utf8_lossy(&self.stdout)),
            tail(&self.stderr),
        );
        self
    }

    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn killed_by(&self) -> Option<i32> {
        self.status.signal()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(scene: &Scene, name: &str, command: Command) -> Finished {
    Program::start(scene, name, command).finish()
}

/// Runs a tool of the harness itself, quietly; a failure shows all it said.
#[track_caller]
pub fn must(command: &mut Command) -> Vec<u8> {
    let output: io::Result<_> = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => panic!(
            "{command:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(e) => panic!("{command:?}: {e}"),
    }
}

fn tail(text: &str) -> String {
    const KEPT: usize = 4000;
    let start = text.len().saturating_sub(KEPT);
    let start = (start..text.len())
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(text.len());
    text[start..].to_owned()
}
