//! Secrets: each line that the peers' own key logs have, once, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use tlscope_tests::certificates::certificates;
use tlscope_tests::keylog::KeyLog;
use tlscope_tests::openssl::{SClient, SServer};
use tlscope_tests::peer::{RunningPeer, libressl_shape};
use tlscope_tests::program::{must, tool};
use tlscope_tests::python::{PythonServer, Script, client};
use tlscope_tests::servers::{Nginx, curl};
use tlscope_tests::{Peer, SYSTEM_LIBSSL, Scene, Tlscope};

/// The lines that every full TLS 1.3 handshake has.
const TLS13_LABELS: [&str; 5] = [
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "SERVER_TRAFFIC_SECRET_0",
    "EXPORTER_SECRET",
];

/// Runs a peer beside tlscope and compares the logs; returns what was logged.
/// By pid: whatever else the machine does meanwhile would be logged too.
#[track_caller]
fn compare(scene: &Scene, object: u8, peer: Peer) -> KeyLog {
    let peer = peer.set("wait").keylogs(scene);
    let mut running = peer.start(scene);
    let capture = Tlscope::keylog()
        .object(object)
        .pid(running.pid)
        .start(scene);
    running.go();
    running.finish();
    let captured = capture.stop().keylog();
    captured.assert_is(&peer.logged());
    captured
}

/// The same for a capture without a filter, as far as the peers' connections go.
#[track_caller]
fn assert_among(captured: KeyLog, peers: &KeyLog) {
    captured.of_connections_in(peers).assert_is(peers);
}

#[test]
fn tls_1_3_full_handshakes() {
    let scene = Scene::new("tls13");
    for object in [1, 2] {
        let log = compare(&scene, object, Peer::default().with("connections", 3));
        for label in TLS13_LABELS {
            assert_eq!(log.count(label), 3, "{label}");
        }
    }
}

#[test]
fn tls_1_2_full_handshakes() {
    let scene = Scene::new("tls12");
    for object in [1, 2] {
        let peer = Peer::default().with("tls", "1.2").with("connections", 3);
        assert_eq!(compare(&scene, object, peer).count("CLIENT_RANDOM"), 3);
    }
}

#[test]
fn tls_1_2_resumed_by_session_id_and_by_ticket() {
    let scene = Scene::new("resumed12");
    for kind in ["id", "ticket"] {
        for object in [1, 2] {
            let peer = Peer::default().with("tls", "1.2").with("resume", kind);
            let log = compare(&scene, object, peer.with("connections", 3));
            assert_eq!(log.count("CLIENT_RANDOM"), 3, "by {kind}");
        }
    }
}

#[test]
fn tls_1_3_resumed_and_early_data() {
    let scene = Scene::new("early");
    for object in [1, 2] {
        let peer = Peer::default().with("resume", "ticket").with("early", 1000);
        let log = compare(&scene, object, peer.with("connections", 3));
        assert_eq!(log.count("CLIENT_EARLY_TRAFFIC_SECRET"), 2);
        assert_eq!(log.count("EARLY_EXPORTER_SECRET"), 2);
        assert_eq!(log.count("CLIENT_TRAFFIC_SECRET_0"), 3);
    }
}

#[test]
fn key_updates_add_nothing_that_the_peer_does_not_log() {
    let scene = Scene::new("update");
    let peer = Peer::default()
        .with("key-updates", 3)
        .with("chunk", 100)
        .sizes(1000, 1000);
    compare(&scene, 1, peer);
}

#[test]
fn tls_1_3_cipher_suites() {
    let scene = Scene::new("suites13");
    for suite in [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_CCM_8_SHA256",
    ] {
        let log = compare(&scene, 1, Peer::default().with("suites", suite));
        assert_eq!(log.count("EXPORTER_SECRET"), 1, "{suite}");
    }
}

#[test]
fn tls_1_2_cipher_suites() {
    let scene = Scene::new("suites12");
    for cipher in [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-CCM",
        "ECDHE-ECDSA-AES256-CCM8",
        "ECDHE-ECDSA-AES256-SHA384",
    ] {
        let peer = Peer::default().with("tls", "1.2").with("cipher", cipher);
        assert_eq!(
            compare(&scene, 1, peer).count("CLIENT_RANDOM"),
            1,
            "{cipher}"
        );
    }
}

#[test]
fn rsa_key_exchange() {
    let scene = Scene::new("rsa");
    let pair = &certificates().rsa;
    let peer = Peer::default()
        .with("cert", pair.cert.display())
        .with("key", pair.key.display());
    compare(
        &scene,
        1,
        peer.with("tls", "1.2").with("cipher", "AES128-GCM-SHA256"),
    );
}

#[test]
fn fifty_connections_at_once() {
    let scene = Scene::new("burst");
    for object in [1, 2] {
        let peer = Peer::default().with("connections", 50).with("parallel", 50);
        assert_eq!(compare(&scene, object, peer).count("EXPORTER_SECRET"), 50);
    }
}

#[test]
fn the_client_alone_and_the_server_alone() {
    let scene = Scene::new("alone");
    for version in ["1.2", "1.3"] {
        let peer = Peer::default()
            .with("tls", version)
            .with("resume", "ticket");
        let peer = peer.with("connections", 2);
        for watched in ["client", "server"] {
            let server = peer.clone().with("role", "server").keylogs(&scene);
            let mut serving = server.start(&scene);
            let client = peer
                .clone()
                .with("role", "client")
                .with("port", serving.port);
            let client = client.set("wait").keylogs(&scene);
            let mut calling = client.start(&scene);
            let pid = if watched == "client" {
                calling.pid
            } else {
                serving.pid
            };
            let capture = Tlscope::keylog().pid(pid).start(&scene);
            calling.go();
            calling.finish();
            serving.until_ended(2);
            serving.finish();
            let captured = capture.stop().keylog();
            captured.assert_is(&if watched == "client" {
                client.logged()
            } else {
                server.logged()
            });
        }
    }
}

#[test]
fn curl_beside_its_own_key_log() {
    let scene = Scene::new("curl");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(1000);
    for version in ["1.2", "1.3"] {
        let capture = Tlscope::keylog().start(&scene);
        let got = curl(&scene, &nginx.url(&path), &["--tls-max", version]);
        let captured = capture.stop().keylog();
        assert_among(captured, &KeyLog::read(&got.keylog));
    }
}

#[test]
fn nginx_seen_from_its_own_side() {
    let scene = Scene::new("nginx");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(1000);
    let capture = Tlscope::keylog().pid(nginx.worker()).start(&scene);
    let got = curl(&scene, &nginx.url(&path), &[]);
    nginx.until_served(1);
    capture
        .stop()
        .keylog()
        .assert_is(&KeyLog::read(&got.keylog));
}

#[test]
fn python_beside_its_own_key_log() {
    let scene = Scene::new("python");
    let keylog = Some(scene.path("python.keylog"));
    let script = Script {
        up: 100,
        down: 100,
        connections: 2,
        keylog,
        ..Script::default()
    };
    let capture = Tlscope::keylog().start(&scene);
    let server = PythonServer::start(
        &scene,
        &Script {
            keylog: None,
            ..script.clone()
        },
    );
    client(&scene, server.port, &script);
    server.finish();
    let peers = KeyLog::read(script.keylog.as_deref().expect("a path"));
    assert_among(capture.stop().keylog(), &peers);
}

/// A server that refuses the client's first key share: two hellos, one random.
#[test]
fn a_hello_retry_request() {
    let scene = Scene::new("hrr");
    let capture = Tlscope::keylog().start(&scene);
    let arguments = ["-quiet", "-groups", "P-384"];
    let server = SServer::start(&scene, &certificates().ecdsa, &arguments);
    let input = scene.write("input", b"hello\n");
    let arguments = [
        "-quiet",
        "-no_ign_eof",
        "-verify_quiet",
        "-groups",
        "X25519:P-384",
    ];
    let client = SClient::start(&scene, server.port, Some(&input), &arguments);
    let keylog = client.keylog.clone();
    client.finish();
    let captured = capture.stop().keylog();
    let peers = KeyLog::read(&keylog).union(&KeyLog::read(&server.keylog));
    assert_eq!(peers.count("CLIENT_TRAFFIC_SECRET_0"), 1);
    assert_among(captured, &peers);
}

#[test]
fn the_file_is_private_is_appended_to_and_has_no_line_twice() {
    let scene = Scene::new("file");
    let file = scene.path("keys.log");
    let run = |peer: &Peer| {
        let capture = Tlscope::new("tls")
            .arg("-m")
            .arg("keylog")
            .arg("-k")
            .arg(&file);
        let capture = capture.start(&scene);
        peer.run(&scene);
        assert_eq!(capture.stop().finished.text(), "", "stdout");
    };
    let first = Peer::default().keylogs(&scene);
    run(&first);
    let mode = fs::metadata(&file)
        .expect("the key log")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = Peer::default().with("tls", "1.2").keylogs(&scene);
    run(&second);
    assert_among(KeyLog::read(&file), &first.logged().union(&second.logged()));
}

/// What the kernel lists for the links of a capture is what the plan says: data
/// functions in text mode, and none of them in keylog mode.
#[test]
fn no_probe_on_the_data_path() {
    let scene = Scene::new("probes");
    let data = data_functions(&scene);
    for object in [1, 2] {
        let text = Tlscope::text().object(object).start(&scene);
        let with_data = probed_offsets(text.pid());
        text.stop();
        let keylog = Tlscope::keylog().object(object).start(&scene);
        let without = probed_offsets(keylog.pid());
        keylog.stop();
        assert!(
            !without.is_empty(),
            "no probe is listed at all: the test shows nothing"
        );
        assert!(data.is_subset(&with_data), "{data:x?} in {with_data:x?}");
        assert!(data.is_disjoint(&without), "{data:x?} in {without:x?}");
        assert!(public_functions().is_disjoint(&without), "{without:x?}");
    }
}

/// The file offsets of the data probes in the plan of the system's library.
fn data_functions(scene: &Scene) -> BTreeSet<u64> {
    let inspect = Tlscope::new("inspect").arg("--json").arg(SYSTEM_LIBSSL);
    let plan = inspect.run(scene).success().stdout;
    let plan: serde_json::Value = serde_json::from_slice(&plan).expect("JSON");
    let roles = ["read", "write", "read_ex", "write_ex", "write_ex2"];
    let is_data = |p: &&serde_json::Value| roles.iter().any(|role| p["role"] == *role);
    let probes = plan["probes"].as_array().expect("probes").iter();
    let offsets: BTreeSet<_> = probes
        .filter(is_data)
        .filter_map(|p| p["offset"].as_u64())
        .collect();
    assert!(offsets.len() >= 2, "{plan}");
    offsets
}

/// File offsets of `SSL_read` and `SSL_write`, from the tool that knows ELF best.
fn public_functions() -> BTreeSet<u64> {
    let mut readelf = tool("readelf", "binutils");
    let table = must(readelf.args(["--wide", "--dyn-syms", SYSTEM_LIBSSL]));
    let table = String::from_utf8_lossy(&table).into_owned();
    let address = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let name = words.get(7)?.split('@').next()?;
        // In shared libraries of this machine, text lies at its own file offset.
        ["SSL_read", "SSL_write"]
            .contains(&name)
            .then(|| u64::from_str_radix(words[1], 16).ok())?
    };
    let found: BTreeSet<_> = table.lines().filter_map(address).collect();
    assert_eq!(found.len(), 2, "{table}");
    found
}

/// The offsets that the kernel lists in `/proc/PID/fdinfo` for the links of a process.
fn probed_offsets(pid: u32) -> BTreeSet<u64> {
    let mut offsets = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .expect("fdinfo")
        .flatten()
    {
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        if !info.contains("link_type:") {
            continue;
        }
        for line in info.lines() {
            let mut words = line.split_whitespace();
            // A multi link has a table with lines `cookie offset ref_ctr_offset`,
            // a single one a line `offset: 0x...`.
            let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
            offsets.extend(
                words
                    .clone()
                    .filter(|w| w.starts_with("0x"))
                    .filter_map(hex),
            );
            if words.next() == Some("offset:") {
                offsets.extend(words.next().and_then(hex));
            }
        }
    }
    offsets
}

/// `fixtures/libressl_shape.c`: what LibreSSL became after 3.1, which itself runs in the zoo.
#[test]
fn a_key_schedule_that_does_not_know_its_connection_is_joined_by_the_handshake() {
    let scene = Scene::new("libressl-shape");
    for (form, side, object) in [
        ("DERIVE_INLINED", "client", 1),
        ("DERIVE_ALONE", "server", 1),
        ("DERIVE_INLINED", "server", 2),
        ("DERIVE_ALONE", "client", 2),
    ] {
        let own = scene.fresh("own.keylog");
        let program = libressl_shape(form);
        let mut command = Command::new(&program);
        command.arg(side).arg(&own).arg("6").stdin(Stdio::piped());
        let mut running = RunningPeer::start(&scene, command);
        let capture = Tlscope::keylog()
            .with("libssl", program.display())
            .object(object)
            .pid(running.pid)
            .start(&scene);
        running.go();
        running.end();
        let logged = KeyLog::read(&own);
        for label in TLS13_LABELS {
            assert_eq!(logged.count(label), 6, "{label}");
        }
        capture.stop().keylog().assert_is(&logged);
    }
}
