//! BoringSSL: Android, Chromium, gRPC, Bun and others, shared or linked in, with or without names.

mod unnamed;

use crate::elf::Elf;
use crate::library::{Library, Recognised, sink, ssl_api};
use crate::plan::{Family, Plan};

pub(super) struct BoringSsl;

/// Its C++ sources name themselves in every error that is reported; OpenSSL's are `.c`.
const SOURCE: &str = "ssl_lib.cc";

/// Exported by BoringSSL alone.
const OWN: &[&str] = &["SSL_CTX_set_grease_enabled", "SSL_early_data_accepted"];

impl Library for BoringSsl {
    fn family(&self) -> Family {
        Family::BoringSsl
    }

    fn marks(&self) -> &'static str {
        "BoringSSL's ssl_lib.cc in error texts, or its own function names"
    }

    fn needles(&self) -> &'static [&'static str] {
        &[
            SOURCE,
            "SSL_CTX_set_grease_enabled",
            "SSL_early_data_accepted",
        ]
    }

    fn recognise(&self, elf: &Elf<'_>) -> Option<Recognised> {
        // The name alone also stands in programs that only speak of BoringSSL.
        let by_source = elf
            .find_text(SOURCE, 1)
            .first()
            .filter(|_| sink::has_labels(elf))
            .map(|at| format!("{SOURCE}, the source file that its errors name, at {at}"));
        let by_name = || {
            let own = OWN.iter().find_map(|name| elf.symbols.get(name))?;
            Some(format!("{} in {}", own.name, own.source))
        };
        let by = by_source.or_else(by_name)?;
        // The library has no releases, so no version either.
        Some(Recognised { by, version: None })
    }

    fn plan(&self, elf: &Elf<'_>, recognised: Recognised) -> Plan {
        let mut plan = recognised.into_plan(elf, self.family());
        let mut functions = ssl_api::named(elf);
        if functions.is_empty() {
            functions = unnamed::functions(elf);
        }
        ssl_api::add(elf, &mut plan, functions);
        if let Err(why) = sink::add_secrets(elf, &mut plan, &sink::OF_SSL) {
            plan.missing.push(sink::not_found(why));
        }
        plan
    }
}
