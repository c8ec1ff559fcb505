//! `tlscope all`: OpenSSL, GnuTLS, NSS and Go at the same time, in one output.

use std::collections::BTreeMap;

use serde_json::Value;
use tlscope_tests::mixture::{Mixture, Waiting};
use tlscope_tests::text::Blocks;
use tlscope_tests::{Captured, Digest, Scene, Tlscope, go};

#[track_caller]
fn captured(scene: &Scene, arguments: &[&str]) -> (Mixture, Captured) {
    let waiting = Waiting::start(scene, &go::STRIPPED.program());
    let tlscope = Tlscope::new("all").args(arguments);
    let capture = waiting.watched_by(tlscope).start(scene);
    let mixture = waiting.talk(scene);
    assert_eq!(mixture.ends.len(), 7, "two each, and a server");
    (mixture, capture.stop())
}

#[test]
fn text_of_every_library_is_whole_in_one_output() {
    let scene = Scene::new("all-text");
    let (mixture, captured) = captured(&scene, &["--raw"]);
    let mut streams: BTreeMap<_, Vec<u8>> = BTreeMap::new();
    for (block, body) in Blocks::parse_raw(&captured.finished.stdout) {
        let key = (block.pid, block.fd, block.tuple, block.direction as usize);
        streams.entry(key).or_default().extend(body);
    }
    assert_eq!(streams.len(), 2 * mixture.ends.len());
    for end in &mixture.ends {
        for (direction, said) in end.streams.iter().enumerate() {
            let key = (end.pid, end.fd, end.remote.clone(), direction);
            let shown = streams.get(&key).map(|bytes| Digest::of(bytes));
            assert_eq!(shown.as_ref(), Some(said), "{key:?}");
        }
    }
}

/// A record has its time before it has its place in a buffer, and whoever is stopped in between writes
/// it behind younger ones: of several rounds one must be in order as a whole; each connection always is.
#[test]
fn what_every_library_does_comes_in_the_order_of_time() {
    const ROUNDS: usize = 4;
    let scene = Scene::new("all-json");
    let out_of_order: Vec<Vec<String>> = (0..ROUNDS).map_while(|_| disorder(&scene)).collect();
    assert!(out_of_order.len() < ROUNDS, "{out_of_order:#?}");
}

/// Every byte of a round; then the times of its data, if they are not in order.
#[track_caller]
fn disorder(scene: &Scene) -> Option<Vec<String>> {
    let (mixture, captured) = captured(scene, &["--json"]);
    let records = captured.records();
    mixture.assert_captured(&records);
    let text = captured.finished.text();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let data = lines.filter(|line: &Value| line["kind"] == "data");
    let word = |d: &Value, member: &str| d[member].as_str().expect("a word").to_owned();
    let data: Vec<_> = data.map(|d| (word(&d, "id"), word(&d, "time"))).collect();
    let mut of_each: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, time) in &data {
        of_each.entry(id).or_default().push(time);
    }
    for (id, times) in of_each {
        assert!(times.is_sorted(), "{id}: {times:#?}");
    }
    let times: Vec<String> = data.into_iter().map(|(_, time)| time).collect();
    (!times.is_sorted()).then_some(times)
}

#[test]
fn the_key_log_of_every_library_is_whole_in_one_output() {
    let scene = Scene::new("all-keylog");
    let (mixture, captured) = captured(&scene, &["-m", "keylog", "-k", "-"]);
    captured.keylog().assert_is(&mixture.keylog);
}
