//! Throughput of the pipeline by traffic and output, as ratios of memcpy in
//! the same run, and allocations per event.
//!
//! `cargo run --release -p tlscope-core --example decode_bench`
#![allow(clippy::cast_precision_loss)] // rates are rounded when printed

mod decode_bench {
    pub(crate) mod traffic;
}

use std::hint::black_box;
use std::io;
use std::time::Duration;

use decode_bench::traffic::{self, Traffic};
use tlscope_core::event::{Event, Timestamp};
use tlscope_core::pipeline::{Pipeline, PipelineOptions};
use tlscope_core::sink::{JsonOptions, JsonSink, Sink, TextOptions, TextSink};
use tlscope_core::summary::CaptureCounters;

/// Long enough to make chance small, short enough to be run often.
const RUN: Duration = Duration::from_millis(400);
const EVENTS_PER_TICK: usize = 1000;
const GIB: f64 = (1 << 30) as f64;

fn main() {
    let memcpy = memcpy_rate();
    println!("memcpy of 16 KiB pieces: {:.2} GiB/s", memcpy / GIB);
    println!(
        "{:<28}{:>10}{:>10}{:>10}{:>14}",
        "traffic", "output", "GiB/s", "memcpy/x", "allocs/event"
    );
    for traffic in traffic::all() {
        for (output, sink) in [("none", none as NewSink), ("text", text), ("json", json)] {
            let (rate, allocations) = rate(&traffic, sink);
            let (name, ratio) = (traffic.name, memcpy / rate);
            println!(
                "{name:<28}{output:>10}{:>10.2}{ratio:>10.1}{allocations:>14.2}",
                rate / GIB
            );
        }
    }
}

type NewSink = fn() -> Vec<Box<dyn Sink + Send>>;

fn none() -> Vec<Box<dyn Sink + Send>> {
    Vec::new()
}

fn text() -> Vec<Box<dyn Sink + Send>> {
    vec![Box::new(TextSink::new(io::sink(), TextOptions::default()))]
}

fn json() -> Vec<Box<dyn Sink + Send>> {
    vec![Box::new(JsonSink::new(io::sink(), JsonOptions::default()))]
}

/// Bytes a second, and allocations an event.
fn rate(traffic: &Traffic, sinks: NewSink) -> (f64, f64) {
    let (mut totals, mut spent) = (Totals::default(), Duration::ZERO);
    let allocated = allocation_counter::measure(|| {
        while spent < RUN {
            let started = cpu_time();
            totals.add(run(traffic, sinks()));
            spent += cpu_time().saturating_sub(started);
        }
    });
    let (bytes, events) = (totals.bytes as f64, totals.events as f64);
    (
        bytes / spent.as_secs_f64(),
        allocated.count_total as f64 / events,
    )
}

#[derive(Default, Clone, Copy)]
struct Totals {
    bytes: usize,
    events: usize,
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.events += other.events;
    }
}

fn run(traffic: &Traffic, sinks: Vec<Box<dyn Sink + Send>>) -> Totals {
    let mut totals = Totals::default();
    let mut pipeline = Pipeline::new(PipelineOptions::default(), sinks);
    for data in traffic.events() {
        totals.add(Totals {
            bytes: data.payload.len(),
            events: 1,
        });
        pipeline
            .event(Event::Data(data))
            .expect("the writer takes all");
        if totals.events % EVENTS_PER_TICK == 0 {
            pipeline.tick(Timestamp(0)).expect("the writer takes all");
        }
    }
    black_box(pipeline.finish(&CaptureCounters::default())).expect("the writer takes all");
    totals
}

/// Copying pieces as large as the kernel side's, from a source as large as the traffic.
fn memcpy_rate() -> f64 {
    let source = vec![b'x'; traffic::BODY];
    let mut target = Vec::with_capacity(traffic::PIECE);
    let (started, mut bytes) = (cpu_time(), 0);
    while cpu_time().saturating_sub(started) < RUN {
        for piece in source.chunks(traffic::PIECE) {
            target.clear();
            target.extend_from_slice(black_box(piece));
            bytes += black_box(&target).len();
        }
    }
    bytes as f64 / cpu_time().saturating_sub(started).as_secs_f64()
}

/// Of this thread: other programs on the machine do not count.
fn cpu_time() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat");
    let schedstat = schedstat.expect("a kernel with scheduler statistics");
    let first = schedstat.split(' ').next().and_then(|n| n.parse().ok());
    Duration::from_nanos(first.expect("nanoseconds on the CPU"))
}
