//! Opening, sizing and loading one of the two BPF objects.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Mutex;

use libbpf_rs::{
    AsRawLibbpf, ErrorKind, MapCore, MapFlags, MapHandle, MapType, Object, ObjectBuilder,
    OpenObject, OpenProgramMut, PrintLevel,
};
use zerocopy::IntoBytes;

use crate::abi::Config;
use crate::attach::Needs;
use crate::features::AttachMode;
use crate::programs::{FOLLOW_PROGRAMS, Point, RING_PROGRAM, ROLE_PROGRAMS};
use crate::tracer::sockets::{self, SocketRoute};

#[repr(align(8))]
struct Aligned<T: ?Sized>(T);

static CORE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/core.bpf.o")));
static NONCORE: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/noncore.bpf.o")));

/// Which of the two objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// CO-RE and ring buffers: a BTF kernel from 5.8.
    Core,
    /// No BTF, no CO-RE, perf buffers: any kernel from 4.18.
    Noncore,
}

impl ObjectKind {
    /// The ELF file, for the tests that compare it with what kernels take.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Self::Core => &CORE.0,
            Self::Noncore => &NONCORE.0,
        }
    }
}

impl ObjectKind {
    /// How its programs can be attached, best first. Those of the noncore object tail-call, so
    /// they stay plain kprobe programs.
    pub fn attach_modes(self) -> &'static [AttachMode] {
        match self {
            Self::Core => &AttachMode::ALL,
            Self::Noncore => &[AttachMode::Single, AttachMode::Tracefs],
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Core => "core",
            Self::Noncore => "noncore",
        })
    }
}

/// Why an object could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("loading BPF programs needs root, or CAP_BPF and CAP_PERFMON: {0}; try sudo")]
    Privilege(std::io::Error),
    #[error("the kernel refused the {kind} BPF object: {source}{log}")]
    Refused {
        kind: ObjectKind,
        source: libbpf_rs::Error,
        log: LibbpfLog,
    },
    #[error(
        "the core object needs {0}, which this kernel has not; use -b 0 or -b 2, without \
         --follow"
    )]
    CoreUnsupported(&'static str),
    #[error("children can only be followed with the core object: leave out -b 2, or --follow")]
    FollowUnsupported,
    #[error(
        "this kernel is locked down (confidentiality): no BPF program may read its memory, and \
         so none can tell sockets; boot without lockdown, or with lockdown=integrity"
    )]
    LockedDown,
    #[error(
        "this kernel counts maps as locked memory (before 5.11), of which this user may have {0} \
         bytes: give it CAP_SYS_RESOURCE, or `ulimit -l unlimited`"
    )]
    LockedMemory(u64),
    #[error("this kernel, or the BPF object, cannot attach by {0}: leave out --attach")]
    ModeUnsupported(AttachMode),
    #[error(
        "there is no way to attach probes: no {}; mount sysfs at /sys",
        AttachMode::Single.needs()
    )]
    NoMode,
    #[error("this kernel, or the BPF object, cannot find sockets by {0}: leave out --sockets")]
    RouteUnsupported(SocketRoute),
    #[error("a {size}-byte buffer cannot be made: {source}; choose a smaller --mapsize")]
    Buffer { size: u32, source: libbpf_rs::Error },
}

/// What libbpf said on the way to a failure.
#[derive(Debug)]
pub struct LibbpfLog(Vec<String>);

impl fmt::Display for LibbpfLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The end of a verifier log is where the reason stands.
        const LINES: usize = 12;
        let skipped = self.0.len().saturating_sub(LINES);
        self.0[skipped..]
            .iter()
            .try_for_each(|line| write!(f, "\n  {}", line.trim_end()))
    }
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// libbpf prints to stderr by default; its words belong into our errors.
pub(crate) fn keep_libbpf_log() {
    libbpf_rs::set_print(Some((PrintLevel::Warn, |_, text| {
        if let Ok(mut log) = LOG.lock() {
            log.extend(text.lines().map(String::from));
        }
    })));
}

fn take_libbpf_log() -> LibbpfLog {
    LibbpfLog(
        LOG.lock()
            .map(|mut log| std::mem::take(&mut *log))
            .unwrap_or_default(),
    )
}

/// What an object is loaded for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) kind: ObjectKind,
    pub(crate) mode: AttachMode,
    pub(crate) needs: Needs,
    /// The way to sockets that was asked for.
    pub(crate) route: Option<SocketRoute>,
    pub(crate) config: Config,
    /// Watch processes begin and end, for the `pids` map.
    pub(crate) follow: bool,
    pub(crate) shard_bytes: u32,
}

/// A loaded object, with the ring buffers that its outer map holds.
pub(crate) struct Loaded {
    pub(crate) object: Object,
    pub(crate) rings: Vec<MapHandle>,
}

/// Loads the first object of a capture.
pub(crate) fn load(settings: &Settings, pids: &[u32]) -> Result<Loaded, LoadError> {
    again_if_interrupted(|| load_once(settings, pids))
}

fn load_once(settings: &Settings, pids: &[u32]) -> Result<Loaded, LoadError> {
    let mut open = open(settings)?;
    let rings = match settings.kind {
        ObjectKind::Core => create_rings(&mut open, settings)?,
        ObjectKind::Noncore => Vec::new(),
    };
    select_programs(&mut open, settings, true);
    shrink_unused_maps(&mut open, settings.needs).map_err(|e| refused(settings.kind, e))?;
    let object = open.load().map_err(|e| refused(settings.kind, e))?;
    fill_maps(&object, settings, &rings, pids).map_err(|e| refused(settings.kind, e))?;
    Ok(Loaded { object, rings })
}

/// Without attach cookies an image is told apart by an object of its own. It shares with the first
/// one all but these: its layout, and the configuration, which silences it while it is attached.
const OF_EACH_OBJECT: [&str; 2] = ["images", "config_map"];

/// Loads a further object of the same capture.
pub(crate) fn load_sibling(settings: &Settings, first: &Object) -> Result<Object, LoadError> {
    again_if_interrupted(|| load_sibling_once(settings, first))
}

fn load_sibling_once(settings: &Settings, first: &Object) -> Result<Object, LoadError> {
    let mut open = open(settings)?;
    for mut map in open.maps_mut() {
        let shared = first.maps().find(|known| known.name() == map.name());
        let is_own = OF_EACH_OBJECT.iter().any(|own| map.name() == *own);
        if let Some(shared) = shared.filter(|_| !is_own) {
            map.reuse_fd(shared.as_fd())
                .map_err(|e| refused(settings.kind, e))?;
        }
    }
    select_programs(&mut open, settings, false);
    open.load().map_err(|e| refused(settings.kind, e))
}

/// The verifier gives up with EAGAIN when the thread is to stop or to freeze. libbpf tries five
/// times; a cgroup freezer with a short period was seen to meet all five, and a lesser attach
/// mode was taken.
fn again_if_interrupted<T>(mut load: impl FnMut() -> Result<T, LoadError>) -> Result<T, LoadError> {
    const ATTEMPTS: u32 = 10;
    for _ in 1..ATTEMPTS {
        match load() {
            Err(LoadError::Refused { source, .. }) if source.kind() == ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
    load()
}

fn open(settings: &Settings) -> Result<OpenObject, LoadError> {
    keep_libbpf_log();
    ObjectBuilder::default()
        .open_memory(settings.kind.bytes())
        .map_err(|e| refused(settings.kind, e))
}

pub(crate) fn refused(kind: ObjectKind, source: libbpf_rs::Error) -> LoadError {
    LoadError::Refused {
        kind,
        source,
        log: take_libbpf_log(),
    }
}

/// Only what will be attached is loaded: the rest need not pass this kernel's
/// verifier. Sockets are watched once, by the first object.
fn select_programs(open: &mut OpenObject, settings: &Settings, first: bool) {
    let session = settings.mode == AttachMode::Session;
    for mut program in open.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        let point = ROLE_PROGRAMS
            .iter()
            .filter(|row| settings.needs.role(row.role))
            .find_map(|row| {
                let suffix = name.strip_prefix(row.name)?;
                row.shape
                    .points(session)
                    .iter()
                    .find(|point| point.suffix() == suffix)
            });
        let wanted = match name.as_str() {
            // The tail-call map refers to it, used or not.
            "emit_rest" => true,
            name if FOLLOW_PROGRAMS.contains(&name) => first && settings.follow,
            RING_PROGRAM => first && settings.needs.data,
            name => point.is_some() || (first && sockets::may_use(settings, name)),
        };
        program.set_autoload(wanted);
        let multi = matches!(settings.mode, AttachMode::Session | AttachMode::Multi);
        if multi && matches!(point, Some(Point::Entry | Point::Return | Point::Site)) {
            set_uprobe_multi(&mut program);
        }
    }
}

/// libbpf-rs 0.27 has no name for this attach type.
fn set_uprobe_multi(program: &mut OpenProgramMut<'_>) {
    let attach_type = libbpf_sys::BPF_TRACE_UPROBE_MULTI;
    // SAFETY: the program belongs to an object that is open and not yet loaded.
    unsafe {
        libbpf_sys::bpf_program__set_expected_attach_type(
            program.as_libbpf_object().as_ptr(),
            attach_type,
        )
    };
}

/// Maps that only some captures fill stay empty in the others.
fn shrink_unused_maps(open: &mut OpenObject, needs: Needs) -> libbpf_rs::Result<()> {
    const MINIMUM: u32 = 64;
    const OF_DATA: [&str; 6] = [
        "connections",
        "threads",
        "emissions",
        "unsent_closes",
        "hellos",
        "uring_uses",
    ];
    const OF_OWNERS: [&str; 2] = ["owned", "connecting"];
    const OF_SECRETS: [&str; 6] = [
        "expansions",
        "handshakes",
        "heard",
        "makings",
        "keys",
        "traffic",
    ];
    const OF_GOROUTINES: [&str; 3] = ["goroutines", "go_processes", "go_calls"];
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let unused = (!needs.data && OF_DATA.contains(&name.as_str()))
            || (!needs.owners && OF_OWNERS.contains(&name.as_str()))
            || (!needs.secrets && OF_SECRETS.contains(&name.as_str()))
            || (!(needs.data && needs.made_by(true)) && OF_GOROUTINES.contains(&name.as_str()));
        if unused {
            map.set_max_entries(MINIMUM)?;
        }
    }
    Ok(())
}

fn create_rings(open: &mut OpenObject, settings: &Settings) -> Result<Vec<MapHandle>, LoadError> {
    let create = |_| {
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            ..Default::default()
        };
        MapHandle::create(
            MapType::RingBuf,
            Some("ring"),
            0,
            0,
            settings.shard_bytes,
            &options,
        )
        .map_err(|source| LoadError::Buffer {
            size: settings.shard_bytes,
            source,
        })
    };
    let rings: Vec<_> = (0..settings.config.shards)
        .map(create)
        .collect::<Result<_, _>>()?;
    // Kernels before 5.10 compare the size too: the template must be a real one.
    for mut map in open.maps_mut().filter(|map| map.name() == "rings") {
        map.set_inner_map_fd(rings[0].as_fd())
            .map_err(|e| refused(settings.kind, e))?;
    }
    Ok(rings)
}

/// Tells the programs what is wanted.
pub(crate) fn configure(object: &Object, settings: &Settings) -> libbpf_rs::Result<()> {
    let mut maps = object.maps();
    let Some(map) = maps.find(|map| map.name() == "config_map") else {
        return Ok(());
    };
    map.update(
        &0_u32.to_ne_bytes(),
        settings.config.as_bytes(),
        MapFlags::ANY,
    )
}

fn fill_maps(
    object: &Object,
    settings: &Settings,
    rings: &[MapHandle],
    pids: &[u32],
) -> libbpf_rs::Result<()> {
    configure(object, settings)?;
    for map in object.maps() {
        if map.name() == "pids" {
            for pid in pids {
                map.update(&pid.to_ne_bytes(), &[1], MapFlags::ANY)?;
            }
        }
        if map.name() == "rings" {
            for (shard, ring) in (0_u32..).zip(rings) {
                let fd = std::os::fd::AsRawFd::as_raw_fd(&ring.as_fd());
                map.update(&shard.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn fails_with(code: i32, times: u32) -> (u32, bool) {
        let mut calls = 0;
        let loaded = again_if_interrupted(|| {
            calls += 1;
            if calls > times {
                return Ok(());
            }
            let error = libbpf_rs::Error::from_raw_os_error(code);
            Err(refused(ObjectKind::Core, error))
        });
        (calls, loaded.is_ok())
    }

    #[test]
    fn an_interrupted_load_is_tried_again() {
        let (interrupted, invalid) = (Errno::AGAIN.raw_os_error(), Errno::INVAL.raw_os_error());
        assert_eq!(fails_with(interrupted, 3), (4, true));
        assert_eq!(fails_with(interrupted, u32::MAX), (10, false));
        assert_eq!(fails_with(invalid, 1), (1, false));
    }
}
