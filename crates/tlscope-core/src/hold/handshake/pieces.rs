//! A `ClientHello` out of pieces that name their offset, in any order and more
//! than once: CRYPTO frames of QUIC, fragments of DTLS.

/// Post-quantum key shares make a hello of some KiB; this is far beyond.
const BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// From the beginning on, without a hole.
    whole: Vec<u8>,
    early: Vec<(usize, Box<[u8]>)>,
    early_bytes: usize,
}

impl Pieces {
    /// Gives what there is without a hole; `None` when it is too much.
    pub(super) fn push(&mut self, offset: u64, bytes: &[u8]) -> Option<&[u8]> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(bytes.len())?;
        if end > BYTES_MAX {
            return None;
        }
        if offset > self.whole.len() {
            self.early_bytes += bytes.len();
            self.early.push((offset, bytes.into()));
            return (self.early_bytes <= BYTES_MAX).then_some(&self.whole);
        }
        self.append(offset, bytes);
        while let Some(at) = self.early.iter().position(|e| e.0 <= self.whole.len()) {
            let (offset, bytes) = self.early.swap_remove(at);
            self.early_bytes -= bytes.len();
            self.append(offset, &bytes);
        }
        Some(&self.whole)
    }

    fn append(&mut self, offset: usize, bytes: &[u8]) {
        let fresh = bytes.get(self.whole.len() - offset..).unwrap_or_default();
        self.whole.extend_from_slice(fresh);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_any_order_and_twice() {
        let mut pieces = Pieces::default();
        for (offset, bytes, whole) in [
            (4, &b"efgh"[..], &b""[..]),
            (8, b"ij", b""),
            (0, b"ab", b"ab"),
            (0, b"ab", b"ab"),
            (1, b"bcde", b"abcdefghij"),
            (2, b"c", b"abcdefghij"),
        ] {
            assert_eq!(pieces.push(offset, bytes), Some(whole), "{offset}");
        }
        assert_eq!(pieces.early_bytes, 0);
    }

    #[test]
    fn too_much_is_refused() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.push(u64::MAX, b"x"), None);
        assert_eq!(pieces.push(0, &vec![0; BYTES_MAX + 1]), None);
        let many = (0..).map(|_| pieces.push(10, &[0; 1000]).is_some());
        assert_eq!(many.take_while(|taken| *taken).count(), BYTES_MAX / 1000);
    }
}
