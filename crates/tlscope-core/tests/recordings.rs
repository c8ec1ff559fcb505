//! Recorded conversations of real clients and servers: every exchange that they
//! logged is told once, paired right, with the content that it had.

mod recordings {
    pub(crate) mod exchanges;
}

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use recordings::exchanges::{Collector, Exchange};
use tlscope_core::event::Direction::{Received, Sent};
use tlscope_core::event::{
    Comm, ConnectionKey, Data, Direction, Event, Process, Socket, Timestamp,
};
use tlscope_core::pipeline::{Pipeline, PipelineOptions};
use tlscope_core::summary::CaptureCounters;

#[test]
fn http1() {
    check("node-http1");
}

#[test]
fn http2() {
    check("node-http2");
}

/// What is paired in spite of lost bytes is paired right, and the decoder
/// finds its way back.
#[test]
fn losses_pair_nothing_wrongly() {
    for name in ["node-http1", "node-http2"] {
        let (calls, expected) = (calls(name), logged(name));
        let mut found = 0;
        for lost in 0..calls.len() {
            let kept = |call, _| call != lost;
            found += check_pairs(
                &expected,
                &replay_into(&Collector::lossy(), &calls, 4096, kept),
            );
            let kept = |call, piece| call != lost || piece % 3 != 1;
            found += check_pairs(
                &expected,
                &replay_into(&Collector::lossy(), &calls, 100, kept),
            );
        }
        let whole = 2 * calls.len() * expected.len();
        println!("{name}: {found} of {whole} exchanges paired with one call lost");
        assert!(found > whole / 4 * 3, "{name}: {found} of {whole}");
    }
}

/// Attached late: the first calls are not even known to be missing.
#[test]
fn late_attachment_pairs_nothing_wrongly() {
    for name in ["node-http1", "node-http2"] {
        let (calls, expected) = (calls(name), logged(name));
        for first in 0..calls.len() {
            let late = &calls[first..];
            check_pairs(
                &expected,
                &replay_into(&Collector::lossy(), late, 16 * 1024, |_, _| true),
            );
        }
    }
}

/// How many of the exchanges are known; every one of them must be one that was.
fn check_pairs(expected: &[Exchange], found: &[Exchange]) -> usize {
    let known: Vec<_> = found
        .iter()
        .filter(|found| !found.target.starts_with('['))
        .collect();
    for found in &known {
        let same = |e: &&Exchange| e.target == found.target && e.status == found.status;
        let logged = expected.iter().find(same);
        let shown = (&found.method, &found.target, found.status);
        assert!(
            logged.is_some_and(|e| found.method == "[unknown]" || e.method == found.method),
            "{shown:?}"
        );
    }
    known.len()
}

fn check(name: &str) {
    let calls = calls(name);
    let mut expected = logged(name);
    expected.sort();
    for size in [1, 9, 100, 1448, 16 * 1024, usize::MAX] {
        let mut exchanges = replay(&calls, size);
        exchanges.sort();
        assert_eq!(exchanges, expected, "{name} in pieces of {size}");
    }
}

/// The calls of a recording, in order.
fn calls(name: &str) -> Vec<(Direction, Vec<u8>)> {
    let call = |line: &str| {
        let (direction, bytes) = line.split_once(' ').unwrap();
        let direction = if direction == "S" { Sent } else { Received };
        (direction, STANDARD.decode(bytes).unwrap())
    };
    read(name, "recording").lines().map(call).collect()
}

/// What the client logged.
fn logged(name: &str) -> Vec<Exchange> {
    let exchange = |line: &str| {
        let logged: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |member: &str| logged[member].as_str().unwrap().to_owned();
        let number = |member: &str| logged[member].as_u64().unwrap();
        let target = text("target");
        let length = target.rsplit('/').next().unwrap().parse().unwrap();
        let content = if number("decoded") > 0 {
            body(length)
        } else {
            String::new()
        };
        assert_eq!(content.len() as u64, number("decoded"));
        Exchange {
            method: text("method"),
            target,
            status: u16::try_from(number("status")).unwrap(),
            sent: number("sent"),
            received: number("received"),
            content,
        }
    };
    read(name, "log").lines().map(exchange).collect()
}

/// The content that the server answers with: so many characters of numbered lines.
fn body(length: usize) -> String {
    (0..)
        .flat_map(|n| {
            format!("line {n} of {length} \u{e9}\n")
                .chars()
                .collect::<Vec<_>>()
        })
        .take(length)
        .collect()
}

fn read(name: &str, extension: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    std::fs::read_to_string(folder.join(name).with_extension(extension)).unwrap()
}

fn replay(calls: &[(Direction, Vec<u8>)], size: usize) -> Vec<Exchange> {
    replay_into(&Collector::default(), calls, size, |_, _| true)
}

/// The pieces that `kept` refuses, by number of call and of piece, are lost.
fn replay_into(
    collector: &Collector,
    calls: &[(Direction, Vec<u8>)],
    size: usize,
    kept: impl Fn(usize, usize) -> bool,
) -> Vec<Exchange> {
    let sinks: Vec<Box<dyn tlscope_core::sink::Sink + Send>> = vec![Box::new(collector.clone())];
    let mut pipeline = Pipeline::new(PipelineOptions::default(), sinks);
    let mut offsets = [0; 2];
    for (call, (direction, bytes)) in calls.iter().enumerate() {
        let call_offset = offsets[*direction as usize];
        for (piece, payload) in bytes.chunks(size).enumerate() {
            let data = Data {
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
                offset: offsets[*direction as usize],
                call_offset,
                call_length: bytes.len() as u64,
                payload,
            };
            offsets[*direction as usize] += payload.len() as u64;
            if kept(call, piece) {
                pipeline.event(Event::Data(data)).unwrap();
            }
        }
    }
    pipeline.finish(&CaptureCounters::default()).unwrap();
    collector.exchanges()
}
