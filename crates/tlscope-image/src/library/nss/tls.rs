//! libssl3: the functions that carry plaintext, and the sink that names each secret.

use std::collections::{BTreeMap, BTreeSet};

use super::{missing, probe};
use crate::code::{self, Root, Value};
use crate::elf::{Address, Elf, SlotTarget};
use crate::library::sink;
use crate::plan::{FieldPath, LayoutValue, Plan, Probe, Role};

/// Exported by every libssl3.
pub(super) const MARK: &str = "SSL_ImportFD";

/// The labels that TLS 1.3 secrets are derived under; at least this many must agree on a function.
const AGREEING: usize = 2;

/// `sslSocketOps`, by slot: what NSPR's methods of a TLS descriptor hand their work to.
mod slot {
    pub(super) const CONNECT: u64 = 0;
    pub(super) const ACCEPT: u64 = 1;
    pub(super) const BIND: u64 = 2;
    pub(super) const LISTEN: u64 = 3;
    pub(super) const CLOSE: u64 = 5;
    pub(super) const RECV: u64 = 6;
    pub(super) const SEND: u64 = 7;
    pub(super) const READ: u64 = 8;
    pub(super) const WRITE: u64 = 9;
    pub(super) const GETPEERNAME: u64 = 10;
    pub(super) const GETSOCKNAME: u64 = 11;
    pub(super) const COUNT: u64 = 12;
}

/// One table of operations.
#[derive(Debug)]
struct Operations {
    at: Address,
    functions: BTreeMap<u64, Address>,
}

/// Plans the operations of a socket with TLS: what passes them is what the application sent and
/// received, whichever of NSPR's functions it called. Other descriptors, and sockets whose TLS is
/// switched off, have other operations.
pub(super) fn add_data(elf: &Elf<'_>, plan: &mut Plan) {
    match data(elf) {
        Ok(probes) => plan.probes.extend(probes),
        Err(why) => plan.missing.push(missing("plaintext", why)),
    }
}

fn data(elf: &Elf<'_>) -> Result<Vec<Probe>, String> {
    let secure = secure_operations(elf)?;
    let mut probes = Vec::new();
    let pairs = [
        (slot::RECV, Role::NssRead, slot::READ, Role::Read),
        (slot::SEND, Role::Write, slot::WRITE, Role::Write),
    ];
    for (full, full_role, plain, plain_role) in pairs {
        let (full, plain) = (secure.functions[&full], secure.functions[&plain]);
        let evidence = format!(
            "in the table of socket operations with TLS at {}",
            secure.at
        );
        probes.push(probe(elf, full_role, full, evidence.clone())?);
        // As a rule it adds no flags and hands on; a compiler may have made a whole copy of it.
        if !code::callees(elf, plain).contains_key(&full) {
            probes.push(probe(elf, plain_role, plain, evidence)?);
        }
    }
    let evidence = format!(
        "in the table of socket operations with TLS at {}",
        secure.at
    );
    let close = secure.functions[&slot::CLOSE];
    probes.push(probe(elf, Role::Clear, close, evidence)?);
    Ok(probes)
}

/// The one of two tables, with TLS and without, whose reads and writes are its own: those of the
/// other hand everything to the layer below, through `PRIOMethods`.
fn secure_operations(elf: &Elf<'_>) -> Result<Operations, String> {
    let tables: Vec<Operations> = elf
        .relocations
        .sorted()
        .into_iter()
        .filter_map(|at| operations(elf, at))
        .collect();
    let shared = [
        slot::BIND,
        slot::LISTEN,
        slot::GETPEERNAME,
        slot::GETSOCKNAME,
    ];
    let same = |one: &Operations, other: &Operations| {
        shared
            .iter()
            .all(|slot| one.functions[slot] == other.functions[slot])
            && [slot::RECV, slot::SEND, slot::READ, slot::WRITE]
                .iter()
                .all(|slot| one.functions[slot] != other.functions[slot])
    };
    let mut pairs = Vec::new();
    for one in &tables {
        pairs.extend(tables.iter().filter(|other| same(one, other)).map(|_| one));
    }
    let mut secure = pairs
        .into_iter()
        .filter(|table| !hands_below(elf, table.functions[&slot::RECV]));
    match (secure.next(), secure.next()) {
        (Some(only), None) => Ok(Operations {
            at: only.at,
            functions: only.functions.clone(),
        }),
        (None, _) => Err("no table of socket operations with TLS stands in the image".into()),
        (Some(one), Some(other)) => Err(format!(
            "two tables look like the socket operations with TLS, at {} and {}",
            one.at, other.at
        )),
    }
}

/// Twelve slots, all but that of `accept` filled with functions of this image.
fn operations(elf: &Elf<'_>, at: Address) -> Option<Operations> {
    const POINTER: u64 = 8;
    let function = |index: u64| {
        let target = elf.relocations.at(at.checked_add(index * POINTER)?)?;
        match target {
            SlotTarget::Local(address) | SlotTarget::Named(_, Some(address)) => {
                elf.is_code(address).then_some(address)
            }
            SlotTarget::Named(_, None) => None,
        }
    };
    let functions: BTreeMap<u64, Address> = (slot::CONNECT..slot::COUNT)
        .filter_map(|index| Some((index, function(index)?)))
        .collect();
    let whole = functions.len() as u64 == slot::COUNT - 1;
    (whole && !functions.contains_key(&slot::ACCEPT)).then_some(Operations { at, functions })
}

/// Whether a function calls through a table that its socket's lower descriptor points at:
/// `(*(*ss->fd->lower)->recv)(..)`.
fn hands_below(elf: &Elf<'_>, function: Address) -> bool {
    const STEPS: usize = 4;
    code::calls_of(elf, function).iter().any(|call| {
        let through = call.through.path();
        through.is_some_and(|path| path.root == Root::Argument(0) && path.loads.len() >= STEPS)
    })
}

/// Plans the sink. It is called with no key log asked for, and stands, empty, in builds that have
/// none.
pub(super) fn add_secrets(elf: &Elf<'_>, plan: &mut Plan) {
    match secrets(elf) {
        Ok((probe, client_random)) => {
            plan.probes.push(probe);
            plan.layout.client_random = Some(client_random);
        }
        Err(why) => plan.missing.push(missing("secrets", why)),
    }
}

fn secrets(elf: &Elf<'_>) -> Result<(Probe, LayoutValue), String> {
    let labels = sink::label_places(elf);
    let texts: Vec<Address> = labels.keys().copied().collect();
    let (calls, _) = code::calls_with_text(elf, &texts);
    // TLS 1.3: tls13_DeriveSecretWrap(ss, key, prefix, suffix, label, &secret).
    let mut takers: BTreeMap<(Address, u8), BTreeSet<&str>> = BTreeMap::new();
    for call in &calls {
        if let (Some(callee), Some(label)) = (call.callee, labels.get(&call.text)) {
            let taker = takers.entry((callee, call.argument)).or_default();
            taker.insert(*label);
        }
    }
    let mut sinks: BTreeMap<Address, String> = BTreeMap::new();
    for ((function, argument), labels) in &takers {
        if *argument < 2 || labels.len() < AGREEING {
            continue;
        }
        for call in code::calls_of(elf, *function) {
            let hands_on = matches!(call.arguments.as_slice(), [socket, label, ..]
                if *socket == Value::root(Root::Argument(0))
                    && *label == Value::root(Root::Argument(*argument)));
            if let (true, Some(target)) = (hands_on, call.target) {
                let text = format!(
                    "{function} takes {} labels as argument {argument} and hands them on at {}",
                    labels.len(),
                    call.at
                );
                sinks.insert(target, text);
            }
        }
    }
    let (sink, by) = match sinks.pop_first() {
        Some(only) if sinks.is_empty() => only,
        Some(_) => return Err("labels are handed on to more than one function".into()),
        None => return Err("no function is handed key-log labels".into()),
    };
    // TLS 1.2, and before: ssl3_SendFinished calls the sink itself.
    let direct = takers
        .get(&(sink, 1))
        .and_then(|labels| labels.first())
        .ok_or_else(|| {
            format!("{sink} takes the labels of TLS 1.3, and the one of TLS 1.2 goes elsewhere")
        })?;
    let evidence = format!("{by}; it takes {direct} as argument 1");
    Ok((
        probe(elf, Role::NssSecret, sink, evidence)?,
        client_random(elf)?,
    ))
}

/// `SSL_ExportKeyingMaterial` (RFC 5705, section 4) puts the client's random and the server's into
/// a fresh buffer, in this order.
fn client_random(elf: &Elf<'_>) -> Result<LayoutValue, String> {
    const EXPORTER: &str = "SSL_ExportKeyingMaterial";
    const RANDOM: i64 = 32;
    let exporter = elf
        .symbols
        .get(EXPORTER)
        .ok_or_else(|| format!("{EXPORTER}, which shows the client random, has no symbol"))?;
    let copies: Vec<_> = code::transfers_of(elf, exporter.address)
        .into_iter()
        .filter_map(|transfer| {
            let to = transfer.to.path().cloned()?;
            let from = transfer.value.path()?.loaded_from()?;
            let fresh = matches!(to.root, Root::Call(_)) && to.loads.is_empty();
            let of_socket = matches!(from.root, Root::Call(_)) && from.loads.is_empty();
            (fresh && of_socket && to.root != from.root).then_some((transfer.at, to, from))
        })
        .collect();
    let starts = |at: i64| -> BTreeSet<i64> {
        let copies = copies.iter().filter(|(_, to, _)| to.add == at);
        copies.map(|(_, _, from)| from.add).collect()
    };
    let (client, server) = (starts(0), starts(RANDOM));
    let (Some(offset), 1, 1) = (client.first(), client.len(), server.len()) else {
        return Err(format!("{EXPORTER} does not show both randoms"));
    };
    let offset = u32::try_from(*offset)
        .ok()
        .filter(|_| client != server)
        .ok_or_else(|| format!("{EXPORTER} shows no place for the client random"))?;
    let at = copies
        .iter()
        .find(|(_, to, _)| to.add == 0)
        .map(|(at, ..)| *at);
    Ok(LayoutValue {
        path: FieldPath(vec![offset]),
        evidence: format!(
            "{EXPORTER} copies it at {}, the server's next",
            at.unwrap_or(exporter.address)
        ),
    })
}
