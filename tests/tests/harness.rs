//! The harness by itself: what it compares tlscope with must be right first.

use std::path::PathBuf;

use tlscope_tests::certificates::certificates;
use tlscope_tests::keylog::KeyLog;
use tlscope_tests::openssl::{SClient, SServer};
use tlscope_tests::python::{PythonServer, Script, client};
use tlscope_tests::servers::{Nginx, Redis, curl};
use tlscope_tests::{Digest, KIB, MIB, Peer, Scene, digest};

#[test]
fn the_peers_two_sides_agree() {
    let scene = Scene::new("harness-peer");
    let peers = [
        Peer::default().sizes(1, 1),
        Peer::default().sizes(16 * KIB + 1, MIB).with("form", "ex"),
        Peer::default()
            .sizes(MIB, 0)
            .with("chunk", 1000)
            .set("nonblock")
            .set("peek"),
        Peer::default()
            .with("tls", "1.2")
            .with("resume", "id")
            .with("connections", 3),
        Peer::default()
            .with("resume", "ticket")
            .with("early", 500)
            .with("connections", 3),
        Peer::default()
            .with("parallel", 4)
            .with("connections", 8)
            .with("address", "::1"),
    ];
    for peer in peers {
        let talk = peer.run(&scene);
        for client in talk.of("client") {
            let server = talk
                .of("server")
                .find(|s| s.remote == client.local)
                .expect("other side");
            assert_eq!(client.sent(), server.received());
            assert_eq!(client.received(), server.sent());
            assert_eq!(client.remote, server.local);
        }
    }
}

#[test]
fn the_peers_resume_and_send_early_when_told() {
    let scene = Scene::new("harness-resume");
    let peer = Peer::default().with("connections", 3);
    for (version, kind) in [("1.2", "id"), ("1.2", "ticket"), ("1.3", "ticket")] {
        let talk = peer
            .clone()
            .with("tls", version)
            .with("resume", kind)
            .run(&scene);
        let reused: Vec<_> = talk.of("client").map(|s| s.reused).collect();
        assert_eq!(reused, [false, true, true], "TLS {version}, {kind}");
        assert!(
            talk.sides
                .iter()
                .all(|s| s.version == format!("TLSv{version}"))
        );
    }
    let talk = peer.with("resume", "ticket").with("early", 100).run(&scene);
    assert_eq!(talk.of("server").filter(|s| s.early_accepted).count(), 2);
}

#[test]
fn the_two_key_logs_of_a_peer_agree() {
    let scene = Scene::new("harness-keylog");
    let peer = Peer::default().with("connections", 2).keylogs(&scene);
    peer.run(&scene);
    let log = |path: &Option<PathBuf>| KeyLog::read(path.as_ref().expect("a path"));
    let client = log(&peer.client_keylog);
    client.assert_is(&log(&peer.server_keylog));
    assert_eq!(client.count("EXPORTER_SECRET"), 2);
}

#[test]
fn python_agrees_with_itself() {
    let scene = Scene::new("harness-python");
    let script = Script {
        up: MIB,
        down: 3,
        connections: 2,
        ..Script::default()
    };
    let server = PythonServer::start(&scene, &script);
    let clients = client(&scene, server.port, &script);
    let servers = server.finish();
    assert_eq!((clients.len(), servers.len()), (2, 2));
    for (client, server) in clients.iter().zip(&servers) {
        assert_eq!(client.sent(), server.received());
        assert_eq!(client.received(), server.sent());
        assert_eq!(client.sent().length, MIB as u64);
    }
}

#[test]
fn curl_tells_what_it_sent_and_received() {
    let scene = Scene::new("harness-curl");
    let nginx = Nginx::start(&scene);
    let (path, content) = nginx.serve(20_000);
    let got = curl(&scene, &nginx.url(&path), &[]);
    nginx.until_served(1);
    assert_eq!(Digest::of(&got.body), Digest::of(&content));
    assert!(
        got.sent.starts_with(b"GET /20000.bin HTTP/1.1\r\n"),
        "{:?}",
        got.sent
    );
    assert!(got.sent.ends_with(b"\r\n\r\n"));
    assert!(got.received.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(got.received.ends_with(&content));
    let upload = scene.write("upload", &digest::noise(MIB, 9));
    let upload = upload.to_str().expect("a path in UTF-8");
    let put = curl(&scene, &nginx.url("/up.bin"), &["--upload-file", upload]);
    assert_eq!(nginx.uploaded("up.bin"), digest::noise(MIB, 9));
    assert!(put.sent.ends_with(&digest::noise(MIB, 9)));
    assert!(!KeyLog::read(&put.keylog).is_empty());
    assert_ne!(nginx.worker(), 0);
}

#[test]
fn redis_stores_a_value() {
    let scene = Scene::new("harness-redis");
    let redis = Redis::start(&scene);
    let value = scene.write("value", &digest::noise(MIB, 1));
    redis.client(&scene, &["SET", "key"], Some(&value));
    let got = redis.client(&scene, &["GET", "key"], None);
    let expected = [&digest::noise(MIB, 1)[..], b"\n"].concat();
    assert_eq!(Digest::of(&got.stdout), Digest::of(&expected));
}

#[test]
fn s_client_and_s_server_talk() {
    let scene = Scene::new("harness-s_client");
    let mut server = SServer::start(
        &scene,
        &certificates().rsa,
        &["-quiet", "-num_tickets", "0"],
    );
    let content = digest::noise(100_000, 5);
    let input = scene.write("input", &content);
    let arguments = ["-quiet", "-no_ign_eof", "-nocommands", "-verify_quiet"];
    let client = SClient::start(&scene, server.port, Some(&input), &arguments);
    client.finish();
    let got = server.program.until("all bytes", |p| {
        let out = p.stdout_so_far();
        (out.len() >= content.len()).then_some(out)
    });
    assert_eq!(Digest::of(&got), Digest::of(&content));
}
