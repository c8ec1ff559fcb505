//! The Huffman code (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: of equally long codes the lower is the lower octet's,
//! and longer codes follow shorter ones. So its lengths tell all of it.

/// By octet; the last is the end of string.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const END_OF_STRING: u16 = 256;
const SHORTEST: usize = 5;
const LONGEST: usize = 30;
/// Strings that decode to more are refused: 5 bits an octet make 64 KiB of block 100 KiB.
const MAX_TEXT: usize = 128 * 1024;

const CODE: Code = Code::new();

/// For each length: its first code, left-aligned in 32 bits, and which of
/// `octets` that code stands for.
struct Code {
    first: [u32; LONGEST + 2],
    place: [u16; LONGEST + 2],
    octets: [u16; 257],
}

impl Code {
    const fn new() -> Self {
        let mut code = Self {
            first: [0; LONGEST + 2],
            place: [0; LONGEST + 2],
            octets: [0; 257],
        };
        let (mut next, mut count, mut length) = (0_u64, 0, 1);
        while length <= LONGEST + 1 {
            // Beyond the longest code all 32 bits are set: no window is above it.
            code.first[length] = if next >> 32 == 0 {
                next as u32
            } else {
                u32::MAX
            };
            code.place[length] = count as u16;
            let mut octet = 0;
            while octet < LENGTHS.len() {
                if LENGTHS[octet] as usize == length {
                    code.octets[count] = octet as u16;
                    count += 1;
                    next += 1 << (32 - length);
                }
                octet += 1;
            }
            length += 1;
        }
        code
    }
}

/// `None` when the string is malformed: a wrong padding, or an end of string inside.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len() * 8 / SHORTEST);
    let (mut window, mut filled, mut next) = (0_u64, 0_usize, bytes.iter());
    loop {
        while filled <= 32
            && let Some(&byte) = next.next()
        {
            window |= u64::from(byte) << (56 - filled);
            filled += 8;
        }
        let bits = (window >> 32) as u32;
        // Padding is the beginning of the end of string: fewer than 8 ones.
        if filled < 8 && window == padding(filled) {
            return Some(text);
        }
        let (octet, length) = octet(bits)?;
        if length > filled || octet == END_OF_STRING || text.len() == MAX_TEXT {
            return None;
        }
        text.push(octet as u8);
        window <<= length;
        filled -= length;
    }
}

/// So many ones, left-aligned.
fn padding(bits: usize) -> u64 {
    u64::MAX.checked_shl(64 - bits as u32).unwrap_or(0)
}

/// The octet whose code the bits begin with, and the length of the code.
fn octet(bits: u32) -> Option<(u16, usize)> {
    let length = (SHORTEST..=LONGEST).find(|&l| bits < CODE.first[l + 1] || l == LONGEST)?;
    let rank = (bits - CODE.first[length]) >> (32 - length);
    let octet = *CODE
        .octets
        .get(usize::from(CODE.place[length]) + rank as usize)?;
    Some((octet, length))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// The inverse, for the tests alone.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for &byte in text {
            let length = usize::from(LENGTHS[usize::from(byte)]);
            let place = CODE
                .octets
                .iter()
                .position(|&o| o == u16::from(byte))
                .unwrap();
            let rank = (place - usize::from(CODE.place[length])) as u32;
            let code = (CODE.first[length] >> (32 - length)) + rank;
            write!(bits, "{code:0length$b}").unwrap();
        }
        bits += &"1".repeat((8 - bits.len() % 8) % 8);
        let byte = |at| u8::from_str_radix(&bits[at..at + 8], 2).unwrap();
        (0..bits.len()).step_by(8).map(byte).collect()
    }

    #[test]
    fn the_code_is_complete() {
        let kraft: u64 = LENGTHS.iter().map(|&length| 1 << (32 - length)).sum();
        assert_eq!(kraft, 1 << 32);
    }

    #[test]
    fn every_octet_is_decoded() {
        for byte in 0..=255 {
            for count in 1..9 {
                let text = vec![byte; count];
                assert_eq!(decode(&encode(&text)), Some(text));
            }
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Some(all));
    }

    #[test]
    fn malformed_strings_are_refused() {
        assert_eq!(decode(b""), Some(Vec::new()));
        // The end of string itself; padding of eight ones; padding of zeros.
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(decode(&[&encode(b"aaaaaaaa")[..], &[0xff]].concat()), None);
        assert_eq!(decode(&[0x18]), None);
        assert_eq!(decode(&[0x1f]), Some(b"a".to_vec()));
    }
}
