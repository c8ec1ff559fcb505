//! One file per subcommand; those that capture share one.

mod capture;
mod doctor;
mod extcap;
mod inspect;

pub(crate) use capture::{gnutls, gotls, nss, tls, tls_config};
pub(crate) use doctor::doctor;
pub(crate) use extcap::{extcap, with_subcommand};
pub(crate) use inspect::inspect;
