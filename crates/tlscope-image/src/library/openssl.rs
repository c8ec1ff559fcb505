//! OpenSSL 1.0.2 and later, shared or linked in.

mod unnamed;

use crate::elf::{Elf, Files};
use crate::library::{
    Library, Recognised, expand_label, handshakes, key_block, sink, source_file, ssl_api,
    version_after, version_in, workers,
};
use crate::plan::{Family, Missing, Plan};

pub(super) struct OpenSsl;

impl Library for OpenSsl {
    fn family(&self) -> Family {
        Family::OpenSsl
    }

    fn marks(&self) -> &'static str {
        "OpenSSL's SSL_read by name, or ssl_lib.c in error texts beside TLS secrets' labels"
    }

    fn needles(&self) -> &'static [&'static str] {
        &["SSL_read", unnamed::SOURCE]
    }

    fn recognise(&self, elf: &Elf<'_>) -> Option<Recognised> {
        let by = if let Some(read) = elf.symbols.get("SSL_read") {
            elf.symbols.get("SSL_write")?;
            format!("SSL_read and SSL_write in {}", read.source)
        } else {
            (sink::has_labels(elf) || key_block::has_label(elf)).then_some(())?;
            source_file(elf, unnamed::SOURCE)?
        };
        Some(Recognised {
            by,
            version: version_after(elf, "OpenSSL ", 3),
        })
    }

    /// libssl of 3.0 and later does not say its version, but is released together with libcrypto.
    fn version_beside(&self, elf: &Elf<'_>, files: &dyn Files) -> Option<(String, String)> {
        let name = elf
            .needed
            .iter()
            .find(|name| name.starts_with("libcrypto"))?;
        let version = version_in(&files.needed(name)?, "OpenSSL ", 3)?;
        Some((version, (*name).to_owned()))
    }

    fn plan(&self, elf: &Elf<'_>, recognised: Recognised) -> Plan {
        let mut plan = recognised.into_plan(elf, self.family());
        // First of all: what is left of an image's steps goes to the rest.
        secrets(elf, &mut plan);
        let mut functions = ssl_api::named(elf);
        if functions.is_empty() {
            let (told, missing) = unnamed::functions(elf);
            functions = told;
            plan.missing.extend(missing);
        }
        functions.extend(workers::shared(elf, &functions));
        ssl_api::add(elf, &mut plan, functions);
        plan
    }
}

/// By the key-log sink. Versions before 1.1.1 have none, and a compiler may have taken it apart:
/// then where keys are derived, which TLS 1.3 does elsewhere than the versions before it.
fn secrets(elf: &Elf<'_>, plan: &mut Plan) {
    let no_sink = match sink::add_secrets(elf, plan, &sink::OF_SSL) {
        Ok(()) => return,
        Err(why) => why,
    };
    key_block::add_master_secret(elf, plan);
    if !expand_label::has_tls13(elf) {
        return;
    }
    let handshakes = || handshakes::add_probes(elf);
    if let Err(why) = expand_label::add_secrets(elf, plan, expand_label::OPENSSL, handshakes) {
        plan.missing.push(Missing {
            what: "secrets of TLS 1.3".into(),
            why: format!("{no_sink}; and {why}"),
        });
    }
}
