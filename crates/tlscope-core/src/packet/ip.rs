//! IPv4 and IPv6 headers, with the extension headers of the latter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// RFC 8200 bounds neither number nor length; real packets have one or two.
const EXTENSIONS_MAX: usize = 8;

pub(super) struct Datagram<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    pub(super) payload: &'a [u8],
}

pub(super) fn datagram(packet: &[u8]) -> Option<Datagram<'_>> {
    match packet.first()? >> 4 {
        4 => v4(packet),
        6 => v6(packet),
        _ => None,
    }
}

fn v4(packet: &[u8]) -> Option<Datagram<'_>> {
    const FRAGMENT_OFFSET: u16 = 0x1fff;
    let header = packet.first_chunk::<20>()?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let length = usize::from(header[0] & 0x0f) * 4;
    if length < 20 || word(6) & FRAGMENT_OFFSET != 0 {
        return None;
    }
    let address = |at: usize| {
        Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]).into()
    };
    Some(Datagram {
        source: address(12),
        destination: address(16),
        protocol: header[9],
        payload: without_padding(packet, word(2)).get(length..)?,
    })
}

/// Ethernet pads short frames. A total length of 0 is a frame of segmentation
/// offload, longer than the field can say: all of it counts.
fn without_padding(packet: &[u8], total: u16) -> &[u8] {
    match usize::from(total) {
        0 => packet,
        total => packet.get(..total).unwrap_or(packet),
    }
}

fn v6(packet: &[u8]) -> Option<Datagram<'_>> {
    let (header, rest) = packet.split_first_chunk::<40>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let address = |at: usize| {
        let bytes: [u8; 16] = header[at..at + 16].try_into().unwrap_or_default();
        Ipv6Addr::from(bytes).into()
    };
    let rest = match length {
        0 => rest,
        length => rest.get(..length).unwrap_or(rest),
    };
    let (protocol, payload) = past_extensions(header[6], rest)?;
    Some(Datagram {
        source: address(8),
        destination: address(24),
        protocol,
        payload,
    })
}

fn past_extensions(first: u8, mut rest: &[u8]) -> Option<(u8, &[u8])> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;
    let mut kind = first;
    for _ in 0..EXTENSIONS_MAX {
        let length = match kind {
            HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(*rest.get(1)?) + 1) * 8,
            // The one whose length counts 4-byte words (RFC 4302).
            AUTHENTICATION => (usize::from(*rest.get(1)?) + 2) * 4,
            FRAGMENT if u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]) >> 3 == 0 => 8,
            FRAGMENT => return None,
            _ => return Some((kind, rest)),
        };
        kind = *rest.first()?;
        rest = rest.get(length..)?;
    }
    None
}
