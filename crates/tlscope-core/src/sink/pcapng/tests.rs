use super::*;

/// Type and length of each block; both lengths must agree, to the end.
fn walk(mut bytes: &[u8]) -> Vec<(u32, usize)> {
    let mut blocks = Vec::new();
    let word = |bytes: &[u8], at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    while !bytes.is_empty() {
        let length = word(bytes, 4) as usize;
        assert_eq!(length % 4, 0);
        assert_eq!(word(bytes, length - 4) as usize, length);
        blocks.push((word(bytes, 0), length));
        bytes = &bytes[length..];
    }
    blocks
}

#[test]
fn every_block_says_its_length_twice() {
    let mut bytes = Vec::new();
    let section = Section {
        application: "tlscope".into(),
        os: "Linux \u{e4}".into(),
        hardware: String::new(),
    };
    section_header(&mut bytes, &section);
    let interface = Interface {
        name: "lo".into(),
        link_type: LinkType::ETHERNET,
        snapshot_length: 0,
        filter: "tcp port 443".into(),
    };
    interface_description(&mut bytes, &interface);
    decryption_secrets(&mut bytes, b"CLIENT_RANDOM 00 00\n");
    name_resolution(&mut bytes, IpAddr::from([127, 0, 0, 1]), "localhost");
    name_resolution(&mut bytes, IpAddr::from([0; 16]), "any");
    interface_statistics(&mut bytes, 0, &Statistics::default());
    let kinds: Vec<u32> = walk(&bytes).iter().map(|block| block.0).collect();
    assert_eq!(
        kinds,
        [
            SECTION_HEADER,
            INTERFACE_DESCRIPTION,
            DECRYPTION_SECRETS,
            NAME_RESOLUTION,
            NAME_RESOLUTION,
            INTERFACE_STATISTICS
        ]
    );
}

#[test]
fn packets_of_any_length_with_any_comment() {
    let long = "\u{e4}".repeat(40_000);
    for length in 0..9_u32 {
        for comment in ["", "x", "four", "five5", &long] {
            let mut bytes = Vec::new();
            let head = PacketHead {
                interface: 1,
                time: 0x0123_4567_89ab_cdef,
                captured: length,
                original: 1500,
            };
            packet(&mut bytes, head, &vec![7; length as usize], comment);
            let blocks = walk(&bytes);
            assert_eq!(blocks, [(ENHANCED_PACKET, bytes.len())]);
        }
    }
}

#[test]
fn a_packet_byte_by_byte() {
    let mut bytes = Vec::new();
    let head = PacketHead {
        interface: 2,
        time: (3 << 32) | 4,
        captured: 5,
        original: 6,
    };
    packet(&mut bytes, head, b"hello", "hi");
    let words: Vec<u32> = bytes
        .chunks(4)
        .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
        .collect();
    let option = u32::from_ne_bytes(
        [1_u16.to_ne_bytes(), 2_u16.to_ne_bytes()]
            .concat()
            .try_into()
            .unwrap(),
    );
    let hell = u32::from_ne_bytes(*b"hell");
    let o = u32::from_ne_bytes(*b"o\0\0\0");
    let hi = u32::from_ne_bytes(*b"hi\0\0");
    assert_eq!(words, [6, 52, 2, 3, 4, 5, 6, hell, o, option, hi, 0, 52]);
}
