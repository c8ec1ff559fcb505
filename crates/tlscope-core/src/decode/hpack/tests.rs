use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Decodes a block and writes its fields as lines.
fn fields(hpack: &mut Hpack, block: &str) -> String {
    let mut text = String::new();
    let decoded = hpack.decode(&hex(block), |name, value| {
        text += &[name, b": ", value, b"\n"]
            .concat()
            .escape_ascii()
            .to_string()
            .replace(r"\n", "\n");
    });
    assert_eq!(decoded, Ok(()));
    text
}

#[track_caller]
fn check(hpack: &mut Hpack, block: &str, expected: &str, size: usize) {
    assert_eq!(fields(hpack, block), expected);
    assert_eq!(hpack.size, size);
}

const REQUESTS: [&str; 3] = [
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n",
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache\n",
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n\
     custom-key: custom-value\n",
];
const RESPONSES: [&str; 3] = [
    ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
     location: https://www.example.com\n",
    ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
     location: https://www.example.com\n",
    ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n\
     location: https://www.example.com\ncontent-encoding: gzip\n\
     set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n",
];

#[test]
fn appendix_c_1_integers() {
    let integer = |prefix, bytes: &[u8]| Reader { rest: bytes }.integer(prefix);
    assert_eq!(integer(5, &[0x0a]), Some(10));
    assert_eq!(integer(5, &[0x1f, 0x9a, 0x0a]), Some(1337));
    assert_eq!(integer(8, &[0x2a]), Some(42));
    assert_eq!(integer(5, &[0x1f, 0x9a]), None);
    assert_eq!(integer(5, &[0x1f, 0xff, 0xff, 0xff, 0xff, 0x01]), None);
}

#[test]
fn appendix_c_2_representations() {
    let mut hpack = Hpack::default();
    let indexed = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    check(&mut hpack, indexed, "custom-key: custom-header\n", 55);
    let mut hpack = Hpack::default();
    check(
        &mut hpack,
        "040c 2f73 616d 706c 652f 7061 7468",
        ":path: /sample/path\n",
        0,
    );
    check(
        &mut hpack,
        "1008 7061 7373 776f 7264 0673 6563 7265 74",
        "password: secret\n",
        0,
    );
    check(&mut hpack, "82", ":method: GET\n", 0);
}

#[test]
fn appendix_c_3_requests() {
    let mut hpack = Hpack::default();
    check(
        &mut hpack,
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        REQUESTS[0],
        57,
    );
    check(
        &mut hpack,
        "8286 84be 5808 6e6f 2d63 6163 6865",
        REQUESTS[1],
        110,
    );
    let third = "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65";
    check(&mut hpack, third, REQUESTS[2], 164);
}

#[test]
fn appendix_c_4_requests_with_huffman() {
    let mut hpack = Hpack::default();
    check(
        &mut hpack,
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        REQUESTS[0],
        57,
    );
    check(
        &mut hpack,
        "8286 84be 5886 a8eb 1064 9cbf",
        REQUESTS[1],
        110,
    );
    let third = "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf";
    check(&mut hpack, third, REQUESTS[2], 164);
}

#[test]
fn appendix_c_5_responses_with_eviction() {
    let mut hpack = Hpack {
        max_size: Some(256),
        ..Hpack::default()
    };
    let first = "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
        2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63
        6f6d";
    check(&mut hpack, first, RESPONSES[0], 222);
    check(&mut hpack, "4803 3330 37c1 c0bf", RESPONSES[1], 222);
    let third = "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
        54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851
        5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31";
    check(&mut hpack, third, RESPONSES[2], 215);
}

#[test]
fn appendix_c_6_responses_with_huffman() {
    let mut hpack = Hpack {
        max_size: Some(256),
        ..Hpack::default()
    };
    let first = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
        2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    check(&mut hpack, first, RESPONSES[0], 222);
    check(&mut hpack, "4883 640e ffc1 c0bf", RESPONSES[1], 222);
    let third = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
        77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160
        65c0 03ed 4ee5 b106 3d50 07";
    check(&mut hpack, third, RESPONSES[2], 215);
}

#[test]
fn a_late_decoder_knows_what_was_inserted_since() {
    let mut hpack = Hpack::default();
    hpack.lose();
    // An unknown entry; then a new one, which pushes the unknown one up.
    assert_eq!(
        fields(&mut hpack, "82be"),
        ":method: GET\n[62]: [unknown]\n"
    );
    assert_eq!(fields(&mut hpack, "4001 6101 62"), "a: b\n");
    assert_eq!(fields(&mut hpack, "bebf"), "a: b\n[63]: [unknown]\n");
    assert_eq!(fields(&mut hpack, "7f00 0163"), "[63]: c\n");
}

#[test]
fn malformed_blocks_end_what_is_known() {
    for block in [
        "80",
        "ff",
        "40",
        "4001",
        "400561",
        "0f",
        "3fffffffffff",
        "0081ff",
    ] {
        let mut hpack = Hpack::default();
        assert_eq!(
            hpack.decode(&hex(block), |_, _| {}),
            Err(Malformed),
            "{block}"
        );
        assert_eq!(hpack.max_size, None);
    }
}

#[test]
fn fields_and_table_are_bounded() {
    let mut hpack = Hpack::default();
    hpack.lose();
    let value = "61".repeat(126);
    for _ in 0..1000 {
        fields(&mut hpack, &format!("4001 617e {value}"));
    }
    assert!(hpack.size <= MAX_SIZE);
    let mut bytes = 0;
    hpack
        .decode(&vec![0xbe; 60_000], |name, value| {
            bytes += name.len() + value.len();
        })
        .unwrap();
    assert!(bytes <= MAX_FIELDS);
}
