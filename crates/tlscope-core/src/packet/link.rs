//! Link-layer headers: where the IP packet begins in a frame.

use super::LinkType;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const PPPOE_SESSION: u16 = 0x8864;
/// 802.1Q, 802.1ad, and the value that came before 802.1ad.
const VLAN_TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// Deeper stacks of tags are not IP traffic of ours.
const VLAN_DEPTH: usize = 4;

pub(super) fn network_layer(link: LinkType, frame: &[u8]) -> Option<&[u8]> {
    match link {
        LinkType::ETHERNET => ethertype(frame, 12),
        LinkType::LINUX_SLL => ethertype(frame, 14),
        LinkType::LINUX_SLL2 => sll2(frame),
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => Some(frame),
        // Four bytes of address family, whose value differs by system.
        LinkType::NULL | LinkType::LOOP => frame.get(4..),
        LinkType::PPP => ppp(frame.strip_prefix(&[0xff, 0x03]).unwrap_or(frame)),
        _ => None,
    }
}

/// What follows the type field at `at`, tags and `PPPoE` passed over.
fn ethertype(frame: &[u8], at: usize) -> Option<&[u8]> {
    let mut rest = frame.get(at..)?;
    for _ in 0..=VLAN_DEPTH {
        let (kind, after) = rest.split_first_chunk::<2>()?;
        match u16::from_be_bytes(*kind) {
            IPV4 | IPV6 => return Some(after),
            PPPOE_SESSION => return ppp(after.get(6..)?),
            kind if VLAN_TAGS.contains(&kind) => rest = after.get(2..)?,
            _ => return None,
        }
    }
    None
}

/// `LINUX_SLL2`: the type comes first, then 18 bytes of interface and address.
fn sll2(frame: &[u8]) -> Option<&[u8]> {
    let (header, packet) = frame.split_first_chunk::<20>()?;
    match u16::from_be_bytes([header[0], header[1]]) {
        IPV4 | IPV6 => Some(packet),
        kind if VLAN_TAGS.contains(&kind) => ethertype(packet, 2),
        _ => None,
    }
}

fn ppp(frame: &[u8]) -> Option<&[u8]> {
    const PPP_IPV4: u16 = 0x0021;
    const PPP_IPV6: u16 = 0x0057;
    let (kind, packet) = frame.split_first_chunk::<2>()?;
    matches!(u16::from_be_bytes(*kind), PPP_IPV4 | PPP_IPV6).then_some(packet)
}
