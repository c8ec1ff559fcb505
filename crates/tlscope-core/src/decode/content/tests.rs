use super::*;

const TEXT: &[u8] = b"hello hello hello, brotli\n";

fn head(coding: &str) -> Head {
    let mut head = Head::response("HTTP/1.1", 200, "OK");
    head.push(b"Content-Encoding", coding.as_bytes());
    head
}

/// Decodes a whole coded text, in pieces of every size.
#[track_caller]
fn check(coding: &str, coded: &[u8], text: &[u8]) {
    for size in [1, 2, 3, 7, 1000, usize::MAX] {
        let mut content = Content::of(&head(coding));
        assert!(!content.is_identity());
        let mut out = Vec::new();
        for piece in coded.chunks(size) {
            content.decode(piece, &mut out).unwrap();
        }
        assert!(
            out == text,
            "{coding} in pieces of {size}: {} bytes",
            out.len()
        );
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
}

fn numbers() -> Vec<u8> {
    (0..100_000)
        .flat_map(|n: u32| n.to_string().into_bytes())
        .collect()
}

#[test]
fn every_coding_is_undone_however_it_is_cut() {
    check("gzip", &gzip(TEXT), TEXT);
    check(
        "X-GZIP",
        &[gzip(TEXT), gzip(TEXT)].concat(),
        &TEXT.repeat(2),
    );
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(TEXT).unwrap();
    check("deflate", &zlib.finish().unwrap(), TEXT);
    let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    bare.write_all(TEXT).unwrap();
    check("deflate", &bare.finish().unwrap(), TEXT);
    let brotli = b"\x8b\x0c\x80hello hello hello, brotli\n\x03";
    check("br", brotli, TEXT);
    check("zstd", &zstd(TEXT), TEXT);
    check("zstd", &zstd(&numbers()), &numbers());
}

#[test]
fn a_piece_shows_as_soon_as_it_came() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(b"first").unwrap();
    encoder.flush().unwrap();
    let (mut content, mut out) = (Content::of(&head("gzip")), Vec::new());
    content.decode(encoder.get_ref(), &mut out).unwrap();
    assert_eq!(out, b"first");
}

#[test]
fn a_bomb_is_cut() {
    let bomb = gzip(&vec![0; 80 << 20]);
    let (mut content, mut out) = (Content::of(&head("gzip")), Vec::new());
    let results: Vec<_> = bomb
        .chunks(16 * 1024)
        .map(|p| content.decode(p, &mut out))
        .collect();
    assert_eq!(out.len() as u64, MAX_CONTENT);
    assert_eq!(
        results
            .iter()
            .filter(|r| **r == Err(ContentError::TooLong))
            .count(),
        1
    );
}

#[test]
fn what_does_not_decode_is_told_once() {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let (mut content, mut out) = (Content::of(&head(coding)), Vec::new());
        let noise: Vec<u8> = (0..20_000_u32)
            .map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8)
            .collect();
        let first = content.decode(&[b"\x08\xff\xff", &noise[..]].concat(), &mut out);
        assert_eq!(first, Err(ContentError::Malformed), "{coding}");
        assert_eq!(content.decode(b"more", &mut out), Ok(()));
    }
    let mut content = Content::of(&head("gzip"));
    content.lose();
    let mut out = Vec::new();
    assert_eq!(content.decode(b"rest", &mut out), Err(ContentError::Lost));
    assert_eq!(content.decode(b"rest", &mut out), Ok(()));
    assert!(out.is_empty());
}

#[test]
fn unknown_and_combined_codings_are_left_alone() {
    for coding in ["identity", "compress", "gzip, br", ""] {
        assert!(Content::of(&head(coding)).is_identity(), "{coding}");
    }
}
