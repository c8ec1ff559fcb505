//! Packets with their secrets against packets alone: the processor time that
//! tlscope and tcpdump take for the same transfer, in turn, in one run.
#![allow(clippy::cast_precision_loss)] // ticks and packets, shown with two digits

use std::fs;
use std::path::PathBuf;

use tlscope_tests::capture::Tlscope;
use tlscope_tests::certificates::certificates;
use tlscope_tests::program::{Program, tool};
use tlscope_tests::servers::Nginx;
use tlscope_tests::{KIB, MIB, Scene};

const ROUNDS: usize = 5;
/// Kernel buffer of both, in MiB: a burst is then no matter of scheduling.
const RING: u32 = 256;

/// What is transferred: URLs with a range for curl, and how.
struct Workload {
    name: &'static str,
    bytes: usize,
    requests: usize,
    arguments: &'static [&'static str],
    /// Times tcpdump's time at most. Connections cost what tcpdump has no part
    /// in: ten secrets each.
    limit: Option<f64>,
}

const WORKLOADS: [Workload; 2] = [
    Workload {
        name: "4 streams of 100 MiB",
        bytes: 25 * MIB,
        requests: 16,
        arguments: &["--parallel", "--parallel-max", "4"],
        limit: Some(1.3),
    },
    Workload {
        name: "1500 connections of 4 KiB",
        bytes: 4 * KIB,
        requests: 1500,
        arguments: &["--header", "Connection: close"],
        limit: None,
    },
];

/// What one capture took.
#[derive(Debug, Default)]
struct Cost {
    ticks: Vec<u64>,
    dropped: u64,
    packets: u64,
}

impl Cost {
    fn add(&mut self, ticks: u64, packets: u64, dropped: u64) {
        self.ticks.push(ticks);
        self.packets += packets;
        self.dropped += dropped;
    }

    fn median(&self) -> u64 {
        let mut sorted = self.ticks.clone();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    }
}

fn main() {
    let scene = Scene::new("bench-pcap");
    let nginx = Nginx::start(&scene);
    let mut fits = true;
    println!("{ROUNDS} rounds, medians of processor time; lo, to a file, {RING} MiB of ring\n");
    for workload in &WORKLOADS {
        nginx.serve(workload.bytes);
        let (mut tcpdump, mut tlscope) = (Cost::default(), Cost::default());
        for _ in 0..ROUNDS {
            with_tcpdump(&scene, &nginx, workload, &mut tcpdump);
            with_tlscope(&scene, &nginx, workload, &mut tlscope);
        }
        let ratio = tlscope.median() as f64 / tcpdump.median().max(1) as f64;
        println!("{}", workload.name);
        for (name, cost) in [("tcpdump", &tcpdump), ("tlscope", &tlscope)] {
            let seconds = cost.median() as f64 / 100.0;
            let (packets, dropped) = (cost.packets, cost.dropped);
            println!("  {name}  {seconds:>6.2} s  {packets:>8} packets  {dropped:>6} dropped");
        }
        println!("  ratio    {ratio:>6.2}\n");
        let in_time = workload.limit.is_none_or(|limit| ratio <= limit);
        fits &= in_time && tlscope.dropped <= tcpdump.dropped;
    }
    assert!(fits, "more than 1.3 times tcpdump's time, or more dropped");
}

fn with_tcpdump(scene: &Scene, nginx: &Nginx, workload: &Workload, cost: &mut Cost) {
    let file = scene.fresh("tcpdump.pcap");
    let mut command = tool("tcpdump", "tcpdump");
    let ring = (RING * 1024).to_string();
    command.args(["-i", "lo", "-B", &ring, "-Z", "root", "-w"]);
    command.arg(&file).arg(format!("tcp port {}", nginx.port));
    let mut program = Program::start(scene, "tcpdump", command);
    program.until("tcpdump to listen", |p| {
        p.stderr_so_far().contains("listening on").then_some(())
    });
    transfer(scene, nginx, workload);
    let ticks = processor_time(program.pid());
    program.signal(rustix::process::Signal::INT);
    let ended = program.finish().success();
    let number = |name: &str| number_before(&ended.stderr, name);
    cost.add(
        ticks,
        number("packets captured"),
        number("packets dropped by kernel"),
    );
    remove(file);
}

fn with_tlscope(scene: &Scene, nginx: &Nginx, workload: &Workload, cost: &mut Cost) {
    let file = scene.fresh("tlscope.pcapng");
    let tlscope = Tlscope::pcap("lo")
        .with("mapsize", format!("{RING}M"))
        .arg("-w")
        .arg(&file);
    let capture = tlscope
        .args(["tcp", "port", &nginx.port.to_string()])
        .start(scene);
    // Finding and attaching is paid once: the transfer is what counts.
    let before = processor_time(capture.pid());
    transfer(scene, nginx, workload);
    let ticks = processor_time(capture.pid()) - before;
    let ended = capture.stop().finished;
    let number = |name: &str| number_before(&ended.stderr, name);
    cost.add(
        ticks,
        number("packets written"),
        number("packets dropped by the kernel"),
    );
    remove(file);
}

fn transfer(scene: &Scene, nginx: &Nginx, workload: &Workload) {
    let mut command = tool("curl", "curl");
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]);
    command.arg("--cacert").arg(&certificates().ca);
    command
        .args(workload.arguments)
        .args(["--http1.1", "-o", "/dev/null"]);
    let (bytes, last) = (workload.bytes, workload.requests);
    command.arg(nginx.url(&format!("/{bytes}.bin?[1-{last}]")));
    let _ = Program::start(scene, "curl", command).finish().success();
}

/// User and system time of all threads so far, in hundredths of a second.
fn processor_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running capture");
    let after_name = stat.rsplit(')').next().expect("fields");
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields
        .map(|ticks| ticks.parse::<u64>().expect("ticks"))
        .sum()
}

fn number_before(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.contains(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {name:?} in:\n{text}"))
}

fn remove(file: PathBuf) {
    fs::remove_file(file).expect("remove a capture");
}
