//! Loss: what does not fit is counted to the byte, in the gaps and in the end.

use rustix::process::{Pid, Signal, kill_process};
use tlscope_tests::records::{Connection, Stream};
use tlscope_tests::{Capture, KIB, MIB, Peer, Scene, Tlscope};

/// Buffers this small overflow at once when nobody reads them.
const TINY: usize = 64 * KIB;

#[test]
fn captured_and_lost_are_all_that_was_sent() {
    let scene = Scene::new("loss");
    for object in [1, 2] {
        let mut peer = Peer::default()
            .set("wait")
            .sizes(4 * MIB, 3 * MIB)
            .with("chunk", 20_000);
        peer = peer.with("connections", 8).with("parallel", 8);
        let mut peer = peer.start(&scene);
        let capture = Tlscope::json()
            .object(object)
            .with("mapsize", TINY)
            .pid(peer.pid);
        let capture = capture.start(&scene);
        peer.go();
        // Nobody reads the buffers while the first connections run.
        while_stopped(&capture, || peer.until_ended(8));
        let talk = peer.finish();
        let records = capture.stop().records();
        let lost = records.summary.sent.lost + records.summary.received.lost;
        assert!(lost > 0, "nothing was lost: the test shows nothing");
        let ours = records.of(talk.pid);
        assert!(ours.iter().all(|c| !c.comm.is_empty()), "{ours:#?}");
        let mut unknown: Vec<_> = records
            .of(talk.pid)
            .into_iter()
            .filter(|c| wholly_lost(c))
            .collect();
        for side in &talk.sides {
            let other = talk
                .sides
                .iter()
                .find(|s| s.local == side.remote && s.remote == side.local);
            let other = other.expect("the other side");
            let is_it = |c: &&Connection| {
                c.local.as_ref() == Some(&side.local) && c.remote.as_ref() == Some(&side.remote)
            };
            let (sent, received) = (side.sent_bytes(), other.sent_bytes());
            // Of a connection with nothing captured, nobody can say which it was.
            let connection = records.of(talk.pid).into_iter().find(is_it).or_else(|| {
                let lengths = (sent.len() as u64, received.len() as u64);
                let at = unknown
                    .iter()
                    .position(|c| (c.sent.length(), c.received.length()) == lengths);
                at.map(|at| unknown.remove(at))
            });
            let connection =
                connection.unwrap_or_else(|| panic!("{side:?}: {:#?}", records.outline()));
            assert_holds(&connection.sent, &sent, "sent");
            assert_holds(&connection.received, &received, "received");
        }
        assert_eq!(
            records.of(talk.pid).len(),
            talk.sides.len(),
            "{:#?}",
            records.outline()
        );
    }
}

fn wholly_lost(connection: &Connection) -> bool {
    connection.sent.bytes.is_empty() && connection.received.bytes.is_empty()
}

/// What was captured is right at its place, and the gaps are all the rest.
#[track_caller]
fn assert_holds(stream: &Stream, truth: &[u8], what: &str) {
    assert_eq!(
        stream.length(),
        truth.len() as u64,
        "captured and lost together, {what}"
    );
    let mut kept = Vec::with_capacity(truth.len());
    let mut at = 0;
    for &(offset, length) in &stream.gaps {
        kept.extend_from_slice(&truth[at..offset as usize]);
        at = (offset + length) as usize;
    }
    kept.extend_from_slice(&truth[at..]);
    assert!(
        kept == stream.bytes,
        "what was captured, {what}, is not what stood there"
    );
}

#[test]
fn text_shows_the_gaps() {
    let scene = Scene::new("loss-text");
    let mut peer = Peer::default()
        .set("wait")
        .set("text")
        .sizes(4 * MIB, 0)
        .start(&scene);
    let capture = Tlscope::text()
        .with("mapsize", TINY)
        .pid(peer.pid)
        .start(&scene);
    peer.go();
    while_stopped(&capture, || peer.until_ended(2));
    let talk = peer.finish();
    let captured = capture.stop();
    let text = captured.finished.text();
    let shown: u64 = captured
        .blocks()
        .of(talk.pid)
        .iter()
        .map(|b| b.length)
        .sum();
    let lost: u64 = text.lines().filter_map(lost_bytes).sum();
    assert!(lost > 0, "nothing was lost: the test shows nothing");
    assert_eq!(shown + lost, talk.bytes());
    assert!(
        captured.finished.stderr.contains("lost"),
        "{}",
        captured.finished.stderr
    );
}

/// `-- 123 bytes lost (sent, offset 456) -- ...`
fn lost_bytes(line: &str) -> Option<u64> {
    let (number, _) = line.strip_prefix("-- ")?.split_once(" bytes lost (")?;
    number.parse().ok()
}

#[test]
fn nothing_is_lost_with_room_enough() {
    let scene = Scene::new("no-loss");
    let mut peer = Peer::default()
        .set("wait")
        .sizes(4 * MIB, 4 * MIB)
        .start(&scene);
    let capture = Tlscope::json()
        .with("mapsize", "64M")
        .pid(peer.pid)
        .start(&scene);
    peer.go();
    while_stopped(&capture, || peer.until_ended(2));
    let talk = peer.finish();
    let records = capture.stop().records();
    records.assert_lossless();
    talk.assert_captured(&records);
}

/// Keeps tlscope from running meanwhile.
fn while_stopped(capture: &Capture, work: impl FnOnce()) {
    let pid = Pid::from_raw(capture.pid().cast_signed()).expect("a pid");
    kill_process(pid, Signal::STOP).expect("stop tlscope");
    work();
    kill_process(pid, Signal::CONT).expect("let tlscope go on");
}
