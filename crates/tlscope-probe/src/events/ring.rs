//! Ring buffer shards, drained a bounded number of records at a time. The shard
//! that is furthest behind has its turn, so that what two shards say comes in the
//! order of time as far as it can, and a busy shard does not starve the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libbpf_rs::{AsRawLibbpf, MapHandle, RingBuffer, RingBufferBuilder};

use super::{Backlog, Reader};
use crate::abi;

/// Records taken from one shard before another may have its turn.
const TURN: usize = 16;

struct Shard {
    buffer: RingBuffer<'static>,
    /// The time of the last record that was taken.
    reached: Arc<AtomicU64>,
    /// What had been written at the mark, as a position.
    mark: u64,
}

impl Shard {
    fn new(ring: &MapHandle, backlog: &Arc<Backlog>) -> libbpf_rs::Result<Self> {
        let into = Arc::clone(backlog);
        let reached = Arc::new(AtomicU64::new(0));
        let time = Arc::clone(&reached);
        let mut builder = RingBufferBuilder::new();
        builder.add(ring, move |bytes| {
            time.store(abi::time_ns(bytes), Ordering::Relaxed);
            into.push(abi::trim(bytes));
            0
        })?;
        Ok(Self {
            buffer: builder.build()?,
            reached,
            mark: 0,
        })
    }

    fn ring(&self) -> *const libbpf_sys::ring {
        // SAFETY: the buffer lives as long as `self`, and has one ring.
        unsafe { libbpf_sys::ring_buffer__ring(self.buffer.as_libbpf_object().as_ptr(), 0) }
    }

    fn written(&self) -> u64 {
        // SAFETY: the ring lives as long as `self`. The position includes what is being written.
        unsafe { libbpf_sys::ring__producer_pos(self.ring()) }
    }

    fn read(&self) -> u64 {
        // SAFETY: as above.
        unsafe { libbpf_sys::ring__consumer_pos(self.ring()) }
    }
}

pub(super) struct RingReader(Vec<Shard>);

impl RingReader {
    pub(super) fn new(rings: &[MapHandle], backlog: &Arc<Backlog>) -> libbpf_rs::Result<Self> {
        let shards = rings.iter().map(|ring| Shard::new(ring, backlog));
        shards.collect::<libbpf_rs::Result<_>>().map(Self)
    }
}

impl Reader for RingReader {
    fn epoll_fds(&self) -> Vec<i32> {
        self.0.iter().map(|shard| shard.buffer.epoll_fd()).collect()
    }

    fn mark(&mut self) {
        for shard in &mut self.0 {
            shard.mark = shard.written();
        }
    }

    fn is_past_mark(&self) -> bool {
        self.0.iter().all(|shard| shard.read() >= shard.mark)
    }

    fn read(&mut self, _all: bool) -> bool {
        self.0
            .sort_by_key(|shard| shard.reached.load(Ordering::Relaxed));
        // One that is not empty may have nothing to take: a record is still being written.
        let mut filled = self
            .0
            .iter()
            .filter(|shard| shard.read() != shard.written());
        filled.any(|shard| shard.buffer.consume_raw_n(TURN) > 0)
    }
}
