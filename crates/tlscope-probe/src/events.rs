//! Ring buffers (core) or perf buffers (noncore) behind one source of records.
//!
//! The thread `events` does nothing but move records from the kernel's buffers
//! into a backlog of bounded size, so that a burst faster than decoding and
//! writing is kept. When the backlog is full too, the kernel side counts the loss.

mod backlog;
mod perf;
mod ring;

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapHandle, Object};

use crate::abi::Record;
use crate::confine::Sandbox;
use backlog::Backlog;
use perf::PerfReader;
use ring::RingReader;

/// Longest time that records stay in a kernel buffer that is not filling up.
const LATENCY: Duration = Duration::from_millis(20);
/// Longest delivery before the caller gets the word again.
const DELIVER_MAX: Duration = Duration::from_millis(50);

/// Moves what is in the kernel's buffers into the backlog.
trait Reader: Send {
    /// What to wait on.
    fn epoll_fds(&self) -> Vec<i32>;

    /// Notes how far the buffers are filled now.
    fn mark(&mut self);

    /// Whether all that the mark stands behind has been read.
    fn is_past_mark(&self) -> bool;

    /// Takes a bounded number of records; false when none was found. `all`:
    /// nothing is written any more, so nothing need be held back.
    fn read(&mut self, all: bool) -> bool;
}

/// Where records come from.
pub struct EventSource {
    backlog: Arc<Backlog>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSource")
            .field("backlog", &self.backlog)
            .finish_non_exhaustive()
    }
}

impl EventSource {
    pub(crate) fn new(
        object: &Object,
        rings: &[MapHandle],
        shard_bytes: u32,
    ) -> libbpf_rs::Result<Self> {
        let backlog = Arc::new(Backlog::default());
        let reader: Box<dyn Reader> =
            if let Some(map) = object.maps().find(|map| map.name() == "perf") {
                Box::new(PerfReader::new(&map, shard_bytes, &backlog)?)
            } else {
                Box::new(RingReader::new(rings, &backlog)?)
            };
        Self::start(reader, backlog).map_err(libbpf_rs::Error::from)
    }

    fn start(mut reader: Box<dyn Reader>, backlog: Arc<Backlog>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (into, stopped) = (Arc::clone(&backlog), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("events".into())
            .spawn(move || {
                Sandbox::default().enter_or_say("the thread that reads records");
                while !stopped.load(Ordering::Acquire) {
                    wait(&reader.epoll_fds(), LATENCY);
                    let horizon = sweep(&mut *reader, &into, &stopped);
                    into.publish(horizon);
                }
                while reader.read(true) {}
                into.publish(u64::MAX);
            })?;
        Ok(Self {
            backlog,
            stop,
            thread: Some(thread),
        })
    }

    /// Waits up to `timeout` for records, then hands out what there is, in
    /// order, for a bounded time. `Break` ends it.
    pub fn poll(
        &self,
        timeout: Duration,
        handler: impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.deliver(
            timeout,
            Some(Instant::now() + timeout + DELIVER_MAX),
            handler,
        )
    }

    /// The kernel's clock up to which every record that was written has been handed out. What
    /// happened in the world before it can be told: nothing that came before is under way.
    pub fn horizon(&self) -> u64 {
        self.backlog.horizon()
    }

    /// Hands out everything that was written before the call: for the end,
    /// when the probes are gone.
    pub fn finish(mut self, handler: impl FnMut(Record<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        self.join();
        self.deliver(Duration::ZERO, None, handler)
    }

    fn deliver(
        &self,
        timeout: Duration,
        deadline: Option<Instant>,
        mut handler: impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut patience = timeout;
        while let Some(batch) = self.backlog.take(patience) {
            patience = Duration::ZERO;
            batch.by_time().into_iter().try_for_each(&mut handler)?;
            self.backlog.recycle(batch);
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported, and what it read is still here.
            let _ = thread.join();
        }
    }
}

impl Drop for EventSource {
    fn drop(&mut self) {
        self.join();
    }
}

/// Reads all that is in the buffers now. Gives the time before which all records have been read;
/// 0 when that is not known, for one is still being written or the backlog is full.
fn sweep(reader: &mut dyn Reader, into: &Backlog, stopped: &AtomicBool) -> u64 {
    let horizon = monotonic_ns();
    reader.mark();
    while !reader.is_past_mark() {
        if stopped.load(Ordering::Acquire) || (into.has_room(LATENCY) && !reader.read(false)) {
            return 0;
        }
    }
    horizon
}

pub(crate) fn wait(fds: &[i32], timeout: Duration) {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|fd| libc::pollfd {
            fd: *fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the array is valid for its length. Errors (EINTR) end the wait, as
    // does a time-out: the read that follows looks into every buffer anyway.
    unsafe {
        libc::poll(
            polled.as_mut_ptr(),
            polled.len() as libc::nfds_t,
            milliseconds,
        )
    };
}

/// The clock of `bpf_ktime_get_ns`.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
