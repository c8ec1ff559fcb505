//! An empty uprobe pair: entry and return trap into a program that does
//! nothing. What remains is the price of uprobes themselves, against which the
//! benchmark measures tlscope.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libbpf_sys as sys;

use crate::features::{Features, load_empty};

/// Links that hold an empty pair; dropping them takes it away.
#[derive(Debug)]
pub struct EmptyPair {
    _links: Vec<OwnedFd>,
}

impl EmptyPair {
    /// Puts a pair on each file offset, by the best attach mode that there is.
    pub fn attach(path: &Path, offsets: &[u64]) -> io::Result<Self> {
        const RETURN: u32 = sys::BPF_F_UPROBE_MULTI_RETURN;
        let features = Features::of_this_kernel();
        let links: &[(sys::bpf_attach_type, u32)] = if features.uprobe_session {
            &[(sys::BPF_TRACE_UPROBE_SESSION, 0)]
        } else {
            &[
                (sys::BPF_TRACE_UPROBE_MULTI, 0),
                (sys::BPF_TRACE_UPROBE_MULTI, RETURN),
            ]
        };
        let links = links
            .iter()
            .map(|(kind, flags)| link(path, offsets, *kind, *flags));
        Ok(Self {
            _links: links.collect::<io::Result<_>>()?,
        })
    }

    /// Puts a probe on each file offset, entry or return instruction alike: as in Go.
    pub fn attach_sites(path: &Path, offsets: &[u64]) -> io::Result<Self> {
        Ok(Self {
            _links: vec![link(path, offsets, sys::BPF_TRACE_UPROBE_MULTI, 0)?],
        })
    }
}

fn link(
    path: &Path,
    offsets: &[u64],
    attach_type: sys::bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let program = load_empty(sys::BPF_PROG_TYPE_KPROBE, attach_type)?;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut opts = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as sys::size_t,
        ..Default::default()
    };
    opts.__bindgen_anon_1.uprobe_multi.path = path.as_ptr();
    opts.__bindgen_anon_1.uprobe_multi.offsets = offsets.as_ptr();
    opts.__bindgen_anon_1.uprobe_multi.cnt = offsets.len() as u32;
    opts.__bindgen_anon_1.uprobe_multi.flags = flags;
    // SAFETY: the program is a live descriptor; path and offsets outlive the call.
    let fd = unsafe { sys::bpf_link_create(program.as_raw_fd(), -1, attach_type, &raw const opts) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a non-negative result is a descriptor that we own.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
