//! `make bench`: what capturing costs, as ratios taken in one run.
//!
//! Each workload runs under each condition in turn, several rounds over, and the
//! median counts: what else the machine does then falls on all alike. The
//! yardstick of text mode is an empty uprobe pair on the same functions.
#![allow(clippy::cast_precision_loss)] // byte counts, shown with two digits

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tlscope_tests::capture::{Capture, Tlscope, binary};
use tlscope_tests::certificates::certificates;
use tlscope_tests::program::{Program, run, tool};
use tlscope_tests::servers::Nginx;
use tlscope_tests::{SYSTEM_LIBSSL, Scene, fixtures, go};

const ROUNDS: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Off,
    EmptyPair,
    Text,
    Keylog,
}

const CONDITIONS: [Condition; 4] = [
    Condition::Off,
    Condition::EmptyPair,
    Condition::Text,
    Condition::Keylog,
];

/// A number to be had under every condition.
struct Workload<'a> {
    name: String,
    /// What is captured: the library, or the program.
    image: PathBuf,
    unit: &'static str,
    run: Box<dyn Fn() -> f64 + 'a>,
    /// Requests per second grow when things go well; nanoseconds shrink.
    more_is_better: bool,
}

fn main() {
    let scene = Scene::new("bench");
    let nginx = Nginx::start(&scene);
    let go = GoServer::start(&scene);
    println!("{ROUNDS} rounds, medians; {}\n", machine());
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>9}  {:>10} {:>10}",
        "", "off", "empty", "text", "keylog", "text/empty", "keylog/off"
    );
    let mut usage = Usage::default();
    for workload in workloads(&scene, &nginx, &go) {
        measure(&scene, &workload, &mut usage);
    }
    usage.print();
}

fn workloads<'a>(scene: &'a Scene, nginx: &'a Nginx, go: &'a GoServer) -> Vec<Workload<'a>> {
    let calls = [(64, 40_000), (1024, 40_000), (16 * 1024, 20_000)];
    let mut all: Vec<Workload<'_>> = calls
        .into_iter()
        .map(|(bytes, messages)| Workload {
            name: format!("write + read of {bytes} bytes"),
            image: SYSTEM_LIBSSL.into(),
            unit: "ns",
            run: Box::new(move || call_loop(scene, bytes, messages)),
            more_is_better: false,
        })
        .collect();
    for (bytes, connection) in [
        (1024, "keep-alive"),
        (65_536, "keep-alive"),
        (1024, "close"),
    ] {
        let (path, _) = nginx.serve(bytes);
        all.push(Workload {
            name: format!("nginx, {bytes} bytes, {connection}"),
            image: SYSTEM_LIBSSL.into(),
            unit: "req/s",
            run: Box::new(move || web_load(scene, &nginx.url(&path), connection)),
            more_is_better: true,
        });
    }
    for connection in ["keep-alive", "close"] {
        let url = format!("https://localhost:{}/", go.port);
        all.push(Workload {
            name: format!("Go server, 1024 bytes, {connection}"),
            image: go.image.clone(),
            unit: "req/s",
            run: Box::new(move || web_load(scene, &url, connection)),
            more_is_better: true,
        });
    }
    all
}

/// `net/http` of Go, until it is dropped.
struct GoServer {
    image: PathBuf,
    port: u16,
    _program: Program,
}

impl GoServer {
    fn start(scene: &Scene) -> Self {
        let image = go::STRIPPED.program();
        let mut program = go::start(scene, &image, "-serve");
        let port = program.until("the port of the Go server", |p| {
            let out = String::from_utf8(p.stdout_so_far()).ok()?;
            let line = out.lines().find_map(|line| line.strip_prefix("port "))?;
            line.parse().ok()
        });
        Self {
            image,
            port,
            _program: program,
        }
    }
}

/// Nanoseconds a message.
fn call_loop(scene: &Scene, bytes: usize, messages: usize) -> f64 {
    let program = fixtures::compile("loop", &[], &["-lssl", "-lcrypto"]);
    let pair = &certificates().ecdsa;
    let mut command = Command::new(program);
    command
        .arg(&pair.cert)
        .arg(&pair.key)
        .args([bytes.to_string(), messages.to_string()]);
    run(scene, "loop", command)
        .success()
        .text()
        .trim()
        .parse()
        .expect("nanoseconds")
}

/// Requests a second, as wrk counts them.
fn web_load(scene: &Scene, url: &str, connection: &str) -> f64 {
    let mut command = tool("wrk", "wrk");
    command.args(["--threads", "1", "--connections", "8", "--duration", "2s"]);
    command.args(["--header", &format!("Connection: {connection}"), url]);
    let out = run(scene, "wrk", command).success().text();
    let line = out
        .lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    line.and_then(|number| number.trim().parse().ok())
        .expect("requests per second")
}

fn measure(scene: &Scene, workload: &Workload<'_>, usage: &mut Usage) {
    let mut results: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (condition, results) in CONDITIONS.into_iter().zip(&mut results) {
            let guard = Guard::start(scene, condition, &workload.image);
            results.push((workload.run)());
            guard.stop(usage);
        }
    }
    let [off, empty, text, keylog] = results.map(median);
    // Above 1 is slower than the yardstick, whatever the unit.
    let ratio = |value: f64, yardstick: f64| {
        if workload.more_is_better {
            yardstick / value
        } else {
            value / yardstick
        }
    };
    println!(
        "{:<34} {off:>9.0} {empty:>9.0} {text:>9.0} {keylog:>9.0}  {:>10.2} {:>10.2}",
        format!("{}, {}", workload.name, workload.unit),
        ratio(text, empty),
        ratio(keylog, off),
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What runs beside the workload.
enum Guard {
    Nothing,
    EmptyPair(Program),
    Capture(Capture),
}

impl Guard {
    fn start(scene: &Scene, condition: Condition, image: &Path) -> Self {
        let (command, flag) = if image == Path::new(SYSTEM_LIBSSL) {
            ("tls", "--libssl")
        } else {
            ("gotls", "--elfpath")
        };
        let capture = |arguments: &[&str]| {
            let tlscope = Tlscope::new(command).args(arguments).arg(flag).arg(image);
            Self::Capture(tlscope.start_to(scene, "/dev/null".into(), Stdio::null()))
        };
        match condition {
            Condition::Off => Self::Nothing,
            Condition::EmptyPair => Self::EmptyPair(empty_pair(scene, image)),
            Condition::Text => capture(&[]),
            Condition::Keylog => capture(&["-m", "keylog", "-k", "-"]),
        }
    }

    fn stop(self, usage: &mut Usage) {
        match self {
            Self::Nothing => {}
            Self::EmptyPair(mut program) => {
                program.close_stdin();
                drop(program.finish().success());
            }
            Self::Capture(capture) => {
                let pid = capture.pid();
                let (cpu, memory) = (cpu_seconds(pid), peak_memory(pid));
                usage.add(cpu, memory, &capture.stop().finished.stderr);
            }
        }
    }
}

fn empty_pair(scene: &Scene, image: &Path) -> Program {
    let example = binary().with_file_name("examples").join("empty_pair");
    let mut command = Command::new(example);
    command.arg(image).stdin(Stdio::piped());
    let mut program = Program::start(scene, "empty_pair", command);
    program.until("the empty pair", |p| {
        p.stdout_so_far().ends_with(b"\n").then_some(())
    });
    program
}

/// What tlscope itself used, over all captures that carried plaintext.
#[derive(Default)]
struct Usage {
    cpu_seconds: f64,
    peak_kib: u64,
    captured: u64,
    lost: u64,
}

impl Usage {
    fn add(&mut self, cpu_seconds: f64, peak_kib: u64, stderr: &str) {
        let sum = |ending: &str| -> u64 {
            let rows = stderr
                .lines()
                .filter_map(|line| line.trim().split_once("  "));
            rows.filter(|(_, name)| name.starts_with("bytes ") && name.ends_with(ending))
                .filter_map(|(number, _)| number.parse::<u64>().ok())
                .sum()
        };
        let captured = sum("captured");
        self.lost += sum("lost");
        if captured > 0 {
            self.captured += captured;
            self.cpu_seconds += cpu_seconds;
            self.peak_kib = self.peak_kib.max(peak_kib);
        }
    }

    fn print(&self) {
        let gib = self.captured as f64 / f64::from(1 << 30);
        println!(
            "\ntlscope text: {gib:.1} GiB captured, {} bytes lost",
            self.lost
        );
        println!(
            "tlscope text: {:.2} CPU seconds per GiB",
            self.cpu_seconds / gib
        );
        println!(
            "tlscope text: {} MiB resident at most",
            self.peak_kib / 1024
        );
    }
}

/// User and system time so far, of `/proc/PID/stat`.
fn cpu_seconds(pid: u32) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat of tlscope");
    let after_comm = stat.rsplit_once(')').expect("a comm").1;
    // utime and stime are fields 14 and 15; the state, first here, is field 3.
    let ticks: Vec<f64> = after_comm
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse().ok())
        .collect();
    ticks.iter().sum::<f64>() / TICKS_PER_SECOND
}

fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status of tlscope");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("KiB")
}

fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read(Path::new("/proc/sys/kernel/osrelease"));
    format!("{cpus} CPUs, kernel {}", kernel.trim())
}
