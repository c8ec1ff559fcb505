//! Waiting for a condition, with a bound; the only place that passes time.

use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a loaded machine with two cores; nothing healthy takes it.
pub const BOUND: Duration = Duration::from_secs(60);

/// The pace of an end that is slow on purpose. Not for waiting.
pub fn dawdle(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

/// Asks until there is an answer; `None` when the bound has passed.
pub fn poll<T>(bound: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + bound;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Asks until there is an answer; panics when `what` did not come.
#[track_caller]
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    match poll(BOUND, ask) {
        Some(answer) => answer,
        None => panic!("{what}: not within {BOUND:?}"),
    }
}
