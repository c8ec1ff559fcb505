//! Go's crypto/tls, in programs and in libraries for C programs, stripped or not.
//!
//! Functions come from the table that Go's runtime itself needs (`elf::Pclntab`), under the names
//! that their packages give them. Forks of crypto/tls under other names count too, as far as
//! they have the same functions. No release decides anything: the table says how many bytes a
//! function's arguments take, and that tells its calling convention and its form.

mod build_info;
mod functions;
mod goroutine;
mod socket;
#[cfg(test)]
mod tests;
mod types;

use build_info::BuildInfo;
use functions::{Functions, Implementation};

use crate::ImageError;
use crate::elf::{Elf, Pclntab};
use crate::library::{Library, Recognised};
use crate::plan::{Family, GoLayout, Missing, Plan};

pub(super) struct Go;

impl Library for Go {
    fn family(&self) -> Family {
        Family::Go
    }

    fn marks(&self) -> &'static str {
        "the function table of a Go program, with crypto/tls in it"
    }

    /// A Go program without crypto/tls is none of ours.
    fn needles(&self) -> &'static [&'static str] {
        &[functions::KEY_LOG]
    }

    fn recognise(&self, elf: &Elf<'_>) -> Option<Recognised> {
        let table = Pclntab::find(elf)?;
        if Functions::of(elf, &table).is_empty() {
            return None;
        }
        if let Some(info) = BuildInfo::find(elf) {
            return Some(Recognised {
                by: format!("Go's build information at {}", info.address),
                version: Some(info.version),
            });
        }
        let releases = table.version.releases();
        Some(Recognised {
            by: format!("the function table of {releases} at {}", table.address),
            version: build_info::build_version(elf),
        })
    }

    fn plan(&self, elf: &Elf<'_>, recognised: Recognised) -> Plan {
        let mut plan = recognised.into_plan(elf, self.family());
        let Some(table) = Pclntab::find(elf) else {
            return plan;
        };
        for implementation in Functions::of(elf, &table).implementations() {
            add(elf, &table, &mut plan, implementation);
        }
        let tcp = socket::tcp(elf, &table);
        if tcp.is_none() {
            plan.missing.push(Missing {
                what: "the socket of a connection".into(),
                why: "the program holds no description of the type *net.TCPConn".into(),
            });
        }
        if let (Some(go), Some(tcp)) = (&mut plan.layout.go, tcp) {
            go.tcp_type = Some(tcp.of);
            go.tcp_fd = Some(tcp.fd);
        }
        plan
    }

    fn near_miss(&self, elf: &Elf<'_>) -> Option<ImageError> {
        let version = BuildInfo::find(elf).map(|info| info.version);
        match (Pclntab::find(elf), version) {
            (Some(table), version) => Some(ImageError::GoWithoutTls(
                version.unwrap_or_else(|| table.version.releases().into()),
            )),
            (None, version) => version.map(ImageError::GoWithoutTable),
        }
    }
}

/// Adds the probes of one implementation. One compiler made all that an image holds, so what the
/// first one says of the layout holds for the others; one that differs is left out.
fn add(elf: &Elf<'_>, table: &Pclntab<'_>, plan: &mut Plan, implementation: &Implementation<'_>) {
    let (probes, conventions, lacking) = implementation.probes(elf, table);
    plan.missing.extend(lacking);
    let Some(conventions) = conventions else {
        return;
    };
    let connection = socket::connection(elf, table, implementation.package);
    let (tls_type, connection) = connection.map(|found| (found.of, found.inner)).unzip();
    let layout = GoLayout {
        abi: conventions.abi,
        goroutine: conventions.goroutine,
        key_log: conventions.key_log,
        connection,
        tls_type,
        tcp_type: None,
        tcp_fd: None,
    };
    let known = plan.layout.go.get_or_insert_with(|| layout.clone());
    if known.is_like(&layout) {
        plan.probes.extend(probes);
    } else {
        plan.missing.push(Missing {
            what: format!("`{}`", implementation.package),
            why: "it is not laid out as the TLS implementation before it".into(),
        });
    }
}
