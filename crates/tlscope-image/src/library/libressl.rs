//! LibreSSL: OpenSSL's names, no key-log sink.

use crate::code::{self, Root, Value};
use crate::elf::{Address, Elf};
use crate::library::{
    Library, Recognised, expand_label, handshakes, key_block, sink, ssl_api, version_after,
};
use crate::plan::{Family, Missing, Plan, Probe, Role};

pub(super) struct LibreSsl;

/// Exported by LibreSSL alone.
const OWN: &[&str] = &[
    "SSL_CTX_load_verify_mem",
    "SSL_CTX_use_certificate_chain_mem",
];

/// Before its version.
const TEXT: &str = "LibreSSL ";

/// What its errors name.
const SOURCE: &str = "ssl_lib.c";

/// What the reading of a hello may fail with in a server: `ssl/tls13_server.c`.
const HELLO_ERROR: &str = "no shared cipher found";

impl Library for LibreSsl {
    fn family(&self) -> Family {
        Family::LibreSsl
    }

    fn marks(&self) -> &'static str {
        "the text \"LibreSSL\" with a version, or LibreSSL's own function names"
    }

    fn needles(&self) -> &'static [&'static str] {
        &["SSL_read", TEXT]
    }

    fn recognise(&self, elf: &Elf<'_>) -> Option<Recognised> {
        let version = version_after(elf, TEXT, 2);
        let by = match (elf.symbols.get("SSL_read"), &version) {
            (Some(_), Some(version)) => format!("SSL_read, and the text \"{TEXT}{version}\""),
            (Some(_), None) => {
                let own = OWN.iter().find_map(|name| elf.symbols.get(name))?;
                format!("SSL_read and {} in {}", own.name, own.source)
            }
            (None, Some(version)) if is_within(elf) => {
                format!("the text \"{TEXT}{version}\", beside {SOURCE} and the label of key blocks")
            }
            (None, _) => return None,
        };
        Some(Recognised { by, version })
    }

    fn plan(&self, elf: &Elf<'_>, recognised: Recognised) -> Plan {
        let mut plan = recognised.into_plan(elf, self.family());
        let functions = ssl_api::named(elf);
        ssl_api::add(elf, &mut plan, functions);
        key_block::add_master_secret(elf, &mut plan);
        if expand_label::has_tls13(elf) {
            plan_tls13(elf, &mut plan);
        }
        plan
    }
}

/// Whether an image without names holds the library: many a program only says what it was built with.
fn is_within(elf: &Elf<'_>) -> bool {
    key_block::has_label(elf)
        && !sink::has_labels(elf)
        && !elf.find_text(SOURCE, 1).is_empty()
        && version_after(elf, "OpenSSL ", 3).is_none()
}

/// TLS 1.3 is a stack of its own, which derives its secrets without knowing the connection.
fn plan_tls13(elf: &Elf<'_>, plan: &mut Plan) {
    let handshakes = || handshakes::add_probes(elf);
    if let Err(why) = expand_label::add_secrets(elf, plan, expand_label::LIBRESSL, handshakes) {
        plan.missing.push(Missing {
            what: "secrets of TLS 1.3".into(),
            why,
        });
        return;
    }
    let readers = hello_readers(elf);
    if readers.is_empty() {
        plan.missing.push(Missing {
            what: "secrets of TLS 1.3 of servers".into(),
            why: format!("no function with the text \"{HELLO_ERROR}\" reads a ClientHello"),
        });
    }
    plan.probes.extend(readers);
}

/// `tls13_client_hello_process(ctx, body)`: a server does not keep the random of its client.
fn hello_readers(elf: &Elf<'_>) -> Vec<Probe> {
    const COPIES: usize = 4;
    let texts = elf.find_text(HELLO_ERROR, COPIES);
    let functions = code::functions_with_text(elf, &texts).into_keys();
    functions
        .filter_map(|function| {
            let at = random_taken(elf, function)?;
            Some(Probe {
                role: Role::HelloBody,
                symbol: elf.symbols.at(function).map(|symbol| symbol.name.to_string()),
                address: function,
                offset: elf.file_offset(function)?,
                returns: Vec::new(),
                evidence: format!(
                    "fails with \"{HELLO_ERROR}\", and takes 0x20 bytes of its second argument at {at}"
                ),
            })
        })
        .collect()
}

/// `CBS_get_bytes(body, &random, 32)`
fn random_taken(elf: &Elf<'_>, function: Address) -> Option<Address> {
    let calls = code::calls_of(elf, function);
    let takes = calls.iter().find(|call| match call.arguments.as_slice() {
        [body, Value::Path(random), length, ..] => {
            *body == Value::root(Root::Argument(1))
                && random.root == Root::Stack
                && *length == Value::Const(0x20)
        }
        _ => false,
    })?;
    Some(takes.at)
}
