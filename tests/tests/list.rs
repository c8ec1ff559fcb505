//! `tlscope list` and `tlscope all`: what there is, and all of it at once.

use std::fs;
use std::process::Stdio;

use serde_json::Value;
use tlscope_tests::program::tool;
use tlscope_tests::{Peer, Program, SYSTEM_LIBSSL, Scene, Tlscope};

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

/// Libraries that tlscope knows by sight alone, as Debian has them.
#[test]
fn list_names_libraries_that_are_not_captured() {
    const LIBRARIES: [(&str, &str); 2] = [
        ("libwolfssl.so.35", "wolfSSL"),
        ("libmbedtls.so.14", "Mbed TLS"),
    ];
    const LOAD: &str = "import ctypes, sys\n\
        for name in sys.argv[1:]: ctypes.CDLL(name)\n\
        print('ready', flush=True); input()";
    let scene = Scene::new("list-others");
    let mut command = tool("python3", "python3");
    command.args(["-c", LOAD]).stdin(Stdio::piped());
    command.args(LIBRARIES.map(|(file, _)| file));
    let mut program = Program::start(&scene, "others", command);
    program.until("the libraries (Debian's libwolfssl35, libmbedtls14)", |p| {
        p.stdout_so_far().starts_with(b"ready\n").then_some(())
    });
    let listed = Tlscope::new("list")
        .with("pid", program.pid())
        .arg("--json");
    let text = listed.run(&scene).success().text();
    program.say(b"\n");
    drop(program.finish().success());
    let rows = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let rows: Vec<Value> = rows.collect();
    for (_, name) in LIBRARIES {
        let row = rows.iter().find(|row| row["family"] == name);
        let row = row.unwrap_or_else(|| panic!("no {name} in:\n{text}"));
        let told = [&row["plaintext"], &row["secrets"], &row["missing"]];
        let why = serde_json::json!(["tlscope does not capture this library"]);
        assert_eq!(told, [&false.into(), &false.into(), &why]);
    }
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
