//! How tlscope ends: each way with its exit code and its words.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use tlscope_tests::capture::tlscope_of_nobody;
use tlscope_tests::program::{Finished, must, tool};
use tlscope_tests::{Capture, MIB, Peer, SYSTEM_LIBSSL, Scene, Tlscope, wait};

const FAILURE: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const NO_PRIVILEGE: Option<i32> = Some(3);
const NOTHING_TO_PROBE: Option<i32> = Some(4);

/// The run ended with this code, said all of this on stderr, and nothing on stdout.
#[track_caller]
fn assert_refused(finished: &Finished, code: Option<i32>, words: &[&str]) {
    assert_eq!(finished.code(), code, "{}", finished.stderr);
    for word in words {
        assert!(
            finished.stderr.contains(word),
            "no {word:?} in: {}",
            finished.stderr
        );
    }
    assert_eq!(finished.text(), "", "stdout");
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}

#[test]
fn ctrl_c_and_sigterm_are_ordinary_ends() {
    let scene = Scene::new("signals");
    for signal in [Signal::INT, Signal::TERM] {
        let capture = Tlscope::json().start(&scene);
        let talk = Peer::default().run(&scene);
        let captured = capture.stop_by(signal).success();
        talk.assert_captured(&captured.records());
    }
}

#[test]
fn a_closed_pipe_is_an_ordinary_end() {
    let scene = Scene::new("pipe");
    for tlscope in [Tlscope::text(), Tlscope::json(), Tlscope::keylog()] {
        let mut capture = tlscope.start_to(&scene, PathBuf::from("/dev/null"), Stdio::piped());
        capture.program().close_stdout();
        Peer::default().with("connections", 5).run(&scene);
        let finished = capture.end().finished;
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    }
}

/// As when a log's reader has gone.
#[test]
fn a_capture_goes_on_where_nobody_reads_what_it_tells() {
    let scene = Scene::new("unread");
    let mut unread = tool("bash", "bash");
    unread.args(["-c", "exec 2> >(true); wait $!; exec \"$0\" \"$@\""]);
    let capture = Tlscope::json().under(unread).start(&scene);
    let talk = Peer::default().run(&scene);
    let captured = capture.stop().success();
    talk.assert_captured(&captured.records());
}

#[test]
fn a_full_disk_is_told() {
    let scene = Scene::new("full");
    let disk = SmallDisk::mount(scene.path("disk"));
    let capture = Tlscope::json()
        .arg("-o")
        .arg(disk.0.join("out.json"))
        .start(&scene);
    Peer::default().sizes(4 * MIB, 0).run(&scene);
    let finished = capture.end().finished;
    assert_refused(&finished, FAILURE, &["No space left on device"]);
}

#[test]
fn a_command_does_not_outlive_a_capture_that_failed() {
    let scene = Scene::new("full-command");
    let disk = SmallDisk::mount(scene.path("disk"));
    let said = scene.path("pid");
    let script = format!("echo $$ >{}; exec sleep 600", said.display());
    let capture = Tlscope::json()
        .arg("-o")
        .arg(disk.0.join("out.json"))
        .running(&["sh", "-c", &script])
        .start(&scene);
    let pid = wait::until("the command", || {
        let text = fs::read_to_string(&said).ok()?;
        text.trim().parse::<u32>().ok()
    });
    Peer::default().sizes(4 * MIB, 0).run(&scene);
    assert_eq!(capture.end().finished.code(), FAILURE);
    wait::until("the command to end", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        (status.is_empty() || status.contains("State:\tZ")).then_some(())
    });
}

/// A file system of one megabyte.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Self {
        fs::create_dir(&at).expect("mount point");
        let mut mount = tool("mount", "mount");
        must(
            mount
                .args(["-t", "tmpfs", "-o", "size=1m", "tlscope-test"])
                .arg(&at),
        );
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        must(tool("umount", "mount").arg(&self.0));
    }
}

#[test]
fn an_unwritable_output_is_told() {
    let scene = Scene::new("unwritable");
    let words = ["/nonexistent/out", "No such file or directory"];
    let text = Tlscope::text()
        .arg("-o")
        .arg("/nonexistent/out")
        .run(&scene);
    assert_refused(&text, FAILURE, &words);
    let keylog = Tlscope::new("tls")
        .arg("-m")
        .arg("keylog")
        .arg("-k")
        .arg("/nonexistent/out");
    assert_refused(&keylog.run(&scene), FAILURE, &words);
}

#[test]
fn what_is_no_library_is_told() {
    let scene = Scene::new("library");
    let narrow = scene.write("libssl32.so", &with_byte(SYSTEM_LIBSSL, 4, 1));
    let script = scene.write("libssl.so", b"GROUP ( libssl.so.3 )\n");
    let empty = scene.write("libempty.so", b"");
    let cases: [(&Path, Option<i32>, &str); 6] = [
        (Path::new("/nonexistent/libssl.so"), FAILURE, "no such file"),
        (scene.directory(), FAILURE, "directory"),
        (&script, NOTHING_TO_PROBE, "not an ELF file"),
        (&empty, NOTHING_TO_PROBE, "not an ELF file"),
        (&narrow, NOTHING_TO_PROBE, "32-bit"),
        (
            Path::new("/usr/bin/true"),
            NOTHING_TO_PROBE,
            "no TLS library",
        ),
    ];
    for (path, code, words) in cases {
        let path_shown = path.to_str().expect("UTF-8");
        let finished = Tlscope::text().arg("--libssl").arg(path).run(&scene);
        assert_refused(&finished, code, &[words, path_shown]);
    }
}

/// A file's content with one byte changed.
fn with_byte(path: &str, at: usize, byte: u8) -> Vec<u8> {
    let mut content = fs::read(path).expect("a library");
    content[at] = byte;
    content
}

#[test]
fn wrong_flags_are_told() {
    let scene = Scene::new("usage");
    let cases: [&[&str]; 5] = [
        &["--frobnicate"],
        &["--mapsize", "12x"],
        &["--pid", "me"],
        &["-b", "3"],
        &["-m", "novel"],
    ];
    for arguments in cases {
        let tlscope = arguments.iter().fold(Tlscope::text(), Tlscope::arg);
        assert_refused(
            &tlscope.run(&scene),
            USAGE,
            &["error:", arguments[0], "--help"],
        );
    }
    let unknown = Tlscope::text()
        .arg("--uid")
        .arg("nobody-has-this-name")
        .run(&scene);
    assert_refused(&unknown, USAGE, &["nobody-has-this-name"]);
}

/// Passed over, they would leave a user without the file that was asked for.
#[test]
fn flags_of_another_mode_are_told() {
    let scene = Scene::new("modes");
    let cases: [(&str, &[&str], &str); 9] = [
        ("text", &["-i", "lo"], "-m pcap"),
        ("text", &["-w", "packets.pcapng"], "-m pcap"),
        ("text", &["-s", "96"], "-m pcap"),
        ("text", &["-c", "1"], "-m pcap"),
        ("text", &["--hold", "50"], "-m pcap"),
        ("text", &["port", "443"], "-m pcap"),
        ("keylog", &["-o", "text.log"], "-m text"),
        ("keylog", &["--hex"], "-m text"),
        ("pcap", &["-o", "text.log"], "-m text"),
    ];
    for (mode, flags, other) in cases {
        let tlscope = Tlscope::text().args(["-m", mode]).args(flags);
        assert_refused(&tlscope.run(&scene), USAGE, &[flags[0], other]);
    }
}

#[test]
fn without_privilege() {
    let scene = Scene::new("nobody");
    let mut setpriv = tlscope_of_nobody(&scene);
    let finished = tlscope_tests::program::run(&scene, "tlscope", {
        setpriv.arg("tls");
        setpriv
    });
    assert_refused(&finished, NO_PRIVILEGE, &["root", "CAP_BPF"]);
}

#[test]
fn a_killed_capture_leaves_its_targets_alone() {
    let scene = Scene::new("killed");
    let peer = Peer::default()
        .sizes(8 * MIB, 8 * MIB)
        .with("chunk", 20_000);
    let mut running = peer.set("wait").start(&scene);
    let capture = Tlscope::json().start(&scene);
    running.go();
    let killed = kill_at_first_output(capture);
    assert_eq!(killed.killed_by(), Some(Signal::KILL.as_raw()));
    let talk = running.finish();
    let (client, server) = (talk.of("client").next(), talk.of("server").next());
    let (client, server) = (client.expect("a client"), server.expect("a server"));
    assert_eq!(
        (client.sent(), client.received()),
        (server.received(), server.sent())
    );
    // And nothing of it is in the way of the next.
    let capture = Tlscope::json().start(&scene);
    Peer::default()
        .run(&scene)
        .assert_captured(&capture.stop().records());
}

fn kill_at_first_output(mut capture: Capture) -> Finished {
    capture.program().until("a first record", |p| {
        (!p.stdout_so_far().is_empty()).then_some(())
    });
    capture.stop_by(Signal::KILL).finished
}
