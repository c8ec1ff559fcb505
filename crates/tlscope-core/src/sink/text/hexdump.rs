//! Hex dumps: offset, sixteen bytes, and what of them is printable ASCII.

const PER_LINE: usize = 16;
const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Between the offset and the text: a space before, two behind, one in the middle.
const TEXT_COLUMN: usize = 51;

/// `offset` is that of the first byte; lines begin there, not at a multiple.
pub(super) fn push(out: &mut Vec<u8>, bytes: &[u8], offset: u64) {
    out.reserve(bytes.len().div_ceil(PER_LINE) * (TEXT_COLUMN + 30));
    for (index, line) in bytes.chunks(PER_LINE).enumerate() {
        push_offset(out, offset.saturating_add((index * PER_LINE) as u64));
        let mut columns = [b' '; TEXT_COLUMN];
        let mut text = [0; PER_LINE];
        for (place, &byte) in line.iter().enumerate() {
            let column = 1 + place * 3 + place / 8;
            columns[column] = DIGITS[usize::from(byte >> 4)];
            columns[column + 1] = DIGITS[usize::from(byte & 15)];
            text[place] = if matches!(byte, b' '..=b'~') {
                byte
            } else {
                b'.'
            };
        }
        out.push(b' ');
        out.extend_from_slice(&columns);
        out.push(b'|');
        out.extend_from_slice(&text[..line.len()]);
        out.extend_from_slice(b"|\n");
    }
}

/// Eight digits, or as many as it takes.
fn push_offset(out: &mut Vec<u8>, offset: u64) {
    let digits = (64 - offset.leading_zeros()).div_ceil(4).max(8);
    for place in (0..digits).rev() {
        out.push(DIGITS[(offset >> (place * 4)) as usize & 15]);
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn offsets_grow_beyond_eight_digits() {
        let mut out = Vec::new();
        push(&mut out, b"a", 0x1_2345_6789);
        assert!(out.starts_with(b"123456789  61 "));
        push(&mut out, &[0; 33], u64::MAX);
    }
}
