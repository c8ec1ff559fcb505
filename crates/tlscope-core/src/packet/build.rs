//! Frames made for tests, byte by byte.

use std::net::SocketAddr;

/// A TCP segment in IP, as the addresses say, on Ethernet.
pub(crate) fn ethernet(tcp: &Tcp<'_>) -> Vec<u8> {
    let ip = tcp.ip();
    let kind: u16 = if ip[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    [&[2; 12][..], &kind.to_be_bytes(), &ip].concat()
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Tcp<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: u8,
    pub(crate) payload: &'a [u8],
}

impl Tcp<'_> {
    pub(crate) fn segment(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.from.port().to_be_bytes());
        bytes.extend_from_slice(&self.to.port().to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.acknowledged.to_be_bytes());
        // Eight words: three of options.
        bytes.extend_from_slice(&[8 << 4, self.flags, 0, 9, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[1; 12]);
        bytes.extend_from_slice(self.payload);
        bytes
    }

    pub(crate) fn ip(&self) -> Vec<u8> {
        ip(self.from, self.to, 6, &self.segment())
    }
}

/// A datagram in IP on Ethernet.
pub(crate) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16 + 8).to_be_bytes();
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let datagram = [&ports[..], &length, &[0, 0], payload].concat();
    let ip = ip(from, to, 17, &datagram);
    [&[2; 12][..], &[8, 0], &ip].concat()
}

pub(crate) fn ip(from: SocketAddr, to: SocketAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let mut bytes = vec![0x45, 0];
            bytes.extend_from_slice(&(length + 20).to_be_bytes());
            bytes.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
            bytes.extend_from_slice(&from.ip().octets());
            bytes.extend_from_slice(&to.ip().octets());
            bytes.extend_from_slice(payload);
            bytes
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let mut bytes = vec![0x60, 0, 0, 0];
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&[protocol, 64]);
            bytes.extend_from_slice(&from.ip().octets());
            bytes.extend_from_slice(&to.ip().octets());
            bytes.extend_from_slice(payload);
            bytes
        }
        _ => panic!("one packet has addresses of one family"),
    }
}

/// A TLS record with a handshake message.
pub(crate) fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[kind], &length[1..], body].concat();
    record(22, &message)
}

pub(crate) fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [&[kind, 3, 3], &length[..], body].concat()
}

pub(crate) fn client_hello(random: [u8; 32], name: &str, early: bool) -> Vec<u8> {
    let name_length = name.len() as u16;
    let mut extensions = extension(
        0,
        &[
            &(name_length + 3).to_be_bytes()[..],
            &[0],
            &name_length.to_be_bytes(),
            name.as_bytes(),
        ]
        .concat(),
    );
    if early {
        extensions.extend(extension(42, &[]));
    }
    let length = (extensions.len() as u16).to_be_bytes();
    let body = [
        &[3, 3][..],
        &random,
        &[0],
        &[0, 2, 0x13, 0x01],
        &[1, 0],
        &length,
        &extensions,
    ];
    handshake(1, &body.concat())
}

pub(crate) fn server_hello(random: [u8; 32], tls13: bool) -> Vec<u8> {
    let extensions = if tls13 {
        extension(43, &[3, 4])
    } else {
        Vec::new()
    };
    let length = (extensions.len() as u16).to_be_bytes();
    let body = [
        &[3, 3][..],
        &random,
        &[0],
        &[0x13, 0x01],
        &[0],
        &length,
        &extensions,
    ];
    handshake(2, &body.concat())
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16).to_be_bytes();
    [&kind.to_be_bytes()[..], &length, content].concat()
}
