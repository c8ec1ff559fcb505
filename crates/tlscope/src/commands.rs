//! One file per subcommand.

mod doctor;
mod inspect;
mod tls;

pub(crate) use doctor::doctor;
pub(crate) use inspect::inspect;
pub(crate) use tls::tls;
