//! JSON Lines for a reader on the network, who may be slow, or away, or dead.
//!
//! A thread of its own connects, again if need be, and writes. The capture never
//! waits for it: records that find no room among those that wait are dropped.
//! Every record has its place in the stream, so what was lost in whatever way is
//! a jump between places: the reader is told by a `lost` object, the user at the end.

mod link;
mod names;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::{Add, Sub};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use memchr::{memchr_iter, memrchr};
use names::Names;
use tlscope_probe::confine::Sandbox;

/// Bytes that wait for the reader; beyond it records are dropped.
const WAITING_MAX: usize = 64 << 20;
/// Room that must be there again before records are taken again: a slow reader is
/// not told of each single one.
const ROOM_MIN: usize = WAITING_MAX / 4;
/// Records that follow each other are gathered up to so many bytes.
const GATHER: usize = 256 * 1024;
/// How long the end of the capture waits for the reader.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// A number of records and of their bytes; as a place, those that come before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Count {
    fn of(lines: &[u8]) -> Self {
        Self {
            records: memchr_iter(b'\n', lines).count() as u64,
            bytes: lines.len() as u64,
        }
    }
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl Sub for Count {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_sub(other.records),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// Whole lines that follow each other, and the place of the first.
#[derive(Debug, Default)]
struct Chunk {
    place: Count,
    lines: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Chunk>,
    /// Bytes that wait or that the thread has in hand.
    held: usize,
    /// Of all records of the capture.
    end: Count,
    /// What the reader's side has taken.
    delivered: Count,
    dropping: bool,
    closed: bool,
    /// The thread has ended.
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// The state is sound at every step, so a panic elsewhere does not matter.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, lines: &[u8]) {
        let place = self.end;
        self.end = place + Count::of(lines);
        let room = WAITING_MAX.saturating_sub(self.held);
        self.dropping &= room < ROOM_MIN;
        if self.dropping {
            return;
        }
        let lines = whole_lines(lines, room);
        self.dropping = place + Count::of(lines) != self.end;
        if lines.is_empty() {
            return;
        }
        self.held += lines.len();
        match self.waiting.back_mut() {
            Some(last)
                if last.lines.len() < GATHER && last.place + Count::of(&last.lines) == place =>
            {
                last.lines.extend_from_slice(lines);
            }
            _ => self.waiting.push_back(Chunk {
                place,
                lines: lines.to_vec(),
            }),
        }
    }
}

/// As many of the lines as fit into `limit` bytes.
fn whole_lines(lines: &[u8], limit: usize) -> &[u8] {
    if lines.len() <= limit {
        return lines;
    }
    let end = memrchr(b'\n', &lines[..limit]);
    &lines[..end.map_or(0, |end| end + 1)]
}

/// The capture's end of it. A sink writes whole lines at a time.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    shared: Arc<Shared>,
}

impl Remote {
    /// `address` is `host:port`, looked up at each attempt.
    pub(super) fn start(address: &str) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (of_thread, address) = (Arc::clone(&shared), address.to_owned());
        let names = Names::start(&address)?;
        // Of the system it needs this one connection, time and again.
        let port = address.rsplit_once(':').map(|(_, port)| port.parse());
        let sandbox = Sandbox {
            connects_to: port.into_iter().flatten().collect(),
            ..Sandbox::default()
        };
        thread::Builder::new()
            .name("remote".into())
            .spawn(move || {
                sandbox.enter_or_say("the thread that sends");
                link::serve(&address, &names, &of_thread);
            })?;
        Ok(Self { shared })
    }

    /// Waits for the reader, with a bound; gives what it did not get of the capture.
    pub(super) fn close(self) -> Count {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
        let busy = |state: &mut State| !state.ended;
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, LAST_WAIT, busy);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.end - state.delivered
    }
}

impl Write for Remote {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.shared.lock().take(lines);
        self.shared.changed.notify_all();
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_dropped_whole_and_leaves_a_jump() {
        let mut state = State::default();
        let mut line = vec![b'x'; 1 << 20];
        *line.last_mut().unwrap() = b'\n';
        for _ in 0..70 {
            state.take(&line);
        }
        assert_eq!((state.held, state.end.records), (WAITING_MAX, 70));
        let taken = state.waiting.pop_front().unwrap();
        state.held -= taken.lines.len();
        state.take(b"{}\n");
        assert!(state.dropping, "a little room is not enough");
        state.waiting.drain(..ROOM_MIN >> 20);
        state.held -= ROOM_MIN;
        state.take(b"{}\n{}\n");
        let last = state.waiting.back().unwrap();
        assert_eq!(
            (last.place.records, &last.lines[..]),
            (71, &b"{}\n{}\n"[..])
        );
        assert_eq!(state.end.records, 73);
    }

    #[test]
    fn lines_are_never_cut() {
        for (limit, kept) in [(0, ""), (2, ""), (3, "ab\n"), (6, "ab\n"), (7, "ab\ncde\n")] {
            assert_eq!(whole_lines(b"ab\ncde\n", limit), kept.as_bytes());
        }
    }
}
