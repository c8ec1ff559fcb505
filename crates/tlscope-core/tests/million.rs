//! A million connections, with the limits of a real capture: what they leave in memory.

use std::io;

use tlscope_core::event::{
    Close, Comm, ConnectionKey, Data, Direction, Event, Process, Socket, Timestamp,
};
use tlscope_core::pipeline::{Pipeline, PipelineOptions};
use tlscope_core::sink::{TextOptions, TextSink};
use tlscope_core::summary::{CaptureCounters, Summary};

const MILLION: u64 = 1_000_000;
const MIB: u64 = 1024 * 1024;
/// Half a request: what a connection may hold on to for as long as it is open.
const REQUEST: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: example.org\r\n";
/// Nanoseconds between two connections, and between two ticks of a capture.
const APART: u64 = 100_000;
const TICK: u64 = 50_000_000;

/// What each connection does behind its first bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    StayOpen,
    Close,
}

fn process() -> Process {
    Process {
        pid: 42,
        tid: 43,
        uid: 1000,
        comm: Comm::new(b"server"),
    }
}

fn connect(pipeline: &mut Pipeline, number: u64, then: Then) {
    let time = Timestamp(number * APART);
    // Objects stand where others stood before: the generation tells them apart.
    let connection = ConnectionKey {
        pid: 42,
        object: 0x7f00_0000_0000 + number % 4096 * 64,
        generation: number,
    };
    let length = REQUEST.len() as u64;
    let data = Data {
        time,
        process: process(),
        connection,
        socket: Socket::default(),
        direction: Direction::Received,
        offset: 0,
        call_offset: 0,
        call_length: length,
        payload: REQUEST,
    };
    pipeline
        .event(Event::Data(data))
        .expect("a sink that takes all");
    if then == Then::Close {
        let close = Close {
            time,
            process: process(),
            connection,
            socket: Socket::default(),
            total: [length, 0],
        };
        pipeline
            .event(Event::Close(close))
            .expect("a sink that takes all");
    }
    if time.0.is_multiple_of(TICK) {
        pipeline.tick(time).expect("a sink that takes all");
    }
}

/// What a million of them came to.
struct Outcome {
    /// The most memory held at once in the first half of them, and what the second half added.
    most: u64,
    added: u64,
    summary: Summary,
}

fn run(then: Then) -> Outcome {
    let mut pipeline = None;
    let first = allocation_counter::measure(|| {
        let sink = Box::new(TextSink::new(io::sink(), TextOptions::default()));
        let pipeline = pipeline.insert(Pipeline::new(PipelineOptions::default(), vec![sink]));
        (0..MILLION / 2).for_each(|number| connect(pipeline, number, then));
    });
    let mut pipeline = pipeline.expect("a pipeline");
    let second = allocation_counter::measure(|| {
        (MILLION / 2..MILLION).for_each(|number| connect(&mut pipeline, number, then));
    });
    let summary = pipeline
        .finish(&CaptureCounters::default())
        .expect("a sink that takes all");
    let (most, added) = (first.bytes_max, second.bytes_max);
    println!(
        "{} KiB at most, {} KiB added by the second half",
        most / 1024,
        added / 1024
    );
    Outcome {
        most,
        added,
        summary,
    }
}

#[test]
fn a_million_connections_that_stay_open_are_bounded_and_what_is_given_up_is_told() {
    let Outcome {
        most,
        added,
        summary,
    } = run(Then::StayOpen);
    let held = PipelineOptions::default().max_connections as u64;
    assert_eq!(summary.connections, MILLION);
    assert!(summary.evicted_connections >= MILLION - held);
    assert_eq!(
        summary.of(Direction::Received).captured,
        MILLION * REQUEST.len() as u64
    );
    assert!(most + added < 256 * MIB, "{most} bytes, {added} more");
}

#[test]
fn a_million_connections_that_come_and_go_leave_memory_as_half_of_them_do() {
    let Outcome {
        most,
        added,
        summary,
    } = run(Then::Close);
    assert_eq!(summary.connections, MILLION);
    assert_eq!(summary.evicted_connections, 0);
    // A table grows once more when places of those that went have filled it.
    assert!(most + added < 64 * MIB, "{most} bytes, {added} more");
}
