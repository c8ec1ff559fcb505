//! The life of connections: ends in their order, many of them, and addresses used again.

use std::env;
use std::fs;
use std::io::{self, PipeReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use tlscope_tests::certificates::certificates;
use tlscope_tests::peer::copied_libssl;
use tlscope_tests::program::tool;
use tlscope_tests::records::{Records, Stream};
use tlscope_tests::scene::fixture;
use tlscope_tests::{Capture, MIB, Peer, Program, Scene, Tlscope, fixtures, wait};

/// A process is looked for every second, and its connections had their grace for one more: a
/// reader that takes longer than that for what is under way.
fn read_slowly(mut from: PipeReader, all: &Mutex<Vec<u8>>) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        let read = &piece[..length];
        all.lock().expect("the output").extend_from_slice(read);
        wait::dawdle(Duration::from_millis(40));
    }
}

#[test]
fn a_process_that_ends_ahead_of_the_reader_keeps_its_connections_until_they_are_told() {
    let scene = Scene::new("slow-reader");
    let peer = Peer::default().set("wait").sizes(MIB, MIB);
    let mut peer = peer.start(&scene);
    let (slow, out) = io::pipe().expect("a pipe");
    let capture = Tlscope::json().with("mapsize", "64M").pid(peer.pid);
    let capture = capture.start_to(&scene, "/dev/null".into(), Stdio::from(out));
    let all = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&all);
    let reader = thread::spawn(move || read_slowly(slow, &into));
    peer.go();
    let talk = peer.finish();
    wait::until("both ends", || {
        let all = all.lock().expect("the output");
        let tail = String::from_utf8_lossy(&all[all.len().saturating_sub(2048)..]).into_owned();
        let last = tail.lines().rev().take(2);
        let ends = last.filter(|line| line.contains(r#""kind":"close""#));
        (ends.count() == 2).then_some(())
    });
    drop(capture.stop());
    reader.join().expect("the reader");
    let records = Records::parse(&all.lock().expect("the output"));
    records.assert_lossless();
    talk.assert_captured(&records);
    for connection in records.of(talk.pid) {
        let closed = connection.closed.as_ref().expect("an end");
        assert_eq!(closed.reason, "closed", "{}", connection.id);
    }
}

/// Probes come one after another, here far apart. Who would meet a talk with one half of them had
/// its requests without their responses, and each later response with the wrong request.
#[test]
fn a_talk_under_way_is_met_with_all_probes_at_once() {
    let scene = Scene::new("under-way");
    let talk = rounds(&scene);
    let mut late = tool("strace", "strace");
    late.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=bpf"]);
    late.args(["-e", "inject=bpf:delay_enter=10000"]);
    let capture = Tlscope::json().pid(talk.pid()).under(late);
    let mut capture = capture.start(&scene);
    capture.program().until("some rounds", |p| {
        (p.stdout_so_far().len() > 64 * 1024).then_some(())
    });
    let records = capture.stop().records();
    let both = records.of(talk.pid()).into_iter();
    let streams = both.flat_map(|side| [&side.sent, &side.received]);
    let firsts: Vec<u64> = streams.map(first_round).collect();
    assert_eq!(firsts.len(), 4, "two connections, both ways");
    let (least, most) = (firsts.iter().min(), firsts.iter().max());
    assert!(most <= least.map(|least| least + 1).as_ref(), "{firsts:?}");
}

/// The machine is searched for libraries while the first of them has its probes already.
#[test]
fn a_talk_under_way_is_met_with_a_place_for_what_it_says() {
    let scene = Scene::new("place");
    let talk = rounds(&scene);
    for object in [1, 2] {
        let mut capture = Tlscope::json().object(object).start(&scene);
        capture.program().until("some rounds", |p| {
            (p.stdout_so_far().len() > 64 * 1024).then_some(())
        });
        let records = capture.stop().records();
        let both = records.of(talk.pid()).into_iter();
        let gaps: Vec<_> = both
            .flat_map(|side| [&side.sent.gaps, &side.received.gaps])
            .collect();
        assert_eq!(gaps, [&[]; 4], "object {object}");
    }
}

/// Where the kernel cannot tell a program which image was hit, each has programs of its own.
#[test]
fn probes_that_are_set_on_another_library_silence_none() {
    const LATER: usize = 2;
    let scene = Scene::new("others-later");
    for flags in [&["-b", "1", "--attach", "single"][..], &["-b", "2"]] {
        let capture = Tlscope::json().args(flags).with("mapsize", "64M");
        let mut capture = capture.start(&scene);
        let talk = rounds(&scene);
        for _ in 0..LATER {
            let library = copied_libssl(&scene);
            let peer = Peer::on(&library).set("wait").start(&scene);
            let probed = format!("{}: OpenSSL", library.display());
            capture.program().until("the library", |p| {
                p.stderr_so_far().contains(&probed).then_some(())
            });
            drop(peer);
        }
        let pid = talk.pid();
        let _ = talk.finish().success();
        let records = capture.stop().records();
        for side in records.of(pid) {
            for stream in [&side.sent, &side.received] {
                let text = String::from_utf8_lossy(&stream.bytes).into_owned();
                let missing = (0..)
                    .zip(text.lines())
                    .find(|(n, line)| n.to_string() != *line);
                assert_eq!(
                    missing, None,
                    "{flags:?}: a round, and what came in its place"
                );
            }
        }
        assert_eq!(records.of(pid).len(), 2, "{flags:?}");
    }
}

/// `fixtures/rounds_peer.py`, under way.
#[track_caller]
fn rounds(scene: &Scene) -> Program {
    let pair = &certificates().ecdsa;
    let mut talk = tool("python3", "python3");
    talk.arg(fixture("rounds_peer.py"))
        .args([&pair.cert, &pair.key])
        .stdin(Stdio::piped());
    let mut talk = Program::start(scene, "rounds", talk);
    talk.until("its first round", |p| {
        (!p.stdout_so_far().is_empty()).then_some(())
    });
    talk
}

/// The number that `fixtures/rounds_peer.py` sent first of what was captured.
fn first_round(stream: &Stream) -> u64 {
    let text = String::from_utf8_lossy(&stream.bytes);
    let first = text.lines().next().expect("a round");
    first.parse().expect("its number")
}

/// What `fixtures/churn.c` says that it did.
#[derive(Debug, Deserialize)]
struct Churned {
    pid: u32,
    same_address: u64,
    fastest_ns: u64,
}

/// `connections` one after the other, so many of them open at once, in so many processes of one
/// pid; 0 is in the program itself.
fn churn(scene: &Scene, library: &Path, connections: usize, open: usize, rounds: u32) -> Program {
    let program = fixtures::compile("churn", &[], &["-lssl", "-lcrypto"]);
    let pair = &certificates().ecdsa;
    let mut command = Command::new(program);
    command.arg(&pair.cert).arg(&pair.key);
    command.args([connections, open].map(|number| number.to_string()));
    command.arg(rounds.to_string()).stdin(Stdio::piped());
    command.env("LD_LIBRARY_PATH", library.parent().expect("a directory"));
    let mut program = Program::start(scene, "churn", command);
    program.until("the churn to be ready", |p| {
        p.stdout_so_far().starts_with(b"ready\n").then_some(())
    });
    program
}

fn json(library: &Path) -> Tlscope {
    Tlscope::json().arg("--libssl").arg(library)
}

fn churned(program: Program) -> Churned {
    let text = program.finish().success().text();
    serde_json::from_str(text.lines().nth(1).expect("a report")).expect("a report")
}

/// Both ends of each connection of a round, and nothing else.
#[track_caller]
fn assert_churned(records: &Records, pid: u32, round: u32, connections: usize) {
    let mark = format!(" {round}.");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let of_process = records.of(pid).into_iter();
    let ends = of_process.map(|c| (text(&c.sent.bytes), text(&c.received.bytes)));
    let mut ends: Vec<_> = ends.filter(|(sent, _)| sent.contains(&mark)).collect();
    let say = |who, number| format!("{who} {round}.{number}\n");
    let mut truth: Vec<_> = (0..connections)
        .flat_map(|number| {
            let (client, server) = (say("client", number), say("server", number));
            [(client.clone(), server.clone()), (server, client)]
        })
        .collect();
    ends.sort();
    truth.sort();
    assert_eq!(ends, truth);
}

#[test]
fn an_object_used_again_within_a_millisecond_is_another_connection() {
    const CONNECTIONS: usize = 100;
    let scene = Scene::new("object-again");
    let library = copied_libssl(&scene);
    for object in [1, 2] {
        let mut program = churn(&scene, &library, CONNECTIONS, 1, 0);
        let capture = json(&library).object(object).start(&scene);
        program.say(b"\n");
        let churned = churned(program);
        assert!(churned.same_address > CONNECTIONS as u64 / 2, "{churned:?}");
        assert!(churned.fastest_ns < 1_000_000, "{churned:?}");
        let records = capture.stop().records();
        records.assert_lossless();
        assert_churned(&records, churned.pid, 0, CONNECTIONS);
        for connection in records.of(churned.pid) {
            let closed = connection.closed.as_ref().expect("an end");
            assert_eq!(closed.reason, "closed", "{}", connection.id);
        }
    }
}

/// The objects stand where those of the process before stood, and nothing told of its end.
#[test]
fn a_process_with_the_number_of_another_has_connections_of_its_own() {
    let scene = Scene::new("pid-again");
    let library = copied_libssl(&scene);
    for object in [1, 2] {
        let mut program = churn(&scene, &library, 4, 4, 3);
        let capture = json(&library).object(object).start(&scene);
        program.say(b"\n");
        let churned = churned(program);
        let records = capture.stop().records();
        for round in 1..=3 {
            assert_churned(&records, churned.pid, round, 4);
        }
        assert_eq!(records.of(churned.pid).len(), 3 * 2 * 4);
    }
}

/// Probes go one after the other at the end, and their programs go on.
#[test]
fn what_is_captured_while_a_capture_ends_has_its_address() {
    const ENOUGH: usize = 200_000;
    let scene = Scene::new("cut-off");
    let library = copied_libssl(&scene);
    for object in [1, 2] {
        // Over pairs of Unix sockets.
        let mut program = churn(&scene, &library, 1_000_000, 1, 0);
        let pid = program.pid();
        let mut capture = json(&library).object(object).start(&scene);
        program.say(b"\n");
        capture.program().until("many connections", |p| {
            (p.stdout_so_far().len() > ENOUGH).then_some(())
        });
        let records = capture.stop().records();
        drop(program);
        for connection in records.of(pid) {
            let shown = connection.carriers.iter().flatten();
            let strange: Vec<_> = shown.filter(|carrier| carrier.remote != "unix").collect();
            assert!(strange.is_empty(), "{}: {strange:?}", connection.id);
        }
    }
}

/// `make churn` lets a million connections come and go.
#[test]
fn memory_stays_as_it_is_while_connections_come_and_go() {
    let number = env::var("TLSCOPE_CHURN").map(|text| text.parse().expect("a number"));
    let connections = number.unwrap_or(3000);
    let scene = Scene::new("churn");
    let library = copied_libssl(&scene);
    let mut program = churn(&scene, &library, connections, 10, 0);
    let capture = Tlscope::text().arg("--libssl").arg(&library);
    let capture = capture.args(["--output", "/dev/null"]).start(&scene);
    program.say(b"\n");
    let mut memory = Vec::new();
    while program.ended().is_none() {
        memory.push(resident_kib(&capture));
        thread::park_timeout(Duration::from_millis(100));
    }
    churned(program);
    memory.push(resident_kib(&capture));
    let captured = capture.stop();
    let stderr = &captured.finished.stderr;
    let told = |what: &str| stderr.lines().any(|line| line.trim() == what);
    assert!(
        told(&format!("{}  connections", 2 * connections)),
        "{stderr}"
    );
    assert!(told("0  bytes sent, lost"), "{stderr}");
    let first = memory[memory.len() / 4];
    let last = memory[memory.len() - 1];
    println!("{connections} connections: {first} KiB resident, and {last} KiB at the end");
    assert!(last < first + first / 4 + 8192, "it grew: {memory:?} KiB");
}

fn resident_kib(capture: &Capture) -> u64 {
    let status = format!("/proc/{}/status", capture.pid());
    let status = fs::read_to_string(status).expect("the status of tlscope");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.expect("VmRSS").parse().expect("a number")
}
