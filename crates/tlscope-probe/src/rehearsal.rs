//! Has the kernel ready to take a probe at once.
//!
//! To add a probe the kernel stops all forks of address spaces, by a semaphore that costs its
//! readers nothing and its first writer an RCU grace period: 6 to 28 ms, measured on 6.18. Who
//! follows within another grace period, 8 ms at least, waits for nothing: 0.1 ms. A program that
//! brings a library of its own may be in its handshake by then, so a probe on a file that nobody
//! maps goes ahead of those that are wanted. Taking it away waits for longer, 20 to 70 ms: that
//! is left to a thread of its own, for the next program may have begun by then.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::empty::EmptyPair;

/// For so long the kernel is surely ready once it was.
const READY: Duration = Duration::from_millis(5);
/// Probes that wait to be taken away. More would make the end of tlscope a long one.
const SPENT_MAX: usize = 16;

#[derive(Debug)]
pub struct Rehearsal {
    file: File,
    last: Option<Instant>,
    spent: SyncSender<EmptyPair>,
}

impl Rehearsal {
    /// Takes uprobe-multi links (6.6).
    pub fn new() -> io::Result<Self> {
        let mut file = File::from(memfd_create("tlscope", MemfdFlags::CLOEXEC)?);
        file.write_all(&[0; 16])?;
        let (spent, behind) = sync_channel(SPENT_MAX);
        let thread = thread::Builder::new().name("behind".into());
        thread.spawn(move || take_away(&behind))?;
        let mut rehearsal = Self {
            file,
            last: None,
            spent,
        };
        rehearsal.make_ready()?;
        Ok(rehearsal)
    }

    /// Takes as long as the kernel is not ready.
    pub fn make_ready(&mut self) -> io::Result<()> {
        if self.last.is_some_and(|last| last.elapsed() < READY) {
            return Ok(());
        }
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let probe = EmptyPair::attach_sites(&path, &[0])?;
        self.last = Some(Instant::now());
        // The thread takes what it is given for as long as this lives.
        let _ = self.spent.send(probe);
        Ok(())
    }
}

fn take_away(spent: &Receiver<EmptyPair>) {
    spent.iter().for_each(drop);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{Features, may_load};

    #[test]
    fn nothing_is_probed_but_a_file_of_its_own() {
        if may_load().is_ok() && Features::of_this_kernel().uprobe_multi {
            Rehearsal::new().unwrap().make_ready().unwrap();
        }
    }
}
