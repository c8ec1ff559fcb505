//! NSS: the TLS library (libssl3), and the token that derives its keys (libsoftokn3).
//!
//! They are two images as a rule, and one where NSS is linked in. libssl3 handles keys as names of
//! objects in a token and never sees their bytes; so one image tells which secret of which
//! connection a key is, and the other what its bytes are. The BPF programs join the two.

mod softoken;
mod tls;

use crate::elf::{Address, Elf};
use crate::library::{Library, Recognised};
use crate::plan::{Family, Missing, Plan, Probe, Role};

pub(super) struct Nss;

impl Library for Nss {
    fn family(&self) -> Family {
        Family::Nss
    }

    fn marks(&self) -> &'static str {
        "NSS's SSL_ImportFD, or its token's NSC_GetFunctionList"
    }

    fn needles(&self) -> &'static [&'static str] {
        &[tls::MARK, softoken::MARK]
    }

    fn recognise(&self, elf: &Elf<'_>) -> Option<Recognised> {
        let marks = [tls::MARK, softoken::MARK];
        let symbols = marks.iter().filter_map(|mark| elf.symbols.get(mark));
        let by: Vec<String> = symbols
            .map(|symbol| format!("{} in {}", symbol.name, symbol.source))
            .collect();
        (!by.is_empty()).then(|| Recognised {
            by: by.join(", "),
            version: version(elf),
        })
    }

    fn plan(&self, elf: &Elf<'_>, recognised: Recognised) -> Plan {
        let mut plan = recognised.into_plan(elf, self.family());
        if elf.symbols.get(tls::MARK).is_some() {
            tls::add_data(elf, &mut plan);
            tls::add_secrets(elf, &mut plan);
        }
        if elf.symbols.get(softoken::MARK).is_some() {
            softoken::add_keys(elf, &mut plan);
        }
        plan
    }
}

/// `Version: NSS 3.87.1 Basic ECC`, for `what(1)`.
fn version(elf: &Elf<'_>) -> Option<String> {
    const MARK: &str = "Version: NSS ";
    let at = *elf.find_bytes(MARK.as_bytes(), 1).first()?;
    let number = elf.text_at(at)?.strip_prefix(MARK)?.split(' ').next()?;
    let starts = number.starts_with(|first: char| first.is_ascii_digit());
    starts.then(|| number.to_owned())
}

fn probe(elf: &Elf<'_>, role: Role, address: Address, evidence: String) -> Result<Probe, String> {
    let offset = elf.file_offset(address).filter(|_| elf.is_code(address));
    let symbol = elf.symbols.at(address);
    Ok(Probe {
        role,
        symbol: symbol.map(|symbol| symbol.name.to_string()),
        address,
        offset: offset.ok_or_else(|| format!("{address} is no code"))?,
        returns: Vec::new(),
        evidence,
    })
}

fn missing(what: &str, why: String) -> Missing {
    Missing {
        what: what.to_owned(),
        why,
    }
}
