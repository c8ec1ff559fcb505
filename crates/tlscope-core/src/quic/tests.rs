use super::*;

const ID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
const VERSIONS: [Version; 3] = [Version::One, Version::Two, Version::Draft29];

fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    crate::secret::push_hex(&mut out, bytes);
    String::from_utf8(out).unwrap()
}

/// RFC 9001, appendix A.1; RFC 9369, appendix A.1.
#[test]
fn keys_are_those_of_the_specifications() {
    let expected = [
        (
            Version::One,
            "1f369613dd76d5467730efcbe3b1a22d",
            "fa044b2f42a3fd3b46fb255c",
            "9f50449e04a0e810283a1e9933adedd2",
        ),
        (
            Version::Two,
            "8b1a0bc121284290a29e0971b5cd045d",
            "91f73e2351d8fa91660e909f",
            "45b95e15235d6f45a6b19cbcb0294ba9",
        ),
    ];
    for (version, key, nonce, header) in expected {
        let keys = ClientKeys::derive(version, &ID);
        assert_eq!(hex(&keys.key), key);
        assert_eq!(hex(&keys.nonce), nonce);
        assert_eq!(hex(&keys.header), header);
    }
}

fn initials(datagram: &[u8]) -> Vec<Initial<'_>> {
    let initial = |packet| match packet {
        Packet::Initial(initial) => Some(initial),
        _ => None,
    };
    packets(datagram).filter_map(initial).collect()
}

#[test]
fn a_clients_packet_opens_with_the_keys_that_it_names() {
    let frames = [&build::crypto(0, b"hello")[..], &[0; 30]].concat();
    for version in VERSIONS {
        let packet = build::initial(version, &ID, &ID, 0x1234, &frames);
        assert!(begins_initial(&packet));
        // Two packets in one datagram, and bytes that are none.
        let datagram = [&packet[..], &packet, &[0; 50]].concat();
        let found = initials(&datagram);
        assert_eq!(found.len(), 2, "{version:?}");
        for initial in found {
            let keys = ClientKeys::derive(version, initial.destination);
            assert_eq!(keys.open(&initial).as_ref(), Some(&frames));
            let other = ClientKeys::derive(version, b"other");
            assert_eq!(other.open(&initial), None);
        }
    }
}

#[test]
fn every_bit_counts() {
    let packet = build::initial(Version::One, &ID, &ID, 1, &build::crypto(0, b"hello"));
    for at in 0..packet.len() {
        for bit in 0..8 {
            let mut damaged = packet.clone();
            damaged[at] ^= 1 << bit;
            for initial in initials(&damaged) {
                let keys = ClientKeys::derive(initial.version, initial.destination);
                assert_eq!(keys.open(&initial), None, "byte {at}, bit {bit}");
            }
        }
        assert!(initials(&packet[..at]).is_empty());
    }
}

#[test]
fn a_datagram_is_told_by_its_headers() {
    let answer = build::answer();
    let kinds: Vec<_> = packets(&answer).collect();
    assert!(matches!(kinds[..], [Packet::Initial(_), Packet::Protected]));
    let again = [Packet::Again];
    assert_eq!(packets(&build::retry(b"new")).collect::<Vec<_>>(), again);
    let negotiation = [0x80, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1];
    assert_eq!(packets(&negotiation).collect::<Vec<_>>(), again);
    let short = [&[0x41], &[7; 30][..]].concat();
    assert_eq!(packets(&short).collect::<Vec<_>>(), [Packet::Protected]);
    assert_eq!(packets(b"GET / HTTP/1.1").count(), 1, "short by its bits");
    assert_eq!(packets(&[0; 40]).count(), 0);
}

#[test]
fn only_crypto_frames_are_of_interest() {
    // ACK with one more range, ACK with counts, PING, PADDING.
    let others = [2, 9, 0, 1, 0, 1, 1, 3, 9, 0, 0, 0, 1, 1, 1, 1, 0, 0];
    let frames = [
        &others[..],
        &build::crypto(100, &[7; 70]),
        &others,
        &build::crypto(0, b"ab"),
        &[0x1c, 0],
        &build::crypto(2, b"c"),
    ]
    .concat();
    let found: Vec<_> = crypto_frames(&frames).collect();
    assert_eq!(found, [(100, &[7; 70][..]), (0, b"ab")]);
    for end in 0..frames.len() {
        assert!(crypto_frames(&frames[..end]).count() <= 2);
    }
    // A count of ranges that no packet can have.
    let many = [&[2, 0, 0][..], &[0xff; 8], &[0; 30]].concat();
    assert_eq!(crypto_frames(&many).count(), 0);
}
