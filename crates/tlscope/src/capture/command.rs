//! A command whose life the capture lasts: `tlscope tls ... -- COMMAND ARGS...`.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use tlscope_probe::descriptors::Descriptors;

use crate::Failure;

#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Running {
    /// `None` when no command was given.
    pub(super) fn start(
        words: &[OsString],
        descriptors: &Descriptors,
    ) -> Result<Option<Self>, Failure> {
        let Some((program, arguments)) = words.split_first() else {
            return Ok(None);
        };
        let mut command = Command::new(program);
        descriptors.restore_in(&mut command);
        let child = command
            .args(arguments)
            .spawn()
            .with_context(|| format!("{} cannot be run", program.to_string_lossy()))?;
        Ok(Some(Self { child, ended: None }))
    }

    pub(super) fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_some()
    }

    /// The command's own exit code, as a shell gives it: 128 and the number of
    /// the signal that ended it. A command that still runs is told to end.
    pub(super) fn finish(mut self) -> u8 {
        if !self.has_ended() {
            // It may end at this very moment: then there is nothing to tell.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            return 0;
        }
        let code = self.ended.map_or(0, |status| {
            status
                .code()
                .or_else(|| status.signal().map(|signal| 128 + signal))
                .unwrap_or(0)
        });
        u8::try_from(code).unwrap_or(u8::MAX)
    }
}
