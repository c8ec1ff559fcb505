//! Files in turn, as tcpdump's -C, -G and -W have them; of those whose turn is over
//! some are still written to.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};

use tlscope_core::event::Timestamp;
use tlscope_core::recording::{FileNumber, NextFile};

use crate::capture::turns::{Named, Turns};
use crate::config::Rotation;

/// Small blocks are gathered up to so many bytes.
const GATHER: usize = 256 * 1024;
/// A block from this size on is written from where it lies.
const LARGE: usize = 8 * 1024;

#[derive(Debug)]
pub(in crate::capture) struct FileOutput {
    /// The last one is current.
    open: Vec<OpenFile>,
    turns: Option<Turns>,
    /// Bytes since the current file began, whichever file they are in: so there are as
    /// many files as tcpdump makes, and -W bounds what is on the disk as it does there.
    in_turn: u64,
}

#[derive(Debug)]
struct OpenFile {
    number: FileNumber,
    path: PathBuf,
    file: File,
    /// Whole blocks, not yet written.
    gathered: Vec<u8>,
    /// Bytes of whole blocks in the file.
    written: u64,
    /// There was no room for more.
    failed: bool,
}

impl FileOutput {
    pub(super) fn create(path: &Path, rotation: Rotation, now: Timestamp) -> io::Result<Self> {
        let (turns, Named { path, file }) = Turns::begin(path, rotation, now)?;
        Ok(Self {
            turns: Some(turns),
            open: vec![OpenFile::new(FileNumber::default(), path, file)],
            in_turn: 0,
        })
    }

    /// A file that another opened: it never gives way to a next one.
    pub(super) fn single(file: File) -> Self {
        Self {
            turns: None,
            open: vec![OpenFile::new(FileNumber::default(), PathBuf::new(), file)],
            in_turn: 0,
        }
    }

    pub(super) fn is_full(&self, now: Timestamp) -> bool {
        let full = |turns: &Turns| turns.is_full(self.in_turn, now);
        self.turns.as_ref().is_some_and(full)
    }

    pub(super) fn next(&mut self, number: FileNumber, now: Timestamp) -> io::Result<NextFile> {
        self.flush()?;
        let next = self.turns.as_mut().map(|turns| turns.next(now));
        let Some(Named { path, file }) = next.transpose()?.flatten() else {
            return Ok(NextFile::None);
        };
        // Creating it has emptied the one that had its name.
        let at = self.open.iter().position(|open| open.path == path);
        let replaced = at.map(|at| self.open.remove(at).number);
        self.open.push(OpenFile::new(number, path, file));
        self.in_turn = 0;
        Ok(NextFile::Begun { replaced })
    }

    pub(super) fn write(&mut self, file: FileNumber, block: [&[u8]; 3]) -> io::Result<()> {
        let length: usize = block.iter().map(|part| part.len()).sum();
        self.in_turn += length as u64;
        match self.open.iter_mut().rfind(|open| open.number == file) {
            Some(open) => open.write(block, length),
            None => Ok(()),
        }
    }

    pub(super) fn close(&mut self, file: FileNumber) -> io::Result<()> {
        let Some(at) = self.open.iter().position(|open| open.number == file) else {
            return Ok(());
        };
        self.open.remove(at).flush()
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        // All of them, also where one has no room.
        let each: Vec<_> = self.open.iter_mut().map(OpenFile::flush).collect();
        each.into_iter().collect()
    }
}

impl OpenFile {
    fn new(number: FileNumber, path: PathBuf, file: File) -> Self {
        Self {
            number,
            path,
            file,
            gathered: Vec::new(),
            written: 0,
            failed: false,
        }
    }

    fn write(&mut self, block: [&[u8]; 3], length: usize) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        if length >= LARGE {
            self.flush()?;
            return self.put(block);
        }
        for part in block {
            self.gathered.extend_from_slice(part);
        }
        if self.gathered.len() >= GATHER {
            return self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() || self.failed {
            return Ok(());
        }
        let gathered = std::mem::take(&mut self.gathered);
        let result = self.put([&gathered, &[], &[]]);
        self.gathered = gathered;
        self.gathered.clear();
        result
    }

    /// All, or up to the last block that found room.
    fn put(&mut self, parts: [&[u8]; 3]) -> io::Result<()> {
        let mut done = 0;
        let mut slices = parts.map(IoSlice::new);
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => return Err(self.cut_back(parts, done, io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    done += count;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.cut_back(parts, done, error)),
            }
        }
        self.written += done as u64;
        Ok(())
    }

    /// What cannot be cut, such as a device, keeps the torn block.
    fn cut_back(&mut self, parts: [&[u8]; 3], done: usize, error: io::Error) -> io::Error {
        self.written += whole_blocks(parts[0], done);
        let _ = self.file.set_len(self.written);
        self.failed = true;
        error
    }
}

/// The length of the blocks that end within the first `limit` bytes.
fn whole_blocks(blocks: &[u8], limit: usize) -> u64 {
    let mut end = 0;
    loop {
        let Some(length) = blocks.get(end + 4..).and_then(|rest| rest.first_chunk()) else {
            return end as u64;
        };
        let next = end + u32::from_ne_bytes(*length) as usize;
        if next > limit || next == end || next > blocks.len() {
            return end as u64;
        }
        end = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blocks_count() {
        let block = |length: u32| {
            let mut bytes = vec![0; length as usize];
            bytes[4..8].copy_from_slice(&length.to_ne_bytes());
            bytes
        };
        let blocks = [block(12), block(32)].concat();
        for (limit, whole) in [(0, 0), (11, 0), (12, 12), (43, 12), (44, 44)] {
            assert_eq!(whole_blocks(&blocks, limit), whole, "{limit}");
        }
        // The head of a large packet, whose block goes beyond.
        assert_eq!(whole_blocks(&block(32)[..28], 28), 0);
        assert_eq!(whole_blocks(&[0; 64], 64), 0);
    }
}
