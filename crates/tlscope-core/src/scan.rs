//! Finding the bytes that a sink may not write as they are.

/// Bytes tested together: without branches, so the compiler uses vectors.
const LANE: usize = 64;
const WORD: usize = 8;

/// Where the suspect bytes are. `suspect` must be cheap and without branches.
#[inline]
pub(crate) fn hits<S: Fn(u8) -> bool>(bytes: &[u8], suspect: S) -> Hits<'_, S> {
    Hits {
        suspect,
        bytes,
        lane: 0,
        next_lane: 0,
        flags: [0; LANE / WORD],
        word: LANE / WORD,
    }
}

/// Each byte of a lane becomes a flag byte, so that a lane is tested once and
/// its hits are found by counting zeros, eight flags at a time.
#[derive(Debug)]
pub(crate) struct Hits<'a, S> {
    suspect: S,
    bytes: &'a [u8],
    /// Where the lane begins that `flags` are of.
    lane: usize,
    next_lane: usize,
    flags: [u64; LANE / WORD],
    /// Which of `flags` is looked at.
    word: usize,
}

impl<S: Fn(u8) -> bool> Iterator for Hits<'_, S> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        loop {
            while let Some(flags) = self.flags.get_mut(self.word) {
                if *flags != 0 {
                    let at = flags.trailing_zeros() as usize / 8;
                    *flags &= *flags - 1;
                    return Some(self.lane + self.word * WORD + at);
                }
                self.word += 1;
            }
            self.load()?;
        }
    }
}

impl<S: Fn(u8) -> bool> Hits<'_, S> {
    /// Goes to the next lane that has a hit.
    #[inline]
    fn load(&mut self) -> Option<()> {
        let rest = self
            .bytes
            .get(self.next_lane..)
            .filter(|rest| !rest.is_empty())?;
        let whole = rest.chunks_exact(LANE);
        let (mut flags, mut skipped) = ([0; LANE], 0);
        for lane in whole {
            for (flag, &byte) in flags.iter_mut().zip(lane) {
                *flag = u8::from((self.suspect)(byte));
            }
            if flags.iter().fold(0, |any, flag| any | flag) != 0 {
                return self.enter(skipped, &flags);
            }
            skipped += LANE;
        }
        flags = [0; LANE];
        for (flag, &byte) in flags.iter_mut().zip(&rest[skipped..]) {
            *flag = u8::from((self.suspect)(byte));
        }
        self.enter(skipped, &flags)
    }

    #[inline]
    fn enter(&mut self, skipped: usize, flags: &[u8; LANE]) -> Option<()> {
        self.lane = self.next_lane + skipped;
        self.next_lane = self.lane + LANE;
        self.word = 0;
        for (word, flags) in self.flags.iter_mut().zip(flags.chunks_exact(WORD)) {
            *word = u64::from_le_bytes(flags.try_into().ok()?);
        }
        Some(())
    }
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
    fn finds_all_wherever_they_stand() {
        for length in [0, 1, 63, 64, 65, 127, 128, 200] {
            assert_eq!(hits(&vec![b'a'; length], may_control).next(), None);
            for place in 0..length {
                let mut bytes = vec![b'a'; length];
                bytes[place..].fill(0x1b);
                assert!(hits(&bytes, may_control).eq(place..length));
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
