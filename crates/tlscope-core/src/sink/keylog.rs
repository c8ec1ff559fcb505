//! The NSS key log: `LABEL <client random> <secret>`, both in lowercase hex.
//!
//! Each line is one write call, so that a reader, or another writer of an
//! appended file, never sees part of one. No line is written twice.

use std::io::{self, BufRead, Write};

use super::Sink;
use crate::event::{Secret, SecretEvent, SecretLabel};
use crate::item::Item;
use crate::secret::{SecretSet, push_line};
use crate::summary::Summary;

#[derive(Debug)]
pub struct KeylogSink<W> {
    writer: W,
    seen: SecretSet,
    line: Vec<u8>,
    written: u64,
    duplicates: u64,
}

/// Longest line of an existing file that is looked at: label, random, secret, spaces, end.
const MAX_LINE: u64 = (SecretLabel::MAX + 64 + 2 * Secret::MAX + 4) as u64;

impl<W: Write> KeylogSink<W> {
    pub fn new(writer: W) -> Self {
        Self {
            writer,
            seen: SecretSet::default(),
            line: Vec::new(),
            written: 0,
            duplicates: 0,
        }
    }

    /// Takes the lines of the file that is appended to as written already.
    /// Lines that are none of a key log are passed over.
    pub fn with_existing(mut self, mut existing: impl BufRead) -> io::Result<Self> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if io::Read::take(&mut existing, MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(self);
            }
            if let Some((label, random, secret)) = parse(&line) {
                self.seen.insert(label.as_str(), &random, &secret);
            }
        }
    }

    fn secret(&mut self, event: &SecretEvent) -> io::Result<()> {
        let SecretEvent {
            label,
            client_random,
            secret,
            ..
        } = event;
        if !self
            .seen
            .insert(label.as_str(), client_random, secret.expose())
        {
            self.duplicates += 1;
            return Ok(());
        }
        self.line.clear();
        push_line(&mut self.line, event);
        self.writer.write_all(&self.line)?;
        self.written += 1;
        Ok(())
    }
}

impl<W: Write> Sink for KeylogSink<W> {
    fn name(&self) -> &'static str {
        "keylog"
    }

    fn item(&mut self, item: &Item<'_>) -> io::Result<()> {
        match item {
            Item::Secret(event) => self.secret(event),
            Item::Open(_)
            | Item::Data(_)
            | Item::Message(_)
            | Item::Gap(_)
            | Item::Stage(_)
            | Item::Close(_) => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    fn report(&self, summary: &mut Summary) {
        summary.add_secrets(self.written, self.duplicates);
    }

    fn finish(&mut self, _summary: &Summary) -> io::Result<()> {
        self.flush()
    }
}

fn parse(line: &[u8]) -> Option<(SecretLabel, Vec<u8>, Vec<u8>)> {
    let mut words = line.trim_ascii_end().split(|&b| b == b' ');
    let label = SecretLabel::new(words.next()?)?;
    let (random, secret) = (from_hex(words.next()?)?, from_hex(words.next()?)?);
    (random.len() == 32 && words.next().is_none()).then_some((label, random, secret))
}

fn from_hex(word: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    if !word.len().is_multiple_of(2) {
        return None;
    }
    word.chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Comm, Process, Socket, Timestamp};

    fn event(random: u8, secret: u8) -> SecretEvent {
        SecretEvent {
            time: Timestamp(0),
            process: Process {
                pid: 1,
                tid: 1,
                uid: 0,
                comm: Comm::default(),
            },
            socket: Socket::default(),
            label: SecretLabel::new(b"CLIENT_RANDOM").unwrap(),
            client_random: [random; 32],
            secret: Secret::new(&[secret; 48]).unwrap(),
        }
    }

    fn line(random: &str, secret: &str) -> String {
        format!(
            "CLIENT_RANDOM {} {}\n",
            random.repeat(32),
            secret.repeat(48)
        )
    }

    /// Each write call as a string of its own.
    #[derive(Debug, Default)]
    struct Calls(Vec<String>);

    impl Write for Calls {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_write_and_is_written_once() {
        let mut sink = KeylogSink::new(Calls::default());
        for (random, secret) in [(0xab, 0x01), (0xab, 0x01), (0x0c, 0xff)] {
            sink.item(&Item::Secret(&event(random, secret))).unwrap();
        }
        assert_eq!(sink.writer.0, [line("ab", "01"), line("0c", "ff")]);
        let mut summary = Summary::default();
        sink.report(&mut summary);
        assert_eq!(summary.secrets_written, Some(2));
        assert_eq!(summary.duplicate_secrets, 1);
    }

    #[test]
    fn a_restart_writes_no_duplicate() {
        let existing = format!("# a comment\n\nnoise\n{}CLIENT_RANDOM ab", line("AB", "01"));
        let sink = KeylogSink::new(Calls::default());
        let mut sink = sink.with_existing(existing.as_bytes()).unwrap();
        sink.item(&Item::Secret(&event(0xab, 0x01))).unwrap();
        sink.item(&Item::Secret(&event(0xac, 0x01))).unwrap();
        assert_eq!(sink.writer.0, [line("ac", "01")]);
    }
}
