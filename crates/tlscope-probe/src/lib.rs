//! The kernel side of tlscope: the only crate with `unsafe` and libbpf.
//!
//! `Tracer` loads one of the two BPF objects, attaches plans and reads counters;
//! `EventSource` hands out records from ring or perf buffers.

pub mod abi;
mod attach;
pub mod confine;
pub mod descriptors;
pub mod empty;
pub mod events;
pub mod features;
pub mod mappings;
mod object;
pub mod packets;
mod programs;
pub mod rehearsal;
pub mod tcp;
mod tracer;

pub use attach::{Needs, Roles};
pub use events::EventSource;
pub use features::{AttachMode, Features};
pub use object::{LoadError, ObjectKind};
pub use tracer::sockets::{PassedOver, SocketRoute};
pub use tracer::{AttachError, Attached, AttachedImage, Options, Released, Tracer};
