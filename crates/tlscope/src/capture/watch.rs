//! Images that come into use after the start, analysed and attached at once.
//!
//! The thread `targets` is told by the kernel of each mapping of code, so that a
//! program with a library of its own is met while its loader still works. Where
//! the kernel does not tell, processes are looked at in turns. What has no telling
//! name goes to the thread `code`: to search it may take long, and nobody is to
//! wait for it. The thread `ahead` has the kernel ready for probes meanwhile, the
//! thread `release` lets go of files that are gone: for that the kernel takes long.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::nice;
use tlscope_image::plan::Module;
use tlscope_probe::AttachMode;
use tlscope_probe::mappings::{Mappings, News};
use tlscope_probe::rehearsal::Rehearsal;
use tlscope_targets::{Finder, FoundBy, ImageId, ScanError, ScanReport, Target};

use super::attacher::Attacher;
use super::containers::Containers;
use super::images::Image;
use super::keeper::keep_for_searching;
use super::known::{Known, Looks};

/// How soon the end of the capture is noticed.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often processes are looked at where the kernel does not tell.
const LOOK: Duration = Duration::from_secs(1);
/// How often probed files are looked at that may be gone.
const RELEASE: Duration = Duration::from_secs(2);
/// A program may live for 30 ms on a machine that is busy: what attaches to it sleeps nearly
/// always, and is to be let in at once when it wakes.
const IN_A_HURRY: i32 = -15;
const AS_IT_IS: i32 = 0;
/// Files remembered as met before. More on one machine are met anew, at the price of a look.
const MET_MAX: usize = 65_536;

#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    containers: Containers,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// `watcher` has looked at everything since `mappings` were watched: nothing comes between.
    pub(crate) fn start(mut watcher: Watcher, mappings: Option<Mappings>) -> Self {
        let shared = Arc::clone(&watcher.shared);
        let containers = watcher.containers.clone();
        let analyst = watcher.analyst.clone();
        let releasing = watcher.analyst.clone();
        let (into, of) = (Arc::clone(&shared), Arc::clone(&shared));
        let mode = watcher.analyst.attacher.tracer().attach_mode();
        let (tell, told) = sync_channel(1);
        let threads = [
            spawn("code", AS_IT_IS, mode, move || analyst.search(&into)),
            spawn("release", AS_IT_IS, mode, move || releasing.release(&of)),
            spawn("ahead", IN_A_HURRY, mode, move || rehearse(mode, &told)),
            spawn("targets", IN_A_HURRY, mode, move || match mappings {
                Some(mappings) => watcher.follow(mappings, &tell),
                None => watcher.look_around(),
            }),
        ];
        Self {
            shared,
            containers,
            threads: threads.into_iter().flatten().collect(),
        }
    }

    /// Of the processes that are seen to begin.
    pub(super) fn containers(&self) -> Containers {
        self.containers.clone()
    }
}

/// A program has begun: it may bring a library of its own, which is not to wait for the kernel.
fn rehearse(mode: AttachMode, told: &Receiver<()>) {
    if !matches!(mode, AttachMode::Session | AttachMode::Multi) {
        return;
    }
    // It is of use, not of need.
    let Ok(mut rehearsal) = Rehearsal::new() else {
        return;
    };
    while told.recv().is_ok() {
        let _ = rehearsal.make_ready();
    }
}

fn spawn(
    name: &str,
    niceness: i32,
    mode: AttachMode,
    work: impl FnOnce() + Send + 'static,
) -> Option<JoinHandle<()>> {
    let work = move || {
        // Without CAP_SYS_NICE it stays as it is.
        let _ = nice(niceness);
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

/// What the threads share.
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
    /// Images that could not be opened, or that nobody can run any more: their numbers may come
    /// again.
    forgotten: Vec<ImageId>,
    /// Images that may be let go just now.
    leaving: Vec<ImageId>,
    /// Processes that have mapped one of those: perhaps too late to keep it.
    late: HashSet<u32>,
}

impl Shared {
    /// The state is whole between any two statements: a panic spoils nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Whether its probes meet whoever maps it. If they are on their way out, it is looked at again.
    fn is_planned(&self, image: ImageId, pid: u32) -> bool {
        let mut state = self.state();
        if state.leaving.contains(&image) {
            state.late.insert(pid);
        }
        state.planned.contains(&image)
    }

    fn forget(&self, numbers: Vec<ImageId>) {
        let mut state = self.state();
        for number in &numbers {
            state.planned.remove(number);
        }
        state.forgotten.extend(numbers);
    }

    /// False at the end of the capture.
    fn pause(&self, length: Duration) -> bool {
        let goes_on = |state: &mut State| !state.stopped;
        let waited = self
            .changed
            .wait_timeout_while(self.state(), length, goes_on);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.stopped
    }

    /// `None` when there is none for a while, and at the end of the capture.
    fn next_code(&self) -> Option<Target> {
        let waiting = |state: &mut State| !state.stopped && state.code.is_empty();
        let waited = self.changed.wait_timeout_while(self.state(), LOOK, waiting);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.code.pop().filter(|_| !state.stopped)
    }
}

/// From a target to its probes.
#[derive(Debug, Clone)]
struct Analyst {
    modules: Vec<Module>,
    attacher: Attacher,
    known: Arc<Known>,
}

impl Analyst {
    fn search(&self, shared: &Shared) {
        while !shared.is_stopped() {
            if let Some(target) = shared.next_code() {
                self.attach(&target, shared);
            }
        }
    }

    fn release(&self, shared: &Shared) {
        while shared.pause(RELEASE) {
            let leaving = self.attacher.may_be_free();
            if leaving.is_empty() {
                continue;
            }
            shared.state().leaving = leaving;
            self.attacher.release(|numbers| shared.forget(numbers));
            shared.state().leaving.clear();
        }
    }

    /// Gives the number of plans attached.
    fn attach(&self, target: &Target, shared: &Shared) -> usize {
        self.attach_image(
            target,
            Image::open_or_say(target, &self.modules, &self.known),
            shared,
        )
    }

    /// `None` when the image has to be searched for what it holds.
    fn attach_known(&self, target: &Target, shared: &Shared) -> Option<usize> {
        let image = Image::open_known(target, &self.modules, &self.known)?;
        Some(self.attach_image(target, image, shared))
    }

    fn attach_image(
        &self,
        target: &Target,
        image: anyhow::Result<Image>,
        shared: &Shared,
    ) -> usize {
        match image {
            Ok(image) => {
                shared.state().planned.insert(image.id);
                self.attacher.attach(image)
            }
            Err(error) => {
                // Gone, or not ready: whoever maps it next lets it be looked at again.
                if error.is::<io::Error>() {
                    shared.state().forgotten.extend(target.numbers());
                }
                0
            }
        }
    }
}

/// What was done before the capture was ready.
#[derive(Debug)]
pub(crate) struct First {
    pub(crate) plans: usize,
    processes: usize,
    /// Processes that this user may not look into.
    unreadable: usize,
    images: Looks,
    /// Images to be searched once the capture runs.
    waiting: usize,
}

impl fmt::Display for First {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processes,
            unreadable,
            images,
            waiting,
            ..
        } = self;
        let (all, recalled) = (images.all, images.recalled);
        write!(
            f,
            "{processes} processes, {all} images ({recalled} known from an earlier run), {waiting} \
             more to search"
        )?;
        if *unreadable > 0 {
            write!(f, "; {unreadable} of the processes may not be looked into")?;
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Watcher {
    finder: Finder,
    analyst: Analyst,
    containers: Containers,
    shared: Arc<Shared>,
    /// Generation by image.
    met: HashMap<ImageId, u64>,
}

impl Watcher {
    pub(crate) fn new(
        finder: Finder,
        modules: Vec<Module>,
        attacher: Attacher,
        known: Known,
    ) -> Self {
        Self {
            finder,
            analyst: Analyst {
                modules,
                attacher,
                known: Arc::new(known),
            },
            containers: Containers::default(),
            shared: Arc::default(),
            met: HashMap::new(),
        }
    }

    /// What there is at the start. All the code of a machine takes seconds to search, so what an
    /// earlier run did not search waits for `Watch::start` if there is anything else.
    pub(crate) fn attach_first(&mut self, pids: &[u32]) -> Result<First, ScanError> {
        let mut targets = if pids.is_empty() {
            self.finder.scan()?
        } else {
            self.finder.scan_processes(pids)
        };
        let ScanReport {
            processes,
            unreadable,
            ..
        } = self.finder.report();
        targets.extend(self.finder.loader());
        let mut plans = self.attach(targets);
        if plans == 0 || !pids.is_empty() {
            let code = std::mem::take(&mut self.shared.state().code);
            let attach = |target| self.analyst.attach(target, &self.shared);
            plans += code.iter().map(attach).sum::<usize>();
        }
        Ok(First {
            plans,
            processes,
            unreadable,
            images: self.analyst.known.looks(),
            waiting: self.shared.state().code.len(),
        })
    }

    fn follow(&mut self, mut mappings: Mappings, begun: &SyncSender<()>) {
        while !self.shared.is_stopped() {
            let news = mappings.wait(PATIENCE);
            if !news.mapped.is_empty() {
                // One that waits there serves this one too.
                let _ = begun.try_send(());
            }
            let late = self.forget();
            let targets = if news.lost {
                self.finder.scan().unwrap_or_default()
            } else {
                let mut targets = self.of_new_roots(&news);
                let pids = self
                    .worth_a_look(&news)
                    .union(&late)
                    .copied()
                    .collect::<Vec<_>>();
                targets.extend(self.finder.scan_processes(&pids));
                targets
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
                self.forget();
                let targets = self.finder.scan().unwrap_or_default();
                self.attach(targets);
            }
        }
    }

    /// What comes by these numbers is looked at again. Gives the processes that have one by now.
    fn forget(&mut self) -> HashSet<u32> {
        let mut state = self.shared.state();
        for image in state.forgotten.drain(..) {
            self.finder.forget(image);
            self.met.remove(&image);
        }
        if state.leaving.is_empty() {
            std::mem::take(&mut state.late)
        } else {
            HashSet::new()
        }
    }

    /// The processes that have mapped a file which was not met before.
    fn worth_a_look(&mut self, news: &News) -> HashSet<u32> {
        let (mut pids, mut users) = (HashSet::new(), HashSet::new());
        for mapped in &news.mapped {
            let (major, minor, ino, generation) = mapped.file;
            let image = ImageId {
                dev: (major, minor),
                ino,
            };
            if !self.finder.may_want(&mapped.path) {
                continue;
            }
            users.insert(mapped.pid);
            if self.shared.is_planned(image, mapped.pid) {
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
        for user in users {
            self.containers.meet(user);
        }
        pids
    }

    /// What programs with roots of their own may load next.
    fn of_new_roots(&mut self, news: &News) -> Vec<Target> {
        let pids: HashSet<u32> = news.mapped.iter().map(|mapped| mapped.pid).collect();
        let roots = pids
            .into_iter()
            .filter_map(|pid| self.finder.loader_of(pid));
        let mut targets = Vec::new();
        for root in roots {
            self.met
                .retain(|image, _| Some(image.dev) != root.new_overlay);
            targets.extend(root.targets);
        }
        targets
    }

    /// Attaches what has a telling name, at once, and what is known, and leaves the rest to be
    /// searched.
    fn attach(&mut self, targets: Vec<Target>) -> usize {
        let is_code = |target: &Target| target.found_by == FoundBy::Code;
        let (code, named): (Vec<_>, Vec<_>) = targets.into_iter().partition(is_code);
        let attach = |target| self.analyst.attach(target, &self.shared);
        let mut plans = named.iter().map(attach).sum::<usize>();
        let mut unknown = Vec::new();
        for target in code {
            match self.analyst.attach_known(&target, &self.shared) {
                Some(attached) => plans += attached,
                None => unknown.push(target),
            }
        }
        self.shared.state().code.extend(unknown);
        self.shared.changed.notify_all();
        plans
    }
}
