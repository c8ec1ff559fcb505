//! A pipe, written by a thread of its own: a reader that stops reading blocks
//! that thread, while the capture goes on and counts what it drops.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tlscope_core::recording::BlockKind;
use tlscope_probe::confine::Sandbox;

/// Bytes that wait for the reader; beyond it packets are dropped.
const WAITING_MAX: usize = 64 << 20;
/// Blocks are handed to the thread when they have come to so many bytes.
const GATHER: usize = 256 * 1024;
/// How long the end of the capture waits for the reader.
const LAST_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(in crate::capture) struct PipeOutput {
    gathered: Vec<u8>,
    /// Bytes that waited for the reader when last looked.
    behind: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Taken by the thread and not yet by the reader.
    under_way: usize,
    /// Until it is told.
    failed: Option<io::Error>,
    /// The thread has ended: nothing more is taken.
    ended: bool,
    closed: bool,
}

impl Shared {
    /// The state is sound at every step, so a panic elsewhere does not matter.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PipeOutput {
    pub(super) fn start(pipe: File) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("output".into())
            .spawn(move || {
                Sandbox::default().enter_or_say("the thread that writes to a pipe");
                feed(pipe, &of_thread);
            })?;
        Ok(Self {
            gathered: Vec::new(),
            behind: 0,
            shared,
        })
    }

    pub(super) fn write(&mut self, block: [&[u8]; 3], kind: BlockKind) -> io::Result<bool> {
        if self.gathered.len() >= GATHER {
            self.flush()?;
        }
        if kind == BlockKind::Packet && self.behind + self.gathered.len() >= WAITING_MAX {
            return Ok(false);
        }
        for part in block {
            self.gathered.extend_from_slice(part);
        }
        Ok(true)
    }

    /// Hands on what was gathered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut state = self.shared.lock();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        if state.waiting.is_empty() {
            std::mem::swap(&mut state.waiting, &mut self.gathered);
        } else {
            state.waiting.append(&mut self.gathered);
        }
        self.behind = state.waiting.len() + state.under_way;
        if !state.waiting.is_empty() {
            self.shared.changed.notify_all();
        }
        Ok(())
    }

    /// Waits for the reader, with a bound; gives the bytes that it did not take.
    pub(super) fn close(mut self) -> io::Result<u64> {
        let flushed = self.flush();
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
        let busy =
            |state: &mut State| !state.ended && (state.under_way > 0 || !state.waiting.is_empty());
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, LAST_WAIT, busy);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        flushed?;
        match state.failed.take() {
            Some(error) => Err(error),
            None => Ok((state.under_way + state.waiting.len() + self.gathered.len()) as u64),
        }
    }
}

fn feed(mut pipe: File, shared: &Shared) {
    let mut taken = Vec::new();
    loop {
        let mut state = shared.lock();
        state.under_way = 0;
        shared.changed.notify_all();
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        state = shared
            .changed
            .wait_while(state, idle)
            .unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() {
            return;
        }
        taken.clear();
        std::mem::swap(&mut taken, &mut state.waiting);
        state.under_way = taken.len();
        drop(state);
        if let Err(error) = pipe.write_all(&taken) {
            let mut state = shared.lock();
            (state.failed, state.ended) = (Some(error), true);
            shared.changed.notify_all();
            return;
        }
    }
}
