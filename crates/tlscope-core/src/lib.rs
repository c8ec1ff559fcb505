//! Events in, output out: the pure half of tlscope.
//!
//! The kernel side delivers [`event::Event`]s; [`pipeline::Pipeline`] places
//! them in their connections, decodes them and hands [`item::Item`]s to sinks.
//! No kernel, no clock, and no I/O but the writers that the sinks are given.
#![forbid(unsafe_code)]

mod bounded;
pub mod decode;
pub mod dtls;
pub mod event;
pub mod filter;
mod flow;
pub mod hold;
pub mod item;
pub mod owners;
pub mod packet;
pub mod pipeline;
pub mod quic;
mod reader;
pub mod recording;
mod scan;
pub mod secret;
pub mod sink;
pub mod summary;
pub mod time;
pub mod tls;
