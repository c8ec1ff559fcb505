//! `-o tcp://`: JSON Lines to a reader that is there, slow, dead or absent. What it
//! did not get is told to it and at the end, record by record.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use tlscope_tests::records::Records;
use tlscope_tests::scene::free_port;
use tlscope_tests::{Capture, Captured, KIB, MIB, Peer, Scene, Tlscope};

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, format!("tcp://{address}"))
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.accept().expect("tlscope's connection").0
}

/// All to the end of the stream, in a thread.
fn reading(mut stream: TcpStream) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("the stream");
        all
    })
}

fn capture_to(address: &str, scene: &Scene, pid: u32) -> Capture {
    let capture = Tlscope::text().args(["-o", address]);
    capture.with("mapsize", "64M").pid(pid).start(scene)
}

/// What a reader got, checked: each record is numbered by what came before it, and
/// the `lost` objects say how many are missing.
struct Stream {
    records: u64,
    lost: u64,
    lines: Vec<u8>,
}

impl Stream {
    /// `before` is how many records an earlier reader got at least.
    fn check(lines: &[u8], before: u64) -> Self {
        assert!(lines.ends_with(b"\n"), "torn at the end");
        let (mut records, mut lost, mut place) = (0, 0, None);
        let mut kept = Vec::new();
        for line in lines.split_inclusive(|&b| b == b'\n') {
            let object: Value = serde_json::from_slice(line).expect("an object of JSON");
            if object["kind"] != "lost" {
                records += 1;
                place = Some(place.unwrap_or(before) + 1);
                kept.extend_from_slice(line);
                continue;
            }
            let number = |member: &str| object[member].as_u64().expect("a number");
            assert!(number("records") > 0 && number("bytes") > 0, "{object}");
            match place {
                Some(place) => assert_eq!(number("first"), place, "{object}"),
                // What the first reader's system took and it did not read is told by no one.
                None => assert!(number("first") >= before, "{object}"),
            }
            lost += number("records");
            place = Some(number("first") + number("records"));
        }
        Self {
            records,
            lost,
            lines: kept,
        }
    }
}

/// The number of records in the last line that tells of them.
fn told_at_the_end(captured: &Captured) -> u64 {
    let errors = &captured.finished.stderr;
    let row = errors.lines().find(|l| l.ends_with("of -o did not get"));
    let number = |row: &str| row.split_whitespace().next()?.parse().ok();
    row.map_or(0, |row| number(row).expect("a number"))
}

#[test]
fn a_reader_gets_what_a_file_would_hold() {
    let scene = Scene::new("remote");
    let (listener, address) = listen();
    let mut peer = Peer::default()
        .set("wait")
        .sizes(3 * MIB, MIB)
        .start(&scene);
    let capture = capture_to(&address, &scene, peer.pid);
    let reader = reading(accept(&listener));
    peer.go();
    let talk = peer.finish();
    let captured = capture.stop();
    let stream = Stream::check(&reader.join().expect("a reader"), 0);
    assert_eq!((stream.lost, told_at_the_end(&captured)), (0, 0));
    let records = Records::parse(&stream.lines);
    records.assert_lossless();
    talk.assert_captured(&records);
    assert_eq!(captured.finished.text(), "", "stdout");
}

#[test]
fn a_reader_that_dies_and_its_successor() {
    let scene = Scene::new("remote-dies");
    let (listener, address) = listen();
    let peer = Peer::default().set("wait").sizes(8 * MIB, 8 * MIB);
    let mut peer = peer.with("chunk", 10 * KIB).start(&scene);
    let capture = capture_to(&address, &scene, peer.pid);
    let first = accept(&listener);
    peer.go();
    let mut lines = BufReader::new(first).lines();
    let read = 50;
    for _ in 0..read {
        lines.next().expect("a line").expect("the stream");
    }
    drop(lines);
    let second = reading(accept(&listener));
    let talk = peer.finish();
    let captured = capture.stop();
    let stream = Stream::check(&second.join().expect("a reader"), read);
    assert_eq!(told_at_the_end(&captured), stream.lost);
    let errors = &captured.finished.stderr;
    assert!(errors.contains("connecting again"), "{errors}");
    let text = String::from_utf8(stream.lines).expect("UTF-8");
    let summary: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    let number = |direction: &str, what: &str| summary[direction][what].as_u64();
    assert_eq!(number("sent", "captured"), Some(talk.bytes() / 2));
    assert_eq!(
        number("sent", "lost"),
        Some(0),
        "the capture itself lost nothing"
    );
}

/// The thread that sends may open no file: a name is looked up for it, each time anew.
#[test]
fn a_reader_that_goes_by_a_name_and_comes_back() {
    let scene = Scene::new("remote-name");
    let (listener, _) = listen();
    let port = listener.local_addr().expect("its address").port();
    let mut peer = Peer::default().set("wait").sizes(MIB, MIB).start(&scene);
    let capture = capture_to(&format!("tcp://localhost:{port}"), &scene, peer.pid);
    drop(accept(&listener));
    peer.go();
    let second = reading(accept(&listener));
    let talk = peer.finish();
    let captured = capture.stop();
    let stream = Stream::check(&second.join().expect("a reader"), 0);
    assert_eq!(told_at_the_end(&captured), stream.lost);
    let errors = &captured.finished.stderr;
    let row = |l: &&str| l.trim_end().ends_with("bytes sent, captured");
    let row = errors.lines().find(row).expect("a row of the summary");
    let sent = row.split_whitespace().next();
    assert_eq!(sent, Some(&*(talk.bytes() / 2).to_string()));
}

/// It takes nothing until all was said: the capture goes on, and drops what finds no room.
#[test]
fn a_reader_that_sleeps_costs_records_and_not_the_capture() {
    let scene = Scene::new("remote-sleeps");
    let (listener, address) = listen();
    let peer = Peer::default()
        .set("wait")
        .set("text")
        .sizes(60 * MIB, 60 * MIB);
    let mut peer = peer.start(&scene);
    let capture = capture_to(&address, &scene, peer.pid);
    let sleeper = accept(&listener);
    peer.go();
    let talk = peer.finish();
    let reader = reading(sleeper);
    let captured = capture.stop();
    let stream = Stream::check(&reader.join().expect("a reader"), 0);
    assert!(stream.lost > 0, "nothing was lost: the test shows nothing");
    assert_eq!(told_at_the_end(&captured), stream.lost);
    assert!(stream.records > 100, "what found room is there");
    let row = |l: &&str| l.trim_end().ends_with("bytes sent, captured");
    let errors = &captured.finished.stderr;
    let row = errors.lines().find(row).expect("a row of the summary");
    assert_eq!(
        row.split_whitespace().next(),
        Some(&*(talk.bytes() / 2).to_string())
    );
}

#[test]
fn no_reader_at_all() {
    let scene = Scene::new("remote-none");
    let mut peer = Peer::default().set("wait").sizes(1000, 1000).start(&scene);
    let address = format!("tcp://localhost:{}", free_port());
    let capture = capture_to(&address, &scene, peer.pid);
    peer.go();
    peer.finish();
    let captured = capture.stop();
    assert!(told_at_the_end(&captured) > 4);
    let errors = &captured.finished.stderr;
    assert!(
        errors.contains(&format!("{address}: Connection refused")),
        "{errors}"
    );
}
