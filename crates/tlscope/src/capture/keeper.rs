//! Who keeps which privileges once a capture is under way. The main thread does for the
//! confined one what takes the kernel's trust.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use tlscope_core::event::{Close, Comm, EndedProcess, Process, Timestamp};
use tlscope_probe::confine::{Duty, Sandbox, keep_capabilities};
use tlscope_probe::{AttachMode, Tracer};

use super::TICK;
use super::attacher::Attacher;
use super::command::Running;
use super::processes::Asked;
use super::records::{self, Clock, Reach};
use super::watch::Watch;
use crate::config::{Config, Destination, PlaintextTo, Rotation};

type Work = Box<dyn FnOnce(&mut Kept) + Send>;

/// What privileges are kept for.
pub(super) struct Kept {
    attacher: Attacher,
    watch: Option<Watch>,
    /// Start times of processes with traffic.
    started: HashMap<u32, u64>,
}

impl Kept {
    pub(super) fn tracer(&self) -> MutexGuard<'_, Tracer> {
        self.attacher.tracer()
    }

    /// No probe is left, and none is attached behind it.
    pub(super) fn end(&mut self) {
        self.watch = None;
        self.tracer().detach();
    }

    /// What each connection carried, for what may be missing at its end.
    pub(super) fn totals(&self, clock: Clock, now: Timestamp) -> Vec<Close> {
        let tracer = self.tracer();
        let reach = Reach::of(&tracer);
        let closed = tracer.unsent_closes().into_iter();
        let closed = closed.map(|record| records::close(&record, clock));
        let open = tracer.connections().into_iter();
        let open = open.map(|(key, connection)| {
            records::so_far(&key, &connection, process_of(key.pid), now, reach)
        });
        closed.chain(open).collect()
    }

    /// Which of these processes have ended.
    pub(super) fn ended(&mut self, asked: &[Asked], now: Timestamp) -> Vec<EndedProcess> {
        let ended = |process: &Asked| {
            let Some(life) = tlscope_targets::life(process.pid) else {
                if is_hidden(process.pid) {
                    return None;
                }
                self.started.remove(&process.pid);
                return Some(process.ended(None));
            };
            let began = now.minus(life.age);
            let before = self.started.insert(process.pid, life.start_time);
            let same = match before {
                Some(start_time) => start_time == life.start_time,
                None => process.may_have_begun(began),
            };
            (!same).then(|| process.ended(Some(began)))
        };
        asked.iter().filter_map(ended).collect()
    }
}

/// /proc does not show it to this user (`hidepid`), but it is there.
fn is_hidden(pid: u32) -> bool {
    let Some(number) = Pid::from_raw(pid.cast_signed()) else {
        return false;
    };
    let is_shown = fs::read(format!("/proc/{pid}/stat")).is_ok();
    !is_shown && test_kill_process(number) != Err(Errno::SRCH)
}

/// As far as it is there to ask: a connection of which nothing came names no thread.
fn process_of(pid: u32) -> Process {
    let known = tlscope_targets::process(pid);
    let (uid, comm) = known.map_or_else(Default::default, |process| {
        (process.uid, Comm::new(process.comm.as_bytes()))
    });
    Process {
        pid,
        tid: pid,
        uid,
        comm,
    }
}

/// The confined thread's way to ask.
#[derive(Debug, Clone)]
pub(super) struct Keeper(Sender<Work>);

impl Keeper {
    /// `None` when the main thread is gone.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Kept) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = channel();
        let work = move |kept: &mut Kept| {
            // Who asked may have gone.
            let _ = answer.send(work(kept));
        };
        self.0.send(Box::new(work)).ok()?;
        answered.recv().ok()
    }
}

/// The main thread's side.
pub(super) struct Service {
    kept: Kept,
    asked: Receiver<Work>,
}

impl Service {
    pub(super) fn new(attacher: Attacher, watch: Option<Watch>) -> (Self, Keeper) {
        let (ask, asked) = channel();
        let kept = Kept {
            attacher,
            watch,
            started: HashMap::new(),
        };
        (Self { kept, asked }, Keeper(ask))
    }

    /// Serves until nobody can ask any more. A command that ends sets `stop`.
    pub(super) fn run(mut self, command: &mut Option<Running>, stop: &AtomicBool) {
        loop {
            match self.asked.recv_timeout(TICK) {
                Ok(work) => work(&mut self.kept),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if command.as_mut().is_some_and(Running::has_ended) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Of the main thread: it reads maps, sees processes end, and ends the command.
pub(super) fn give_up_privileges(config: &Config) {
    let duties = [
        (Duty::Maps, true),
        (Duty::Search, config.wanted.libraries.is_empty()),
        (Duty::EndCommand, !config.run.is_empty()),
    ];
    let duties = duties.into_iter().filter(|(_, has)| *has);
    keep(&duties.map(|(duty, _)| duty).collect::<Vec<_>>());
}

/// Of the threads that search and attach.
pub(super) fn keep_for_searching(mode: AttachMode) {
    keep(&[Duty::Maps, Duty::Attach(mode), Duty::Search, Duty::Mapped]);
}

fn keep(duties: &[Duty]) {
    if let Err(error) = keep_capabilities(duties) {
        eprintln!("tlscope: capabilities cannot be given up: {error}");
    }
}

/// What the thread that decodes and writes may still open: files in turn, the local time
/// for their names, and what /proc tells everybody.
pub(super) fn sandbox(config: &Config) -> Sandbox {
    let plaintext = config.plaintext.as_ref().and_then(|to| match &to.to {
        PlaintextTo::Local(Destination::File(path)) => Some((path, to.rotation)),
        _ => None,
    });
    let packets = config.packets.as_ref().and_then(|to| match &to.to {
        Destination::File(path) => Some((path, to.rotation)),
        Destination::Stdout => None,
    });
    let in_turn = plaintext.into_iter().chain(packets);
    let in_turn = in_turn.filter(|(_, rotation)| *rotation != Rotation::default());
    let creates_in: Vec<PathBuf> = in_turn.map(|(path, _)| fixed_parent(path)).collect();
    // The container of a process is read when it is first met.
    let reads = ["/proc", "/etc/localtime", "/usr/share/zoneinfo"]
        .map(PathBuf::from)
        .to_vec();
    Sandbox {
        creates_in,
        reads,
        ..Sandbox::default()
    }
}

/// The directory of a name that may hold conversions of strftime(3), also in its directories.
fn fixed_parent(path: &Path) -> PathBuf {
    let parent = path.parent().unwrap_or(Path::new(""));
    let fixed: PathBuf = parent
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains('%'))
        .collect();
    if fixed.as_os_str().is_empty() {
        return PathBuf::from(".");
    }
    fixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_turn_are_created_below_what_does_not_change() {
        for (path, parent) in [
            ("a.pcapng", "."),
            ("/var/log/a-%H.pcapng", "/var/log"),
            ("/var/log/%Y/%m/a.pcapng", "/var/log"),
            ("%Y/a.pcapng", "."),
            ("/a.pcapng", "/"),
        ] {
            assert_eq!(fixed_parent(Path::new(path)), Path::new(parent), "{path}");
        }
    }
}
