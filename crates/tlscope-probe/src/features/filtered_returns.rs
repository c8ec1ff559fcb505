//! Whether return probes kill programs that lock themselves up.
//!
//! From 6.11 on, a function with a return probe returns through a system call of the kernel's own
//! (`uretprobe`, on `x86_64`), and at first the program's seccomp filter had to allow it, which no
//! filter did: services were killed (systemd issue 34615). From 6.14 on, and in later 6.12 and
//! 6.13, filters are not asked. A child of ours finds out, with a filter of its own.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;
use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompFilter};

/// `uretprobe` of `x86_64`; libc has no name for it.
const URETPROBE: libc::c_long = 335;

static REFUSED: AtomicBool = AtomicBool::new(false);

/// `false` also where it cannot be found out: a kernel without seccomp kills nobody.
pub(super) fn are_filtered() -> bool {
    if !cfg!(target_arch = "x86_64") {
        return false;
    }
    let Ok(filter) = filter() else {
        return false;
    };
    // SAFETY: until `_exit` the child makes nothing but system calls: it allocates nothing, and
    // takes no lock that another thread may have held.
    match unsafe { libc::fork() } {
        0 => {
            let filtered = is_filtered_here(&filter);
            // SAFETY: it ends the child at once.
            unsafe { libc::_exit(c_int::from(filtered)) }
        }
        child => exit_code(child) == Some(1),
    }
}

fn filter() -> Result<BpfProgram, BackendError> {
    let refuse = SeccompAction::Errno(libc::EXDEV.cast_unsigned());
    SeccompFilter::new(
        [(URETPROBE, Vec::new())].into(),
        SeccompAction::Allow,
        refuse,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

/// In the child.
fn is_filtered_here(filter: &BpfProgram) -> bool {
    // SAFETY: the handler stores to an atomic, which is safe in a handler.
    unsafe {
        libc::signal(
            libc::SIGILL,
            refused as extern "C" fn(c_int) as libc::sighandler_t,
        )
    };
    let knows_it = call_refused().is_ok();
    knows_it
        && seccompiler::apply_filter(filter).is_ok()
        && call_refused().is_err_and(|e| e.raw_os_error() == Some(libc::EXDEV))
}

extern "C" fn refused(_signal: c_int) {
    REFUSED.store(true, Ordering::Relaxed);
}

/// Whether the kernel itself refuses the call: it takes it from its own code alone, and answers
/// others with SIGILL.
fn call_refused() -> io::Result<()> {
    REFUSED.store(false, Ordering::Relaxed);
    // SAFETY: the call has no argument, and does nothing for us.
    unsafe { libc::syscall(URETPROBE) };
    let error = io::Error::last_os_error();
    if REFUSED.load(Ordering::Relaxed) {
        Ok(())
    } else {
        Err(error)
    }
}

/// `None` when there was no child, or it ended by a signal.
fn exit_code(child: libc::pid_t) -> Option<c_int> {
    if child < 0 {
        return None;
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The kernels that tests run on are older, or mended.
    #[test]
    fn this_kernel_asks_no_filter() {
        assert!(!are_filtered());
    }

    /// Else a kernel that has the call would be taken for one that has not.
    #[test]
    fn the_call_is_known_where_the_kernel_has_it() {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split('.').map_while(|n| n.parse::<u32>().ok());
        let version = (numbers.next(), numbers.next());
        // SAFETY: as in `are_filtered`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as in `is_filtered_here`.
            unsafe {
                libc::signal(
                    libc::SIGILL,
                    refused as extern "C" fn(c_int) as libc::sighandler_t,
                );
                libc::_exit(c_int::from(call_refused().is_ok()));
            }
        }
        let knows_it = exit_code(child) == Some(1);
        let expected = cfg!(target_arch = "x86_64") && version >= (Some(6), Some(11));
        assert_eq!(knows_it, expected, "{release}");
    }
}
