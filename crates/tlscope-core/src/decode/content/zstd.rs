//! zstd (RFC 8878) from a stream of pieces: the decoder wants whole blocks.
//!
//! It gives away what is no longer in its window, and the rest at the frame's end.

use std::io::{self, Write};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::Budget;

/// RFC 9659: content on the web needs no window beyond 8 MiB.
const MAX_WINDOW: u64 = 8 << 20;
const MAGIC: usize = 4;
const BLOCK_HEADER: usize = 3;
/// RFC 8878 section 3.1.1.2.4. A longer one is cut here, and so malformed.
const MAX_BLOCK: usize = 128 * 1024;

pub(super) struct Zstd {
    decoder: FrameDecoder,
    budget: Budget,
    /// Input that is not a whole header or block yet; a block has 128 KiB at most.
    held: Vec<u8>,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    FrameHeader,
    Block { checksum: bool },
}

impl Zstd {
    pub(super) fn new(budget: Budget) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self {
            decoder,
            budget,
            held: Vec::new(),
            stage: Stage::FrameHeader,
        }
    }

    pub(super) fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// Takes one header or block off `input`; `None` if it is not whole.
    fn advance(&mut self, input: &[u8]) -> io::Result<Option<usize>> {
        let whole = match self.stage {
            Stage::FrameHeader => frame_header(input),
            Stage::Block { checksum } => block(input, checksum),
        };
        let Some(mut source) = whole.and_then(|length| input.get(..length)) else {
            return Ok(None);
        };
        let length = source.len();
        if matches!(self.stage, Stage::FrameHeader) {
            let checksum = source[MAGIC] & 4 != 0;
            self.decoder.init(&mut source).map_err(malformed)?;
            self.stage = Stage::Block { checksum };
            return Ok(Some(length));
        }
        let one = BlockDecodingStrategy::UptoBlocks(1);
        if self
            .decoder
            .decode_blocks(&mut source, one)
            .map_err(malformed)?
        {
            self.stage = Stage::FrameHeader;
        }
        self.decoder.collect_to_writer(&mut self.budget)?;
        Ok(Some(length))
    }
}

impl Write for Zstd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(taken) = self.advance(&held[from..])? {
            from += taken;
        }
        held.drain(..from);
        self.held = held;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// RFC 8878 section 3.1.1.1.
fn frame_header(input: &[u8]) -> Option<usize> {
    let descriptor = *input.get(MAGIC)?;
    let single_segment = descriptor & 0x20 != 0;
    let content_size = match descriptor >> 6 {
        0 => usize::from(single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    Some(MAGIC + 1 + usize::from(!single_segment) + dictionary + content_size)
}

/// RFC 8878 section 3.1.1.2. The checksum follows the last block.
fn block(input: &[u8], checksum: bool) -> Option<usize> {
    let header = input.first_chunk::<BLOCK_HEADER>()?;
    let header = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    let (is_last, is_run) = (header & 1 == 1, header >> 1 & 3 == 1);
    let content = if is_run {
        1
    } else {
        ((header >> 3) as usize).min(MAX_BLOCK)
    };
    let trailer = if is_last && checksum { 4 } else { 0 };
    Some(BLOCK_HEADER + content + trailer)
}

fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
