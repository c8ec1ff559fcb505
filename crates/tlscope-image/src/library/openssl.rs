//! OpenSSL 1.0.2 and later, shared or linked in.

use crate::elf::Elf;
use crate::library::{Library, Recognised, key_block, sink, ssl_api, version_after};
use crate::plan::{Family, Plan};

pub(super) struct OpenSsl;

impl Library for OpenSsl {
    fn family(&self) -> Family {
        Family::OpenSsl
    }

    fn marks(&self) -> &'static str {
        "OpenSSL's SSL_read and SSL_write by name"
    }

    fn needles(&self) -> &'static [&'static str] {
        &["SSL_read"]
    }

    fn recognise(&self, elf: &Elf<'_>) -> Option<Recognised> {
        let read = elf.symbols.get("SSL_read")?;
        elf.symbols.get("SSL_write")?;
        let by = format!("SSL_read and SSL_write in {}", read.source);
        Some(Recognised {
            by,
            version: version_after(elf, "OpenSSL "),
        })
    }

    fn plan(&self, elf: &Elf<'_>, recognised: Recognised) -> Plan {
        let mut plan = recognised.into_plan(elf, self.family());
        ssl_api::add_data(elf, &mut plan);
        ssl_api::add_lifecycle(elf, &mut plan);
        secrets(elf, &mut plan);
        plan
    }
}

/// By the key-log sink; in versions before 1.1.1, which have none, where keys are derived.
fn secrets(elf: &Elf<'_>, plan: &mut Plan) {
    if sink::has_labels(elf) {
        sink::add_secrets(elf, plan);
    } else {
        key_block::add_master_secret(elf, plan);
    }
}
