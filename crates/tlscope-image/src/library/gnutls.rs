//! GnuTLS: shared, or linked in without names.
//!
//! Every assertion of its sources says the name of its function, in stripped builds too: that is
//! how internal functions, and public ones of images without names, are told.

mod secrets;
mod send;

use std::collections::BTreeSet;

use super::ssl_api::{self, Function};
use super::{Library, Recognised, is_release};
use crate::code::{self, Value};
use crate::elf::{Address, Elf};
use crate::plan::{Family, FieldPath, LayoutValue, Missing, Plan, Role};

pub(super) struct GnuTls;

/// What is probed if it is there, besides what `send` and `secrets` find. Reads do not call each
/// other, and `gnutls_record_recv` also serves what the kernel decrypts (kTLS).
const FUNCTIONS: &[(&str, Role)] = &[
    (RECV, Role::Read),
    ("gnutls_record_recv_seq", Role::Read),
    // Since 3.6.5.
    ("gnutls_record_recv_early_data", Role::Read),
    (RECV_PACKET, Role::ReadPacket),
    ("gnutls_handshake", Role::Handshake),
];

/// Objects are not counted references: one of these ends a connection, the other begins the next
/// one at the same address.
const DEINIT: &str = "gnutls_deinit";
const INIT: &str = "gnutls_init";

const RECV: &str = "gnutls_record_recv";
const RECV_PACKET: &str = "gnutls_record_recv_packet";

/// What every version has, so that its absence means that it was not found.
const INDISPENSABLE: &[&str] = &[
    RECV,
    "gnutls_record_recv_seq",
    RECV_PACKET,
    "gnutls_handshake",
];

impl Library for GnuTls {
    fn family(&self) -> Family {
        Family::GnuTls
    }

    fn marks(&self) -> &'static str {
        "GnuTLS's gnutls_record_recv by name, or the names of its record layer in assertions"
    }

    fn needles(&self) -> &'static [&'static str] {
        // Programs that only use the library hold the names of public functions, but not these.
        &[send::WORKER]
    }

    fn recognise(&self, elf: &Elf<'_>) -> Option<Recognised> {
        let by = if let Some(recv) = elf.symbols.get(RECV) {
            format!("{RECV} in {}", recv.source)
        } else {
            let [worker, seal] = [send::WORKER, send::SEAL].map(|name| own_name(elf, name).pop());
            seal?;
            format!("{}, which an assertion names, at {}", send::WORKER, worker?)
        };
        Some(Recognised {
            by,
            version: version(elf),
        })
    }

    fn plan(&self, elf: &Elf<'_>, recognised: Recognised) -> Plan {
        let mut plan = recognised.into_plan(elf, self.family());
        for (name, role) in FUNCTIONS {
            match function(elf, name, *role) {
                Some(function) => ssl_api::add_probe(elf, &mut plan, function),
                None if INDISPENSABLE.contains(name) => {
                    plan.missing.push(ssl_api::not_found(name));
                }
                None => {}
            }
        }
        let lives = function(elf, DEINIT, Role::Clear).or_else(|| function(elf, INIT, Role::NewAt));
        match lives {
            Some(function) => ssl_api::add_probe(elf, &mut plan, function),
            None => plan.missing.push(ssl_api::not_found(DEINIT)),
        }
        add_packet_layout(elf, &mut plan);
        send::add(elf, &mut plan);
        secrets::add(elf, &mut plan);
        plan
    }
}

/// By its symbol; in images that do not even name [`RECV`], by its own assertions.
fn function(elf: &Elf<'_>, name: &'static str, role: Role) -> Option<Function> {
    if let Some(symbol) = elf.symbols.get(name) {
        return Some(Function {
            name,
            role,
            symbol: Some(symbol.name.to_string()),
            address: symbol.address,
            evidence: format!("named in {}", symbol.source),
        });
    }
    let unnamed = elf.symbols.get(RECV).is_none();
    let address = only_asserting(elf, name).filter(|_| unnamed)?;
    let by = "its assertions say its name";
    Some(Function::told(name, role, address, by))
}

/// The only function that loads its own name, and makes use of a session: a compiler may have put
/// the assertions of a function into a cold part, which is none by itself.
fn only_asserting(elf: &Elf<'_>, name: &str) -> Option<Address> {
    let functions = code::functions_with_text(elf, &own_name(elf, name));
    let mut functions = functions.into_keys();
    let only = functions.next()?;
    let alone = functions.next().is_none();
    (alone && code::takes_argument(elf, only, 0)).then_some(only)
}

/// Where a name stands as a text of its own.
fn own_name(elf: &Elf<'_>, name: &str) -> Vec<Address> {
    const COPIES: usize = 16;
    let mut places = elf.find_text(name, COPIES);
    places.retain(|place| elf.text_start(*place) == Some(*place));
    places
}

/// What `gnutls_check_version` compares with. Without names: the only text that could be it.
fn version(elf: &Elf<'_>) -> Option<String> {
    const MOST: usize = 256;
    let release = |address: Address| {
        let text = elf.text_at(address)?;
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        (is_release(text, 3) && text.split('.').all(digits)).then(|| text.to_owned())
    };
    if let Some(check) = elf.symbols.get("gnutls_check_version") {
        let calls = code::calls_of(elf, check.address);
        let mut arguments = calls.iter().flat_map(|call| &call.arguments);
        return arguments.find_map(|value| match value {
            Value::Const(address) => release(Address(*address)),
            _ => None,
        });
    }
    let places = elf.find_bytes(b"\x003.", MOST);
    let texts: BTreeSet<String> = places
        .into_iter()
        .filter_map(|nul| release(nul.checked_add(1)?))
        .collect();
    let mut texts = texts.into_iter();
    texts.next().filter(|_| texts.next().is_none())
}

/// `gnutls_packet_get` hands out the datum of a packet. Of the fields that it reads, the size is the
/// one that is only 32 bits wide: `gnutls_datum_t` is public, a pointer and an `unsigned`.
fn add_packet_layout(elf: &Elf<'_>, plan: &mut Plan) {
    if !plan.probes.iter().any(|p| p.role == Role::ReadPacket) {
        return;
    }
    plan.layout.packet_size = packet_size(elf);
    if plan.layout.packet_size.is_none() {
        plan.probes.retain(|p| p.role != Role::ReadPacket);
        plan.missing.push(Missing {
            what: format!("`{RECV_PACKET}`"),
            why: "gnutls_packet_get does not show where a packet's bytes are".into(),
        });
    }
}

fn packet_size(elf: &Elf<'_>) -> Option<LayoutValue> {
    let get = function(elf, "gnutls_packet_get", Role::ReadPacket)?;
    let fields = code::fields_read(elf, get.address);
    let mut narrow = fields.iter().filter(|((offset, width), _)| {
        *width == 4 && *offset >= 8 && !fields.contains_key(&(*offset, 8))
    });
    let ((offset, _), at) = narrow.next().filter(|_| narrow.next().is_none())?;
    Some(LayoutValue {
        path: FieldPath(vec![u32::try_from(*offset).ok()?]),
        evidence: format!("gnutls_packet_get reads 32 bits there at {at}"),
    })
}
