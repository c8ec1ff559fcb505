//! Recorded traffic to measure with: whole connections as event streams.

use std::io::Write;

use tlscope_core::event::{Comm, ConnectionKey, Data, Direction, Process, Socket, Timestamp};

pub(crate) const PIECE: usize = 16 * 1024;
pub(crate) const BODY: usize = 16 << 20;

pub(crate) struct Traffic {
    pub(crate) name: &'static str,
    calls: Vec<(Direction, Vec<u8>)>,
}

impl Traffic {
    /// The calls' pieces as the kernel side delivers them.
    pub(crate) fn events(&self) -> impl Iterator<Item = Data<'_>> {
        let mut offsets = [0; 2];
        self.calls.iter().flat_map(move |(direction, bytes)| {
            let call_offset = offsets[*direction as usize];
            offsets[*direction as usize] += bytes.len() as u64;
            bytes
                .chunks(PIECE)
                .enumerate()
                .map(move |(index, payload)| Data {
                    time: Timestamp(0),
                    process: Process {
                        pid: 1,
                        tid: 1,
                        uid: 0,
                        comm: Comm::default(),
                    },
                    connection: ConnectionKey {
                        pid: 1,
                        object: 1,
                        generation: 1,
                    },
                    socket: Socket::default(),
                    direction: *direction,
                    offset: call_offset + (index * PIECE) as u64,
                    call_offset,
                    call_length: bytes.len() as u64,
                    payload,
                })
        })
    }
}

pub(crate) fn all() -> Vec<Traffic> {
    vec![
        plain(
            "plain ASCII",
            &text(b"The quick brown fox jumps over the lazy dog.\n"),
        ),
        plain(
            "plain UTF-8",
            &text("\u{4e16}\u{754c}\u{4f60}\u{597d}, \u{43c}\u{438}\u{440}\n".as_bytes()),
        ),
        plain(
            "plain JSON",
            &text(br#"{"id":123,"name":"example","list":[1,2,3]},"#),
        ),
        plain("plain binary", &noise()),
        http1_body(
            "HTTP/1 body",
            &text(b"The quick brown fox jumps over the lazy dog.\n"),
        ),
        http1_chunked(
            "HTTP/1 chunked",
            &text(b"The quick brown fox jumps over the lazy dog.\n"),
        ),
        http1_gzip("HTTP/1 gzip", &words()),
        http1_small("HTTP/1 small exchanges"),
        http2(
            "HTTP/2 body",
            &text(b"The quick brown fox jumps over the lazy dog.\n"),
            1,
        ),
        http2("HTTP/2 small exchanges", &vec![b'x'; 3_000_000], 50_000),
    ]
}

fn text(pattern: &[u8]) -> Vec<u8> {
    pattern.iter().copied().cycle().take(BODY).collect()
}

/// Text that deflate halves or so.
fn words() -> Vec<u8> {
    noise()
        .iter()
        .map(|byte| b"etaoinshrdlucmfw"[usize::from(byte & 15)])
        .collect()
}

fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state as u8)
    };
    std::iter::from_fn(next).take(BODY).collect()
}

fn plain(name: &'static str, body: &[u8]) -> Traffic {
    let calls = body
        .chunks(1 << 20)
        .map(|call| (Direction::Sent, call.to_vec()))
        .collect();
    Traffic { name, calls }
}

fn http1_body(name: &'static str, body: &[u8]) -> Traffic {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut traffic = plain(name, body);
    traffic
        .calls
        .insert(0, (Direction::Sent, head.into_bytes()));
    traffic
}

fn http1_chunked(name: &'static str, body: &[u8]) -> Traffic {
    let mut stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(8192) {
        stream.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        stream.extend_from_slice(chunk);
        stream.extend_from_slice(b"\r\n");
    }
    stream.extend_from_slice(b"0\r\n\r\n");
    plain(name, &stream)
}

fn http1_small(name: &'static str) -> Traffic {
    let request = b"GET /api/items?page=2 HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\r\n";
    let response = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"items\":[1,2,3],\"page\":2}\n";
    let calls = (0..50_000).flat_map(|_| {
        [
            (Direction::Sent, request.to_vec()),
            (Direction::Received, response.to_vec()),
        ]
    });
    Traffic {
        name,
        calls: calls.collect(),
    }
}

/// As a browser and a server speak it: small frames, then one long body.
fn http2(name: &'static str, body: &[u8], streams: u32) -> Traffic {
    let mut client = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    client.extend(frame(4, 0, 0, b""));
    let mut calls = vec![
        (Direction::Sent, client),
        (Direction::Received, frame(4, 0, 0, b"")),
    ];
    let share = body.len() / streams as usize;
    for stream in (0..streams).map(|n| n * 2 + 1) {
        // GET https://www.example.com/ in HPACK (RFC 7541 section C.4.1).
        let request = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        calls.push((Direction::Sent, frame(1, 5, stream, request)));
        let mut response = frame(1, 4, stream, b"\x88\x5f\x0atext/plain");
        for data in body[..share].chunks(PIECE) {
            response.extend(frame(0, 0, stream, data));
        }
        response.extend(frame(0, 1, stream, b""));
        calls.push((Direction::Received, response));
    }
    Traffic { name, calls }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Throughput is of coded bytes.
fn http1_gzip(name: &'static str, body: &[u8]) -> Traffic {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).expect("memory takes all");
    let coded = encoder.finish().expect("memory takes all");
    let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n";
    plain(name, &[head.as_bytes(), &coded].concat())
}
