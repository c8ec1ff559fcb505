//! `tlscope nss`: programs on NSS, whose own key log Debian's build leaves out. The witness is the
//! other side: OpenSSL, which logs.

use std::fs;

use tlscope_tests::certificates::certificates;
use tlscope_tests::keylog::KeyLog;
use tlscope_tests::nss::{NICKNAME, NssPeer, database, keylog, library, tlscope};
use tlscope_tests::openssl::{SClient, SServer};
use tlscope_tests::pcap::{PacketCapture, counted};
use tlscope_tests::program::{Program, tool};
use tlscope_tests::scene::{free_port, until_listening};
use tlscope_tests::{Digest, KIB, MIB, Scene, Tlscope};

const CALLS: [&str; 4] = ["rw", "msg", "vector", "file"];

/// The lines that every full TLS 1.3 handshake has.
const TLS13_LABELS: [&str; 5] = [
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "SERVER_TRAFFIC_SECRET_0",
    "EXPORTER_SECRET",
];

/// Every byte that passed TLS, and none of those that the peer wrote to files, pipes and sockets.
#[track_caller]
fn compare_data(scene: &Scene, object: u8, peer: &NssPeer) {
    let mut running = peer.clone().set("wait").start(scene);
    let capture = tlscope()
        .arg("--json")
        .with("mapsize", "64M")
        .object(object)
        .pid(running.pid)
        .start(scene);
    running.go();
    let talk = running.finish();
    let captured = capture.stop();
    let records = captured.records();
    talk.assert_captured(&records);
    records.assert_lossless();
}

#[test]
fn every_call_in_both_directions_by_each_object() {
    let scene = Scene::new("nss-calls");
    for (object, tls) in [(1, "1.2"), (2, "1.3")] {
        for calls in CALLS {
            let peer = NssPeer::default().with("calls", calls).with("tls", tls);
            compare_data(&scene, object, &peer.sizes(16 * KIB + 1, 300 * KIB));
        }
        let peer = NssPeer::default().with("connections", 2);
        compare_data(&scene, object, &peer.sizes(1, 16 * KIB));
    }
}

#[test]
fn sixty_four_mebibytes_are_sent_and_received() {
    let scene = Scene::new("nss-64m");
    compare_data(&scene, 1, &NssPeer::default().sizes(64 * MIB, 1));
}

#[test]
fn calls_that_would_block_are_counted_once() {
    let scene = Scene::new("nss-nonblock");
    for object in [1, 2] {
        let peer = NssPeer::default().set("nonblock").sizes(MIB, 2 * MIB);
        compare_data(&scene, object, &peer);
    }
}

#[test]
fn early_data_is_plaintext_of_its_connection() {
    let scene = Scene::new("nss-early");
    let peer = NssPeer::default().set("resume").with("early", 1000);
    compare_data(&scene, 1, &peer.with("connections", 3));
}

/// An NSS client against a server that logs.
#[track_caller]
fn compare_client(scene: &Scene, object: u8, peer: NssPeer) -> KeyLog {
    let server = SServer::start(scene, &certificates().ecdsa, &["-early_data"]);
    let mut running = peer.set("wait").with("connect", server.port).start(scene);
    let capture = keylog().object(object).pid(running.pid).start(scene);
    running.go();
    running.finish();
    let captured = capture.stop().keylog();
    captured.assert_is(&KeyLog::read(&server.keylog));
    captured
}

#[test]
fn secrets_of_full_handshakes_without_sslkeylogfile() {
    let scene = Scene::new("nss-full");
    for object in [1, 2] {
        let three = || NssPeer::default().with("connections", 3);
        let log = compare_client(&scene, object, three().with("tls", "1.3"));
        for label in TLS13_LABELS {
            assert_eq!(log.count(label), 3, "{label}");
        }
        let log = compare_client(&scene, object, three().with("tls", "1.2"));
        assert_eq!(log.count("CLIENT_RANDOM"), 3);
    }
}

#[test]
fn secrets_of_resumed_sessions_and_of_early_data() {
    let scene = Scene::new("nss-resumed");
    for object in [1, 2] {
        let three = || NssPeer::default().set("resume").with("connections", 3);
        let log = compare_client(&scene, object, three().with("tls", "1.2"));
        assert_eq!(log.count("CLIENT_RANDOM"), 3);
        let log = compare_client(&scene, object, three().with("early", 1000));
        assert_eq!(log.count("CLIENT_EARLY_TRAFFIC_SECRET"), 2);
        assert_eq!(log.count("EARLY_EXPORTER_SECRET"), 2);
        assert_eq!(log.count("CLIENT_TRAFFIC_SECRET_0"), 3);
    }
}

#[test]
fn secrets_of_key_updates() {
    let scene = Scene::new("nss-update");
    for object in [1, 2] {
        let peer = NssPeer::default().with("chunk", 100);
        let log = compare_client(&scene, object, peer.with("key-updates", 3));
        assert_eq!(log.count("CLIENT_TRAFFIC_SECRET_N"), 3);
        assert_ne!(log.count("SERVER_TRAFFIC_SECRET_N"), 0);
    }
}

/// `selfserv` against clients that log.
#[test]
fn secrets_of_a_server() {
    let scene = Scene::new("nss-server");
    for object in [1, 2] {
        let port = free_port();
        let mut selfserv = tool("selfserv", "libnss3-tools");
        selfserv.args(["-d", database(), "-n", NICKNAME, "-p", &port.to_string()]);
        selfserv.args(["-V", "tls1.2:tls1.3", "-u"]);
        let mut server = Program::start(&scene, "selfserv", selfserv);
        until_listening(&mut server, port);
        let capture = keylog().object(object).pid(server.pid()).start(&scene);
        let request = scene.write("request", b"GET / HTTP/1.0\r\n\r\n");
        let session = scene.fresh("session");
        let session = session.to_str().expect("UTF-8");
        let mut logged = KeyLog::default();
        for arguments in [
            ["-tls1_3", "-sess_out", session],
            ["-tls1_3", "-sess_in", session],
            ["-tls1_2", "-sess_out", session],
            ["-tls1_2", "-sess_in", session],
        ] {
            let arguments = [&arguments[..], &["-ign_eof"]].concat();
            let client = SClient::start(&scene, port, Some(&request), &arguments);
            let log = client.keylog.clone();
            client.finish();
            logged = logged.union(&KeyLog::read(&log));
        }
        assert_eq!(logged.count("CLIENT_RANDOM"), 2);
        assert_eq!(logged.count("EXPORTER_SECRET"), 2);
        capture.stop().keylog().assert_is(&logged);
    }
}

#[test]
fn one_file_of_the_library_leads_to_the_others() {
    let scene = Scene::new("nss-files");
    for name in ["libssl3.so", "libsoftokn3.so", "libnss3.so"] {
        let server = SServer::start(&scene, &certificates().ecdsa, &[]);
        let peer = NssPeer::default().set("wait").with("connect", server.port);
        let mut running = peer.start(&scene);
        let capture = keylog()
            .with("nss", library(name).display())
            .pid(running.pid)
            .start(&scene);
        running.go();
        running.finish();
        let captured = capture.stop().keylog();
        captured.assert_is(&KeyLog::read(&server.keylog));
    }
}

#[test]
fn a_token_has_no_part_in_plaintext() {
    let scene = Scene::new("nss-token");
    let capture = tlscope().start(&scene);
    let captured = capture.stop();
    let words = &captured.finished.stderr;
    assert!(words.contains("libssl3.so: NSS"), "{words}");
    assert!(!words.contains("nothing in it can serve"), "{words}");
    assert!(!words.contains("not probed"), "{words}");
}

/// As with a token in hardware: the names of secrets come, and their bytes are nowhere.
#[test]
fn secrets_of_a_token_that_is_not_probed_are_told() {
    let scene = Scene::new("nss-elsewhere");
    let alone = scene.path("alone");
    fs::create_dir_all(&alone).expect("a directory");
    let copy = alone.join("libssl3.so");
    fs::copy(library("libssl3.so"), &copy).expect("a copy of the library");
    let peer = NssPeer::default().library_path(&alone).set("wait");
    let mut running = peer.start(&scene);
    let capture = keylog()
        .with("nss", copy.display())
        .pid(running.pid)
        .start(&scene);
    running.go();
    running.finish();
    let captured = capture.stop();
    assert!(captured.finished.stdout.is_empty());
    // Five of each side of the connection.
    let name = "secrets not seen: made before the capture, or in a token that is not probed";
    assert_eq!(counted(&captured, name), 10);
}

#[test]
fn packets_decrypt_in_one_pass() {
    let scene = Scene::new("nss-pcap");
    let peers = [
        NssPeer::default().with("tls", "1.2").set("resume"),
        NssPeer::default().set("resume").with("early", 1000),
        NssPeer::default().with("chunk", 100).with("key-updates", 3),
    ];
    for peer in peers {
        let mut running = peer.with("connections", 3).set("wait").start(&scene);
        let capture = Tlscope::new("nss").args(["-m", "pcap", "-i", "lo"]);
        // Of other programs that talk on this machine packets would wait in vain.
        let filter = format!("tcp port {}", running.port);
        let capture = PacketCapture::start_with(capture, &scene, &filter);
        running.go();
        let talk = running.finish();
        let (file, captured) = capture.stop();
        assert_eq!(counted(&captured, "waited in vain for secrets"), 0);
        let connections = file.connections();
        for client in talk.of("client") {
            let server = talk.of("server").find(|s| s.remote == client.local);
            let server = server.expect("the other side");
            let (stream, _) = connections
                .iter()
                .find(|c| c.1 == client.local)
                .unwrap_or_else(|| panic!("{client:?} in {connections:?}"));
            let [sent, answered] = file.plaintext(*stream, &client.local);
            let name = format!("connection {} {}", client.connection, client.cipher);
            assert_eq!(Digest::of(&sent), server.received(), "sent by {name}");
            assert_eq!(Digest::of(&answered), client.received(), "answer to {name}");
        }
    }
}
