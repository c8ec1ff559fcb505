//! What to show to a person in place of the bytes themselves.

use std::io::Write;

/// Words about the bytes and content found in them, in the order to show them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    bytes: Vec<u8>,
    /// Where each run ends and what it is. Neighbours differ.
    runs: Vec<(usize, ViewPart)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewPart {
    /// The decoder's words.
    Words,
    /// The peer's bytes, decoded.
    Content,
}

impl View {
    pub fn parts(&self) -> Parts<'_> {
        Parts {
            bytes: &self.bytes,
            runs: &self.runs,
            from: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn push(&mut self, part: ViewPart, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.extend_run(part);
    }

    /// What was appended to `bytes` is such a part.
    fn extend_run(&mut self, part: ViewPart) {
        let end = self.bytes.len();
        match self.runs.last_mut() {
            Some(last) if last.0 == end => {}
            Some(last) if last.1 == part => last.0 = end,
            _ if end == 0 => {}
            _ => self.runs.push((end, part)),
        }
    }

    pub(crate) fn words(&mut self, words: std::fmt::Arguments<'_>) {
        // Writing to a Vec does not fail.
        let _ = self.bytes.write_fmt(words);
        self.extend_run(ViewPart::Words);
    }

    pub(crate) fn content(&mut self, bytes: &[u8]) {
        self.push(ViewPart::Content, bytes);
    }

    pub(crate) fn append(&mut self, other: &Self) {
        other
            .parts()
            .for_each(|(part, bytes)| self.push(part, bytes));
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
    }

    /// Takes the last `length` bytes off if they are content.
    pub(crate) fn take_off_content(&mut self, tail: &[u8]) -> bool {
        let before = match self.runs.as_slice() {
            [.., before, _] => before.0,
            _ => 0,
        };
        match self.runs.last_mut() {
            Some((end, ViewPart::Content))
                if *end - before > tail.len() && self.bytes.ends_with(tail) =>
            {
                *end -= tail.len();
                self.bytes.truncate(*end);
                true
            }
            _ => false,
        }
    }
}

/// The runs of a view.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    bytes: &'a [u8],
    runs: &'a [(usize, ViewPart)],
    from: usize,
}

impl<'a> Iterator for Parts<'a> {
    type Item = (ViewPart, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&(end, part), rest) = self.runs.split_first()?;
        let bytes = self.bytes.get(self.from..end)?;
        (self.runs, self.from) = (rest, end);
        Some((part, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_kind_are_one_run() {
        let mut view = View::default();
        view.content(b"a");
        view.content(b"");
        view.content(b"b");
        view.words(format_args!("{}\n", 1));
        view.content(b"cd");
        let parts: Vec<_> = view.parts().collect();
        let expected: [(ViewPart, &[u8]); 3] = [
            (ViewPart::Content, b"ab"),
            (ViewPart::Words, b"1\n"),
            (ViewPart::Content, b"cd"),
        ];
        assert_eq!(parts, expected);
        assert!(!view.take_off_content(b"cd"));
        assert!(view.take_off_content(b"d"));
        assert_eq!(view.len(), 5);
    }
}
