//! Has the kernel ready to take a probe at once.
//!
//! To add a probe the kernel stops all forks of address spaces, by a semaphore that costs its
//! readers nothing and its first writer an RCU grace period: 12 to 20 ms, measured on 6.18. Who
//! follows within another grace period waits for nothing: 30 us. A program that brings a library
//! of its own may be in its handshake by then, so a probe on a file that nobody maps goes ahead of
//! those that are wanted.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::empty::EmptyPair;

#[derive(Debug)]
pub struct Rehearsal(File);

impl Rehearsal {
    /// Takes uprobe-multi links (6.6).
    pub fn new() -> io::Result<Self> {
        let mut file = File::from(memfd_create("tlscope", MemfdFlags::CLOEXEC)?);
        file.write_all(&[0; 16])?;
        let rehearsal = Self(file);
        rehearsal.attach()?;
        Ok(rehearsal)
    }

    /// Takes as long as the kernel is not ready, and then as long again.
    pub fn attach(&self) -> io::Result<()> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        EmptyPair::attach_sites(&path, &[0]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{Features, may_load};

    #[test]
    fn nothing_is_probed_but_a_file_of_its_own() {
        if may_load().is_ok() && Features::of_this_kernel().uprobe_multi {
            Rehearsal::new().unwrap().attach().unwrap();
        }
    }
}
