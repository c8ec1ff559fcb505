//! `tlscope gotls` on Go programs: what client and server say they sent and received is what
//! was captured, byte for byte.

use std::env;
use std::path::Path;
use std::process::Stdio;

use tlscope_tests::go::{self, Build};
use tlscope_tests::keylog::KeyLog;
use tlscope_tests::messages::{Exchange, Messages};
use tlscope_tests::pcap::{PacketCapture, counted};
use tlscope_tests::program::{must, tool};
use tlscope_tests::records::Connection;
use tlscope_tests::scene::free_port;
use tlscope_tests::{Captured, Digest, Program, Scene, Tlscope};

/// `tlscope gotls -e PROGRAM`.
fn gotls(program: &Path) -> Tlscope {
    Tlscope::new("gotls").arg("-e").arg(program)
}

#[track_caller]
fn captured(scene: &Scene, program: &Path, arguments: &str) -> (go::GoTalk, Captured) {
    captured_by(gotls(program).arg("--json"), scene, program, arguments)
}

#[track_caller]
fn captured_by(
    tlscope: Tlscope,
    scene: &Scene,
    program: &Path,
    arguments: &str,
) -> (go::GoTalk, Captured) {
    let capture = tlscope.start(scene);
    let talk = go::run(scene, program, arguments);
    (talk, capture.stop())
}

/// Around the sizes that matter to TLS, and a megabyte.
const SIZES: &str = "1,100,16384,16385,1048577";

#[test]
fn every_build_and_version_is_captured_whole() {
    let scene = Scene::new("go-builds");
    for (build, version) in [
        (go::PLAIN, "1.2"),
        (go::STRIPPED, "1.3"),
        (go::STRIPPED_PIE, "1.2"),
    ] {
        let Build { name, .. } = build;
        eprintln!("{name}, TLS {version}");
        let program = build.program();
        let arguments = &format!("-tls {version} -sizes {SIZES} -connections 3");
        let (talk, captured) = captured(&scene, &program, arguments);
        talk.assert_captured_with_addresses(&captured.records());
    }
}

#[test]
fn one_write_of_64_mib_is_captured_whole() {
    let scene = Scene::new("go-long");
    let program = go::STRIPPED.program();
    for route in ["tracepoints", "syscall"] {
        // Both ways at both ends are 256 MiB, which is all that the backlog holds.
        let tlscope = gotls(&program).arg("--json").with("mapsize", "64M");
        let tlscope = tlscope.args(["-b", "1", "--sockets", route]);
        let (talk, captured) = captured_by(tlscope, &scene, &program, "-sizes 67108864");
        talk.assert_captured_with_addresses(&captured.records());
    }
}

#[test]
fn the_noncore_object_captures_whole_too() {
    let scene = Scene::new("go-noncore");
    let program = go::STRIPPED_PIE.program();
    let tlscope = gotls(&program).arg("--json").object(2);
    let arguments = &format!("-sizes {SIZES} -connections 3");
    let (talk, captured) = captured_by(tlscope, &scene, &program, arguments);
    talk.assert_captured_with_addresses(&captured.records());
}

#[test]
fn addresses_of_every_carrier() {
    let scene = Scene::new("go-carriers");
    let program = go::STRIPPED.program();
    for carrier in ["tcp", "tcp6", "mapped", "wrapped", "deep", "tls"] {
        eprintln!("carrier {carrier}");
        let arguments = &format!("-carrier {carrier} -connections 5");
        let (talk, captured) = captured(&scene, &program, arguments);
        let records = captured.records();
        if carrier == "tls" {
            // Both layers, each as a connection, over the same socket.
            for side in &talk.sides {
                let of_side = |c: &&&_| over(c, &side.local, &side.remote);
                let connections = records.of(talk.pid);
                let layers: Vec<_> = connections.iter().filter(of_side).collect();
                assert_eq!(layers.len(), 2, "{:#?}", records.outline());
                let outer = |c: &&&&_| sent(c) == side.sent();
                assert_eq!(
                    layers.iter().filter(outer).count(),
                    1,
                    "{:#?}",
                    records.outline()
                );
            }
            records.assert_lossless();
        } else {
            talk.assert_captured_with_addresses(&records);
            let connections = records.of(talk.pid);
            for carriers in connections.iter().flat_map(|c| &c.carriers) {
                assert_eq!(
                    carriers.len(),
                    1,
                    "of all data, the first too: {carriers:?}"
                );
            }
        }
    }
}

fn over(connection: &Connection, local: &str, remote: &str) -> bool {
    (connection.local.as_deref(), connection.remote.as_deref()) == (Some(local), Some(remote))
}

fn sent(connection: &Connection) -> Digest {
    connection.sent.digest()
}

#[test]
fn what_has_no_socket_has_no_address() {
    let scene = Scene::new("go-pipe");
    let program = go::PLAIN.program();
    for carrier in ["pipe", "unix"] {
        let arguments = &format!("-carrier {carrier} -connections 5");
        let (talk, captured) = captured(&scene, &program, arguments);
        let records = captured.records();
        talk.assert_captured(&records);
        for connection in records.of(talk.pid) {
            let unix = (carrier == "unix").then_some("unix");
            assert_eq!(connection.local, None);
            assert_eq!(connection.remote.as_deref(), unix);
            assert_eq!(connection.fd.is_some(), unix.is_some());
        }
    }
}

#[test]
fn addresses_that_the_collector_gives_again_are_new_connections() {
    let scene = Scene::new("go-reuse");
    let program = go::PLAIN.program();
    let arguments = "-connections 400 -parallel 4 -pressure -reuse -sizes 7";
    let (talk, captured) = captured(&scene, &program, arguments);
    talk.assert_captured_with_addresses(&captured.records());
}

#[test]
fn ten_thousand_goroutines_on_two_threads_while_stacks_move() {
    let scene = Scene::new("go-stress");
    let program = go::STRIPPED.program();
    let capture = gotls(&program).arg("--json").start(&scene);
    let arguments = "-carrier deep -connections 5000 -pressure -sizes 1000";
    let talk = go::run(&scene, &program, arguments);
    let records = capture.stop().records();
    assert_eq!(talk.sides.len(), 10_000);
    talk.assert_captured_with_addresses(&records);
}

/// In CI so many; `make go-load` does more.
const HANDSHAKES: usize = 1000;

#[test]
fn a_program_runs_through_thousands_of_handshakes_unchanged() {
    let scene = Scene::new("go-handshakes");
    let handshakes = env::var("TLSCOPE_GO_HANDSHAKES").map_or(HANDSHAKES, |number| {
        number.parse().expect("TLSCOPE_GO_HANDSHAKES: a number")
    });
    let program = go::STRIPPED.program();
    let arguments = &format!("-connections {handshakes} -parallel 16 -sizes 1,300 -quiet");
    let alone = go::run(&scene, &program, arguments);
    let (traced, captured) = captured(&scene, &program, arguments);
    let said = |talk: &go::GoTalk| {
        talk.finished
            .text()
            .split_once('\n')
            .map(|s| s.1.to_owned())
    };
    assert_eq!(said(&traced), said(&alone), "what the program said");
    let records = captured.records();
    records.assert_lossless();
    assert_eq!(records.of(traced.pid).len(), 2 * handshakes);
    let sums = records.summary.sent.captured + records.summary.received.captured;
    assert_eq!(sums, 2 * 2 * 301 * handshakes as u64);
}

#[test]
fn secrets_are_those_that_a_key_log_writer_gets() {
    let scene = Scene::new("go-keylog");
    for (build, version) in [(go::PLAIN, "1.2"), (go::STRIPPED_PIE, "1.3")] {
        let program = build.program();
        for object in [1, 2] {
            let log = scene.fresh("go.keys");
            let path = log.to_str().expect("a path in UTF-8");
            let tlscope = gotls(&program)
                .args(["-m", "keylog", "-k", "-"])
                .object(object);
            let arguments = &format!("-tls {version} -connections 20 -keylog {path}");
            let (_, captured) = captured_by(tlscope, &scene, &program, arguments);
            captured.keylog().assert_is(&KeyLog::read(&log));
        }
    }
}

#[test]
fn http_2_and_grpc_are_decoded() {
    let scene = Scene::new("go-http");
    let program = go::STRIPPED.program();
    let (talk, captured) = captured(&scene, &program, "-http 20");
    let messages = Messages::parse(&captured.finished.stdout, &[talk.pid]);
    messages.assert_shows(talk.pid, &Exchange::read_log(&talk.finished.text()));
}

#[test]
fn programs_are_found_that_run_already_and_that_start_later() {
    let scene = Scene::new("go-found");
    let mut early = go::start(&scene, &go::PLAIN.program(), "-wait");
    early.until("its pid", |p| {
        p.stdout_so_far().ends_with(b"\n").then_some(())
    });
    let mut capture = Tlscope::new("gotls").arg("--json").start(&scene);
    early.say(b"go\n");
    let early = go::end(early);

    let image = scene.path("later");
    std::fs::copy(go::STRIPPED_PIE.program(), &image).expect("a program that is new");
    let mut later = go::start(&scene, &image, "-wait");
    let probed = format!("{}: Go crypto/tls", image.display());
    capture
        .program()
        .until("the later program to be probed", |p| {
            p.stderr_so_far().contains(&probed).then_some(())
        });
    later.say(b"go\n");
    let later = go::end(later);
    let records = capture.stop().records();
    early.assert_captured_with_addresses(&records);
    later.assert_captured_with_addresses(&records);
}

#[test]
fn a_go_library_in_another_program_is_captured_whole() {
    let scene = Scene::new("go-shared");
    let library = go::SHARED.program();
    let capture = gotls(&library).arg("--json").start(&scene);
    let mut python = tool("python3", "python3");
    python.args([
        "-c",
        "import ctypes, sys; ctypes.CDLL(sys.argv[1]).Exchange()",
    ]);
    python.arg(&library).stdin(Stdio::null());
    let talk = go::end(Program::start(&scene, "python", python));
    talk.assert_captured_with_addresses(&capture.stop().records());
}

#[test]
fn tshark_decrypts_the_packets_of_a_program_without_a_key_log_writer() {
    let scene = Scene::new("go-pcap");
    let program = go::STRIPPED.program();
    for (version, object) in [("1.2", 1), ("1.3", 2)] {
        let tlscope = Tlscope::new("gotls").args(["-m", "pcap", "-i", "lo"]);
        let tlscope = tlscope.arg("-e").arg(&program).object(object);
        // Of other programs that talk on this machine packets would wait in vain.
        let port = free_port();
        let capture = PacketCapture::start_with(tlscope, &scene, &format!("tcp port {port}"));
        let arguments = &format!("-port {port} -tls {version} -connections 4 -sizes 1,20000");
        let talk = go::run(&scene, &program, arguments);
        let (file, captured) = capture.stop();
        assert_eq!(counted(&captured, "waited in vain for secrets"), 0);
        let connections = file.connections();
        for client in talk.sides.iter().filter(|side| side.side == "client") {
            let stream = connections.iter().find(|c| c.1 == client.local);
            let (stream, _) = stream.unwrap_or_else(|| panic!("{client:?} in {connections:?}"));
            let [sent, answered] = file.plaintext(*stream, &client.local);
            assert_eq!(Digest::of(&sent), client.sent(), "{client:?}");
            assert_eq!(Digest::of(&answered), client.received(), "{client:?}");
        }
        let comm = "frame.comment contains \"(go-peer-strippe)\"";
        let named = file.count(&format!("tcp.len > 0 and {comm}"));
        assert!(named > 0, "no packet has its owner");
    }
}

#[test]
fn what_is_no_go_program_with_tls_is_told() {
    let scene = Scene::new("go-errors");
    let tools = must(tool("go", "golang-go").args(["env", "GOTOOLDIR"]));
    let tools = String::from_utf8(tools).expect("a path in UTF-8");
    let assembler = Path::new(tools.trim()).join("asm");
    for (path, words) in [
        (assembler.as_path(), "without crypto/tls"),
        (Path::new("/bin/true"), "not a Go program"),
    ] {
        let finished = gotls(path).run(&scene);
        assert_eq!(finished.code(), Some(4), "{}", finished.stderr);
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
    }
}
