//! `tlscope gnutls`: every byte and every secret of programs that use GnuTLS.

use tlscope_tests::gnutls::{self, SYSTEM_LIBGNUTLS};
use tlscope_tests::pcap::{PacketCapture, PcapFile};
use tlscope_tests::peer::{Side, Talk};
use tlscope_tests::{Digest, KIB, MIB, Peer, Scene, Tlscope};

/// All that these peers said, and nothing else of them.
#[track_caller]
fn assert_all_captured(scene: &Scene, capture: Tlscope, peers: &[Peer]) -> Vec<Talk> {
    let capture = capture.arg("--gnutls").arg(SYSTEM_LIBGNUTLS).start(scene);
    let talks: Vec<Talk> = peers.iter().map(|peer| peer.run(scene)).collect();
    let captured = capture.stop();
    let records = captured.records();
    for talk in &talks {
        talk.assert_captured(&records);
    }
    talks
}

fn retried(talk: &Talk) -> u64 {
    talk.sides.iter().map(|side| side.retried).sum()
}

#[test]
fn every_way_to_send_and_to_receive_is_seen_once() {
    let scene = Scene::new("gnutls-forms");
    let peer = || gnutls::peer().sizes(100_000, 70_001);
    let mut peers: Vec<Peer> = ["send", "send2", "range", "cork", "file"]
        .into_iter()
        .map(|form| peer().with("form", form))
        .collect();
    // Only with ciphers that work in blocks can TLS 1.2 hide lengths.
    peers.push(peer().with("tls", "1.2").with("form", "range"));
    for reads in ["seq", "packet", "mixed"] {
        peers.push(peer().with("reads", reads).with("read", 1000));
    }
    peers.push(peer().set("own-io"));
    assert_all_captured(&scene, gnutls::json(), &peers);
}

#[test]
fn sizes_from_one_byte_to_64_mib() {
    let scene = Scene::new("gnutls-sizes");
    let sizes = [(1, 1), (16 * KIB, 16 * KIB + 1), (MIB, 3 * MIB)];
    let mut peers: Vec<Peer> = sizes
        .into_iter()
        .flat_map(|(up, down)| {
            ["1.2", "1.3"].map(|tls| gnutls::peer().with("tls", tls).sizes(up, down))
        })
        .collect();
    peers.push(gnutls::peer().sizes(64 * MIB, 64 * MIB));
    assert_all_captured(&scene, gnutls::json(), &peers);
}

/// After `GNUTLS_E_AGAIN` the library goes on with the record that it kept, whether it is handed
/// the data again or none: the peer has overwritten it by then.
#[test]
fn a_send_that_has_to_be_resumed_counts_once() {
    let scene = Scene::new("gnutls-again");
    let peer = || gnutls::peer().set("nonblock").sizes(4 * MIB, 3 * MIB);
    let peers = [
        peer(),
        peer().with("tls", "1.2"),
        peer().set("again-with-data"),
        peer().with("form", "cork"),
    ];
    for object in [1, 2] {
        for talk in assert_all_captured(&scene, gnutls::json().object(object), &peers) {
            assert!(retried(&talk) > 0, "no send was interrupted");
        }
    }
}

#[test]
fn early_data_belongs_to_the_connection() {
    let scene = Scene::new("gnutls-early");
    let peer = gnutls::peer().with("early", 9000).with("connections", 2);
    let talks = assert_all_captured(&scene, gnutls::json(), &[peer]);
    let early: Vec<&Side> = talks[0].sides.iter().filter(|s| s.early_accepted).collect();
    assert_eq!(early.len(), 2, "sides with early data");
}

#[test]
fn datagrams_are_seen_too() {
    let scene = Scene::new("gnutls-dtls");
    let peer = || gnutls::peer().with("tls", "d1.2").sizes(20_000, 10_000);
    let peers = [peer(), peer().with("reads", "packet")];
    assert_all_captured(&scene, gnutls::json(), &peers);
}

/// What GnuTLS logs, and for resumed TLS 1.2 sessions the master secret, of which it says nothing.
#[test]
fn the_key_log_is_gnutls_own() {
    let scene = Scene::new("gnutls-keylog");
    let peer = || gnutls::peer().with("connections", 2);
    let cases = [
        ("1.2", peer().with("tls", "1.2")),
        ("1.3", peer()),
        ("resumed 1.3", peer().set("resume")),
        ("early data", peer().with("early", 5000)),
        ("key update", peer().with("key-updates", 2).sizes(MIB, 1)),
        ("DTLS", gnutls::peer().with("tls", "d1.2")),
    ];
    for object in [1, 2] {
        for (name, peer) in &cases {
            let peer = peer.clone().keylogs(&scene);
            let capture = Tlscope::new("gnutls").object(object);
            let capture = capture.args(["-m", "keylog", "-k", "-"]).start(&scene);
            peer.run(&scene);
            eprintln!("{name}, object {object}");
            let logged = peer.logged();
            capture
                .stop()
                .keylog()
                .of_connections_in(&logged)
                .assert_is(&logged);
        }
    }
}

#[test]
fn tshark_decrypts_every_kind_of_session_in_one_pass() {
    let scene = Scene::new("gnutls-pcap");
    let peer = || gnutls::peer().sizes(30_000, 50_000).with("connections", 2);
    let cases = [
        peer().with("tls", "1.2"),
        peer().with("tls", "1.2").set("resume"),
        peer(),
        peer().set("resume"),
        peer().with("key-updates", 1),
    ];
    for peer in cases {
        let mut running = peer.set("wait").start(&scene);
        let tlscope = Tlscope::new("gnutls").args(["-m", "pcap", "-i", "lo"]);
        let filter = format!("tcp port {}", running.port);
        let packets = PacketCapture::start_with(tlscope, &scene, &filter);
        running.go();
        let talk = running.finish();
        let (file, _) = packets.stop();
        assert_decrypts(&file, &talk);
    }
}

/// Each direction of each connection, as tshark follows it, is what was said.
#[track_caller]
fn assert_decrypts(file: &PcapFile, talk: &Talk) {
    let connections = file.connections();
    for client in talk.of("client") {
        let of_client = |(_, name): &&(usize, String)| *name == client.local;
        let stream = connections.iter().find(of_client);
        let (stream, _) = stream.unwrap_or_else(|| panic!("{client:?} in {connections:?}"));
        let [sent, answered] = file.plaintext(*stream, &client.local);
        let name = format!("connection {} {}", client.connection, client.version);
        assert_eq!(Digest::of(&sent), client.sent(), "sent by {name}");
        assert_eq!(Digest::of(&answered), client.received(), "answer to {name}");
    }
}
