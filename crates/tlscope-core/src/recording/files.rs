//! The files that are open: the current one, and earlier ones whose connections go on.

use std::net::IpAddr;

use super::{FileNumber, KernelCounts};
use crate::bounded::Bounded;
use crate::event::Timestamp;
use crate::sink::pcapng::Statistics;

/// Never empty but at the end: the last one is current.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) open: Vec<OpenFile>,
    /// Time of the latest packet.
    pub(super) latest: Timestamp,
}

#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) number: FileNumber,
    /// Secrets that its next packet must come after.
    pub(super) lines: Vec<u8>,
    pub(super) names: Bounded<(IpAddr, String), ()>,
    interfaces: Vec<InFile>,
}

/// An interface as one file tells of it.
#[derive(Debug)]
struct InFile {
    start: Timestamp,
    delivered: u64,
    before: KernelCounts,
    /// Once the next file has begun, which counts on from there.
    after: Option<KernelCounts>,
}

impl Files {
    /// What has no home goes into the current file, also when its home is closed.
    pub(super) fn place(&self, home: Option<FileNumber>) -> usize {
        let at = home.and_then(|home| self.position(home));
        at.unwrap_or(self.open.len() - 1)
    }

    pub(super) fn is_open(&self, file: FileNumber) -> bool {
        self.position(file).is_some()
    }

    fn position(&self, number: FileNumber) -> Option<usize> {
        self.open.iter().rposition(|file| file.number == number)
    }

    pub(super) fn next_number(&self) -> FileNumber {
        let current = self.open.last().map_or(0, |file| file.number.0);
        FileNumber(current.wrapping_add(1))
    }

    pub(super) fn remove(&mut self, number: FileNumber) {
        self.open.retain(|file| file.number != number);
    }

    /// The current file is current no longer.
    pub(super) fn end_turn(&mut self, kernel: impl Iterator<Item = KernelCounts>) {
        let current = self.open.last_mut().into_iter();
        let interfaces = current.flat_map(|file| &mut file.interfaces);
        for (interface, counts) in interfaces.zip(kernel) {
            interface.after.get_or_insert(counts);
        }
    }
}

impl OpenFile {
    pub(super) fn new(number: FileNumber, names: usize) -> Self {
        Self {
            number,
            lines: Vec::new(),
            names: Bounded::new(names),
            interfaces: Vec::new(),
        }
    }

    pub(super) fn add_interface(&mut self, counted: KernelCounts, now: Timestamp) {
        self.interfaces.push(InFile {
            start: now,
            delivered: 0,
            before: counted,
            after: None,
        });
    }

    pub(super) fn delivered(&mut self, interface: u32) {
        if let Some(interface) = self.interfaces.get_mut(interface as usize) {
            interface.delivered += 1;
        }
    }

    /// Of each interface. What the kernel counted belongs to the file that was current,
    /// so that the files of a capture add up.
    pub(super) fn statistics(&self, kernel: &[KernelCounts], now: Timestamp) -> Vec<Statistics> {
        let of_interface = |(interface, counted): (&InFile, &KernelCounts)| {
            let counted = interface.after.unwrap_or(*counted);
            let since = |count: fn(&KernelCounts) -> u64| {
                count(&counted).saturating_sub(count(&interface.before))
            };
            Statistics {
                start: interface.start.0,
                end: now.0,
                received: since(|counts| counts.received),
                dropped_by_interface: since(|counts| counts.dropped_by_interface),
                dropped_by_kernel: since(|counts| counts.dropped_by_kernel),
                delivered: interface.delivered,
            }
        };
        let pairs = self.interfaces.iter().zip(kernel);
        pairs.map(of_interface).collect()
    }
}
