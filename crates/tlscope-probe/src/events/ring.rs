//! Ring buffer shards, drained in turn a bounded number of records each, so
//! that one busy shard does not starve the others.

use std::sync::Arc;

use libbpf_rs::{MapHandle, RingBuffer, RingBufferBuilder};

use super::{Backlog, Reader};
use crate::abi;

/// Records taken from one shard before the next has its turn.
const TURN: usize = 64;

pub(super) struct RingReader(Vec<RingBuffer<'static>>);

impl RingReader {
    pub(super) fn new(rings: &[MapHandle], backlog: &Arc<Backlog>) -> libbpf_rs::Result<Self> {
        let shards = rings.iter().map(|ring| {
            let into = Arc::clone(backlog);
            let mut builder = RingBufferBuilder::new();
            builder.add(ring, move |bytes| {
                into.push(abi::trim(bytes));
                0
            })?;
            builder.build()
        });
        shards.collect::<libbpf_rs::Result<_>>().map(Self)
    }
}

impl Reader for RingReader {
    fn epoll_fds(&self) -> Vec<i32> {
        self.0.iter().map(RingBuffer::epoll_fd).collect()
    }

    fn read(&mut self, _all: bool) -> bool {
        let mut found = false;
        for shard in &self.0 {
            found |= shard.consume_raw_n(TURN) > 0;
        }
        found
    }
}
