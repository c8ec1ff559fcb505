//! Where functions start and end, for images without symbols: the call-frame table.
//!
//! `.eh_frame_hdr` is what the unwinder searches, so stripping leaves it in place
//! (Linux Standard Base Core 5.0, sections 10.6.1 and 10.6.2).

use std::ops::Range;

use object::LittleEndian;
use object::elf::PT_GNU_EH_FRAME;
use object::read::elf::ProgramHeader;

use super::{Address, ProgramHeaders, Segment, bytes_at};

/// Function starts, sorted, each with its end.
#[derive(Debug, Default)]
pub struct Frames {
    functions: Vec<Range<Address>>,
}

/// `DW_EH_PE_datarel | DW_EH_PE_sdata4`: what GNU ld, gold, lld and mold all write.
const RELATIVE_TO_HEADER: u8 = 0x3b;
/// `DW_EH_PE_udata4`
const COUNT: u8 = 0x03;

impl Frames {
    pub(super) fn read(headers: ProgramHeaders<'_>, segments: &[Segment<'_>]) -> Self {
        let functions = headers
            .iter()
            .find(|header| header.p_type(LittleEndian) == PT_GNU_EH_FRAME)
            .map(|header| Address(header.p_vaddr(LittleEndian)))
            .and_then(|start| read_table(segments, start))
            .unwrap_or_default();
        Self { functions }
    }

    /// The function whose code holds an address.
    pub fn around(&self, address: Address) -> Option<Range<Address>> {
        let end = self
            .functions
            .partition_point(|function| function.start <= address);
        let nearest = self.functions.get(end.checked_sub(1)?)?;
        nearest.contains(&address).then(|| nearest.clone())
    }

    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }
}

fn read_table(segments: &[Segment<'_>], start: Address) -> Option<Vec<Range<Address>>> {
    const ENTRY: usize = 8;
    let header = bytes_at(segments, start)?;
    let [1, _, COUNT, RELATIVE_TO_HEADER] = *header.first_chunk::<4>()? else {
        return None;
    };
    let count = u32::from_le_bytes(*header.get(8..)?.first_chunk::<4>()?) as usize;
    let table = header.get(12..)?;
    let mut functions: Vec<Range<Address>> = table
        .chunks_exact(ENTRY)
        .take(count)
        .filter_map(|entry| {
            let function = relative(start, entry.get(..4)?)?;
            let frame = relative(start, entry.get(4..)?)?;
            Some(function..end_of(segments, function, frame)?)
        })
        .collect();
    functions.sort_unstable_by_key(|function| function.start);
    Some(functions)
}

/// A frame description entry: length, pointer to its common entry, start, size. The start must
/// say again what the table says: this shows that it is encoded as PC-relative 32-bit, as usual.
fn end_of(segments: &[Segment<'_>], function: Address, frame: Address) -> Option<Address> {
    const START: u64 = 8;
    const SIZE: usize = 12;
    let entry = bytes_at(segments, frame)?;
    let start = relative(frame.checked_add(START)?, entry.get(START as usize..SIZE)?)?;
    let size = u32::from_le_bytes(*entry.get(SIZE..)?.first_chunk::<4>()?);
    (start == function)
        .then(|| function.checked_add(size.into()))
        .flatten()
}

fn relative(origin: Address, offset: &[u8]) -> Option<Address> {
    let offset = i32::from_le_bytes(*offset.first_chunk::<4>()?);
    origin.0.checked_add_signed(offset.into()).map(Address)
}
