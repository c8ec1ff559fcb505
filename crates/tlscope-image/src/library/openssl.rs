//! OpenSSL 1.1.1 and later.

use crate::elf::Elf;
use crate::library::{Library, Recognised, key_block, sink, ssl_api};
use crate::plan::{Family, Layout, Plan};

pub(super) struct OpenSsl;

impl Library for OpenSsl {
    fn family(&self) -> Family {
        Family::OpenSsl
    }

    fn marks(&self) -> &'static str {
        "OpenSSL's SSL_read and SSL_write by name"
    }

    fn recognise(&self, elf: &Elf<'_>) -> Option<Recognised> {
        let read = elf.symbols.get("SSL_read")?;
        elf.symbols.get("SSL_write")?;
        let by = format!("SSL_read and SSL_write in {}", read.source);
        Some(Recognised {
            by,
            version: version(elf),
        })
    }

    fn plan(&self, elf: &Elf<'_>, recognised: Recognised) -> Plan {
        let mut plan = Plan {
            family: self.family(),
            arch: elf.arch,
            version: recognised.version,
            build_id: elf.build_id.clone(),
            recognised_by: recognised.by,
            probes: Vec::new(),
            covered: Vec::new(),
            layout: Layout::default(),
            missing: Vec::new(),
        };
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

/// `OpenSSL 3.0.2 15 Mar 2022` where libcrypto is in the same image; the library itself says at
/// most which symbol versions it defines.
fn version(elf: &Elf<'_>) -> Option<String> {
    const MOST: usize = 64;
    elf.find_bytes(b"OpenSSL ", MOST)
        .into_iter()
        .find_map(|at| {
            let text = elf.text_at(at)?;
            let number = text.strip_prefix("OpenSSL ")?.split_whitespace().next()?;
            number
                .starts_with(|first: char| first.is_ascii_digit())
                .then(|| number.to_owned())
        })
}

/// `3.0.2`, `1.1.1w`, `3.0.2+quic`; not the `3.0` of a text that tells of an older release.
fn is_release(number: &str) -> bool {
    let mut parts = number.split('.');
    let numeric = |part: Option<&str>| {
        part.is_some_and(|part| {
            !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit())
        })
    };
    numeric(parts.next())
        && numeric(parts.next())
        && parts
            .next()
            .is_some_and(|part| part.starts_with(|first: char| first.is_ascii_digit()))
}
