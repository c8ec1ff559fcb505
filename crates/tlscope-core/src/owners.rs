//! Which process an end of a connection belongs to, as the kernel side saw it
//! use the socket. Bounded: what was not asked for long is forgotten.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::bounded::Bounded;
use crate::event::Comm;
use crate::packet::{Endpoints, Protocol};

/// A process that used a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub pid: u32,
    pub comm: Comm,
}

/// A socket with its owner. A datagram socket that is not connected has no peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    pub protocol: Protocol,
    pub local: SocketAddr,
    pub remote: Option<SocketAddr>,
    pub owner: Owner,
}

#[derive(Debug)]
pub(crate) struct Owners {
    /// By endpoints as the owner sends.
    connected: Bounded<Endpoints, Arc<Owner>>,
    unconnected: Bounded<(Protocol, SocketAddr), Arc<Owner>>,
    /// Made once for each direction: a packet would pay more for it than for all else.
    comments: Bounded<Endpoints, Arc<str>>,
    capacity: usize,
}

impl Owners {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            connected: Bounded::new(capacity),
            unconnected: Bounded::new(capacity),
            comments: Bounded::new(capacity),
            capacity,
        }
    }

    pub(crate) fn insert(&mut self, ownership: &Ownership) {
        let Ownership {
            protocol, local, ..
        } = *ownership;
        let owner = Arc::new(ownership.owner.clone());
        if let Some(remote) = ownership.remote {
            let endpoints = Endpoints::new(protocol, local, remote);
            self.comments.remove(&endpoints);
            self.comments.remove(&endpoints.reversed());
            self.connected.insert(endpoints, owner);
        } else {
            let endpoints = Endpoints::new(protocol, local, local);
            self.comments = Bounded::new(self.capacity);
            self.unconnected.insert(endpoints.unconnected(), owner);
        }
    }

    /// Who sends from `endpoints.source` to `endpoints.destination`.
    pub(crate) fn sender(&mut self, endpoints: Endpoints) -> Option<&Arc<Owner>> {
        if self.connected.get(&endpoints).is_some() {
            return self.connected.peek(&endpoints);
        }
        if endpoints.protocol == Protocol::Tcp {
            return None;
        }
        let bound = endpoints.unconnected();
        let unspecified: IpAddr = match bound.1.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let any = (bound.0, SocketAddr::new(unspecified, bound.1.port()));
        // A dual-stack socket bound to :: takes IPv4 too.
        let dual = (
            bound.0,
            SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), bound.1.port()),
        );
        [bound, any, dual]
            .iter()
            .find_map(|key| self.unconnected.peek(key))
    }

    /// Whether either end is known.
    pub(crate) fn knows(&mut self, endpoints: Endpoints) -> bool {
        self.sender(endpoints).is_some() || self.sender(endpoints.reversed()).is_some()
    }

    /// `from pid 1 (init), to pid 2 (sh)`, as far as known.
    pub(crate) fn comment(&mut self, endpoints: Endpoints) -> Arc<str> {
        if let Some(comment) = self.comments.get(&endpoints) {
            return Arc::clone(comment);
        }
        let mut comment = String::new();
        let ends = [("from", endpoints), ("to", endpoints.reversed())];
        for (word, endpoints) in ends {
            if let Some(owner) = self.sender(endpoints) {
                let comma = if comment.is_empty() { "" } else { ", " };
                let Owner { pid, comm } = **owner;
                // Writing to a String cannot fail.
                let _ = write!(comment, "{comma}{word} pid {pid} ({comm})");
            }
        }
        let comment: Arc<str> = comment.into();
        self.comments.insert(endpoints, Arc::clone(&comment));
        comment
    }
}

impl Endpoints {
    fn unconnected(self) -> (Protocol, SocketAddr) {
        (self.protocol, self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(pid: u32) -> Owner {
        Owner {
            pid,
            comm: Comm(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0"),
        }
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_ends_are_named() {
        let mut owners = Owners::new(16);
        let (client, server) = (address("[::ffff:10.0.0.1]:40000"), address("10.0.0.2:443"));
        for (local, remote, pid) in [(client, server, 1), (server, client, 2)] {
            owners.insert(&Ownership {
                protocol: Protocol::Tcp,
                local,
                remote: Some(remote),
                owner: owner(pid),
            });
        }
        let comment = owners.comment(Endpoints::new(Protocol::Tcp, server, client));
        assert_eq!(&*comment, "from pid 2 (curl), to pid 1 (curl)");
        assert!(!owners.knows(Endpoints::new(Protocol::Udp, server, client)));
    }

    #[test]
    fn a_datagram_socket_owns_its_port() {
        let mut owners = Owners::new(16);
        owners.insert(&Ownership {
            protocol: Protocol::Udp,
            local: address("[::]:443"),
            remote: None,
            owner: owner(7),
        });
        let packet = Endpoints::new(
            Protocol::Udp,
            address("10.0.0.1:5000"),
            address("10.0.0.2:443"),
        );
        assert!(owners.knows(packet));
        assert!(owners.sender(packet).is_none());
    }
}
