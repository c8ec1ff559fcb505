//! What a capture amounted to: the numbers shown at its end.
//!
//! Captured + lost = sent, to the byte, per direction.

use std::fmt;

use crate::event::Direction;

/// Numbers from the kernel side that the summary passes on: name and value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureCounters(pub Vec<(&'static str, u64)>);

impl CaptureCounters {
    pub fn push(&mut self, name: &'static str, value: u64) {
        self.0.push((name, value));
    }
}

/// Bytes of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    pub captured: u64,
    pub lost: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub connections: u64,
    /// By direction: `Direction as usize`.
    pub bytes: [Bytes; 2],
    pub gaps: u64,
    /// Events that repeated bytes already shown, wholly or in part.
    pub duplicate_events: u64,
    pub duplicate_bytes: u64,
    /// Connections whose state was given up because too many were open.
    pub evicted_connections: u64,
    /// `None` where no output takes secrets.
    pub secrets_written: Option<u64>,
    pub duplicate_secrets: u64,
    pub counters: CaptureCounters,
}

impl Summary {
    pub fn of(&self, direction: Direction) -> Bytes {
        self.bytes[direction as usize]
    }

    /// What one output did with secrets.
    pub(crate) fn add_secrets(&mut self, written: u64, duplicates: u64) {
        *self.secrets_written.get_or_insert(0) += written;
        self.duplicate_secrets += duplicates;
    }

    /// Every row that has something to say, in the order to show it: a capture
    /// of secrets alone knows no connections and no bytes.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let data = self.connections > 0 || self.secrets_written.is_none();
        let secrets = self.secrets_written;
        let (sent, received) = (self.of(Direction::Sent), self.of(Direction::Received));
        let own = [
            ("connections", self.connections, data),
            ("bytes sent, captured", sent.captured, data),
            ("bytes sent, lost", sent.lost, data),
            ("bytes received, captured", received.captured, data),
            ("bytes received, lost", received.lost, data),
            ("gaps", self.gaps, false),
            ("duplicate events dropped", self.duplicate_events, false),
            ("duplicate bytes dropped", self.duplicate_bytes, false),
            ("connections evicted", self.evicted_connections, false),
            ("secrets written", secrets.unwrap_or(0), secrets.is_some()),
            ("duplicate secrets dropped", self.duplicate_secrets, false),
        ];
        let own = own
            .into_iter()
            .filter(|row| row.2 || row.1 != 0)
            .map(|row| (row.0, row.1));
        own.chain(self.counters.0.iter().copied().filter(|row| row.1 != 0))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.rows() {
            writeln!(f, "{value:>16}  {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(summary: &Summary) -> Vec<&'static str> {
        summary.rows().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_capture_of_secrets_alone_says_nothing_of_bytes() {
        let mut summary = Summary::default();
        summary.add_secrets(0, 0);
        assert_eq!(names(&summary), ["secrets written"]);
    }

    #[test]
    fn a_capture_of_plaintext_says_how_little_it_saw() {
        let rows = names(&Summary::default());
        assert_eq!(rows.len(), 5, "{rows:?}");
        assert!(rows.contains(&"bytes sent, captured"));
    }
}
