use super::*;
use crate::packet::build;
use crate::tls::client_hello as hello_body;

/// A record of epoch 0, or of a later one.
fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    let head = [kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 7];
    [&head[..], &length, body].concat()
}

fn fragment(kind: u8, length: usize, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let u24 = |n: usize| (n as u32).to_be_bytes()[1..].to_vec();
    let number = [0, 0];
    let head = [&[kind], &u24(length)[..], &number, &u24(offset)].concat();
    [&head[..], &u24(bytes.len()), bytes].concat()
}

/// As `build::client_hello`, with the version and the cookie of DTLS.
fn client_hello_body() -> Vec<u8> {
    let tls = build::client_hello([7; 32], "example.org", false);
    let (head, rest) = tls[9..].split_at(2 + 32 + 1);
    let mut body = [head, &[3, 1, 2, 3], rest].concat();
    body[..2].copy_from_slice(&[0xfe, 0xfd]);
    body
}

#[test]
fn a_hello_with_its_cookie_is_read() {
    let body = client_hello_body();
    let datagram = record(22, 0, &fragment(1, body.len(), 0, &body));
    assert!(begins_client_hello(&datagram));
    let Some(Part::ClientHello { length, bytes, .. }) = parts(&datagram).next() else {
        panic!("{:?}", parts(&datagram).collect::<Vec<_>>());
    };
    assert_eq!((length, bytes), (body.len(), &body[..]));
    let hello = hello_body(bytes).unwrap();
    assert_eq!(hello.random, [7; 32]);
    assert_eq!(hello.server_name.as_deref(), Some("example.org"));
}

#[test]
fn a_flight_is_read_to_its_end() {
    let certificate = fragment(11, 500, 0, &[1; 100]);
    let datagram = [
        record(22, 0, &[certificate, fragment(16, 3, 0, b"key")].concat()),
        record(20, 0, &[1]),
        // Encrypted: it only looks like a hello.
        record(22, 1, &fragment(1, 3, 0, b"abc")),
    ]
    .concat();
    assert_eq!(
        parts(&datagram).collect::<Vec<_>>(),
        [Part::ChangeCipherSpec]
    );
    let unified = [0x2e, 0x12, 0x34, 0, 3, 1, 2, 3];
    assert_eq!(
        parts(&unified).collect::<Vec<_>>(),
        [Part::Ciphertext],
        "DTLS 1.3"
    );
}

#[test]
fn other_datagrams_and_damage_are_survived() {
    assert_eq!(parts(b"").count(), 0);
    assert_eq!(parts(&[0x16, 3, 3, 0, 5, 1, 0, 0, 1, 0]).count(), 0);
    let body = client_hello_body();
    let datagram = record(22, 0, &fragment(1, body.len(), 0, &body));
    for at in 0..datagram.len() {
        assert_eq!(parts(&datagram[..at]).count(), 0);
        for byte in [0, 1, 0x2f, 0x7f, 0xff] {
            let mut damaged = datagram.clone();
            damaged[at] = byte;
            assert!(parts(&damaged).count() <= damaged.len());
        }
    }
}
