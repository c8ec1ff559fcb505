//! Ring buffers (core) or perf buffers (noncore) behind one source of records.
//!
//! Ring shards are drained in turn, a bounded number of records each, so that
//! one busy shard starves neither the others nor the caller's timers.

use std::cell::RefCell;
use std::fmt;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use libbpf_rs::{
    MapCore, MapHandle, Object, PerfBuffer, PerfBufferBuilder, RingBuffer, RingBufferBuilder,
};

use crate::abi::Record;

/// Called for each record; `Break` stops the drain that is under way.
pub type Handler<'h> = Box<dyn FnMut(Record<'_>) -> ControlFlow<()> + 'h>;
type SharedHandler<'h> = Rc<RefCell<Handler<'h>>>;

/// Records taken from one shard before the next has its turn.
const TURN: usize = 256;
/// Longest drain before the caller gets the word again.
const DRAIN_MAX: Duration = Duration::from_millis(50);

/// Where records come from.
pub struct EventSource<'h>(Source<'h>);

enum Source<'h> {
    Rings(Vec<RingBuffer<'h>>),
    Perf(PerfSource<'h>),
}

impl fmt::Debug for EventSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::Rings(_) => "EventSource(ring buffers)",
            Source::Perf(_) => "EventSource(perf buffers)",
        })
    }
}

impl<'h> EventSource<'h> {
    pub(crate) fn new(
        object: &Object,
        rings: &[MapHandle],
        shard_bytes: u32,
        handler: Handler<'h>,
    ) -> libbpf_rs::Result<Self> {
        let handler = Rc::new(RefCell::new(handler));
        let source = if let Some(map) = object.maps().find(|map| map.name() == "perf") {
            Source::Perf(PerfSource::new(&map, shard_bytes, handler)?)
        } else {
            let shards = rings
                .iter()
                .map(|ring| ring_shard(ring, Rc::clone(&handler)));
            Source::Rings(shards.collect::<libbpf_rs::Result<_>>()?)
        };
        Ok(Self(source))
    }

    /// Waits up to `timeout` for records, then hands out what there is. Comes
    /// back early when a signal arrives.
    pub fn poll(&mut self, timeout: Duration) {
        match &mut self.0 {
            Source::Rings(rings) => {
                wait(
                    &rings.iter().map(RingBuffer::epoll_fd).collect::<Vec<_>>(),
                    timeout,
                );
                drain(rings);
            }
            Source::Perf(perf) => {
                wait(&[perf.buffer.epoll_fd()], timeout);
                perf.drain(false);
            }
        }
    }

    /// Hands out everything that was written before the call: for the end,
    /// when the probes are gone.
    pub fn finish(&mut self) {
        match &mut self.0 {
            Source::Rings(rings) => while drain(rings) {},
            Source::Perf(perf) => perf.drain(true),
        }
    }
}

fn ring_shard<'h>(
    ring: &MapHandle,
    handler: SharedHandler<'h>,
) -> libbpf_rs::Result<RingBuffer<'h>> {
    let mut builder = RingBufferBuilder::new();
    builder.add(ring, move |bytes| deliver(&handler, bytes))?;
    builder.build()
}

/// libbpf stops the drain at a negative value; the record counts as consumed.
fn deliver(handler: &SharedHandler<'_>, bytes: &[u8]) -> i32 {
    let Some(record) = Record::parse(bytes) else {
        return 0;
    };
    match (handler.borrow_mut())(record) {
        ControlFlow::Continue(()) => 0,
        ControlFlow::Break(()) => -libc::ECANCELED,
    }
}

/// False when every shard was found empty, or the handler broke off.
fn drain(rings: &[RingBuffer<'_>]) -> bool {
    let start = Instant::now();
    loop {
        let taken: Vec<i32> = rings.iter().map(|ring| ring.consume_raw_n(TURN)).collect();
        if taken.iter().any(|taken| *taken < 0) || taken.iter().all(|taken| *taken == 0) {
            return false;
        }
        if start.elapsed() > DRAIN_MAX {
            return true;
        }
    }
}

fn wait(fds: &[i32], timeout: Duration) {
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
    // does a time-out: the drain that follows looks into every buffer anyway.
    unsafe {
        libc::poll(
            polled.as_mut_ptr(),
            polled.len() as libc::nfds_t,
            milliseconds,
        )
    };
}

/// Perf buffers are per CPU: records are held back and sorted by time.
struct PerfSource<'h> {
    buffer: PerfBuffer<'h>,
    held: Rc<RefCell<Vec<Held>>>,
    handler: SharedHandler<'h>,
}

struct Held {
    time_ns: u64,
    bytes: Box<[u8]>,
}

impl<'h> PerfSource<'h> {
    fn new(map: &impl MapCore, bytes: u32, handler: SharedHandler<'h>) -> libbpf_rs::Result<Self> {
        const PAGE: usize = 4096;
        let held = Rc::new(RefCell::new(Vec::new()));
        let into = Rc::clone(&held);
        let buffer = PerfBufferBuilder::new(map)
            .pages((bytes as usize / PAGE).max(1))
            .sample_cb(move |_cpu, bytes: &[u8]| {
                if let Some(record) = Record::parse(bytes) {
                    let held = Held {
                        time_ns: record.time_ns(),
                        bytes: bytes.into(),
                    };
                    into.borrow_mut().push(held);
                }
            })
            .build()?;
        Ok(Self {
            buffer,
            held,
            handler,
        })
    }

    /// A call that ended before `horizon` wrote its records before the drain
    /// began, on whatever CPU: all of them are held now and can be sorted. A
    /// stable sort keeps the chunks of one call, equal in time, in order.
    fn drain(&mut self, all: bool) {
        let horizon = if all { u64::MAX } else { monotonic_ns() };
        // An error is a buffer that was not ready: the next drain finds it.
        let _ = self.buffer.consume();
        let mut held = self.held.borrow_mut();
        held.sort_by_key(|record| record.time_ns);
        let ready = held.partition_point(|record| record.time_ns <= horizon);
        for record in held.drain(..ready) {
            deliver(&self.handler, &record.bytes);
        }
    }
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
