//! The functions that shake hands, as the tables of methods hold them: `ssl_accept`, `ssl_connect`.
//!
//! Every handshake passes there, also one that `SSL_read` begins, and nothing else does. Where a
//! library derives secrets without being told for whom, the handshake under way tells it.

use std::collections::BTreeMap;

use crate::code::{self, Root, Transfer};
use crate::elf::{Address, Elf};
use crate::plan::{Probe, Role};

/// A side of the handshake: what stores the method's function in the connection, and the methods
/// that have one. Of a client's method, what accepts is a stub that fails.
struct Side {
    setter: &'static str,
    methods: &'static [&'static str],
}

const SIDES: &[Side] = &[
    Side {
        setter: "SSL_set_connect_state",
        methods: &["TLS_method", "TLS_client_method"],
    },
    Side {
        setter: "SSL_set_accept_state",
        methods: &["TLS_method", "TLS_server_method"],
    },
];

/// A probe on each of them. Names are needed to begin with.
pub(super) fn add_probes(elf: &Elf<'_>) -> Result<Vec<Probe>, String> {
    let mut found = BTreeMap::new();
    for side in SIDES {
        let of_side = functions(elf, side);
        if of_side.is_empty() {
            return Err(format!(
                "which function shakes hands does not show in {} and in the table of {}",
                side.setter, side.methods[0]
            ));
        }
        found.extend(of_side);
    }
    let probes = found
        .into_iter()
        .filter_map(|(address, evidence)| probe(elf, address, evidence));
    Ok(probes.collect())
}

fn functions(elf: &Elf<'_>, side: &Side) -> BTreeMap<Address, String> {
    let Some((way, at)) = way(elf, side.setter) else {
        return BTreeMap::new();
    };
    let of_method = |name: &&str| {
        let symbol = elf.symbols.get(name)?;
        let table = code::places_returned(elf, symbol.address);
        let (table, more) = (table.first().copied()?, table.len() > 1);
        let function = followed(elf, table, &way).filter(|place| elf.is_code(*place) && !more)?;
        let evidence = format!(
            "in the table of {name} at {table}, where {} looks at {at}",
            side.setter
        );
        Some((function, evidence))
    };
    side.methods.iter().filter_map(of_method).collect()
}

/// The only way from a method to what the setter takes of it: `s->handshake_func =
/// s->method->ssl_connect`, in older LibreSSL `s->method->internal->ssl_connect`.
fn way(elf: &Elf<'_>, setter: &str) -> Option<(Vec<i64>, Address)> {
    let setter = elf.symbols.get(setter)?;
    let of_method = |transfer: Transfer| {
        let value = transfer.value.path()?;
        let to = transfer.to.path()?;
        let is_it = value.root == Root::Argument(0)
            && to.root == Root::Argument(0)
            && value.add == 0
            && (2..=3).contains(&value.loads.len());
        is_it.then(|| (value.loads[1..].to_vec(), transfer.at))
    };
    let transfers = code::values_stored(elf, setter.address).into_iter();
    let ways: BTreeMap<Vec<i64>, Address> = transfers.filter_map(of_method).collect();
    let mut ways = ways.into_iter();
    ways.next().filter(|_| ways.next().is_none())
}

fn followed(elf: &Elf<'_>, table: Address, way: &[i64]) -> Option<Address> {
    way.iter().try_fold(table, |place, offset| {
        elf.pointer_at(place.checked_add(u64::try_from(*offset).ok()?)?)
    })
}

/// The probe on a function that shakes hands.
pub(super) fn probe(elf: &Elf<'_>, address: Address, evidence: String) -> Option<Probe> {
    Some(Probe {
        role: Role::Handshaking,
        symbol: elf
            .symbols
            .at(address)
            .map(|symbol| symbol.name.to_string()),
        address,
        offset: elf.file_offset(address)?,
        returns: Vec::new(),
        evidence,
    })
}
