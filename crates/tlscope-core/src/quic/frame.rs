//! Frames of Initial packets (RFC 9000, section 12.4): the parts of the handshake.

use crate::reader::Reader;

const PADDING: u64 = 0;
const PING: u64 = 1;
const ACK: u64 = 2;
const ACK_ECN: u64 = 3;
const CRYPTO: u64 = 6;

/// Offset and bytes of each CRYPTO frame; ends at a frame that cannot stand there.
pub fn crypto_frames(frames: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut rest = Reader(frames);
    std::iter::from_fn(move || {
        loop {
            match rest.varint()? {
                PADDING | PING => {}
                ACK => skip_ack(&mut rest, 0)?,
                ACK_ECN => skip_ack(&mut rest, 3)?,
                CRYPTO => {
                    let offset = rest.varint()?;
                    let length = usize::try_from(rest.varint()?).ok()?;
                    return Some((offset, rest.take(length)?));
                }
                _ => return None,
            }
        }
    })
}

fn skip_ack(rest: &mut Reader<'_>, counts: u64) -> Option<()> {
    let _largest = rest.varint()?;
    let _delay = rest.varint()?;
    let ranges = rest.varint()?;
    let _first_range = rest.varint()?;
    // A range is a gap and a length. Bytes run out long before a false count does.
    for _ in 0..ranges.checked_mul(2)?.checked_add(counts)? {
        rest.varint()?;
    }
    Some(())
}
