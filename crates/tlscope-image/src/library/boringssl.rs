//! BoringSSL: Android, Chromium, gRPC, Bun and others, shared or linked in, with or without names.

mod unnamed;

use crate::elf::Elf;
use crate::library::{Library, Recognised, expand_label, handshakes, sink, source_file, ssl_api};
use crate::plan::{Family, Missing, Plan, Probe, Role};

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
        let by_source = source_file(elf, SOURCE).filter(|_| sink::has_labels(elf));
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
        // First of all: what is left of an image's steps goes to the rest.
        let sink = sink::add_secrets(elf, &mut plan, &sink::OF_SSL);
        let mut functions = ssl_api::named(elf);
        if functions.is_empty() {
            functions = unnamed::functions(elf);
        }
        ssl_api::add(elf, &mut plan, functions);
        if let Err(why) = sink {
            without_sink(elf, &mut plan, why);
        }
        plan
    }
}

/// Where a compiler took the key-log sink apart, TLS 1.3 secrets are read where they are derived.
fn without_sink(elf: &Elf<'_>, plan: &mut Plan, no_sink: String) {
    plan.layout.client_random = sink::client_random(elf);
    let handshake = plan
        .probes
        .iter()
        .find(|probe| probe.role == Role::Handshake);
    // Every other way into a handshake leads through this one.
    let address = handshake.map(|probe| probe.address);
    let handshakes = || -> Result<Vec<Probe>, String> {
        let at = address.ok_or("SSL_do_handshake is not known")?;
        Ok(handshakes::probe(elf, at, "SSL_do_handshake".into())
            .into_iter()
            .collect())
    };
    match expand_label::add_secrets(elf, plan, expand_label::BORINGSSL, handshakes) {
        Ok(()) => plan.missing.push(Missing {
            what: "secrets of TLS 1.2".into(),
            why: no_sink,
        }),
        Err(why) => plan
            .missing
            .push(sink::not_found(format!("{no_sink}; and {why}"))),
    }
}
