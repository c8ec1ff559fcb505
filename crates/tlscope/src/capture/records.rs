//! Kernel records made into events: clocks, addresses, checked labels.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use tlscope_core::event::{
    Address, Close, Comm, ConnectionKey, Data, Direction, Event, Process, Secret, SecretEvent,
    SecretLabel, Socket, Timestamp,
};
use tlscope_probe::abi::{self, Record};
use tlscope_probe::events::monotonic_ns;

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

/// `None` for a record whose content is not what its kind promises.
pub(crate) fn event<'a>(record: &'a Record<'a>, clock: Clock) -> Option<Event<'a>> {
    match record {
        Record::Data(data, payload) => Some(Event::Data(Data {
            time: clock.wall(data.header.time_ns),
            process: process(&data.header),
            connection: key(data.header.pid, data.connection),
            socket: socket(&data.socket),
            direction: direction(data.direction)?,
            offset: data.offset,
            call_offset: data.call_offset,
            call_length: data.call_length,
            payload,
        })),
        Record::Secret(secret) => Some(Event::Secret(SecretEvent {
            time: clock.wall(secret.header.time_ns),
            process: process(&secret.header),
            socket: socket(&secret.socket),
            label: SecretLabel::new(secret.label())?,
            client_random: secret.client_random,
            secret: Secret::new(secret.secret())?,
        })),
        Record::Close(close) => Some(Event::Close(Close {
            time: clock.wall(close.header.time_ns),
            connection: key(close.header.pid, close.connection),
            total: close.total,
        })),
    }
}

pub(crate) fn key(pid: u32, connection: abi::ConnectionId) -> ConnectionKey {
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

fn socket(socket: &abi::SocketAddress) -> Socket {
    const AF_UNIX: u16 = 1;
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    let inet = |ip: fn(&[u8; 16]) -> IpAddr| Address::Inet {
        local: SocketAddr::new(ip(&socket.local), socket.local_port),
        remote: SocketAddr::new(ip(&socket.remote), socket.remote_port),
    };
    let address = match socket.family {
        AF_UNIX => Address::Unix,
        // Port 0: a datagram socket that is not connected names no peer.
        AF_INET if socket.remote_port != 0 => inet(ipv4),
        AF_INET6 if socket.remote_port != 0 => inet(|bytes| Ipv6Addr::from(*bytes).into()),
        _ => Address::Unknown,
    };
    Socket {
        fd: (socket.fd >= 0).then_some(socket.fd),
        address,
    }
}

fn ipv4(bytes: &[u8; 16]) -> IpAddr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()
}
