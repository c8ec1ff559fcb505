//! Finding the bytes that a sink may not write as they are.

/// Bytes tested together: no branch inside, so the compiler uses vectors.
const LANE: usize = 64;

/// The first byte that is suspect. `suspect` must be cheap and without branches.
#[inline]
pub(crate) fn find(bytes: &[u8], suspect: impl Fn(u8) -> bool + Copy) -> Option<usize> {
    let lanes = bytes.chunks_exact(LANE);
    let tail = bytes.len() - lanes.remainder().len();
    let place = |from: usize, lane: &[u8]| lane.iter().position(|&b| suspect(b)).map(|i| from + i);
    for (index, lane) in lanes.enumerate() {
        if lane.iter().fold(false, |any, &b| any | suspect(b)) {
            return place(index * LANE, lane);
        }
    }
    place(tail, &bytes[tail..])
}

/// The length of a character in valid UTF-8, from its first byte.
pub(crate) fn utf8_length(first: u8) -> usize {
    match first {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    }
}

/// May begin a character that acts on a terminal: a C0 control or DEL, or the
/// first byte of a C1 control (U+0080..9F), of U+061C, or of a character of
/// U+2000..2FFF, where the bidi controls are.
#[inline]
pub(crate) fn may_control(byte: u8) -> bool {
    matches!(byte, 0..0x20 | 0x7f | 0xc2 | 0xd8 | 0xe2)
}

/// Acts on a terminal: control characters, and what reorders or breaks lines
/// (UAX #9 explicit formatting characters, LINE and PARAGRAPH SEPARATOR).
pub(crate) fn controls(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_wherever_it_stands() {
        for length in [0, 1, 63, 64, 65, 127, 128, 200] {
            assert_eq!(find(&vec![b'a'; length], may_control), None);
            for place in 0..length {
                let mut bytes = vec![b'a'; length];
                bytes[place..].fill(0x1b);
                assert_eq!(find(&bytes, may_control), Some(place));
            }
        }
    }

    #[test]
    fn every_controlling_character_is_suspect() {
        for character in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let mut buffer = [0; 4];
            let encoded = character.encode_utf8(&mut buffer).as_bytes();
            assert_eq!(utf8_length(encoded[0]), encoded.len());
            if controls(character) {
                assert!(may_control(encoded[0]), "{character:?}");
            }
        }
    }
}
