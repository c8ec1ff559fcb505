//! The packets of a datagram, as far as their headers tell (RFC 9000, section 17).

use crate::reader::Reader;

const LONG: u8 = 0x80;
const FIXED: u8 = 0x40;
/// Of a connection ID (RFC 9000, section 17.2).
const ID_MAX: usize = 20;

/// Versions that differ in their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// RFC 9001.
    One,
    /// RFC 9369: other keys, and the packet types in another order.
    Two,
    /// What was deployed before RFC 9001.
    Draft29,
}

impl Version {
    fn of(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::One),
            0x6b33_43cf => Some(Self::Two),
            0xff00_001d..=0xff00_0020 => Some(Self::Draft29),
            _ => None,
        }
    }

    fn kind(self, first: u8) -> Kind {
        const ORDER: [Kind; 4] = [Kind::Initial, Kind::ZeroRtt, Kind::Handshake, Kind::Retry];
        let shift = u8::from(self == Self::Two) * 3;
        ORDER[usize::from((first >> 4).wrapping_add(shift) & 3)]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    Initial(Initial<'a>),
    /// Encrypted with the early secret.
    ZeroRtt,
    /// Encrypted with a secret of the handshake, or a later one.
    Protected,
    /// Retry, or the choice of a version: the client begins again.
    Again,
}

/// An Initial packet, still protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initial<'a> {
    pub version: Version,
    /// In a client's first packets the bytes that the keys are made of.
    pub destination: &'a [u8],
    pub(super) bytes: &'a [u8],
    /// Where the packet number stands.
    pub(super) number_at: usize,
}

/// Whether a datagram may begin with an Initial packet.
pub fn begins_initial(payload: &[u8]) -> bool {
    let Some(header) = payload.first_chunk::<5>() else {
        return false;
    };
    let number = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    header[0] & (LONG | FIXED) == LONG | FIXED
        && Version::of(number).is_some_and(|version| version.kind(header[0]) == Kind::Initial)
}

/// The packets of a datagram; ends at what is none, or of an unknown version.
pub fn packets(datagram: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (packet, length) = packet(rest)?;
        rest = &rest[length..];
        Some(packet)
    })
}

/// The first packet, and its length.
fn packet(bytes: &[u8]) -> Option<(Packet<'_>, usize)> {
    let mut rest = Reader(bytes);
    let first = rest.u8()?;
    if first & LONG == 0 {
        return (first & FIXED != 0).then_some((Packet::Protected, bytes.len()));
    }
    let number = rest.u32()?;
    if number == 0 {
        return Some((Packet::Again, bytes.len()));
    }
    let version = Version::of(number)?;
    let destination = rest.vector8()?;
    let source = rest.vector8()?;
    if destination.len() > ID_MAX || source.len() > ID_MAX {
        return None;
    }
    let kind = version.kind(first);
    match kind {
        Kind::Retry => return Some((Packet::Again, bytes.len())),
        Kind::Initial => {
            let token = usize::try_from(rest.varint()?).ok()?;
            rest.take(token)?;
        }
        Kind::ZeroRtt | Kind::Handshake => {}
    }
    let length = usize::try_from(rest.varint()?).ok()?;
    let number_at = bytes.len() - rest.0.len();
    rest.take(length)?;
    let end = bytes.len() - rest.0.len();
    let packet = match kind {
        Kind::Initial => Packet::Initial(Initial {
            version,
            destination,
            bytes: &bytes[..end],
            number_at,
        }),
        Kind::ZeroRtt => Packet::ZeroRtt,
        Kind::Handshake | Kind::Retry => Packet::Protected,
    };
    Some((packet, end))
}
