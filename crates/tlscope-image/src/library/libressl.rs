//! LibreSSL: OpenSSL's names, no key-log sink.

use crate::elf::Elf;
use crate::library::{Library, Recognised, key_block, ssl_api, version_after};
use crate::plan::{Family, Missing, Plan};

pub(super) struct LibreSsl;

/// Exported by LibreSSL alone.
const OWN: &[&str] = &[
    "SSL_CTX_load_verify_mem",
    "SSL_CTX_use_certificate_chain_mem",
];

/// The label of RFC 8446, section 7.1, that only an implementation of TLS 1.3 holds.
const TLS13_LABEL: &str = "c hs traffic";

impl Library for LibreSsl {
    fn family(&self) -> Family {
        Family::LibreSsl
    }

    fn marks(&self) -> &'static str {
        "the text \"LibreSSL\" with a version, or LibreSSL's own function names"
    }

    fn needles(&self) -> &'static [&'static str] {
        &["SSL_read"]
    }

    fn recognise(&self, elf: &Elf<'_>) -> Option<Recognised> {
        elf.symbols.get("SSL_read")?;
        let version = version_after(elf, "LibreSSL ", 2);
        let by = if let Some(version) = &version {
            format!("SSL_read, and the text \"LibreSSL {version}\"")
        } else {
            let own = OWN.iter().find_map(|name| elf.symbols.get(name))?;
            format!("SSL_read and {} in {}", own.name, own.source)
        };
        Some(Recognised { by, version })
    }

    fn plan(&self, elf: &Elf<'_>, recognised: Recognised) -> Plan {
        let mut plan = recognised.into_plan(elf, self.family());
        let functions = ssl_api::named(elf);
        ssl_api::add(elf, &mut plan, functions);
        key_block::add_master_secret(elf, &mut plan);
        if !elf.find_text(TLS13_LABEL, 1).is_empty() {
            plan.missing.push(Missing {
                what: "secrets of TLS 1.3".into(),
                why: "LibreSSL has no key-log sink, and its key schedule does not know the connection".into(),
            });
        }
        plan
    }
}
