//! What this kernel can do, each found out by one attempt and kept.
//!
//! A version number decides nothing: distributions backport, and a lockdown or
//! a configuration takes away.

mod filtered_returns;

use std::ffi::{CStr, c_int};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::{fmt, io, ptr};

use libbpf_sys as sys;
use rustix::process::{Resource, getrlimit};

/// How uprobes are attached, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttachMode {
    /// One program for entry and return (kernel 6.13).
    Session,
    /// One link for many offsets (kernel 6.6).
    Multi,
    /// One perf event an offset, with an attach cookie (kernel 5.15).
    SingleCookie,
    /// One perf event an offset (kernel 4.17).
    Single,
    /// One event of tracefs an offset: where sysfs does not tell of uprobes among the perf events.
    Tracefs,
}

impl AttachMode {
    pub const ALL: [Self; 5] = [
        Self::Session,
        Self::Multi,
        Self::SingleCookie,
        Self::Single,
        Self::Tracefs,
    ];

    /// Whether the program learns from its attachment which image it serves.
    pub fn has_cookie(self) -> bool {
        !matches!(self, Self::Single | Self::Tracefs)
    }

    /// What the kernel must have.
    pub fn needs(self) -> &'static str {
        match self {
            Self::Session => "session uprobes (6.13)",
            Self::Multi => "uprobe-multi links (6.6)",
            Self::SingleCookie => "attach cookies (5.15) for perf events",
            Self::Single => "perf events of uprobes (4.17), by /sys/bus/event_source",
            Self::Tracefs => "uprobe_events in tracefs, mounted at /sys/kernel/tracing",
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::Multi => "multi",
            Self::SingleCookie => "single-cookie",
            Self::Single => "single",
            Self::Tracefs => "tracefs",
        })
    }
}

/// What was found out about the running kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each is one question to the kernel
pub struct Features {
    /// `/sys/kernel/btf/vmlinux` exists: the core object can be relocated.
    pub btf: bool,
    pub ring_buffer: bool,
    pub attach_cookie: bool,
    pub uprobe_multi: bool,
    pub uprobe_session: bool,
    /// A perf event may be a uprobe: libbpf learns its type from sysfs.
    pub uprobe_perf_event: bool,
    pub tracefs: bool,
    /// A program under seccomp is killed when a function with a return probe returns.
    pub returns_are_filtered: bool,
    /// Of the socket layer, in the context of the caller (6.3).
    pub socket_tracepoints: bool,
}

const UPROBE_TYPE: &str = "/sys/bus/event_source/devices/uprobe/type";
/// Where libbpf looks; the second is where it was mounted of old.
const UPROBE_EVENTS: [&str; 2] = [
    "/sys/kernel/tracing/uprobe_events",
    "/sys/kernel/debug/tracing/uprobe_events",
];

impl Features {
    /// Attempts each feature once in the life of the process.
    pub fn of_this_kernel() -> &'static Self {
        static FEATURES: OnceLock<Features> = OnceLock::new();
        FEATURES.get_or_init(|| Self {
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            ring_buffer: has_map_type(sys::BPF_MAP_TYPE_RINGBUF),
            attach_cookie: has_helper(sys::BPF_FUNC_get_attach_cookie),
            uprobe_multi: has_uprobe_link(sys::BPF_TRACE_UPROBE_MULTI),
            uprobe_session: has_uprobe_link(sys::BPF_TRACE_UPROBE_SESSION),
            uprobe_perf_event: Path::new(UPROBE_TYPE).exists(),
            tracefs: UPROBE_EVENTS.iter().any(|path| Path::new(path).exists()),
            returns_are_filtered: filtered_returns::are_filtered(),
            socket_tracepoints: has_raw_tracepoint(c"sock_send_length"),
        })
    }

    /// What the core object needs beyond a successful load, and the kernel has not.
    pub fn core_lacks(&self) -> Option<&'static str> {
        let needs = [
            (self.btf, "BTF (/sys/kernel/btf/vmlinux)"),
            (self.ring_buffer, "ring buffers (5.8)"),
        ];
        needs
            .into_iter()
            .find_map(|(has, what)| (!has).then_some(what))
    }

    pub fn has_mode(&self, mode: AttachMode) -> bool {
        match mode {
            AttachMode::Session => self.uprobe_session,
            AttachMode::Multi => self.uprobe_multi,
            AttachMode::SingleCookie => self.attach_cookie && self.uprobe_perf_event,
            AttachMode::Single => self.uprobe_perf_event,
            AttachMode::Tracefs => self.tracefs,
        }
    }
}

/// Whether this process may load tracing programs at all: `EPERM` if not. The
/// verifier's own refusals are `EACCES`, so a real object cannot tell. A raw tracepoint takes what
/// uprobes take; these have to name the kernel's version before 5.0, which only libbpf knows.
pub fn may_load() -> io::Result<()> {
    load_empty(sys::BPF_PROG_TYPE_RAW_TRACEPOINT, 0).map(drop)
}

/// In that state the helpers that read kernel memory are unknown to the verifier.
pub(crate) fn keeps_its_memory_confidential() -> bool {
    std::fs::read_to_string("/sys/kernel/security/lockdown")
        .is_ok_and(|states| states.contains("[confidentiality]"))
}

/// How many bytes this user may lock, where maps count as such (before 5.11) and no more can be
/// had: by attempt, with one page beyond.
pub(crate) fn locked_memory_is_short() -> Option<u64> {
    const PAGE: u32 = 4096;
    let limit = getrlimit(Resource::Memlock).current?;
    let pages = u32::try_from(limit / u64::from(PAGE)).ok()?;
    // SAFETY: the call makes a map of its own; NULL options are allowed.
    let map = unsafe {
        sys::bpf_map_create(
            sys::BPF_MAP_TYPE_ARRAY,
            ptr::null(),
            size_of::<u32>() as u32,
            PAGE,
            pages.checked_add(1)?,
            ptr::null(),
        )
    };
    if map >= 0 {
        // SAFETY: a non-negative result is a descriptor that we own.
        drop(unsafe { OwnedFd::from_raw_fd(map) });
    }
    (map == -libc::EPERM).then_some(limit)
}

fn has_map_type(map_type: sys::bpf_map_type) -> bool {
    // SAFETY: the call only makes a bpf(2) system call of its own; NULL options are allowed.
    unsafe { sys::libbpf_probe_bpf_map_type(map_type, ptr::null()) == 1 }
}

fn has_helper(helper: sys::bpf_func_id) -> bool {
    // SAFETY: as above.
    unsafe { sys::libbpf_probe_bpf_helper(sys::BPF_PROG_TYPE_KPROBE, helper, ptr::null()) == 1 }
}

/// A link to a directory is refused with EBADF by a kernel that knows the
/// attach type, and with EINVAL by one that does not.
fn has_uprobe_link(attach_type: sys::bpf_attach_type) -> bool {
    let Ok(program) = load_empty(sys::BPF_PROG_TYPE_KPROBE, attach_type) else {
        return false;
    };
    let offset = 0_u64;
    let mut opts = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as sys::size_t,
        ..Default::default()
    };
    opts.__bindgen_anon_1.uprobe_multi.path = c"/".as_ptr();
    opts.__bindgen_anon_1.uprobe_multi.offsets = ptr::from_ref(&offset).cast();
    opts.__bindgen_anon_1.uprobe_multi.cnt = 1;
    // SAFETY: the program is a live descriptor; path and offsets outlive the call.
    let link =
        unsafe { sys::bpf_link_create(program.as_raw_fd(), -1, attach_type, &raw const opts) };
    if link >= 0 {
        // SAFETY: a non-negative result is a descriptor that we own.
        drop(unsafe { OwnedFd::from_raw_fd(link) });
        return true;
    }
    link == -libc::EBADF
}

fn has_raw_tracepoint(name: &CStr) -> bool {
    let Ok(program) = load_empty(sys::BPF_PROG_TYPE_RAW_TRACEPOINT, 0) else {
        return false;
    };
    // SAFETY: the program is a live descriptor; the name outlives the call.
    let link = unsafe { sys::bpf_raw_tracepoint_open(name.as_ptr(), program.as_raw_fd()) };
    if link < 0 {
        return false;
    }
    // SAFETY: a non-negative result is a descriptor that we own.
    drop(unsafe { OwnedFd::from_raw_fd(link) });
    true
}

/// `return 0` as a program of the given type.
pub(crate) fn load_empty(
    program_type: sys::bpf_prog_type,
    attach_type: sys::bpf_attach_type,
) -> io::Result<OwnedFd> {
    const MOV64_IMM: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    let instructions = [
        sys::bpf_insn {
            code: MOV64_IMM,
            ..Default::default()
        },
        sys::bpf_insn {
            code: EXIT,
            ..Default::default()
        },
    ];
    let mut opts = sys::bpf_prog_load_opts {
        sz: size_of::<sys::bpf_prog_load_opts>() as sys::size_t,
        expected_attach_type: attach_type,
        ..Default::default()
    };
    // SAFETY: name, licence and instructions outlive the call; opts is a valid struct.
    let fd: c_int = unsafe {
        sys::bpf_prog_load(
            program_type,
            c"tlscope_feature".as_ptr(),
            c"Dual BSD/GPL".as_ptr(),
            instructions.as_ptr(),
            instructions.len() as sys::size_t,
            &raw mut opts,
        )
    };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a non-negative result is a descriptor that we own.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
