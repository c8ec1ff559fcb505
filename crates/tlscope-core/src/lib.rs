//! Events in, output out.
#![forbid(unsafe_code)]
pub mod event;
