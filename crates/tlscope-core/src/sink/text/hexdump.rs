//! Hex dumps: offset, sixteen bytes, and what of them is printable ASCII.
//!
//! A dump has five bytes for each of its payload, so under load this is what
//! text costs. Lines are made where they stay: to make one elsewhere and copy it
//! would wait for its many small stores (1.5 times as slow).

const PER_LINE: usize = 16;
const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Where the bytes of a line begin: eight digits of offset and two spaces ahead.
const HEX_COLUMN: usize = 10;
/// Where the text begins, a bar ahead: each byte has three columns, each half one more.
const TEXT_COLUMN: usize = HEX_COLUMN + PER_LINE * 3 + 3;
const LINE: usize = TEXT_COLUMN + PER_LINE + 2;
/// Each byte as two digits and two spaces. The next byte goes over the second
/// space: four bytes are one store.
const BYTES: [[u8; 4]; 256] = {
    let mut bytes = [[b' '; 4]; 256];
    let mut byte = 0;
    while byte < 256 {
        bytes[byte][0] = DIGITS[byte >> 4];
        bytes[byte][1] = DIGITS[byte & 15];
        byte += 1;
    }
    bytes
};

/// `offset` is that of the first byte; lines begin there, not at a multiple.
pub(super) fn push(out: &mut Vec<u8>, bytes: &[u8], offset: u64) {
    let offsets = (offset..).step_by(PER_LINE);
    let (whole, rest) = bytes.as_chunks::<PER_LINE>();
    if offset.saturating_add(bytes.len() as u64) > u64::from(u32::MAX) {
        let lines = bytes.chunks(PER_LINE).enumerate();
        lines.for_each(|(index, line)| {
            push_line(out, line, offset.saturating_add((index * PER_LINE) as u64));
        });
        return;
    }
    let start = out.len();
    out.resize(start + whole.len() * LINE, b' ');
    let (lines, _) = out[start..].as_chunks_mut::<LINE>();
    for ((line, bytes), offset) in lines.iter_mut().zip(whole).zip(offsets) {
        fill(line, bytes, offset as u32);
    }
    if !rest.is_empty() {
        push_line(out, rest, offset + (whole.len() * PER_LINE) as u64);
    }
}

/// Fills a line of spaces.
#[inline]
fn fill(line: &mut [u8; LINE], bytes: &[u8; PER_LINE], offset: u32) {
    for (place, byte) in offset.to_be_bytes().into_iter().enumerate() {
        line[place * 2..place * 2 + 2].copy_from_slice(&BYTES[usize::from(byte)][..2]);
    }
    for (place, &byte) in bytes.iter().enumerate() {
        let column = HEX_COLUMN + place * 3 + place / 8;
        line[column..column + 4].copy_from_slice(&BYTES[usize::from(byte)]);
    }
    line[TEXT_COLUMN - 1] = b'|';
    for (shown, &byte) in line[TEXT_COLUMN..].iter_mut().zip(bytes) {
        *shown = printable(byte);
    }
    line[LINE - 2] = b'|';
    line[LINE - 1] = b'\n';
}

fn printable(byte: u8) -> u8 {
    if matches!(byte, b' '..=b'~') {
        byte
    } else {
        b'.'
    }
}

/// A line of any length, at any offset: as many digits as it takes, eight at least.
fn push_line(out: &mut Vec<u8>, bytes: &[u8], offset: u64) {
    let high = offset >> 32;
    for place in (0..(64 - high.leading_zeros()).div_ceil(4)).rev() {
        out.push(DIGITS[(high >> (place * 4)) as usize & 15]);
    }
    let (mut line, mut padded) = ([b' '; LINE], [0; PER_LINE]);
    padded[..bytes.len()].copy_from_slice(bytes);
    fill(&mut line, &padded, offset as u32);
    for place in bytes.len()..PER_LINE {
        let column = HEX_COLUMN + place * 3 + place / 8;
        line[column..column + 2].fill(b' ');
    }
    out.extend_from_slice(&line[..TEXT_COLUMN + bytes.len()]);
    out.extend_from_slice(b"|\n");
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn looks_like_hexdump() {
        let mut out = Vec::new();
        push(&mut out, b"GET / HTTP/1.1\r\n\0\xff", 0x10);
        let expected = "\
00000010  47 45 54 20 2f 20 48 54  54 50 2f 31 2e 31 0d 0a  |GET / HTTP/1.1..|
00000020  00 ff                                             |..|
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    /// Against the plain way to write it.
    #[test]
    fn every_byte_and_length_is_right() {
        let bytes: Vec<u8> = (0..=255).collect();
        for (length, offset) in (0..256).zip((0..).step_by(0x1_0000_0b0d)) {
            let mut out = Vec::new();
            push(&mut out, &bytes[256 - length..], offset);
            let mut expected = String::new();
            for (index, line) in bytes[256 - length..].chunks(16).enumerate() {
                let half = |bytes: &[u8]| {
                    let shown = bytes.iter().map(|b| format!("{b:02x} "));
                    shown.collect::<String>()
                };
                let (first, second) = line.split_at(line.len().min(8));
                let text = line.iter().map(|b| printable(*b) as char);
                let offset = offset + index as u64 * 16;
                let (first, second) = (half(first), half(second));
                let text = text.collect::<String>();
                writeln!(expected, "{offset:08x}  {first:<24} {second:<24} |{text}|").unwrap();
            }
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn offsets_grow_beyond_eight_digits() {
        let mut out = Vec::new();
        push(&mut out, b"a", 0x1_2345_6789);
        assert!(out.starts_with(b"123456789  61 "));
        out.clear();
        push(&mut out, b"a", 0x100_0000_0000);
        assert!(out.starts_with(b"10000000000  61 "));
        push(&mut out, &[0; 33], u64::MAX);
    }
}
