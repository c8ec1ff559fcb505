//! Processes with traffic, and their ends: told behind all that the process wrote,
//! which may still be on its way when the process is found to be gone.

use std::collections::HashMap;

use tlscope_core::event::{EndedProcess, Timestamp};

/// How far the time at which a process began can be off.
const LEEWAY_NS: u64 = 20_000_000;

#[derive(Debug, Default)]
pub(super) struct Processes {
    known: HashMap<u32, Known>,
}

#[derive(Debug)]
struct Known {
    /// Its first record.
    met: Timestamp,
    /// It has ended: the kernel's clock when that was seen.
    ended: Option<(u64, EndedProcess)>,
}

/// A process to ask about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) pid: u32,
    met: Timestamp,
}

impl Asked {
    /// Whether a process that began then was the one that was met.
    pub(super) fn may_have_begun(self, time: Timestamp) -> bool {
        time.0 <= self.met.0.saturating_add(LEEWAY_NS)
    }

    pub(super) fn ended(self, successor: Option<Timestamp>) -> EndedProcess {
        EndedProcess {
            pid: self.pid,
            successor: successor.map(|time| Timestamp(time.0.saturating_sub(LEEWAY_NS))),
        }
    }
}

impl Processes {
    /// Whether it is new.
    pub(super) fn meet(&mut self, pid: u32, time: Timestamp) -> bool {
        let known = Known {
            met: time,
            ended: None,
        };
        let mut is_new = false;
        self.known.entry(pid).or_insert_with(|| {
            is_new = true;
            known
        });
        is_new
    }

    /// Those that may have ended since.
    pub(super) fn to_ask(&self) -> Vec<Asked> {
        let running = self.known.iter().filter(|(_, known)| known.ended.is_none());
        let asked = running.map(|(&pid, known)| Asked {
            pid,
            met: known.met,
        });
        asked.collect()
    }

    /// These have ended before `now`, of the kernel's clock.
    pub(super) fn have_ended(&mut self, ended: &[EndedProcess], now: u64) {
        for process in ended {
            if let Some(known) = self.known.get_mut(&process.pid) {
                known.ended = Some((now, *process));
            }
        }
    }

    /// Takes out those of which everything has come that was written before `horizon`. A
    /// successor stays, for its records may have come already.
    pub(super) fn take_ended(&mut self, horizon: u64) -> Vec<EndedProcess> {
        let mut all = Vec::new();
        self.known.retain(|_, known| match known.ended {
            Some((seen, process)) if seen <= horizon => {
                all.push(process);
                known.ended = None;
                known.met = process.successor.unwrap_or_default();
                process.successor.is_some()
            }
            _ => true,
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pids(ended: &[EndedProcess]) -> Vec<u32> {
        ended.iter().map(|process| process.pid).collect()
    }

    #[test]
    fn an_end_waits_for_all_that_was_written_before_it_was_seen() {
        let mut processes = Processes::default();
        assert!(processes.meet(1, Timestamp(10)));
        assert!(!processes.meet(1, Timestamp(20)));
        let asked = processes.to_ask();
        processes.have_ended(&[asked[0].ended(None)], 100);
        assert!(processes.to_ask().is_empty());
        assert!(processes.take_ended(99).is_empty());
        assert!(!processes.meet(1, Timestamp(30)), "a record under way");
        assert_eq!(pids(&processes.take_ended(100)), [1]);
        assert!(processes.meet(1, Timestamp(200)));
    }

    #[test]
    fn the_process_that_has_the_number_now_stays() {
        const SECOND: u64 = 1_000_000_000;
        let mut processes = Processes::default();
        processes.meet(1, Timestamp(SECOND));
        let asked = processes.to_ask()[0];
        assert!(asked.may_have_begun(Timestamp(SECOND)));
        let successor = Timestamp(2 * SECOND);
        assert!(!asked.may_have_begun(successor));
        processes.have_ended(&[asked.ended(Some(successor))], 100);
        assert_eq!(pids(&processes.take_ended(100)), [1]);
        let again = processes.to_ask()[0];
        assert!(
            again.may_have_begun(successor),
            "it is its own first record"
        );
        assert!(processes.take_ended(u64::MAX).is_empty());
    }
}
