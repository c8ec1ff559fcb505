//! Kernel records made into events: clocks, addresses, checked labels.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use tlscope_core::event::{
    Address, Close, Comm, ConnectionKey, Data, Direction, Event, Process, Secret, SecretEvent,
    SecretLabel, Socket, Timestamp, Unknown,
};
use tlscope_core::owners::{Owner, Ownership};
use tlscope_core::packet::Protocol;
use tlscope_probe::abi::{self, Record};
use tlscope_probe::events::monotonic_ns;
use tlscope_probe::{ObjectKind, Tracer};

/// Turns the kernel's clock into wall-clock time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    offset_ns: i128,
}

impl Clock {
    pub(crate) fn now() -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            offset_ns: wall.as_nanos().cast_signed() - i128::from(monotonic_ns()),
        }
    }

    pub(crate) fn wall(self, monotonic_ns: u64) -> Timestamp {
        let wall = i128::from(monotonic_ns) + self.offset_ns;
        Timestamp(u64::try_from(wall).unwrap_or(0))
    }
}

/// Which sockets the kernel side can find under connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Also those that only the program itself touches.
    All,
    /// Those that the library touches: the rest is for want of BTF.
    Touched,
}

impl Reach {
    pub(crate) fn of(tracer: &Tracer) -> Self {
        match tracer.object_kind() {
            ObjectKind::Core => Self::All,
            ObjectKind::Noncore => Self::Touched,
        }
    }
}

/// `None` for a record whose content is not what its kind promises.
pub(crate) fn event<'a>(record: &'a Record<'a>, clock: Clock, reach: Reach) -> Option<Event<'a>> {
    match record {
        Record::Data(data, payload) => Some(Event::Data(Data {
            time: clock.wall(data.header.time_ns),
            process: process(&data.header),
            connection: key(data.header.pid, data.connection),
            socket: socket(&data.socket, reach),
            direction: direction(data.direction)?,
            offset: data.offset,
            call_offset: data.call_offset,
            call_length: data.call_length,
            payload,
        })),
        Record::Secret(secret) => Some(Event::Secret(SecretEvent {
            time: clock.wall(secret.header.time_ns),
            process: process(&secret.header),
            socket: socket(&secret.socket, reach),
            label: SecretLabel::new(secret.label())
                .or_else(|| SecretLabel::of_derivation(secret.label()))?,
            client_random: secret.client_random,
            secret: Secret::new(secret.secret())?,
        })),
        Record::Close(record) => Some(Event::Close(close(record, clock))),
        Record::Owner(_) => None,
    }
}

/// The record has no socket: it is written when the object is freed.
pub(crate) fn close(record: &abi::CloseRecord, clock: Clock) -> Close {
    Close {
        time: clock.wall(record.header.time_ns),
        process: process(&record.header),
        connection: key(record.header.pid, record.connection),
        socket: Socket::default(),
        total: record.total,
    }
}

/// What the kernel side holds of a connection that is still open.
pub(crate) fn so_far(
    key: &abi::ConnectionKey,
    connection: &abi::Connection,
    process: Process,
    now: Timestamp,
    reach: Reach,
) -> Close {
    let mut total = connection.total;
    total[abi::DIRECTION_SENT as usize] += connection.ahead;
    let [received, sent] = connection.carriers.map(|carrier| carrier.address);
    let carrier = if sent.family == 0 { received } else { sent };
    Close {
        time: now,
        process,
        connection: ConnectionKey {
            pid: key.pid,
            object: key.object,
            generation: connection.generation,
        },
        socket: socket(&carrier, reach),
        total,
    }
}

/// Whose socket it is. A kernel that does not tell the protocol leaves both.
pub(crate) fn ownership(record: &abi::OwnerRecord) -> Vec<Ownership> {
    const IPPROTO_TCP: u32 = 6;
    const IPPROTO_UDP: u32 = 17;
    /// What Go's servers listen with (1.24): on the wire it is TCP.
    const IPPROTO_MPTCP: u32 = 262;
    let protocols: &[Protocol] = match record.protocol {
        0 => &[Protocol::Tcp, Protocol::Udp],
        IPPROTO_TCP | IPPROTO_MPTCP => &[Protocol::Tcp],
        IPPROTO_UDP => &[Protocol::Udp],
        _ => &[],
    };
    let Some((local, remote)) = addresses(&record.socket) else {
        return Vec::new();
    };
    let of = |protocol: &Protocol| Ownership {
        protocol: *protocol,
        local,
        remote: (remote.port() != 0).then_some(remote),
        owner: Owner {
            pid: record.header.pid,
            comm: Comm(record.header.comm),
        },
    };
    protocols.iter().map(of).collect()
}

fn key(pid: u32, connection: abi::ConnectionId) -> ConnectionKey {
    ConnectionKey {
        pid,
        object: connection.object,
        generation: connection.generation,
    }
}

fn process(header: &abi::RecordHeader) -> Process {
    Process {
        pid: header.pid,
        tid: header.tid,
        uid: header.uid,
        comm: Comm(header.comm),
    }
}

fn direction(direction: u32) -> Option<Direction> {
    match direction {
        abi::DIRECTION_RECEIVED => Some(Direction::Received),
        abi::DIRECTION_SENT => Some(Direction::Sent),
        _ => None,
    }
}

fn socket(socket: &abi::SocketAddress, reach: Reach) -> Socket {
    const AF_UNIX: u16 = 1;
    let address = match (addresses(socket), socket.family) {
        (Some((local, remote)), _) if remote.port() != 0 => Address::Inet { local, remote },
        (Some(_), _) => Address::Unknown(Unknown::NoPeer),
        (None, AF_UNIX) => Address::Unix,
        (None, abi::FAMILY_PIPE) => Address::Pipe,
        (None, 0) if reach == Reach::Touched => Address::Unknown(Unknown::Kernel),
        (None, 0) if socket.older != 0 => Address::Unknown(Unknown::Older),
        (None, 0) => Address::Unknown(Unknown::NoSocket),
        (None, family) => Address::Unknown(Unknown::Family(family)),
    };
    Socket {
        fd: (socket.fd >= 0).then_some(socket.fd),
        address,
    }
}

/// Local and remote; `None` for what is not of the internet.
fn addresses(socket: &abi::SocketAddress) -> Option<(SocketAddr, SocketAddr)> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    let ip: fn(&[u8; 16]) -> IpAddr = match socket.family {
        AF_INET => ipv4,
        AF_INET6 => |bytes| Ipv6Addr::from(*bytes).into(),
        _ => return None,
    };
    Some((
        SocketAddr::new(ip(&socket.local), socket.local_port),
        SocketAddr::new(ip(&socket.remote), socket.remote_port),
    ))
}

fn ipv4(bytes: &[u8; 16]) -> IpAddr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()
}
