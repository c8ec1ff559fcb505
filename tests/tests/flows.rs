//! Whose bytes these are: the socket under a connection, for each way of meeting one.

use std::fs;
use std::process::Stdio;

use serde::Deserialize;
use tlscope_tests::certificates::certificates;
use tlscope_tests::program::{Program, tool};
use tlscope_tests::records::Records;
use tlscope_tests::scene::fixture;
use tlscope_tests::{Scene, Tlscope};

/// What one end of a connection says of itself.
#[derive(Debug, Deserialize)]
struct End {
    pid: u32,
    fd: Option<i32>,
    local: Option<String>,
    remote: Option<String>,
    unix: bool,
    sent: String,
    received: String,
}

impl End {
    /// The connection with just these bytes has just this socket.
    #[track_caller]
    fn assert_captured(&self, records: &Records) {
        let is_it = |bytes: &[u8], text: &str| bytes == text.as_bytes();
        let mut found = records
            .of(self.pid)
            .into_iter()
            .filter(|c| is_it(&c.sent.bytes, &self.sent))
            .filter(|c| is_it(&c.received.bytes, &self.received));
        let (Some(ours), None) = (found.next(), found.next()) else {
            panic!("not once: {self:?}: {:#?}", records.outline());
        };
        let plain = |address: &Option<String>| {
            let mapped = |text: &String| text.replace("[::ffff:127.0.0.1]", "127.0.0.1");
            address.as_ref().map(mapped)
        };
        let remote = if self.unix {
            Some("unix".to_owned())
        } else {
            plain(&self.remote)
        };
        let captured = (&ours.local, &ours.remote);
        assert_eq!(captured, (&plain(&self.local), &remote), "{self:?}");
        // A connection without a socket has no descriptor; Node keeps some of its own secret.
        if self.fd.is_some_and(|fd| fd >= 0) || self.remote.is_none() {
            assert_eq!(ours.fd, self.fd, "{self:?}");
        }
    }
}

fn ends(program: Program) -> Vec<End> {
    let text = program.finish().success().text();
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let ends: Vec<End> = lines
        .map(|line| serde_json::from_str(line).expect("an end's report"))
        .collect();
    assert!(ends.len() >= 2, "two ends at least: {text}");
    ends
}

#[track_caller]
fn python(scene: &Scene, style: &str, wait: bool) -> Program {
    let (pair, ca) = (&certificates().ecdsa, &certificates().ca);
    let mut command = tool("python3", "python3");
    command.arg(fixture("flows_peer.py")).arg(style);
    command.args([&pair.cert, &pair.key, ca]);
    if wait {
        command.arg("wait").stdin(Stdio::piped());
    }
    Program::start(scene, style, command)
}

/// One process after the other under one capture, by each object.
#[track_caller]
fn styles(scene: &Scene, object: u8, styles: &[&str]) {
    let capture = Tlscope::json().object(object).start(scene);
    let seen: Vec<Vec<End>> = styles
        .iter()
        .map(|style| ends(python(scene, style, false)))
        .collect();
    let records = capture.stop().records();
    for end in seen.iter().flatten() {
        end.assert_captured(&records);
    }
}

/// Sockets that the library itself reads and writes.
const BY_DESCRIPTOR: [&str; 10] = [
    "set_fd", "ipv6", "mapped", "unix", "reuse", "dup", "passed", "prefork", "threads", "proxy",
];

#[test]
fn a_connection_has_the_socket_that_its_calls_touch() {
    let scene = Scene::new("descriptor");
    for object in [1, 2] {
        styles(&scene, object, &BY_DESCRIPTOR);
    }
}

#[test]
fn a_memory_bio_has_the_socket_that_its_hello_passed() {
    styles(&Scene::new("asyncio"), 1, &["asyncio"]);
}

#[test]
fn what_runs_over_no_socket_has_no_address() {
    styles(&Scene::new("pipe"), 1, &["pipe"]);
}

#[test]
fn nodes_connections_have_the_sockets_that_their_hellos_passed() {
    let scene = Scene::new("node");
    let (pair, ca) = (&certificates().ecdsa, &certificates().ca);
    let mut command = tool("node", "nodejs");
    command
        .arg(fixture("flows_peer.js"))
        .args([&pair.cert, &pair.key, ca])
        .stdin(Stdio::piped());
    let mut node = Program::start(&scene, "node", command);
    let mut tlscope = Tlscope::json().pid(node.pid());
    let image = fs::read_link(format!("/proc/{}/exe", node.pid())).expect("its program");
    // Debian's links the system's OpenSSL, Node's own build holds one.
    if Tlscope::new("inspect").arg(&image).run(&scene).code() == Some(0) {
        tlscope = tlscope.arg("--libssl").arg(&image);
    }
    let capture = tlscope.start(&scene);
    node.say(b"go\n");
    let seen = ends(node);
    let records = capture.stop().records();
    for end in &seen {
        end.assert_captured(&records);
    }
}

#[test]
fn a_connection_older_than_the_capture_has_its_data_and_address() {
    let scene = Scene::new("old");
    for object in [1, 2] {
        let mut old = python(&scene, "old", true);
        old.say(b"\n");
        old.until("the connection", |p| {
            p.stdout_so_far()
                .starts_with(b"established\n")
                .then_some(())
        });
        let capture = Tlscope::json().object(object).pid(old.pid()).start(&scene);
        old.say(b"go\n");
        let seen = ends(old);
        let records = capture.stop().records();
        for end in &seen {
            end.assert_captured(&records);
        }
    }
}
