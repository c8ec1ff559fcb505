//! A capture's kernel side: loads the object, attaches plans, reads counters.

mod layout;
mod numbers;
pub(crate) mod sockets;

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use libbpf_rs::{ErrorKind, Link, MapCore, MapFlags, MapHandle, Object};
use tlscope_image::plan::{Goroutine, Layout, Plan, Probe, Role};
use zerocopy::{FromBytes, IntoBytes};

use crate::abi;
use crate::attach::{self, Attachment, Needs};
use crate::events::EventSource;
use crate::features::{self, AttachMode, Features};
use crate::object::{self, LoadError, ObjectKind, Settings};
use crate::programs::{self, FOLLOW_PROGRAMS};
use numbers::{Numbers, TakenOut, take_away};
use sockets::{PassedOver, SocketRoute, Sockets};

/// Shards beyond this add memory, not throughput: one reader drains them all.
const SHARDS_MAX: u32 = 8;
const PAGE: u32 = 4096;
/// The reader is woken when a shard holds this much; else it polls.
const WAKEUP_BYTES: u32 = 512 * 1024;
/// Entries of the `images` map.
const IMAGES_MAX: usize = 1024;

/// What to capture, and the choices that are otherwise made by attempt.
#[derive(Debug, Clone)]
pub struct Options {
    pub needs: Needs,
    /// Only these processes; empty for all.
    pub pids: Vec<u32>,
    /// Children of `pids` too; needs the core object.
    pub follow: bool,
    pub uid: Option<u32>,
    /// Bytes a shard; rounded up to a power of two of at least one page.
    pub shard_bytes: u32,
    pub object: Option<ObjectKind>,
    pub mode: Option<AttachMode>,
    pub route: Option<SocketRoute>,
    /// Take return probes for such as kill programs under seccomp, as the kernel may have them.
    pub filtered_returns: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("process {0} does not exist")]
    NoProcess(u32),
    #[error("probes cannot be attached: {0:#}")]
    Refused(libbpf_rs::Error),
    #[error("attaching by {0} takes CAP_SYS_ADMIN: {1:#}; try sudo")]
    Privilege(AttachMode, libbpf_rs::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("more than {IMAGES_MAX} libraries are probed at once")]
    TooManyImages,
    #[error(
        "its goroutines are found through thread-local storage (Go before 1.17), for which the \
         noncore object has no way: leave out -b 2"
    )]
    NoGoroutines,
    #[error(
        "on this kernel (6.11, and 6.12 and 6.13 before they were mended) its probes would kill \
         programs that lock themselves up with seccomp: update the kernel, name one process without \
         a seccomp filter by --pid, or use -m keylog or -m pcap, which for OpenSSL take no such \
         probes"
    )]
    KillsConfined,
}

/// An image that is probed, by its index in the `images` map.
#[derive(Debug)]
pub struct AttachedImage(usize);

#[derive(Debug)]
pub struct Attached {
    pub image: AttachedImage,
    pub probes: usize,
}

/// Probes of an image that was let go. They still are in the kernel, which takes its time when
/// this is dropped: not with the tracer in hand.
#[must_use]
#[derive(Debug)]
pub struct Released {
    _links: TakenOut<Link>,
}

/// Loaded programs and their links. Dropping it takes every probe away.
#[derive(Debug)]
pub struct Tracer {
    // Links go before the objects that own their programs.
    images: Numbers<Link>,
    /// To what the programs of images rely on.
    watching: Vec<Link>,
    objects: Vec<Object>,
    rings: Vec<MapHandle>,
    settings: Settings,
    route: SocketRoute,
    passed_over: Vec<PassedOver>,
    /// The one process that probes are for, where the kernel can tell.
    pid: Option<u32>,
    returns_are_filtered: bool,
}

impl Tracer {
    /// Loads the object asked for, or the best that this kernel takes.
    pub fn load(options: &Options) -> Result<Self, LoadError> {
        features::may_load().map_err(LoadError::Privilege)?;
        let features = *Features::of_this_kernel();
        let kinds: &[ObjectKind] = match (options.object, features.core_lacks()) {
            (Some(ObjectKind::Noncore), _) if options.follow => {
                return Err(LoadError::FollowUnsupported);
            }
            (Some(ObjectKind::Noncore), _) => &[ObjectKind::Noncore],
            (None, Some(_)) if !options.follow => &[ObjectKind::Noncore],
            (_, Some(lacking)) => return Err(LoadError::CoreUnsupported(lacking)),
            (None, None) if !options.follow => &[ObjectKind::Core, ObjectKind::Noncore],
            (_, None) => &[ObjectKind::Core],
        };
        let mut last = None;
        for kind in kinds {
            match Self::load_kind(options, *kind, features) {
                Err(error @ LoadError::Refused { .. }) => last = Some(error),
                result => return result,
            }
        }
        Err(last.expect("there is an object to load"))
    }

    /// By the best attach mode whose programs the kernel takes, or the one asked for.
    fn load_kind(
        options: &Options,
        kind: ObjectKind,
        features: Features,
    ) -> Result<Self, LoadError> {
        let has = |mode: &&AttachMode| features.has_mode(**mode);
        let asked_for = |mode: &&AttachMode| options.mode.is_none_or(|asked| asked == **mode);
        let modes = kind.attach_modes().iter().filter(has).filter(asked_for);
        let mut last = match options.mode {
            Some(mode) => LoadError::ModeUnsupported(mode),
            None => LoadError::NoMode,
        };
        for mode in modes {
            match Self::load_by(options, kind, *mode) {
                Err(LoadError::Refused { .. }) if features::keeps_its_memory_confidential() => {
                    return Err(LoadError::LockedDown);
                }
                Err(error @ (LoadError::Refused { .. } | LoadError::Buffer { .. })) => {
                    if let Some(limit) = features::locked_memory_is_short() {
                        return Err(LoadError::LockedMemory(limit));
                    }
                    if matches!(error, LoadError::Buffer { .. }) {
                        return Err(error);
                    }
                    last = error;
                }
                result => return result,
            }
        }
        Err(last)
    }

    fn load_by(options: &Options, kind: ObjectKind, mode: AttachMode) -> Result<Self, LoadError> {
        let shard_bytes = options.shard_bytes.max(PAGE).next_power_of_two();
        let cpus = available_parallelism().map_or(1, |n| n.get() as u32);
        let settings = Settings {
            kind,
            mode,
            needs: options.needs,
            route: options.route,
            config: abi::Config {
                pid_set: u32::from(!options.pids.is_empty()),
                uid: options.uid.unwrap_or(0),
                uid_set: u32::from(options.uid.is_some()),
                shards: cpus.next_power_of_two().min(SHARDS_MAX),
                wakeup_bytes: WAKEUP_BYTES.min(shard_bytes / 4),
                ended: 0,
                attaching: 0,
                reserved: 0,
            },
            follow: options.follow,
            shard_bytes,
        };
        if let (Some(route), true) = (options.route, sockets::routes(&settings).is_empty()) {
            return Err(LoadError::RouteUnsupported(route));
        }
        let loaded = object::load(&settings, &options.pids)?;
        let Sockets {
            route,
            passed_over,
            links: mut watching,
        } = sockets::watch(&loaded.object, &settings)?;
        if options.follow {
            watching.extend(watch_processes(&loaded.object, settings.kind)?);
        }
        if settings.needs.owners {
            watching.extend(sockets::watch_owners(&loaded.object, &settings));
        }
        Ok(Self {
            watching,
            objects: vec![loaded.object],
            rings: loaded.rings,
            settings,
            route,
            passed_over,
            pid: only_process(options),
            returns_are_filtered: options.filtered_returns
                || Features::of_this_kernel().returns_are_filtered,
            images: Numbers::new(),
        })
    }

    /// Wants one more process: one that was there before `follow` could see it begin.
    pub fn want(&self, pid: u32) {
        if let Some(map) = self.map("pids") {
            // A full map leaves the process out, as it would its children.
            let _ = map.update(&pid.to_ne_bytes(), &[1], MapFlags::ANY);
        }
    }

    pub fn object_kind(&self) -> ObjectKind {
        self.settings.kind
    }

    pub fn attach_mode(&self) -> AttachMode {
        self.settings.mode
    }

    pub fn socket_route(&self) -> SocketRoute {
        self.route
    }

    /// The better ways to sockets that this kernel has not.
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    pub fn buffers(&self) -> u32 {
        match self.settings.kind {
            ObjectKind::Core => self.settings.config.shards,
            ObjectKind::Noncore => available_parallelism().map_or(1, |n| n.get() as u32),
        }
    }

    /// Attaches what this capture needs of a plan; `path` must open the very
    /// file that the plan was made from.
    pub fn attach(&mut self, plan: &Plan, path: &Path) -> Result<Attached, AttachError> {
        let index = self.free_index().ok_or(AttachError::TooManyImages)?;
        let probes: Vec<&Probe> = plan
            .probes
            .iter()
            .filter(|probe| self.serves(probe.role))
            .collect();
        if self.settings.needs.data && !self.finds_goroutines(&plan.layout) {
            return Err(AttachError::NoGoroutines);
        }
        let mut attachment = Attachment {
            mode: self.settings.mode,
            pid: self.pid,
            returns_are_filtered: self.returns_are_filtered,
            image: 0,
        };
        let returns = |probe: &&Probe| {
            programs::of_role(probe.role).is_some_and(|row| row.shape.has_return_probe())
        };
        if probes.iter().any(returns) && may_kill(attachment) {
            return Err(AttachError::KillsConfined);
        }
        attachment.image = self.register_image(plan, index)?;
        let links = self
            .attach_at_once(&probes, path, attachment)
            .map_err(|source| {
                self.forget_sibling(index);
                self.attach_error(source)
            })?;
        self.images.give(index, links);
        Ok(Attached {
            image: AttachedImage(index),
            probes: probes.len(),
        })
    }

    /// An instance of the programs that serves no image.
    fn forget_sibling(&mut self, index: usize) {
        if !self.settings.mode.has_cookie() {
            self.objects.truncate(index.max(1));
        }
    }

    /// Lets go of an image that no program will run again. What its calls are told by serves
    /// another image once the probes are gone; an instance of the programs for it alone does not.
    pub fn release(&mut self, image: &AttachedImage) -> Released {
        Released {
            _links: self.images.take_out(image.0),
        }
    }

    fn free_index(&self) -> Option<usize> {
        let index = if self.settings.mode.has_cookie() {
            self.images.free()
        } else {
            self.images.unused()
        };
        (index < IMAGES_MAX).then_some(index)
    }

    /// From a descriptor to what it stands for, it is CO-RE alone.
    fn serves(&self, role: Role) -> bool {
        let has_program = self.settings.kind == ObjectKind::Core || role != Role::SetFd;
        has_program && self.settings.needs.role(role)
    }

    /// The thread pointer of `x86_64` is a kernel field, to be found by CO-RE alone.
    fn finds_goroutines(&self, layout: &Layout) -> bool {
        let go = layout.go.as_ref();
        self.settings.kind == ObjectKind::Core
            || go.is_none_or(|go| go.goroutine == Goroutine::Register)
    }

    /// Tells the programs the image's layout; gives its index, which cookies name.
    fn register_image(&mut self, plan: &Plan, index: usize) -> Result<u16, AttachError> {
        let index = if self.settings.mode.has_cookie() {
            index as u16
        } else {
            if index > 0 {
                let sibling = object::load_sibling(&self.settings, &self.objects[0])?;
                self.objects.push(sibling);
            }
            0
        };
        let object = self.last_object();
        if let Some(map) = object.maps().find(|map| map.name() == "images") {
            map.update(
                &u32::from(index).to_ne_bytes(),
                layout::image_of(plan).as_bytes(),
                MapFlags::ANY,
            )
            .map_err(|source| self.attach_error(source))?;
        }
        Ok(index)
    }

    /// Probes come alive one after another, on a busy machine over tens of milliseconds. None of
    /// the image's calls is followed before all are there.
    fn attach_at_once(
        &mut self,
        probes: &[&Probe],
        path: &Path,
        attachment: Attachment,
    ) -> libbpf_rs::Result<Vec<Link>> {
        self.tell_attaching(u32::from(attachment.image) + 1)?;
        let links = attach::attach_image(self.last_object(), probes, path, attachment);
        self.tell_attaching(0)?;
        links
    }

    fn tell_attaching(&mut self, attaching: u32) -> libbpf_rs::Result<()> {
        self.settings.config.attaching = attaching;
        object::configure(self.last_object(), &self.settings)
    }

    fn last_object(&self) -> &Object {
        self.objects
            .last()
            .expect("the first object lives as long as the tracer")
    }

    fn attach_error(&self, source: libbpf_rs::Error) -> AttachError {
        match self.pid {
            // SAFETY: signal 0 only asks whether the process exists.
            Some(pid) if unsafe { libc::kill(pid.cast_signed(), 0) } != 0 => {
                AttachError::NoProcess(pid)
            }
            _ if source.kind() == ErrorKind::PermissionDenied => {
                AttachError::Privilege(self.settings.mode, source)
            }
            _ => AttachError::Refused(source),
        }
    }

    /// Takes every probe away; counters and connections stay readable. Half of the probes would
    /// tell half of what happens meanwhile, so all are silent from the first moment on.
    pub fn detach(&mut self) {
        self.settings.config.ended = 1;
        // The first one watches sockets for all.
        for object in self.objects.iter().rev() {
            // If one cannot be told, its last events may lack something.
            let _ = object::configure(object, &self.settings);
        }
        let mut links = std::mem::take(&mut self.watching);
        links.extend(self.images.take_all());
        take_away(links);
    }

    /// The source of records.
    pub fn events(&self) -> Result<EventSource, LoadError> {
        let size = self.settings.shard_bytes;
        EventSource::new(&self.objects[0], &self.rings, size)
            .map_err(|source| LoadError::Buffer { size, source })
    }

    /// Sums of the per-CPU counters, in the order of `abi::COUNTERS`.
    pub fn counters(&self) -> [u64; abi::COUNTERS.len()] {
        let mut sums = [0; abi::COUNTERS.len()];
        let Some(map) = self.map("counters") else {
            return sums;
        };
        for (index, sum) in (0_u32..).zip(&mut sums) {
            let values = map.lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY);
            *sum = values
                .ok()
                .flatten()
                .unwrap_or_default()
                .iter()
                .filter_map(word)
                .sum();
        }
        sums
    }

    /// What the kernel side knows of each connection: more than was received
    /// means bytes lost at the end.
    pub fn connections(&self) -> Vec<(abi::ConnectionKey, abi::Connection)> {
        let Some(map) = self.map("connections") else {
            return Vec::new();
        };
        map.keys()
            .filter_map(|key| {
                let value = map.lookup(&key, MapFlags::ANY).ok()??;
                let key = abi::ConnectionKey::read_from_bytes(&key).ok()?;
                Some((key, abi::Connection::read_from_bytes(&value).ok()?))
            })
            .collect()
    }

    /// Ends of connections that found no room in a buffer.
    pub fn unsent_closes(&self) -> Vec<abi::CloseRecord> {
        let Some(map) = self.map("unsent_closes") else {
            return Vec::new();
        };
        map.keys()
            .filter_map(|key| map.lookup(&key, MapFlags::ANY).ok()?)
            .filter_map(|value| abi::CloseRecord::read_from_bytes(&value).ok())
            .collect()
    }

    fn map(&self, name: &str) -> Option<libbpf_rs::Map<'_>> {
        self.objects[0].maps().find(|map| map.name() == name)
    }
}

fn word(bytes: &Vec<u8>) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.as_slice().try_into().ok()?))
}

/// Whether return probes could reach a program under seccomp, on a kernel that kills it for them.
fn may_kill(attachment: Attachment) -> bool {
    let is_confined = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        !status.lines().any(|line| line == "Seccomp:\t0")
    };
    attachment.returns_are_filtered
        && !(attachment.is_of_process() && attachment.pid.is_some_and(|pid| !is_confined(pid)))
}

/// A kernel that knows it puts the breakpoints into this process alone.
fn only_process(options: &Options) -> Option<u32> {
    match options.pids.as_slice() {
        [pid] if !options.follow => Some(*pid),
        _ => None,
    }
}

/// Sees children of wanted processes begin, and wanted processes end.
fn watch_processes(object: &Object, kind: ObjectKind) -> Result<Vec<Link>, LoadError> {
    FOLLOW_PROGRAMS
        .iter()
        .map(|name| {
            let program = object.progs_mut().find(|program| program.name() == *name);
            let attach = program.map(|program| program.attach_raw_tracepoint(*name));
            let missing = || Err(libbpf_rs::Error::from_raw_os_error(libc::ENOENT));
            attach
                .unwrap_or_else(missing)
                .map_err(|e| object::refused(kind, e))
        })
        .collect()
}
