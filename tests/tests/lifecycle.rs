//! The life of connections: ends in their order, many of them, and addresses used again.

use std::io::{self, PipeReader, Read};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tlscope_tests::records::Records;
use tlscope_tests::{MIB, Peer, Scene, Tlscope, wait};

/// A process is looked for every second, and its connections had their grace for one more: a
/// reader that takes longer than that for what is under way.
fn read_slowly(mut from: PipeReader, all: &Mutex<Vec<u8>>) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        let read = &piece[..length];
        all.lock().expect("the output").extend_from_slice(read);
        thread::sleep(Duration::from_millis(40));
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
