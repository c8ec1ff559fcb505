//! Perf buffers are per CPU, and a thread moves between CPUs: records are held
//! back and sorted by time before they go on.

use std::sync::{Arc, Mutex, PoisonError};

use libbpf_rs::{MapCore, PerfBuffer, PerfBufferBuilder};

use super::{Backlog, Reader, monotonic_ns};
use crate::abi::{self, Record};

const PAGE: usize = 4096;

pub(super) struct PerfReader {
    buffer: PerfBuffer<'static>,
    held: Arc<Mutex<Vec<Held>>>,
    backlog: Arc<Backlog>,
    past_mark: bool,
}

struct Held {
    time_ns: u64,
    bytes: Box<[u8]>,
}

impl PerfReader {
    pub(super) fn new(
        map: &impl MapCore,
        bytes_per_cpu: u32,
        backlog: &Arc<Backlog>,
    ) -> libbpf_rs::Result<Self> {
        let held = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&held);
        let buffer = PerfBufferBuilder::new(map)
            .pages((bytes_per_cpu as usize / PAGE).max(1))
            .sample_cb(move |_cpu, bytes: &[u8]| {
                if let Some(record) = Record::parse(bytes) {
                    let bytes = abi::trim(bytes).into();
                    let held = Held {
                        time_ns: record.time_ns(),
                        bytes,
                    };
                    into.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(held);
                }
            })
            .build()?;
        Ok(Self {
            buffer,
            held,
            backlog: Arc::clone(backlog),
            past_mark: false,
        })
    }
}

impl Reader for PerfReader {
    fn epoll_fds(&self) -> Vec<i32> {
        vec![self.buffer.epoll_fd()]
    }

    fn mark(&mut self) {
        self.past_mark = false;
    }

    fn is_past_mark(&self) -> bool {
        self.past_mark
    }

    /// A call that ended before `horizon` wrote its records before the read
    /// began, on whatever CPU: all of them are held now and can be sorted. A
    /// stable sort keeps the chunks of one call, equal in time, in order.
    fn read(&mut self, all: bool) -> bool {
        let horizon = if all { u64::MAX } else { monotonic_ns() };
        // An error is a buffer that was not ready: the next read finds it.
        let _ = self.buffer.consume();
        // It reads each CPU's buffer to the end.
        self.past_mark = true;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.sort_by_key(|record| record.time_ns);
        let ready = held.partition_point(|record| record.time_ns <= horizon);
        held.drain(..ready)
            .for_each(|record| self.backlog.push(&record.bytes));
        ready > 0
    }
}
