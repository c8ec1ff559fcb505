//! What a check said, where one failure must not end the others.

use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};

/// The answer of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Yes,
    /// It failed; why.
    No(String),
    /// There is nothing to check; why.
    Not(&'static str),
}

impl Outcome {
    pub fn failed(&self) -> bool {
        matches!(self, Self::No(_))
    }

    /// Runs a check of the harness, which panics when it fails.
    pub fn of(check: impl FnOnce()) -> Self {
        match caught(check) {
            Ok(()) => Self::Yes,
            Err(why) => Self::No(why),
        }
    }

    /// The first failure of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self.failed() { self } else { other }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("yes"),
            Self::No(_) => f.write_str("**no**"),
            Self::Not(why) => f.write_str(why),
        }
    }
}

/// Runs a step and returns its answer, or what it panicked with.
pub fn caught<T>(step: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(step)).map_err(|payload| message(&*payload))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    text.unwrap_or_else(|| "a panic without words".to_owned())
}
