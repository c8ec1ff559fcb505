//! Every fallback, forced on this kernel: what an older one would pick gives the same bytes.

use std::fs;

use tlscope_tests::{KIB, Peer, Scene, Tlscope};

const UNABLE: Option<i32> = Some(3);

/// Bytes, addresses and descriptors, with these flags.
#[track_caller]
fn assert_captures(scene: &Scene, flags: &[&str]) {
    let capture = Tlscope::json().args(flags).start(scene);
    let talk = Peer::default()
        .with("connections", 2)
        .sizes(20 * KIB, 300 * KIB)
        .run(scene);
    let records = capture.stop().records();
    records.assert_lossless();
    talk.assert_captured(&records);
}

/// What `tlscope doctor` says of it.
fn has(doctor: &str, mode: &str) -> bool {
    let line = doctor
        .lines()
        .map(str::trim)
        .find(|line| line.split_whitespace().next() == Some(mode));
    line.unwrap_or_else(|| panic!("no {mode} in:\n{doctor}"))
        .ends_with("yes")
}

#[test]
fn every_attach_mode_captures_the_same() {
    let scene = Scene::new("attach-modes");
    let doctor = Tlscope::new("doctor").run(&scene).success().text();
    for mode in ["session", "multi", "single-cookie", "single"] {
        let flags = ["-b", "1", "--attach", mode];
        if has(&doctor, mode) {
            assert_captures(&scene, &flags);
        } else {
            let finished = Tlscope::json().args(flags).run(&scene);
            assert_eq!(finished.code(), UNABLE, "{}", finished.stderr);
        }
    }
}

#[test]
fn every_way_to_sockets_captures_the_same() {
    let scene = Scene::new("socket-ways");
    for flags in [
        ["-b", "1", "--sockets", "tracepoints"],
        ["-b", "1", "--sockets", "syscall"],
        ["-b", "2", "--sockets", "tracepoints"],
    ] {
        assert_captures(&scene, &flags);
    }
    // The noncore object reads kprobes, where the kernel has them.
    let flags = ["-b", "2", "--sockets", "kprobes"];
    let config = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    if config
        .lines()
        .any(|line| line.ends_with(" register_kprobe"))
    {
        assert_captures(&scene, &flags);
    } else {
        let finished = Tlscope::json().args(flags).run(&scene);
        assert_eq!(finished.code(), UNABLE, "{}", finished.stderr);
    }
}

#[test]
fn what_an_object_cannot_do_is_refused_by_name() {
    let scene = Scene::new("refused-fallbacks");
    for (flags, word) in [
        (["-b", "2", "--attach", "session"], "--attach"),
        (["-b", "2", "--sockets", "syscall"], "--sockets"),
        (["-b", "1", "--sockets", "kprobes"], "--sockets"),
    ] {
        let finished = Tlscope::json().args(flags).run(&scene);
        assert_eq!(finished.code(), UNABLE, "{flags:?}: {}", finished.stderr);
        let words = format!("leave out {word}");
        assert!(finished.stderr.contains(&words), "{}", finished.stderr);
    }
}
