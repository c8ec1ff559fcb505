//! How many files may be open. Each link of a probe is one, so the 1024 that shells
//! allow are used up by a hundred libraries; the hard limit is far above.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What was allowed before.
#[derive(Debug)]
pub struct Descriptors(Rlimit);

impl Descriptors {
    /// Allows as many as may be had without a privilege.
    pub fn raise() -> Self {
        let before = getrlimit(Resource::Nofile);
        let (current, maximum) = (before.maximum, before.maximum);
        // Up to the hard limit it is always allowed.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
        Self(before)
    }

    /// Lets a command start as it would without us: some programs close every descriptor that
    /// there might be, and `select(2)` knows no more than 1024.
    pub fn restore_in(&self, command: &mut Command) {
        let before = self.0;
        let restore = move || Ok(setrlimit(Resource::Nofile, before)?);
        // SAFETY: between fork and exec it makes one system call, and takes no memory and no lock.
        unsafe { command.pre_exec(restore) };
    }
}
