//! What differs between the capturing subcommands: one row per module.

use tlscope_image::plan::Module;
use tlscope_targets::{GNUTLS, NSS, NamePattern, OPENSSL, Search};

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) module: Module,
    /// The subcommand; part of the default file names.
    pub(crate) name: &'static str,
    /// The libraries, by name.
    pub(crate) title: &'static str,
    pub(crate) search: Search,
    /// What belongs to an image that the user names, in files beside it.
    pub(crate) beside: &'static [NamePattern],
    /// What the search is for, and the flag that spares it, in the user's words.
    pub(crate) sought: &'static str,
    pub(crate) flag: &'static str,
}

const fn libraries(names: &'static [NamePattern]) -> Search {
    Search {
        names,
        any_code: false,
    }
}

pub(crate) const MODULES: [Row; 4] = [
    Row {
        module: Module::Tls,
        name: "tls",
        title: "OpenSSL, LibreSSL, BoringSSL",
        search: Search {
            names: OPENSSL,
            any_code: true,
        },
        beside: &[],
        sought: "a libssl",
        flag: "--libssl",
    },
    Row {
        module: Module::Gotls,
        name: "gotls",
        title: "Go",
        search: Search {
            names: &[],
            any_code: true,
        },
        beside: &[],
        sought: "a Go program with crypto/tls",
        flag: "--elfpath",
    },
    Row {
        module: Module::Gnutls,
        name: "gnutls",
        title: "GnuTLS",
        search: Search {
            names: GNUTLS,
            any_code: true,
        },
        beside: &[],
        sought: "a libgnutls",
        flag: "--gnutls",
    },
    Row {
        module: Module::Nss,
        name: "nss",
        title: "NSS",
        search: libraries(NSS),
        beside: NSS,
        sought: "a libssl3 of NSS",
        flag: "--nss",
    },
];

pub(crate) fn row(module: Module) -> &'static Row {
    let index = MODULES.iter().position(|row| row.module == module);
    &MODULES[index.expect("each module has a row")]
}

/// Where images of these modules are looked for.
pub(crate) fn searches(modules: &[Module]) -> Vec<Search> {
    modules.iter().map(|module| row(*module).search).collect()
}

/// What belongs to images of these modules that the user names, in files beside them.
pub(crate) fn beside(modules: &[Module]) -> Vec<NamePattern> {
    let rows = modules.iter().map(|module| row(*module));
    rows.flat_map(|row| row.beside).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_has_a_row() {
        for module in Module::ALL {
            assert_eq!(row(module).module, module);
        }
    }
}
