//! Giving up privileges, thread by thread: capabilities, `no_new_privs`, Landlock
//! for files and ports, and seccomp for system calls.
//!
//! Linux has all four per thread, and threads begin with those of the thread that
//! made them. A kernel without Landlock (before 5.13) leaves files to permissions,
//! and one before 6.7 asks of no port.

use std::io::{self, Write};
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::features::AttachMode;

/// What a thread is still to do with privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Read the maps of probes that are there.
    Maps,
    /// Attach probes.
    Attach(AttachMode),
    /// Look into other users' processes and read their libraries.
    Search,
    /// Open what processes map where no path leads to it: deleted files, other mount namespaces.
    Mapped,
    /// Create files where only the directory's owner may.
    CreateFiles,
    /// Tell a command to end that has become another user's.
    EndCommand,
}

impl Duty {
    fn capabilities(self) -> CapabilitySet {
        // CAP_BPF and CAP_PERFMON are part of CAP_SYS_ADMIN before 5.8.
        let split = CapabilitySet::BPF | CapabilitySet::PERFMON;
        let has = |set: CapabilitySet| highest_capability() >= set.bits().ilog2();
        let is_split = has(split);
        match self {
            Self::Maps if is_split => CapabilitySet::BPF,
            Self::Attach(AttachMode::Session | AttachMode::Multi) if is_split => split,
            // Opening a uprobe as a perf event takes more than CAP_PERFMON (seen on 6.18).
            Self::Attach(_) if is_split => split | CapabilitySet::SYS_ADMIN,
            Self::Search => CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH,
            // 5.9; before, /proc/PID/map_files takes more.
            Self::Mapped if has(CapabilitySet::CHECKPOINT_RESTORE) => {
                CapabilitySet::CHECKPOINT_RESTORE
            }
            Self::Maps | Self::Attach(_) | Self::Mapped => CapabilitySet::SYS_ADMIN,
            Self::CreateFiles => CapabilitySet::DAC_OVERRIDE,
            Self::EndCommand => CapabilitySet::KILL,
        }
    }
}

fn highest_capability() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Gives up every capability of this thread that no duty needs, for good: without `no_new_privs`
/// root would get them back from any program that it runs.
pub fn keep_capabilities(duties: &[Duty]) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let needed = duties.iter().fold(CapabilitySet::empty(), |all, duty| {
        all | duty.capabilities()
    });
    let held = capabilities(None)?;
    let kept = held.permitted & needed;
    set_capabilities(
        None,
        CapabilitySets {
            effective: held.effective & kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

/// What a confined thread may still do with files by name, and with the network.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// Directories in which it creates files.
    pub creates_in: Vec<PathBuf>,
    /// Files and directories that it reads.
    pub reads: Vec<PathBuf>,
    /// Ports that it connects to by TCP. With none, it makes no connection of any kind.
    pub connects_to: Vec<u16>,
}

impl Sandbox {
    /// Confines this thread, and those that it will make.
    pub fn enter(&self) -> io::Result<()> {
        let duties: &[Duty] = if self.creates_in.is_empty() {
            &[]
        } else {
            &[Duty::CreateFiles]
        };
        keep_capabilities(duties)?;
        self.confine_places().map_err(io::Error::other)?;
        self.confine_calls().map_err(io::Error::other)
    }

    /// Goes on as it is where that fails: better a capture than none.
    pub fn enter_or_say(&self, who: &str) {
        if let Err(error) = self.enter() {
            // Nobody may read it.
            let _ = writeln!(io::stderr(), "tlscope: {who} keeps its privileges: {error}");
        }
    }

    /// As far as this kernel's Landlock goes; the newest rights are those to ports (6.7).
    fn confine_places(&self) -> Result<(), landlock::RulesetError> {
        let abi = ABI::V4;
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .create()?;
        let create = AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::Truncate;
        let rules = self.creates_in.iter().map(|path| (path, create));
        let reads = self.reads.iter();
        for (path, access) in rules.chain(reads.map(|path| (path, AccessFs::from_read(abi)))) {
            // What is not there cannot be opened later either.
            if let Ok(place) = PathFd::new(path) {
                ruleset = ruleset.add_rule(PathBeneath::new(place, access))?;
            }
        }
        for port in &self.connects_to {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        ruleset.restrict_self().map(drop)
    }

    /// Any other call fails with EPERM: a library that tries one goes on without.
    fn confine_calls(&self) -> Result<(), seccompiler::Error> {
        let connects = !self.connects_to.is_empty();
        let connecting = CONNECTING_CALLS.iter().filter(|_| connects);
        let calls = CALLS.iter().chain(connecting);
        let filter = SeccompFilter::new(
            calls.map(|call| (*call, Vec::new())).collect(),
            SeccompAction::Errno(libc::EPERM.cast_unsigned()),
            SeccompAction::Allow,
            std::env::consts::ARCH
                .try_into()
                .map_err(seccompiler::Error::Backend)?,
        )
        .map_err(seccompiler::Error::Backend)?;
        let program: BpfProgram = filter.try_into().map_err(seccompiler::Error::Backend)?;
        seccompiler::apply_filter(&program)
    }
}

/// Memory, time, locks, open files, and opening files, for which Landlock has the
/// say. No process, no thread, no bpf(2), no connection.
const CALLS: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_epoll_pwait,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_tgkill,
    libc::SYS_write,
    libc::SYS_writev,
    // The packet socket: its counts, its end, and names of interfaces.
    libc::SYS_getsockopt,
    libc::SYS_ioctl,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_setsockopt,
    libc::SYS_socket,
    // Older forms, which aarch64 never had.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
];

/// Connections to others, and what it takes to look a name up: sockets of UDP, of netlink for the
/// addresses that there are, of a service beside. Nobody connects to it: no listen(2).
const CONNECTING_CALLS: &[libc::c_long] = &[
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_uname,
];
