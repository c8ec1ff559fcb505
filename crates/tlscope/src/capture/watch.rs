//! Images that come into use after the start, analysed and attached at once.
//!
//! The thread `targets` is told by the kernel of each mapping of code, so that a
//! program with a library of its own is met while its loader still works. Where
//! the kernel does not tell, processes are looked at in turns. What has no telling
//! name goes to the thread `code`: to search it may take long, and nobody is to
//! wait for it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tlscope_image::plan::Module;
use tlscope_probe::AttachMode;
use tlscope_probe::mappings::{Mappings, News};
use tlscope_targets::{Finder, FoundBy, ImageId, ScanError, Target};

use super::attacher::Attacher;
use super::images::{Image, Known};
use super::keeper::keep_for_searching;

/// How soon the end of the capture is noticed.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often processes are looked at where the kernel does not tell.
const LOOK: Duration = Duration::from_secs(1);
/// Files remembered as met before. More on one machine are met anew, at the price of a look.
const MET_MAX: usize = 65_536;

#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// `watcher` has looked at everything since `mappings` were watched: nothing comes between.
    pub(crate) fn start(mut watcher: Watcher, mappings: Option<Mappings>) -> Self {
        let shared = Arc::clone(&watcher.shared);
        let mut analyst = Analyst::new(&watcher.analyst);
        let into = Arc::clone(&shared);
        let mode = watcher.analyst.attacher.tracer().attach_mode();
        let threads = [
            spawn("code", mode, move || analyst.search(&into)),
            spawn("targets", mode, move || match mappings {
                Some(mappings) => watcher.follow(mappings),
                None => watcher.look_around(),
            }),
        ];
        Self {
            shared,
            threads: threads.into_iter().flatten().collect(),
        }
    }
}

fn spawn(
    name: &str,
    mode: AttachMode,
    work: impl FnOnce() + Send + 'static,
) -> Option<JoinHandle<()>> {
    let work = move || {
        keep_for_searching(mode);
        work();
    };
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread
        .inspect_err(|e| eprintln!("tlscope: libraries that appear later will be missed: {e}"))
        .ok()
}

/// Nothing is attached behind it.
impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic there has been reported.
            let _ = thread.join();
        }
    }
}

/// What the two threads share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    /// Code to be searched. The last is taken first: it belongs to what has just begun.
    code: Vec<Target>,
    /// Images with a plan. A probe holds the inode, so its number stays with the file.
    planned: HashSet<ImageId>,
    /// Images that could not be opened.
    unopened: Vec<ImageId>,
}

impl Shared {
    /// The state is whole between any two statements: a panic spoils nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// `None` at the end of the capture.
    fn next_code(&self) -> Option<Target> {
        let waiting = |state: &mut State| !state.stopped && state.code.is_empty();
        let mut state = self
            .changed
            .wait_while(self.state(), waiting)
            .unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return None;
        }
        state.code.pop()
    }
}

/// From a target to its probes.
#[derive(Debug)]
struct Analyst {
    modules: Vec<Module>,
    attacher: Attacher,
    known: Known,
}

impl Analyst {
    fn new(like: &Self) -> Self {
        Self {
            modules: like.modules.clone(),
            attacher: like.attacher.clone(),
            known: Known::default(),
        }
    }

    fn search(&mut self, shared: &Shared) {
        while let Some(target) = shared.next_code() {
            self.attach(&target, shared);
        }
    }

    /// Gives the number of plans attached.
    fn attach(&mut self, target: &Target, shared: &Shared) -> usize {
        match Image::open_or_say(target, &self.modules, &mut self.known) {
            Ok(image) => {
                shared.state().planned.insert(image.id);
                self.attacher.attach(&image)
            }
            Err(error) => {
                // Gone, or not ready: whoever maps it next lets it be looked at again.
                if error.is::<io::Error>() {
                    shared.state().unopened.push(target.image);
                }
                0
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Watcher {
    finder: Finder,
    analyst: Analyst,
    shared: Arc<Shared>,
    /// Generation by image.
    met: HashMap<ImageId, u64>,
}

impl Watcher {
    pub(crate) fn new(finder: Finder, modules: Vec<Module>, attacher: Attacher) -> Self {
        Self {
            finder,
            analyst: Analyst {
                modules,
                attacher,
                known: Known::default(),
            },
            shared: Arc::default(),
            met: HashMap::new(),
        }
    }

    /// What there is at the start. Gives the number of plans attached. All the code of a machine
    /// takes seconds to search, so that waits for `Watch::start` if there is anything else.
    pub(crate) fn attach_first(&mut self, pids: &[u32]) -> Result<usize, ScanError> {
        let mut targets = if pids.is_empty() {
            self.finder.scan()?
        } else {
            self.finder.scan_processes(pids)
        };
        targets.extend(self.finder.loader());
        let mut attached = self.attach(targets);
        if attached == 0 || !pids.is_empty() {
            let code = std::mem::take(&mut self.shared.state().code);
            let mut attach = |target| self.analyst.attach(target, &self.shared);
            attached += code.iter().map(&mut attach).sum::<usize>();
        }
        Ok(attached)
    }

    fn follow(&mut self, mut mappings: Mappings) {
        while !self.shared.is_stopped() {
            let news = mappings.wait(PATIENCE);
            for image in std::mem::take(&mut self.shared.state().unopened) {
                self.finder.forget(image);
            }
            let targets = if news.lost {
                self.finder.scan().unwrap_or_default()
            } else {
                let pids = self.worth_a_look(&news);
                self.finder.scan_processes(&pids)
            };
            self.attach(targets);
        }
    }

    fn look_around(&mut self) {
        let mut looked = Instant::now();
        while !self.shared.is_stopped() {
            thread::sleep(PATIENCE);
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                let targets = self.finder.scan().unwrap_or_default();
                self.attach(targets);
            }
        }
    }

    /// The processes that have mapped a file which was not met before.
    fn worth_a_look(&mut self, news: &News) -> Vec<u32> {
        let mut pids = HashSet::new();
        for mapped in &news.mapped {
            let (major, minor, ino, generation) = mapped.file;
            let image = ImageId {
                dev: (major, minor),
                ino,
            };
            if !self.finder.may_want(&mapped.path) || self.shared.state().planned.contains(&image) {
                continue;
            }
            if self.met.len() >= MET_MAX {
                self.met.clear();
            }
            if self.met.insert(image, generation) != Some(generation) {
                // The number may have come to another file since it was looked at.
                self.finder.forget(image);
                pids.insert(mapped.pid);
            }
        }
        pids.into_iter().collect()
    }

    /// Attaches what has a telling name, and leaves the rest to be searched.
    fn attach(&mut self, targets: Vec<Target>) -> usize {
        let is_code = |target: &Target| target.found_by == FoundBy::Code;
        let (code, named): (Vec<_>, Vec<_>) = targets.into_iter().partition(is_code);
        self.shared.state().code.extend(code);
        self.shared.changed.notify_one();
        let mut attach = |target| self.analyst.attach(target, &self.shared);
        named.iter().map(&mut attach).sum()
    }
}
