use super::*;
use crate::packet::build;

fn notices(stream: &[u8], piece: usize) -> Vec<Notice> {
    let mut records = RecordStream::default();
    let mut notices = Vec::new();
    for part in stream.chunks(piece) {
        records.push(part, |notice| notices.push(notice));
    }
    notices
}

fn flight() -> Vec<u8> {
    let hello = build::client_hello([7; 32], "example.org", false);
    // A hello in two records, a long certificate, then what is encrypted.
    let split = [
        build::record(22, &hello[5..20]),
        build::record(22, &hello[20..]),
    ];
    [
        split.concat(),
        build::server_hello([9; 32], false),
        build::handshake(11, &[0xaa; 3000]),
        build::record(23, &[]),
        build::record(20, &[1]),
        build::record(23, &[0xbb; 500]),
    ]
    .concat()
}

#[test]
fn pieces_of_any_size_tell_the_same() {
    let stream = flight();
    let whole = notices(&stream, stream.len());
    assert!(matches!(
        whole.as_slice(),
        [
            Notice::ClientHello(_),
            Notice::ServerHello(_),
            Notice::ChangeCipherSpec
        ]
    ));
    for piece in [1, 2, 3, 5, 7, 64, 1000] {
        assert_eq!(notices(&stream, piece), whole, "pieces of {piece}");
    }
}

#[test]
fn what_is_no_tls_is_broken_once() {
    for stream in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[22, 3, 1, 0xff, 0xff, 1],
        &[99, 3, 1, 0, 1, 1],
        // A hello that claims 16 MiB.
        &[22, 3, 1, 0, 5, 1, 0xff, 0xff, 0xff, 0],
    ] {
        assert_eq!(notices(stream, stream.len()), [Notice::Broken]);
        assert_eq!(notices(stream, 1), [Notice::Broken]);
    }
}

#[test]
fn only_a_client_hello_begins_as_one() {
    let hello = build::client_hello([7; 32], "a", false);
    assert!(begins_client_hello(&hello));
    assert!(begins_client_hello(&hello[..7]));
    assert!(!begins_client_hello(&hello[..6]));
    assert!(!begins_client_hello(&build::server_hello([9; 32], true)));
    assert!(!begins_client_hello(&build::record(23, &[1, 0, 0, 0])));
}

#[test]
fn damage_is_survived() {
    let stream = flight();
    for at in 0..200 {
        for byte in [0, 1, 0x16, 0x80, 0xff] {
            let mut damaged = stream.clone();
            damaged[at] = byte;
            for piece in [1, 13, damaged.len()] {
                let _ = notices(&damaged, piece);
            }
        }
    }
}
