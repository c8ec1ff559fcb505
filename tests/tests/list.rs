//! `tlscope list` and `tlscope all`: what there is, and all of it at once.

use std::fs;

use serde_json::Value;
use tlscope_tests::{Peer, SYSTEM_LIBSSL, Scene, Tlscope};

#[test]
fn list_names_each_process_with_what_can_be_captured_of_it() {
    let scene = Scene::new("list");
    let copy = scene.path("libssl-0123abcd.so.3");
    fs::copy(SYSTEM_LIBSSL, &copy).expect("copy the library");
    let mut peer = Peer::on(&copy).set("wait").start(&scene);
    let list = || Tlscope::new("list").with("pid", peer.pid);
    let text = list().run(&scene).success().text();
    let name = copy.display().to_string();
    let line = text.lines().find(|line| line.ends_with(&name));
    let line = line.unwrap_or_else(|| panic!("no {name} in:\n{text}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let pid = peer.pid.to_string();
    assert_eq!(words[..5], [&*pid, "peer", "-", "all", "OpenSSL"], "{text}");
    let json = list().arg("--json").run(&scene).success().text();
    let rows = json
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let rows: Vec<Value> = rows.collect();
    let row = rows.iter().find(|row| row["path"] == *name).expect("a row");
    assert_eq!(
        (&row["module"], &row["plaintext"]),
        (&"tls".into(), &true.into())
    );
    peer.go();
    peer.finish();
}

#[test]
fn list_shows_nothing_of_a_process_without_tls() {
    let scene = Scene::new("list-none");
    let mut idle = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .expect("sleep");
    let listed = Tlscope::new("list").with("pid", idle.id()).arg("--json");
    let text = listed.run(&scene).success().text();
    idle.kill().and_then(|()| idle.wait()).expect("end it");
    assert_eq!(text, "");
}

/// Of one process, for a search of the whole machine's code takes its time.
#[test]
fn all_modules_share_one_output_also_without_a_subcommand() {
    let scene = Scene::new("all");
    for command in ["all", "--json"] {
        let mut peer = Peer::default().set("wait").sizes(1000, 2000).start(&scene);
        let capture = Tlscope::new(command).pid(peer.pid);
        let capture = if command == "all" {
            capture.arg("--json")
        } else {
            capture
        };
        let capture = capture.start(&scene);
        peer.go();
        peer.finish().assert_captured(&capture.stop().records());
    }
}

#[test]
fn text_tells_the_life_of_a_connection_when_asked() {
    let scene = Scene::new("lifecycle");
    let mut peer = Peer::default().set("wait").sizes(10, 20).start(&scene);
    let capture = Tlscope::text()
        .arg("--lifecycle")
        .pid(peer.pid)
        .start(&scene);
    peer.go();
    peer.finish();
    let text = capture.stop().finished.text();
    let marks = text
        .lines()
        .filter_map(|line| line.strip_prefix("-- connection "));
    let marks: Vec<Vec<&str>> = marks.map(|mark| mark.splitn(3, ' ').collect()).collect();
    let begun = marks.iter().filter(|mark| mark[1] == "created:");
    let life = |begun: &Vec<&str>| -> Vec<&str> {
        let of_it = marks.iter().filter(|mark| mark[0] == begun[0]);
        of_it.map(|mark| mark[1]).collect()
    };
    let lives: Vec<_> = begun.map(life).collect();
    let whole = ["created:", "found:", "scheduled:", "destroyed:"];
    assert_eq!(lives, [whole, whole], "client and server: {text}");
}
