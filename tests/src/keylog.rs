//! Key logs, line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A key log as a bag of lines.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct KeyLog(BTreeMap<String, usize>);

impl KeyLog {
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(e) => panic!("{}: {e}", path.display()),
        }
    }

    /// Comments aside, each line must be `LABEL RANDOM SECRET`; anything else is damage.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let mut lines = BTreeMap::new();
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "the last line is cut: {text:?}"
        );
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            // The premaster secret of RSA key exchange, which OpenSSL logs besides the
            // CLIENT_RANDOM line of the same handshake: that one is enough for everyone.
            if line.starts_with("RSA ") {
                continue;
            }
            let words: Vec<_> = line.split(' ').collect();
            let hex = |word: &str| {
                let digit =
                    |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b.to_ascii_lowercase());
                word.len().is_multiple_of(2) && word.bytes().all(digit)
            };
            let sound =
                words.len() == 3 && words[1].len() == 64 && words[1..].iter().all(|w| hex(w));
            assert!(sound, "no key log line: {line:?}");
            // Writers differ in the case of hexadecimal digits; readers do not mind.
            let line = format!("{} {}", words[0], words[1..].join(" ").to_ascii_lowercase());
            *lines.entry(line).or_default() += 1;
        }
        Self(lines)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many distinct lines have this label.
    pub fn count(&self, label: &str) -> usize {
        self.0
            .keys()
            .filter(|line| line.split(' ').next() == Some(label))
            .count()
    }

    /// The lines of both, each once.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(
            self.0
                .keys()
                .chain(other.0.keys())
                .map(|line| (line.clone(), 1))
                .collect(),
        )
    }

    /// The lines of connections that the other log knows: what other programs of the
    /// machine did during a capture without a filter is left out.
    #[must_use]
    pub fn of_connections_in(mut self, other: &Self) -> Self {
        let random = |line: &str| line.split(' ').nth(1).map(str::to_owned);
        let known: BTreeSet<_> = other.0.keys().map(|line| random(line)).collect();
        self.0.retain(|line, _| known.contains(&random(line)));
        self
    }

    pub fn holds_all_of(&self, other: &Self) -> bool {
        other.0.keys().all(|line| self.0.contains_key(line))
    }

    /// Nothing missing, nothing twice, nothing else: `self` was captured, `peers` is the truth.
    #[track_caller]
    pub fn assert_is(&self, peers: &Self) {
        let mut faults = String::new();
        for line in peers.0.keys().filter(|line| !self.0.contains_key(*line)) {
            let _ = writeln!(faults, "missing: {line}");
        }
        for (line, times) in &self.0 {
            if !peers.0.contains_key(line) {
                let _ = writeln!(faults, "not in the peer's log: {line}");
            } else if *times != 1 {
                let _ = writeln!(faults, "{times} times: {line}");
            }
        }
        assert!(
            !peers.is_empty(),
            "the peers logged nothing: the test shows nothing"
        );
        assert!(faults.is_empty(), "{faults}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(label: &str, random: u8) -> String {
        format!(
            "{label} {} {}\n",
            format!("{random:02x}").repeat(32),
            "ab".repeat(48)
        )
    }

    #[test]
    fn a_log_is_itself_in_any_order_and_case() {
        let text = line("CLIENT_RANDOM", 1) + &line("EXPORTER_SECRET", 0xab);
        let turned = line("EXPORTER_SECRET", 0xab).replace("ab", "AB") + &line("CLIENT_RANDOM", 1);
        KeyLog::parse(&text).assert_is(&KeyLog::parse(&turned));
    }

    #[test]
    #[should_panic(expected = "missing: CLIENT_RANDOM 02")]
    fn a_missing_line_is_told() {
        let both = line("CLIENT_RANDOM", 1) + &line("CLIENT_RANDOM", 2);
        KeyLog::parse(&line("CLIENT_RANDOM", 1)).assert_is(&KeyLog::parse(&both));
    }

    #[test]
    #[should_panic(expected = "2 times: CLIENT_RANDOM 01")]
    fn a_line_twice_is_told() {
        let one = line("CLIENT_RANDOM", 1);
        KeyLog::parse(&one.repeat(2)).assert_is(&KeyLog::parse(&one));
    }

    #[test]
    #[should_panic(expected = "no key log line")]
    fn a_short_random_is_damage() {
        KeyLog::parse("CLIENT_RANDOM abcd abcd\n");
    }

    #[test]
    #[should_panic(expected = "the last line is cut")]
    fn a_cut_line_is_damage() {
        KeyLog::parse(line("CLIENT_RANDOM", 1).trim_end());
    }
}
