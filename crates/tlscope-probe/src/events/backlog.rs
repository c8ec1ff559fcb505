//! Records between the reading thread and the capture: batches of records laid
//! end to end, bounded in bytes, with their memory used again.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::abi::{self, Record};

/// Bytes that wait at most. A burst larger than this and the kernel's buffers
/// together is lost, and counted.
const BYTES_MAX: usize = 256 << 20;
/// A batch of this size is handed on at once.
const BATCH_BYTES: usize = 1 << 20;
/// Empty batches kept for use again.
const SPARE_MAX: usize = 8;

/// Records end to end.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
    /// No record from before this time comes behind this batch; 0 when unknown.
    horizon: u64,
}

impl Batch {
    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    /// Moves what is of later than `time` behind what `to` has.
    fn move_later(&mut self, time: u64, to: &mut Self) {
        if self.records().all(|record| abi::time_ns(record) <= time) {
            return;
        }
        let whole = std::mem::take(self);
        for record in whole.records() {
            if abi::time_ns(record) <= time {
                self.push(record);
            } else {
                to.push(record);
            }
        }
    }

    fn records(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.bytes[*start..*end])
    }

    /// In order of time: what two ends of one exchange say lies in two shards.
    /// The sort is stable, so the chunks of one call, equal in time, stay in order.
    pub(super) fn by_time(&self) -> Vec<Record<'_>> {
        let mut records: Vec<_> = self.records().filter_map(Record::parse).collect();
        records.sort_by_key(Record::time_ns);
        records
    }
}

#[derive(Default)]
pub(super) struct Backlog {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Default)]
struct State {
    open: Batch,
    batches: VecDeque<Batch>,
    /// In `batches`.
    bytes: usize,
    /// Of all batches that were taken.
    horizon: u64,
    spare: Vec<Batch>,
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.state().bytes)
    }
}

impl Backlog {
    pub(super) fn push(&self, record: &[u8]) {
        let mut state = self.state();
        state.open.push(record);
        if state.open.bytes.len() >= BATCH_BYTES {
            self.hand_on(&mut state);
        }
    }

    /// Hands on what has not come to a whole batch. Every record from before `horizon` was pushed;
    /// one from behind it waits for the next time, for an older one may still come. 0: not known.
    pub(super) fn publish(&self, horizon: u64) {
        let mut state = self.state();
        let mut later = Batch::default();
        if horizon > 0 {
            state.open.move_later(horizon, &mut later);
        }
        if !state.open.ends.is_empty() {
            self.hand_on(&mut state);
        }
        if !later.ends.is_empty() {
            state.open = later;
        }
        let State {
            batches,
            horizon: taken,
            ..
        } = &mut *state;
        let of_last = batches.back_mut().map_or(taken, |last| &mut last.horizon);
        *of_last = horizon.max(*of_last);
    }

    /// Up to here everything has come, when what was taken has been looked at.
    pub(super) fn horizon(&self) -> u64 {
        self.state().horizon
    }

    /// Whether more may be pushed; waits up to `patience` for it.
    pub(super) fn has_room(&self, patience: Duration) -> bool {
        let state = self.state();
        let waited = self
            .emptied
            .wait_timeout_while(state, patience, |s| s.bytes >= BYTES_MAX);
        waited.is_ok_and(|(state, _)| state.bytes < BYTES_MAX)
    }

    /// The oldest batch; waits up to `patience` for one.
    pub(super) fn take(&self, patience: Duration) -> Option<Batch> {
        let state = self.state();
        let (mut state, _) = self
            .filled
            .wait_timeout_while(state, patience, |s| s.batches.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let batch = state.batches.pop_front()?;
        state.bytes -= batch.bytes.len();
        state.horizon = state.horizon.max(batch.horizon);
        self.emptied.notify_one();
        Some(batch)
    }

    pub(super) fn recycle(&self, mut batch: Batch) {
        let mut state = self.state();
        if state.spare.len() < SPARE_MAX {
            batch.bytes.clear();
            batch.ends.clear();
            batch.horizon = 0;
            state.spare.push(batch);
        }
    }

    fn hand_on(&self, state: &mut State) {
        let empty = state.spare.pop().unwrap_or_default();
        let full = std::mem::replace(&mut state.open, empty);
        state.bytes += full.bytes.len();
        state.batches.push_back(full);
        self.filled.notify_one();
    }

    /// The state is whole between any two statements: a panic spoils nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    fn drain(backlog: &Backlog) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(batch) = backlog.take(Duration::ZERO) {
            all.extend(batch.records().map(<[u8]>::to_vec));
            backlog.recycle(batch);
        }
        all
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let backlog = Backlog::default();
        assert!(backlog.take(Duration::ZERO).is_none());
        for round in 0..3_u8 {
            let records: Vec<Vec<u8>> = (0..50).map(|i| vec![round ^ i; usize::from(i)]).collect();
            for record in &records {
                backlog.push(record);
            }
            assert!(
                drain(&backlog).is_empty(),
                "nothing is out before it is published"
            );
            backlog.publish(0);
            assert_eq!(drain(&backlog), records);
        }
    }

    fn record_of(time: u64) -> Vec<u8> {
        let mut header: abi::RecordHeader = FromZeros::new_zeroed();
        header.time_ns = time;
        header.as_bytes().to_vec()
    }

    /// Buffers are read one after the other: what two of them have comes in the order of time.
    #[test]
    fn what_is_younger_than_all_that_has_come_waits() {
        let backlog = Backlog::default();
        for time in [5, 12, 7] {
            backlog.push(&record_of(time));
        }
        backlog.publish(10);
        assert_eq!(drain(&backlog), [5, 7].map(record_of));
        backlog.push(&record_of(11));
        backlog.publish(20);
        assert_eq!(
            drain(&backlog),
            [12, 11].map(record_of),
            "one batch, to be sorted"
        );
        backlog.push(&record_of(21));
        backlog.publish(0);
        assert_eq!(
            drain(&backlog),
            [record_of(21)],
            "nobody knows for how long"
        );
    }

    #[test]
    fn the_horizon_waits_for_what_is_before_it() {
        let backlog = Backlog::default();
        backlog.publish(1);
        assert_eq!(backlog.horizon(), 1, "nothing is under way");
        backlog.push(&[0]);
        backlog.publish(2);
        backlog.push(&vec![0; BATCH_BYTES]);
        backlog.publish(0);
        backlog.publish(3);
        for horizon in [1, 2] {
            assert_eq!(backlog.horizon(), horizon);
            backlog.recycle(backlog.take(Duration::ZERO).unwrap());
        }
        assert_eq!(backlog.horizon(), 3);
        backlog.push(&[0]);
        backlog.publish(0);
        drop(backlog.take(Duration::ZERO));
        assert_eq!(
            backlog.horizon(),
            3,
            "a batch used again has a horizon of its own"
        );
    }

    #[test]
    fn a_whole_batch_is_handed_on_at_once() {
        let backlog = Backlog::default();
        backlog.push(&vec![1; BATCH_BYTES]);
        assert_eq!(drain(&backlog).len(), 1);
    }

    #[test]
    fn room_ends_and_comes_back() {
        let backlog = Backlog::default();
        let record = vec![0; BATCH_BYTES];
        for _ in 0..BYTES_MAX / BATCH_BYTES {
            assert!(backlog.has_room(Duration::ZERO));
            backlog.push(&record);
        }
        assert!(!backlog.has_room(Duration::ZERO));
        drop(backlog.take(Duration::ZERO));
        assert!(backlog.has_room(Duration::ZERO));
    }
}
