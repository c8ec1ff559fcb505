//! From a captured frame to its TCP segment or UDP datagram.
//!
//! Total: any bytes give a segment or `None`, and never more than they hold. A
//! frame may be cut by the snapshot length, or be longer than its IP header can
//! say (segmentation offload writes a length of 0 past 64 KiB).

mod ip;
mod link;

use std::net::{IpAddr, SocketAddr};

/// A pcapng link type (`LINKTYPE_*` of the tcpdump.org registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    pub const NULL: Self = Self(0);
    pub const ETHERNET: Self = Self(1);
    pub const PPP: Self = Self(9);
    pub const RAW: Self = Self(101);
    pub const LOOP: Self = Self(108);
    pub const LINUX_SLL: Self = Self(113);
    pub const IPV4: Self = Self(228);
    pub const IPV6: Self = Self(229);
    pub const LINUX_SLL2: Self = Self(276);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// Where a segment comes from and goes to. IPv4 addresses mapped into IPv6 are
/// IPv4 here: a dual-stack socket and its packets must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoints {
    pub protocol: Protocol,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

impl Endpoints {
    pub fn new(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Self {
        let plain = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
        Self {
            protocol,
            source: plain(source),
            destination: plain(destination),
        }
    }

    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ..self
        }
    }
}

/// What the transport header says, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    pub endpoints: Endpoints,
    /// `None` for UDP.
    pub tcp: Option<TcpHeader>,
    pub payload: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpHeader {
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: TcpFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;

    pub fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// The sender is done: nothing but retransmissions follows from it.
    pub fn finishes(self) -> bool {
        self.0 & Self::FIN != 0
    }

    pub fn resets(self) -> bool {
        self.0 & Self::RST != 0
    }
}

/// The TCP or UDP segment in a frame; `None` for everything else, fragments
/// after the first included.
pub fn dissect(link: LinkType, frame: &[u8]) -> Option<Segment<'_>> {
    let packet = link::network_layer(link, frame)?;
    let datagram = ip::datagram(packet)?;
    match datagram.protocol {
        ip::TCP => tcp(&datagram),
        ip::UDP => udp(&datagram),
        _ => None,
    }
}

fn tcp<'a>(datagram: &ip::Datagram<'a>) -> Option<Segment<'a>> {
    let bytes = datagram.payload;
    let header = bytes.first_chunk::<20>()?;
    let length = usize::from(header[12] >> 4) * 4;
    let (source, destination) = ports(header);
    Some(Segment {
        endpoints: datagram.endpoints(Protocol::Tcp, source, destination),
        tcp: Some(TcpHeader {
            sequence: be32(header, 4),
            acknowledged: be32(header, 8),
            flags: TcpFlags(header[13]),
        }),
        payload: (length >= 20).then(|| bytes.get(length..))??,
    })
}

fn udp<'a>(datagram: &ip::Datagram<'a>) -> Option<Segment<'a>> {
    let (header, payload) = datagram.payload.split_first_chunk::<8>()?;
    let (source, destination) = ports(header);
    Some(Segment {
        endpoints: datagram.endpoints(Protocol::Udp, source, destination),
        tcp: None,
        payload,
    })
}

fn ports(header: &[u8]) -> (u16, u16) {
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    (port(0), port(2))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl ip::Datagram<'_> {
    fn endpoints(&self, protocol: Protocol, source: u16, destination: u16) -> Endpoints {
        let at = |ip: IpAddr, port| SocketAddr::new(ip, port);
        Endpoints::new(
            protocol,
            at(self.source, source),
            at(self.destination, destination),
        )
    }
}

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;
