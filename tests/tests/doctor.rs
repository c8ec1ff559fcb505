//! `tlscope doctor`: what works here, and for what does not, why.

use std::fs;

use tlscope_tests::capture::tlscope_of_nobody;
use tlscope_tests::program::run;
use tlscope_tests::{Peer, SYSTEM_LIBSSL, Scene, Tlscope};

const CHOICES: [&str; 5] = ["loads", "buffer", "attach", "images", "sockets"];

#[test]
fn as_root() {
    let scene = Scene::new("doctor");
    let copy = scene.path("libssl-0123abcd.so.3");
    fs::copy(SYSTEM_LIBSSL, &copy).expect("copy the library");
    let mut peer = Peer::on(&copy).set("wait").start(&scene);
    let finished = Tlscope::new("doctor").run(&scene).success();
    let text = finished.text();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    for expected in [
        "kernel",
        release.trim(),
        "BTF",
        "privileges",
        "CAP_BPF",
        "attach modes",
        "GnuTLS",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    for head in [
        "core object (-b 1, picked by -b 0)",
        "noncore object (-b 2)",
    ] {
        let (_, part) = text
            .split_once(&format!("{head}\n"))
            .unwrap_or_else(|| panic!("no {head:?} in:\n{text}"));
        // Of each choice what was picked, and why.
        for (line, name) in part.lines().zip(CHOICES) {
            let (found, why) = line.trim().split_once(' ').expect("a name and its value");
            assert_eq!(found, name, "{text}");
            assert!(why.contains(':'), "{line}");
        }
        let lacks = part.lines().nth(CHOICES.len()).expect("a line more").trim();
        assert!(lacks.starts_with("lacks  "), "{lacks}");
        let is_least = head.starts_with("noncore");
        assert_eq!(lacks.contains("--follow"), is_least, "{lacks}");
    }
    // The library of a running program, and how many use it.
    let found = text
        .lines()
        .find(|line| line.contains(copy.to_str().expect("UTF-8")));
    assert!(
        found.is_some_and(|line| line.contains("1 process")),
        "{text}"
    );
    peer.go();
    peer.finish();
}

#[test]
fn without_privilege_it_says_what_is_lacking() {
    let scene = Scene::new("doctor-nobody");
    let mut setpriv = tlscope_of_nobody(&scene);
    setpriv.arg("doctor");
    let finished = run(&scene, "doctor", setpriv);
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
    let text = finished.text();
    let lacking = text
        .lines()
        .find(|line| line.trim_start().starts_with("lacking"));
    let lacking = lacking.unwrap_or_else(|| panic!("no line of what is lacking in:\n{text}"));
    for capability in ["CAP_BPF", "CAP_PERFMON"] {
        assert!(lacking.contains(capability), "{lacking}");
    }
}
