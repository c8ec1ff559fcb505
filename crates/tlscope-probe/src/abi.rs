//! Mirror of `bpf/abi.h`: the records, and the values of the shared maps.
//!
//! `tests/abi.rs` compares every struct with the BTF of both objects. Bytes
//! from the kernel are parsed by `Record::parse`, which is total.

#![allow(missing_debug_implementations)] // types that zerocopy's derives generate

use zerocopy::{FromBytes, Immutable, IntoBytes};

pub const COMM_LEN: usize = 16;
pub const LABEL_MAX: usize = 48;
pub const SECRET_MAX: usize = 64;
pub const RANDOM_LEN: usize = 32;
pub const PATH_MAX_STEPS: usize = 4;

/// In place of an argument that there is not.
pub const ARGUMENT_NONE: u32 = u32::MAX;

/// An attach cookie: the image in the lower bits, the probe's address above them.
pub const COOKIE_ADDRESS_SHIFT: u32 = 16;

pub const GOROUTINE_IN_REGISTER: u32 = 0;
pub const GOROUTINE_THREAD_LOCAL: u32 = 1;
pub const GOROUTINE_BY_SLOT: u32 = 2;

/// A pipe, where a socket has its family.
pub const FAMILY_PIPE: u16 = 0x100;

pub const DIRECTION_RECEIVED: u32 = 0;
pub const DIRECTION_SENT: u32 = 1;

const RECORD_DATA: u32 = 1;
const RECORD_SECRET: u32 = 2;
const RECORD_CLOSE: u32 = 3;
const RECORD_OWNER: u32 = 4;

/// Names of `enum counter`, in its order, and what each counts for the user.
pub const COUNTERS: [Counter; 9] = [
    Counter {
        name: "records lost: buffer full",
        unit: Unit::Records,
    },
    Counter {
        name: "plaintext lost: buffer full",
        unit: Unit::Bytes,
    },
    Counter {
        name: "plaintext lost: memory not readable",
        unit: Unit::Bytes,
    },
    Counter {
        name: "plaintext lost: call too long for this kernel",
        unit: Unit::Bytes,
    },
    Counter {
        name: "returns without a known call",
        unit: Unit::Calls,
    },
    Counter {
        name: "calls nested too deep",
        unit: Unit::Calls,
    },
    Counter {
        name: "secrets not readable",
        unit: Unit::Records,
    },
    Counter {
        name: "secrets lost: buffer full",
        unit: Unit::Records,
    },
    Counter {
        name: "secrets not seen: made before the capture, or in a token that is not probed",
        unit: Unit::Records,
    },
];

/// One row of the `counters` map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    pub name: &'static str,
    pub unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Records,
    Bytes,
    Calls,
}

macro_rules! abi_struct {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
        #[repr(C)]
        pub struct $name { $(pub $field: $type,)* }

        impl $name {
            /// Field names with their offsets, for the comparison with BTF.
            pub const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field)),)*];
        }
    };
}

abi_struct! {
    Config {
        pid_set: u32,
        uid: u32,
        uid_set: u32,
        shards: u32,
        wakeup_bytes: u32,
        ended: u32,
        attaching: u32,
        reserved: u32,
    }
}

abi_struct! {
    #[derive(Default)]
    FieldPath { steps: u32, offset: [u32; PATH_MAX_STEPS], reserved: u32, }
}

abi_struct! {
    #[derive(Default)]
    GoLayout {
        stack_abi: u32,
        place: u32,
        goroutine: i64,
        unlabelled: u32,
        reserved: u32,
        connection: FieldPath,
        tcp_fd: FieldPath,
        tcp_type: u64,
        tls_type: u64,
    }
}

abi_struct! {
    #[derive(Default)]
    ExpansionAbi {
        connection: u32,
        label: u32,
        label_length: u32,
        output: u32,
        output_length: u32,
        early: u32,
    }
}

abi_struct! {
    #[derive(Default)]
    Image {
        client_random: FieldPath,
        master_secret: FieldPath,
        master_secret_length: FieldPath,
        connection_arg: u32,
        random_arg: u32,
        label_arg: u32,
        secret_arg: u32,
        length_arg: u32,
        packet_size: u32,
        births: u32,
        reserved: u32,
        expansion: ExpansionAbi,
        go: GoLayout,
    }
}

abi_struct! {
    RecordHeader {
        kind: u32,
        size: u32,
        time_ns: u64,
        pid: u32,
        tid: u32,
        uid: u32,
        reserved: u32,
        comm: [u8; COMM_LEN],
    }
}

abi_struct! {
    SocketAddress {
        fd: i32,
        family: u16,
        local_port: u16,
        remote_port: u16,
        older: u16,
        reserved: [u16; 2],
        local: [u8; 16],
        remote: [u8; 16],
    }
}

abi_struct! { ConnectionId { object: u64, generation: u64, } }

abi_struct! {
    DataRecord {
        header: RecordHeader,
        connection: ConnectionId,
        socket: SocketAddress,
        offset: u64,
        call_offset: u64,
        call_length: u64,
        direction: u32,
        length: u32,
    }
}

/// Holds key material, so it has no `Debug`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SecretRecord {
    pub header: RecordHeader,
    pub connection: ConnectionId,
    pub socket: SocketAddress,
    pub label_length: u32,
    pub secret_length: u32,
    pub label: [u8; LABEL_MAX],
    pub client_random: [u8; RANDOM_LEN],
    pub secret: [u8; SECRET_MAX],
}

// The same numbers are asserted in abi.h.
const _: () = {
    assert!(size_of::<SecretRecord>() == 264);
    assert!(std::mem::offset_of!(SecretRecord, label) == 120);
    assert!(std::mem::offset_of!(SecretRecord, secret) == 200);
};

impl SecretRecord {
    /// As a key log has it; a master secret comes without.
    pub fn label(&self) -> &[u8] {
        if self.label_length == 0 {
            return b"CLIENT_RANDOM";
        }
        &self.label[..(self.label_length as usize).min(LABEL_MAX)]
    }

    pub fn secret(&self) -> &[u8] {
        &self.secret[..(self.secret_length as usize).min(SECRET_MAX)]
    }
}

abi_struct! {
    CloseRecord { header: RecordHeader, connection: ConnectionId, total: [u64; 2], }
}

abi_struct! {
    OwnerRecord { header: RecordHeader, socket: SocketAddress, protocol: u32, reserved: u32, }
}

abi_struct! { ConnectionKey { object: u64, pid: u32, reserved: u32, } }

abi_struct! {
    Carrier { sock: u64, port_pair: u32, first_at: u32, address: SocketAddress, }
}

abi_struct! {
    Connection {
        generation: u64,
        total: [u64; 2],
        ahead: u64,
        carriers: [Carrier; 2],
        side: u32,
        flags: u32,
        sought: u32,
        reserved: u32,
    }
}

/// The record without what its buffer padded it with.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let size = RecordHeader::read_from_prefix(bytes).map_or(0, |(header, _)| header.size);
    bytes.get(..size as usize).unwrap_or(bytes)
}

/// When it was written; 0 for what is no record.
pub(crate) fn time_ns(bytes: &[u8]) -> u64 {
    RecordHeader::read_from_prefix(bytes).map_or(0, |(header, _)| header.time_ns)
}

/// One record of a ring or perf buffer.
pub enum Record<'a> {
    Data(DataRecord, &'a [u8]),
    Secret(Box<SecretRecord>),
    Close(CloseRecord),
    Owner(OwnerRecord),
}

impl<'a> Record<'a> {
    /// `None` for anything that is not a whole record of a known kind. A record
    /// may be followed by padding: buffers hand out sizes of their own.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, _) = RecordHeader::read_from_prefix(bytes).ok()?;
        match header.kind {
            RECORD_DATA => {
                let (record, rest) = DataRecord::read_from_prefix(bytes).ok()?;
                Some(Self::Data(record, rest.get(..record.length as usize)?))
            }
            RECORD_SECRET => {
                let (record, _) = SecretRecord::read_from_prefix(bytes).ok()?;
                Some(Self::Secret(Box::new(record)))
            }
            RECORD_CLOSE => {
                let (record, _) = CloseRecord::read_from_prefix(bytes).ok()?;
                Some(Self::Close(record))
            }
            RECORD_OWNER => {
                let (record, _) = OwnerRecord::read_from_prefix(bytes).ok()?;
                Some(Self::Owner(record))
            }
            _ => None,
        }
    }

    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub fn time_ns(&self) -> u64 {
        match self {
            Self::Data(record, _) => record.header.time_ns,
            Self::Secret(record) => record.header.time_ns,
            Self::Close(record) => record.header.time_ns,
            Self::Owner(record) => record.header.time_ns,
        }
    }
}
