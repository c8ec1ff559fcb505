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
    pub secrets_written: u64,
    pub duplicate_secrets: u64,
    pub counters: CaptureCounters,
}

impl Summary {
    pub fn of(&self, direction: Direction) -> Bytes {
        self.bytes[direction as usize]
    }

    /// Every row that has something to say, in the order to show it.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let (sent, received) = (self.of(Direction::Sent), self.of(Direction::Received));
        let own = [
            ("connections", self.connections, true),
            ("bytes sent, captured", sent.captured, true),
            ("bytes sent, lost", sent.lost, true),
            ("bytes received, captured", received.captured, true),
            ("bytes received, lost", received.lost, true),
            ("gaps", self.gaps, false),
            ("duplicate events dropped", self.duplicate_events, false),
            ("duplicate bytes dropped", self.duplicate_bytes, false),
            ("connections evicted", self.evicted_connections, false),
            ("secrets written", self.secrets_written, true),
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
