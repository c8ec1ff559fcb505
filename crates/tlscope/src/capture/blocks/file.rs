//! Files in turn, as tcpdump's -C, -G and -W have them.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::Path;

use tlscope_core::event::Timestamp;

use crate::capture::turns::Turns;
use crate::config::Rotation;

/// Small blocks are gathered up to so many bytes.
const GATHER: usize = 256 * 1024;
/// A block from this size on is written from where it lies.
const LARGE: usize = 8 * 1024;

#[derive(Debug)]
pub(in crate::capture) struct FileOutput {
    file: File,
    turns: Option<Turns>,
    /// Whole blocks, not yet written.
    gathered: Vec<u8>,
    /// Bytes of whole blocks in the file.
    written: u64,
    complete: bool,
}

impl FileOutput {
    pub(super) fn create(path: &Path, rotation: Rotation, now: Timestamp) -> io::Result<Self> {
        let (turns, file) = Turns::begin(path, rotation, now)?;
        Ok(Self {
            turns: Some(turns),
            ..Self::single(file)
        })
    }

    /// A file that another opened: it never gives way to a next one.
    pub(super) fn single(file: File) -> Self {
        Self {
            file,
            turns: None,
            gathered: Vec::with_capacity(GATHER + LARGE),
            written: 0,
            complete: false,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn is_full(&self, now: Timestamp) -> bool {
        let size = self.written + self.gathered.len() as u64;
        let full = |turns: &Turns| turns.is_full(size, now);
        !self.complete && self.turns.as_ref().is_some_and(full)
    }

    /// The last file of all is followed by none.
    pub(super) fn next(&mut self, now: Timestamp) -> io::Result<()> {
        self.flush()?;
        let Some(turns) = &mut self.turns else {
            return Ok(());
        };
        match turns.next(now)? {
            Some(file) => (self.file, self.written) = (file, 0),
            None => self.complete = true,
        }
        Ok(())
    }

    pub(super) fn write(&mut self, block: [&[u8]; 3]) -> io::Result<()> {
        if self.complete {
            return Ok(());
        }
        let length: usize = block.iter().map(|part| part.len()).sum();
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

    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
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
        self.complete = true;
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
