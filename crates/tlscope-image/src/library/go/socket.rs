//! From a connection to its socket: which fields lead there, and which types they have.

use super::types::{Kind, Type, pointer_to};
use crate::elf::{Address, Elf, Pclntab};
use crate::plan::{FieldPath, LayoutValue};

/// `*tls.Conn` and its `net.Conn`.
pub(super) struct Connection {
    pub(super) of: Address,
    pub(super) inner: LayoutValue,
}

/// `*net.TCPConn` and its file descriptor.
pub(super) struct Tcp {
    pub(super) of: Address,
    pub(super) fd: LayoutValue,
}

/// The field of a `Conn` of this package that is the connection below it.
pub(super) fn connection(elf: &Elf<'_>, table: &Pclntab<'_>, package: &str) -> Option<Connection> {
    // A fork keeps the package's name, or calls it after its own path.
    let last = package.rsplit('/').next()?;
    let pointer = pointer_to(elf, table, package, "*tls.Conn")
        .or_else(|| pointer_to(elf, table, package, &format!("*{last}.Conn")))?;
    let field = pointer.element(elf)?.field(elf, "conn")?;
    let is_interface = field.of.is(elf, Kind::Interface);
    Some(Connection {
        of: pointer.0,
        inner: value(
            vec![u32::try_from(field.offset).ok().filter(|_| is_interface)?],
            pointer,
            "conn",
        ),
    })
}

/// The fields from a TCP connection to its descriptor: embedded structs, and one pointer.
const WAYS: [&[&str]; 2] = [
    &["conn", "fd", "pfd", "Sysfd"],
    // Go 1.8: before internal/poll, and embedded fields had no names.
    &["", "fd", "sysfd"],
];

pub(super) fn tcp(elf: &Elf<'_>, table: &Pclntab<'_>) -> Option<Tcp> {
    let pointer = pointer_to(elf, table, "net", "*net.TCPConn")?;
    let (way, path) = WAYS
        .into_iter()
        .find_map(|way| Some((way, walk(elf, pointer, way)?)))?;
    Some(Tcp {
        of: pointer.0,
        fd: value(path, pointer, way.join(".").trim_start_matches('.')),
    })
}

/// The path along the fields named, from a pointer to a struct to an `int`.
fn walk(elf: &Elf<'_>, pointer: Type, way: &[&str]) -> Option<Vec<u32>> {
    let mut path = Vec::new();
    let mut at = pointer.element(elf)?;
    let mut offset = 0_u32;
    for name in way {
        let field = at.field(elf, name)?;
        offset = offset.checked_add(u32::try_from(field.offset).ok()?)?;
        at = match field.of.element(elf) {
            Some(element) => {
                path.push(std::mem::take(&mut offset));
                element
            }
            None => field.of,
        };
    }
    path.push(offset);
    at.is(elf, Kind::Int).then_some(path)
}

fn value(path: Vec<u32>, from: Type, way: &str) -> LayoutValue {
    LayoutValue {
        path: FieldPath(path),
        evidence: format!("the field {way}, by the type descriptor at {}", from.0),
    }
}
