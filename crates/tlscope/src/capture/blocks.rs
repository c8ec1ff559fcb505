//! Where the blocks of a pcapng go: files in turn, or a pipe.
//!
//! A file holds whole blocks at every moment, also when the disk is full. A
//! pipe whose reader is slow costs packets, counted, and never the capture.

mod file;
mod pipe;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result};
use tlscope_core::event::Timestamp;
use tlscope_core::recording::{BlockKind, BlockOutput, FileNumber, NextFile};

use super::outputs::unwritable;
use crate::config::{Destination, Rotation};
use file::FileOutput;
use pipe::PipeOutput;

#[derive(Debug)]
pub(super) enum Blocks {
    Files(FileOutput),
    Pipe(PipeOutput),
}

impl Blocks {
    pub(super) fn open(to: &Destination, rotation: Rotation, now: Timestamp) -> Result<Self> {
        match to {
            Destination::Stdout => {
                let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                Self::of(file).context("stdout")
            }
            // Opening a named pipe waits for its reader.
            Destination::File(path) if is_pipe(path) => {
                let file = OpenOptions::new().write(true).open(path);
                Self::of(file.with_context(|| path.display().to_string())?)
                    .with_context(|| path.display().to_string())
            }
            Destination::File(path) => FileOutput::create(path, rotation, now)
                .map(Self::Files)
                .with_context(|| unwritable(path)),
        }
    }

    fn of(file: File) -> io::Result<Self> {
        Ok(if file.metadata()?.is_file() {
            Self::Files(FileOutput::single(file))
        } else {
            Self::Pipe(PipeOutput::start(file)?)
        })
    }

    /// Gives up on a reader that takes nothing; bytes that it did not take.
    pub(super) fn close(self) -> io::Result<u64> {
        match self {
            Self::Files(_) => Ok(0),
            Self::Pipe(pipe) => pipe.close(),
        }
    }
}

impl BlockOutput for Blocks {
    fn is_full(&self, now: Timestamp) -> bool {
        match self {
            Self::Files(files) => files.is_full(now),
            Self::Pipe(_) => false,
        }
    }

    fn next_file(&mut self, number: FileNumber, now: Timestamp) -> io::Result<NextFile> {
        match self {
            Self::Files(files) => files.next(number, now),
            Self::Pipe(_) => Ok(NextFile::None),
        }
    }

    fn write(&mut self, file: FileNumber, block: [&[u8]; 3], kind: BlockKind) -> io::Result<bool> {
        match self {
            Self::Files(files) => files.write(file, block).map(|()| true),
            Self::Pipe(pipe) => pipe.write(block, kind),
        }
    }

    fn close(&mut self, file: FileNumber) -> io::Result<()> {
        match self {
            Self::Files(files) => files.close(file),
            Self::Pipe(_) => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Files(files) => files.flush(),
            Self::Pipe(pipe) => pipe.flush(),
        }
    }
}

fn is_pipe(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.file_type().is_fifo())
}
