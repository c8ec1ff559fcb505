//! HTTP connections of which a part was not seen, because the capture began in their
//! middle or because bytes were lost: what is shown is right, and soon it is all again.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tlscope_tests::certificates::certificates;
use tlscope_tests::messages::{Answer, Exchange, answers};
use tlscope_tests::scene::fixture;
use tlscope_tests::zoo::fetch::fetch;
use tlscope_tests::zoo::targets::named;
use tlscope_tests::{Capture, Program, Scene, Tlscope};

/// Node talking to itself on one connection, round by round.
struct Rounds {
    server: Program,
    client: Program,
    image: std::path::PathBuf,
}

impl Rounds {
    #[track_caller]
    fn start(scene: &Scene, version: u8, rounds: u32) -> Self {
        let image = fetch(named("node-22.23.3").expect("a target of the table")).image;
        let (ca, pair) = (&certificates().ca, &certificates().ecdsa);
        let node = |script: &str| {
            let mut command = Command::new(&image);
            command.arg(fixture(script)).stdin(Stdio::piped());
            command
        };
        let mut server = node("http_peer.js");
        server.arg("server").arg(&pair.cert).arg(&pair.key);
        let mut server = Program::start(scene, "server", server);
        let port = server.until("its port", |p| {
            let out = String::from_utf8(p.stdout_so_far()).ok()?;
            Some(out.split_once('\n')?.0.strip_prefix("port ")?.to_owned())
        });
        let mut client = node("rounds_peer.js");
        client.arg(ca).arg(port);
        client.args([version.to_string(), rounds.to_string()]);
        let client = Program::start(scene, "client", client);
        Self {
            server,
            client,
            image,
        }
    }

    fn capture(&self, scene: &Scene, buffer: &str) -> Capture {
        let capture = Tlscope::json().arg("--libssl").arg(&self.image);
        let capture = capture.pid(self.server.pid()).pid(self.client.pid());
        capture.with("mapsize", buffer).start(scene)
    }

    /// Lets the client make a round, and waits for its end.
    #[track_caller]
    fn round(&mut self, number: u32) {
        self.until_begins(number);
        self.client.say(b"go\n");
        self.until_begins(number + 1);
    }

    #[track_caller]
    fn until_begins(&mut self, round: u32) {
        let line = format!("round {round}\n");
        self.client.until(&line, |p| {
            let out = String::from_utf8(p.stdout_so_far()).ok()?;
            out.contains(&line).then_some(())
        });
    }

    /// The last round; gives what the client logged, each with its round.
    #[track_caller]
    fn finish(mut self, last: u32) -> ([u32; 2], Vec<(u64, Exchange)>) {
        self.until_begins(last);
        self.client.say(b"go\n");
        let client = self.client.finish().success();
        let server = self.server.finish().success();
        let read = |line: &str| {
            let logged: Value = serde_json::from_str(line).expect("an exchange");
            let exchange = serde_json::from_str(line).expect("an exchange");
            (logged["round"].as_u64().expect("a round"), exchange)
        };
        let log = client.text();
        let lines = log.lines().filter(|line| line.starts_with('{'));
        ([client.pid, server.pid], lines.map(read).collect())
    }
}

/// Everything that is shown of a process is what was logged, and all of `rounds` is there.
#[track_caller]
fn assert_shows(shown: &[Answer], pid: u32, logged: &[(u64, Exchange)], rounds: &[u64]) {
    let ours: Vec<_> = shown.iter().filter(|a| a.pid == u64::from(pid)).collect();
    for answer in &ours {
        let known = !answer.target.is_empty() && !answer.target.starts_with('[');
        let is_it = |e: &&(u64, Exchange)| e.1.target == answer.target;
        if !known {
            continue;
        }
        let (_, exchange) = logged
            .iter()
            .find(is_it)
            .expect("a target that was asked for");
        let unknown = answer.status == 0 && !answer.head_is_whole;
        assert!(
            answer.status == exchange.status || unknown,
            "mispaired: {answer:?}"
        );
        assert!(
            answer.method == exchange.method || answer.method.starts_with('['),
            "mispaired: {answer:?}"
        );
        if answer.complete && answer.head_is_whole {
            assert_eq!(answer.content, exchange.response, "{answer:?}");
        }
    }
    for (_, exchange) in logged.iter().filter(|e| rounds.contains(&e.0)) {
        let shown = ours.iter().filter(|a| a.target == exchange.target);
        let shown: Vec<_> = shown.collect();
        assert_eq!(
            shown.len(),
            1,
            "{exchange:?} of {pid}: {shown:?} of {ours:#?}"
        );
        assert!(shown[0].complete, "{:?}", shown[0]);
    }
    assert!(rounds.iter().all(|r| logged.iter().any(|e| e.0 == *r)));
}

/// The data that no message was found in.
fn plain(output: &[u8]) -> Vec<Value> {
    let lines = output.split(|&b| b == b'\n').filter(|l| !l.is_empty());
    let objects = lines.map(|line| serde_json::from_slice::<Value>(line).expect("JSON"));
    let is_plain = |o: &Value| o["kind"] == "data" && o["name"] == "Plain";
    objects.filter(is_plain).collect()
}

#[test]
fn attached_in_the_middle_of_a_connection() {
    let scene = Scene::new("attached-late");
    for version in [1, 2] {
        let mut peers = Rounds::start(&scene, version, 3);
        peers.round(0);
        // Half of a request is under way: its rest is what comes first.
        let capture = peers.capture(&scene, "16M");
        peers.round(1);
        let (pids, logged) = peers.finish(2);
        let captured = capture.stop();
        captured.records().assert_lossless();
        let output = captured.finished.stdout;
        let shown = answers(&output);
        // The exchange that was under way is of round 1 and its request was not seen.
        let under_way = logged.iter().position(|e| e.0 == 1).expect("round 1");
        let mut known = logged.clone();
        let (_, under_way) = known.remove(under_way);
        assert_eq!(under_way.method, "POST");
        for pid in pids {
            assert_shows(&shown, pid, &known, &[1, 2]);
            let found = shown.iter().filter(|a| a.pid == u64::from(pid));
            assert!(found.count() > 23, "the answer under way is shown too");
        }
        let rest = plain(&output);
        let length = under_way.request.length.div_ceil(2);
        for data in &rest {
            assert!(
                data["length"].as_u64() <= Some(length),
                "HTTP/{version}: {data}"
            );
        }
        assert!(rest.len() <= 4, "HTTP/{version}: {rest:#?}");
    }
}

#[test]
fn bytes_lost_in_the_middle_of_a_connection() {
    let scene = Scene::new("http-gaps");
    for version in [1, 2] {
        let mut peers = Rounds::start(&scene, version, 4);
        let capture = peers.capture(&scene, "256K");
        peers.round(0);
        let tlscope = Pid::from_raw(capture.pid().cast_signed()).expect("a pid");
        kill_process(tlscope, Signal::STOP).expect("stop tlscope");
        peers.round(1);
        kill_process(tlscope, Signal::CONT).expect("let tlscope go on");
        peers.round(2);
        let (pids, logged) = peers.finish(3);
        let captured = capture.stop();
        let records = captured.records();
        let lost = records.summary.sent.lost + records.summary.received.lost;
        assert!(lost > 0, "nothing was lost: the test shows nothing");
        let shown = answers(&captured.finished.stdout);
        for pid in pids {
            // Round 2 begins while buffers are still full of round 1.
            assert_shows(&shown, pid, &logged, &[0, 3]);
        }
    }
}
