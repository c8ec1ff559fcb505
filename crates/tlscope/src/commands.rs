//! One file per subcommand.

mod doctor;
mod extcap;
mod inspect;
mod tls;

pub(crate) use doctor::doctor;
pub(crate) use extcap::{extcap, with_subcommand};
pub(crate) use inspect::inspect;
pub(crate) use tls::tls;
