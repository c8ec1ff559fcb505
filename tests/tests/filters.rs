//! `--pid` and `--uid`: what they name is captured whole, and nothing else.

use tlscope_tests::python::{PythonServer, Script, client};
use tlscope_tests::{Peer, Scene, Tlscope};

/// `nobody` of Debian: any uid but root's.
const NOBODY: u32 = 65534;

#[test]
fn pid_in_text_mode() {
    let scene = Scene::new("pid");
    for object in [1, 2] {
        let mut wanted = Peer::default().set("wait").sizes(5000, 5000).start(&scene);
        let mut other = Peer::default().set("wait").start(&scene);
        let capture = Tlscope::json().object(object).pid(wanted.pid).start(&scene);
        other.go();
        wanted.go();
        let (talk, other) = (wanted.finish(), other.finish());
        let records = capture.stop().records();
        talk.assert_captured(&records);
        assert!(records.of(other.pid).is_empty());
        assert_eq!(records.connections.len(), 2, "{:#?}", records.outline());
    }
}

#[test]
fn pid_in_keylog_mode() {
    let scene = Scene::new("pid-keylog");
    for object in [1, 2] {
        let peer = Peer::default().keylogs(&scene);
        let mut wanted = peer.clone().set("wait").start(&scene);
        let mut other = Peer::default().set("wait").start(&scene);
        let capture = Tlscope::keylog()
            .object(object)
            .pid(wanted.pid)
            .start(&scene);
        other.go();
        other.finish();
        wanted.go();
        wanted.finish();
        capture.stop().keylog().assert_is(&peer.logged());
    }
}

#[test]
fn uid_in_text_mode() {
    let scene = Scene::new("uid");
    for object in [1, 2] {
        let capture = Tlscope::json()
            .object(object)
            .with("uid", NOBODY)
            .start(&scene);
        let wanted = Peer::default()
            .as_user(NOBODY)
            .sizes(5000, 5000)
            .run(&scene);
        let other = Peer::default().run(&scene);
        let records = capture.stop().records();
        wanted.assert_captured(&records);
        assert!(records.of(wanted.pid).iter().all(|c| c.uid == NOBODY));
        assert!(records.of(other.pid).is_empty(), "{:#?}", records.outline());
    }
}

#[test]
fn uid_in_keylog_mode() {
    let scene = Scene::new("uid-keylog");
    let peer = Peer::default().as_user(NOBODY).keylogs(&scene);
    let capture = Tlscope::keylog().with("uid", NOBODY).start(&scene);
    let other = Peer::default().keylogs(&scene);
    other.run(&scene);
    peer.run(&scene);
    let (captured, logged) = (capture.stop().keylog(), peer.logged());
    let others = other.logged();
    captured
        .clone()
        .of_connections_in(&logged)
        .assert_is(&logged);
    assert!(
        captured.of_connections_in(&others).is_empty(),
        "root's secrets"
    );
}

#[test]
fn root_is_selected_by_name_and_by_equals() {
    let scene = Scene::new("root");
    for name in ["root", "=0"] {
        let capture = Tlscope::json().with("uid", name).start(&scene);
        let wanted = Peer::default().run(&scene);
        let other = Peer::default().as_user(NOBODY).run(&scene);
        let records = capture.stop().records();
        wanted.assert_captured(&records);
        assert!(
            records.of(other.pid).is_empty(),
            "--uid {name}: {:#?}",
            records.outline()
        );
    }
}

#[test]
fn zero_is_everyone() {
    let scene = Scene::new("zero");
    let capture = Tlscope::json()
        .arg("--pid")
        .arg("0")
        .arg("--uid")
        .arg("0")
        .start(&scene);
    let root = Peer::default().run(&scene);
    let nobody = Peer::default().as_user(NOBODY).run(&scene);
    let records = capture.stop().records();
    root.assert_captured(&records);
    nobody.assert_captured(&records);
}

#[test]
fn a_program_that_changes_its_uid() {
    let scene = Scene::new("setuid");
    let script = Script {
        up: 3000,
        down: 200,
        uid: Some(NOBODY),
        ..Script::default()
    };
    let server = PythonServer::start(
        &scene,
        &Script {
            uid: None,
            ..script.clone()
        },
    );
    let capture = Tlscope::json().with("uid", NOBODY).start(&scene);
    let clients = client(&scene, server.port, &script);
    let server = server.finish();
    let records = capture.stop().records();
    assert_eq!(
        records.only(clients[0].pid).sent.digest(),
        clients[0].sent()
    );
    assert!(
        records.of(server[0].pid).is_empty(),
        "{:#?}",
        records.outline()
    );
}

#[test]
fn both_filters_must_hold() {
    let scene = Scene::new("both");
    let mut peer = Peer::default().set("wait").start(&scene);
    let capture = Tlscope::json()
        .pid(peer.pid)
        .with("uid", NOBODY)
        .start(&scene);
    peer.go();
    peer.finish();
    assert!(capture.stop().records().connections.is_empty());
}
