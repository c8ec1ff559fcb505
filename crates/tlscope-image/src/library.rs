//! The TLS libraries that tlscope knows: one row per family.

mod key_block;
mod openssl;
mod sink;
mod ssl_api;

use crate::elf::Elf;
use crate::plan::{Family, Plan};

/// What makes a library known, and how its plan is derived.
pub trait Library: Sync {
    fn family(&self) -> Family;

    /// What it is recognised by, in words for the user.
    fn marks(&self) -> &'static str;

    /// Whether the image holds this library.
    fn recognise(&self, elf: &Elf<'_>) -> Option<Recognised>;

    fn plan(&self, elf: &Elf<'_>, recognised: Recognised) -> Plan;
}

/// A library that an image was found to hold.
#[derive(Debug, Clone)]
pub struct Recognised {
    pub by: String,
    pub version: Option<String>,
}

/// Asked in this order: forks before what they forked from.
pub const LIBRARIES: &[&dyn Library] = &[&openssl::OpenSsl];
