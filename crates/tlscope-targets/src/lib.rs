//! Targets.
#![forbid(unsafe_code)]
