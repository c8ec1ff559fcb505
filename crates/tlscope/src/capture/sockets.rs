//! Addresses that the kernel side could not read: the noncore object knows the
//! descriptor alone, and `/proc` knows what it is.

use std::collections::HashMap;

use tlscope_core::event::{Address, Socket};
use tlscope_probe::abi::ConnectionId;
use tlscope_targets::{SocketPeer, socket_peer};

/// Connections remembered; past it all are looked up again.
const MAX: usize = 16_384;
/// A descriptor may be looked at before its connection is established.
const ATTEMPTS: u32 = 3;

#[derive(Debug)]
pub(crate) struct Sockets {
    enabled: bool,
    known: HashMap<(u32, u64, u64), Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    fd: i32,
    address: Address,
    attempts: u32,
}

impl Sockets {
    /// `enabled`: whether the kernel side needs help at all.
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            known: HashMap::new(),
        }
    }

    pub(crate) fn resolve(&mut self, pid: u32, connection: ConnectionId, socket: Socket) -> Socket {
        let Some(fd) = socket
            .fd
            .filter(|_| self.enabled && socket.address == Address::Unknown)
        else {
            return socket;
        };
        if self.known.len() >= MAX {
            self.known.clear();
        }
        let fresh = Known {
            fd,
            address: Address::Unknown,
            attempts: 0,
        };
        let key = (pid, connection.object, connection.generation);
        let known = self.known.entry(key).or_insert(fresh);
        if known.fd != fd {
            *known = fresh;
        }
        if known.address == Address::Unknown && known.attempts < ATTEMPTS {
            known.attempts += 1;
            known.address = match socket_peer(pid, fd) {
                Some(SocketPeer::Inet { local, remote }) => Address::Inet { local, remote },
                Some(SocketPeer::Unix) => Address::Unix,
                None => Address::Unknown,
            };
        }
        Socket {
            fd: Some(fd),
            address: known.address,
        }
    }
}
