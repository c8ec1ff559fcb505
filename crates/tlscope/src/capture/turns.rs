//! Files that follow each other, as tcpdump's -C, -G and -W have them: of packets,
//! and of plaintext, whose blocks and lines stay whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tlscope_core::event::Timestamp;
use tlscope_probe::events::monotonic_ns;

use super::names::FileNames;
use super::outputs::PRIVATE;
use super::records::Clock;
use crate::config::Rotation;

/// When the next file begins, and which it is.
#[derive(Debug)]
pub(super) struct Turns {
    names: FileNames,
    rotation: Rotation,
    began: Timestamp,
}

impl Turns {
    /// With the first file.
    pub(super) fn begin(
        path: &Path,
        rotation: Rotation,
        now: Timestamp,
    ) -> io::Result<(Self, Named)> {
        let mut names = FileNames::new(path, rotation);
        let first = Named::create(names.next(now))?;
        let turns = Self {
            names,
            rotation,
            began: now,
        };
        Ok((turns, first))
    }

    /// A file of this size is to be followed by the next.
    pub(super) fn is_full(&self, size: u64, now: Timestamp) -> bool {
        let large = self.rotation.bytes.is_some_and(|bytes| size > bytes);
        large || self.is_old(now)
    }

    /// The file's time is over, whatever is in it.
    fn is_old(&self, now: Timestamp) -> bool {
        let old = |every| now.since(self.began) >= every;
        self.rotation.every.is_some_and(old)
    }

    /// The last file of all is followed by none.
    pub(super) fn next(&mut self, now: Timestamp) -> io::Result<Option<Named>> {
        if self.names.was_last() {
            return Ok(None);
        }
        let next = Named::create(self.names.next(now))?;
        self.began = now;
        Ok(Some(next))
    }
}

/// A file, and under what name: a later one may take it.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Named {
    fn create(path: PathBuf) -> io::Result<Self> {
        let file = create_private(&path)?;
        Ok(Self { path, file })
    }
}

/// Plaintext in files. The sink flushes between whole blocks: only there does one end.
#[derive(Debug)]
pub(super) struct PlaintextFiles {
    file: File,
    turns: Turns,
    written: u64,
    between: bool,
}

impl PlaintextFiles {
    pub(super) fn create(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let (turns, first) = Turns::begin(path, rotation, now())?;
        Ok(Self {
            file: first.file,
            turns,
            written: 0,
            between: true,
        })
    }

    /// After the last file nobody takes more: that is an end, not a failure.
    fn turn(&mut self, now: Timestamp) -> io::Result<()> {
        let next = self.turns.next(now)?;
        self.file = next.ok_or(io::ErrorKind::BrokenPipe)?.file;
        self.written = 0;
        Ok(())
    }
}

impl Write for PlaintextFiles {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = now();
        if self.between && self.turns.is_full(self.written, now) {
            self.turn(now)?;
        }
        self.between = false;
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    /// Comes with every tick, so that a file ends on time where nothing is said.
    fn flush(&mut self) -> io::Result<()> {
        self.between = true;
        self.file.flush()?;
        let now = now();
        if self.turns.is_old(now) {
            self.turn(now)?;
        }
        Ok(())
    }
}

pub(super) fn now() -> Timestamp {
    Clock::now().wall(monotonic_ns())
}

/// It holds secrets: for its owner alone, whatever an older file allowed.
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE)
        .open(path)
}
