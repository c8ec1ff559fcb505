//! `make bench`: what many connections, many processes and a look for an address cost, as ratios
//! taken in one run.
//!
//! Each workload runs with and without a capture in turn, several rounds over. Of times the least
//! counts, for only what else the machine does makes them longer; of starts the median.
#![allow(clippy::cast_precision_loss)] // times, shown with one digit

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tlscope_tests::certificates::certificates;
use tlscope_tests::peer::{RunningPeer, Side, Talk, copied_libssl};
use tlscope_tests::program::run;
use tlscope_tests::records::Connection;
use tlscope_tests::{Peer, Scene, Tlscope, fixtures};

const ROUNDS: usize = 3;
const BYTES: usize = 64;
const MESSAGES: usize = 40_000;

type Part = (&'static str, fn(&Scene));

/// An argument names one of them.
const PARTS: [Part; 4] = [
    ("addresses", addresses),
    ("connections", open_connections),
    ("starts", starts),
    ("lives", short_lives),
];

fn main() {
    let scene = Scene::new("bench-scale");
    let asked = env::args().nth(1);
    println!("{ROUNDS} rounds\n");
    for (name, measure) in PARTS {
        if asked.as_ref().is_none_or(|asked| asked == name) {
            measure(&scene);
            println!();
        }
    }
}

/// A write and a read of 64 bytes through TCP: what capturing adds while the connection keeps its
/// sockets, and when it has others for each message.
fn addresses(scene: &Scene) {
    let known = added(scene, 1, "tcp");
    let moving = added(scene, 1, "moving");
    println!("address, known to the connection       {known:>8.0} ns a message more than without");
    println!("address, looked up for each message    {moving:>8.0} ns a message more than without");
    println!(
        "looked up / known                      {:>8.2}\n",
        moving / known
    );
}

/// Both ends of a pair are connections.
fn open_connections(scene: &Scene) {
    let [few, many] = [5, 5000].map(|pairs| talk(scene, pairs, "tcp"));
    let a_second = |times: Times| 2e9 / times.captured;
    println!(
        "10 open connections                    {:>8.0} events a second",
        a_second(few)
    );
    println!(
        "10,000 open connections                {:>8.0} events a second",
        a_second(many)
    );
    println!(
        "10,000 / 10                            {:>8.2} captured, {:.2} without tlscope",
        few.captured / many.captured,
        few.without / many.without,
    );
}

fn added(scene: &Scene, pairs: usize, way: &str) -> f64 {
    let times = talk(scene, pairs, way);
    times.captured - times.without
}

/// Nanoseconds a message.
#[derive(Clone, Copy)]
struct Times {
    without: f64,
    captured: f64,
}

fn talk(scene: &Scene, pairs: usize, way: &str) -> Times {
    let library = copied_libssl(scene);
    let named = library.with_file_name("loop").join("libssl.so.3");
    fs::create_dir_all(named.parent().expect("a directory")).expect("its directory");
    fs::rename(&library, &named).expect("the library's own name");
    let mut rounds = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        rounds[0].push(messages(scene, &named, pairs, way));
        let capture = Tlscope::text().arg("--libssl").arg(&named);
        let capture = capture.start_to(scene, "/dev/null".into(), Stdio::null());
        rounds[1].push(messages(scene, &named, pairs, way));
        drop(capture.stop());
    }
    let [without, captured] = rounds.map(least);
    Times { without, captured }
}

fn messages(scene: &Scene, library: &Path, pairs: usize, way: &str) -> f64 {
    let program = fixtures::compile("loop", &[], &["-lssl", "-lcrypto"]);
    let pair = &certificates().ecdsa;
    let mut command = Command::new(program);
    command.arg(&pair.cert).arg(&pair.key);
    command.args([BYTES, MESSAGES, pairs].map(|number| number.to_string()));
    command.arg(way);
    command.env("LD_LIBRARY_PATH", library.parent().expect("a directory"));
    let text = run(scene, "loop", command).success().text();
    text.trim().parse().expect("nanoseconds")
}

/// Processes that sleep: some with libssl, as on a machine of that size.
struct Crowd {
    sleepers: Vec<Child>,
    _peers: Vec<RunningPeer>,
}

impl Crowd {
    const SLEEPERS: usize = 450;
    const PEERS: usize = 50;

    fn gather(scene: &Scene) -> Self {
        let sleep = |_| Command::new("sleep").arg("3600").spawn().expect("sleep");
        let peer = |_| Peer::default().set("wait").start(scene);
        Self {
            sleepers: (0..Self::SLEEPERS).map(sleep).collect(),
            _peers: (0..Self::PEERS).map(peer).collect(),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for sleeper in &mut self.sleepers {
            let _ = sleeper.kill().and_then(|()| sleeper.wait());
        }
    }
}

/// Until every probe is attached, beside some 500 processes.
fn starts(scene: &Scene) {
    let _crowd = Crowd::gather(scene);
    let cache = format!("--cache={}", scene.path("known").display());
    // It looks at all code of all processes, and remembers.
    drop(Tlscope::new("list").arg(&cache).run(scene).success());
    drop(start(scene, "tls", &cache));
    for command in ["tls", "all"] {
        let mut milliseconds = [Vec::new(), Vec::new()];
        let mut told = String::new();
        for _ in 0..ROUNDS {
            for (flag, times) in ["--no-cache", &*cache].into_iter().zip(&mut milliseconds) {
                let (time, said) = start(scene, command, flag);
                times.push(time);
                told = said;
            }
        }
        let [anew, known] = milliseconds.map(median);
        println!(
            "start of `tlscope {command}`: {anew:.0} ms anew, {known:.0} ms with what is known: {told}"
        );
    }
}

/// Milliseconds, and what was found.
fn start(scene: &Scene, command: &str, flag: &str) -> (f64, String) {
    let capture = Tlscope::new(command).arg(flag);
    let capture = capture.start_to(scene, "/dev/null".into(), Stdio::null());
    let stderr = capture.stop().finished.stderr;
    let line = stderr
        .lines()
        .find_map(|line| line.strip_prefix("tlscope: ready in "));
    let (time, found) = line
        .and_then(|line| line.split_once(" ms: "))
        .expect("a start");
    (time.parse().expect("milliseconds"), found.to_owned())
}

/// Programs that bring a library of their own, do their handshake at once and end: how many are
/// captured whole.
fn short_lives(scene: &Scene) {
    const PROGRAMS: usize = 100;
    let cache = format!("--cache={}", scene.path("known").display());
    drop(start(scene, "tls", &cache));
    for flag in ["--no-cache", &cache] {
        let capture = Tlscope::json().arg(flag).start(scene);
        let began = Instant::now();
        let live = |_| Peer::on(&copied_libssl(scene)).run(scene);
        let lives: Vec<Talk> = (0..PROGRAMS).map(live).collect();
        let each = began.elapsed() / PROGRAMS as u32;
        let records = capture.stop().records();
        let whole = lives
            .iter()
            .filter(|talk| is_whole(talk, &records.of(talk.pid)));
        let name = flag.split('=').next().unwrap_or(flag);
        println!(
            "{} of {PROGRAMS} programs captured whole that took {each:.0?} each, with {name}",
            whole.count()
        );
    }
}

fn is_whole(talk: &Talk, ends: &[&Connection]) -> bool {
    let of = |side: &Side| {
        ends.iter()
            .any(|end| end.sent.digest() == side.sent() && end.received.digest() == side.received())
    };
    talk.sides.iter().all(of)
}

fn least(values: Vec<f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
