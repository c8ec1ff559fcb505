//! Packets with their secrets: tshark finds in one pass over the file, and with
//! nothing else, what client and server said.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use tlscope_tests::certificates::{Pair, certificates};
use tlscope_tests::network::{Network, until_closed};
use tlscope_tests::nss::NssPeer;
use tlscope_tests::pcap::{
    DECRYPTION_SECRETS, ENHANCED_PACKET, INTERFACE_STATISTICS, NAME_RESOLUTION, PacketCapture,
    PcapFile, counted, tshark,
};
use tlscope_tests::peer::{RunningPeer, Side, Talk};
use tlscope_tests::program::{Program, tool};
use tlscope_tests::scene::free_port;
use tlscope_tests::servers::{Nginx, curl};
use tlscope_tests::tcpdump::Tcpdump;
use tlscope_tests::{Digest, KIB, MIB, Peer, Scene, Tlscope, gnutls, go, wait};

/// nginx that speaks HTTP/2 too, on a port of its own.
fn nginx_h2(scene: &Scene, pair: &Pair) -> (Nginx, u16) {
    let port = free_port();
    let listen = format!("listen 127.0.0.1:{port} ssl http2; listen [::1]:{port} ssl http2;");
    (Nginx::start_with(scene, pair, &listen), port)
}

/// curl on many URLs, with what it got thrown away.
fn curl_many(scene: &Scene, arguments: &[&str], url: &str) {
    let mut command = tool("curl", "curl");
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]);
    command.arg("--cacert").arg(&certificates().ca);
    command.args(arguments).arg(url);
    let _ = Program::start(scene, "curl", command).finish().success();
}

#[test]
fn every_version_certificate_and_http() {
    let scene = Scene::new("pcap-http");
    for pair in [&certificates().ecdsa, &certificates().rsa] {
        let (nginx, h2) = nginx_h2(&scene, pair);
        let (path, content) = nginx.serve(100 * KIB);
        let filter = format!("tcp port {} or tcp port {h2}", nginx.port);
        let capture = PacketCapture::start(&scene, "lo", &filter);
        for tls in ["1.2", "1.3"] {
            for (http, port) in [("--http1.1", nginx.port), ("--http2", h2)] {
                let url = format!("https://localhost:{port}{path}");
                let got = curl(&scene, &url, &["--tls-max", tls, http]);
                assert_eq!(got.body, content);
            }
        }
        let (file, captured) = capture.stop();
        assert_eq!(file.http(), (vec![path.clone(); 4], 4));
        let body = Digest::of(&content).sha256;
        assert_eq!(file.bodies(&scene), [(body.clone(), 2)].into());
        assert_eq!(file.bodies_h2(), [(body, 2)].into());
        assert_eq!(counted(&captured, "waited in vain for secrets"), 0);
        assert_eq!(counted(&captured, "dropped by the kernel"), 0);
    }
}

#[test]
fn the_noncore_object_serves_too() {
    let scene = Scene::new("pcap-noncore");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(1000);
    let filter = format!("tcp port {}", nginx.port);
    let capture = PacketCapture::start_with(Tlscope::pcap("lo").object(2), &scene, &filter);
    curl(&scene, &nginx.url(&path), &[]);
    let (file, _) = capture.stop();
    assert_eq!(file.http(), (vec![path], 1));
    let both = "frame.comment contains \"(curl)\" and frame.comment contains \"(nginx)\"";
    // Perf buffers are sorted by time before they are read: the owner may be
    // known only after the first packets of the handshake are written.
    assert!(file.count(&format!("tcp.len > 0 and {both}")) > 0);
    // tshark does not look into those that were sent again.
    let first = "tcp.len > 0 and not tcp.analysis.retransmission";
    let unnamed = format!("{first} and not ({both}) and not tls.handshake");
    assert_eq!(file.count(&unnamed), 0);
}

/// Runs a peer beside a capture; all that its sides say they sent is in the file.
#[track_caller]
fn compare(scene: &Scene, peer: &Peer) -> PcapFile {
    let mut running = peer.clone().set("wait").start(scene);
    // Of other programs that talk on this machine packets would wait in vain.
    let capture = PacketCapture::start(scene, "lo", &format!("tcp port {}", running.port));
    running.go();
    let talk = running.finish();
    let (file, captured) = capture.stop();
    assert_eq!(counted(&captured, "waited in vain for secrets"), 0);
    assert_said(&file, said(&talk));
    file
}

/// A connection by its client's address, what the client sent and what it received.
type Said = (String, Digest, Digest);

#[track_caller]
fn said(talk: &Talk) -> Vec<Said> {
    let server_of = |client: &Side| talk.of("server").find(|s| s.remote == client.local);
    let connection = |client: &Side| {
        let server = server_of(client).expect("the other side");
        (client.local.clone(), server.received(), client.received())
    };
    talk.of("client").map(connection).collect()
}

#[track_caller]
fn assert_said(file: &PcapFile, all: Vec<Said>) {
    let connections = file.connections();
    for (client, sent, received) in all {
        let stream = connections.iter().find(|c| c.1 == client);
        let (stream, _) = stream.unwrap_or_else(|| panic!("{client} in {connections:?}"));
        let [asked, answered] = file.plaintext(*stream, &client);
        assert_eq!(Digest::of(&asked), sent, "sent by {client}");
        assert_eq!(Digest::of(&answered), received, "answer to {client}");
    }
}

/// `tlscope all`: programs on OpenSSL, GnuTLS, NSS and Go talk at the same time.
#[test]
fn every_library_at_once() {
    let scene = Scene::new("pcap-all");
    let program = go::STRIPPED.program();
    let mut go = go::start(&scene, &program, "-wait -connections 2 -sizes 1,20000");
    go.until("its pid", |p| {
        p.stdout_so_far().ends_with(b"\n").then_some(())
    });
    let all = Tlscope::new("all").args(["-m", "pcap", "-i", "lo"]);
    let mut capture = PacketCapture::start_with(all, &scene, "tcp");
    // All the code that runs is looked through behind the start.
    let probed = format!("{}: Go crypto/tls", program.display());
    capture.running().program().until("Go to be probed", |p| {
        p.stderr_so_far().contains(&probed).then_some(())
    });
    let peers = [
        Peer::default().sizes(3000, 20_000).start(&scene),
        gnutls::peer().sizes(3000, 20_000).start(&scene),
        NssPeer::default().sizes(3000, 20_000).start(&scene),
    ];
    go.say(b"go\n");
    let go = go::end(go);
    let talks = peers.map(RunningPeer::finish);
    let (file, _) = capture.stop();
    let of_go = go.sides.iter().filter(|side| side.side == "client");
    let of_go = of_go.map(|client| (client.local.clone(), client.sent(), client.received()));
    let all: Vec<_> = talks.iter().flat_map(said).chain(of_go).collect();
    assert_eq!(all.len(), 5);
    assert_said(&file, all);
}

#[test]
fn resumption() {
    let scene = Scene::new("pcap-resumed");
    for (tls, kind) in [("1.2", "id"), ("1.2", "ticket"), ("1.3", "ticket")] {
        let peer = Peer::default().with("tls", tls).with("resume", kind);
        compare(&scene, &peer.with("connections", 3).sizes(3000, 3000));
    }
}

#[test]
fn early_data() {
    let scene = Scene::new("pcap-early");
    let peer = Peer::default().with("resume", "ticket").with("early", 1000);
    let file = compare(&scene, &peer.with("connections", 3).sizes(3000, 3000));
    assert_eq!(
        file.count("tls.handshake.extension.type == 42 and tls.handshake.type == 1"),
        2
    );
}

#[test]
fn key_updates() {
    let scene = Scene::new("pcap-update");
    let peer = Peer::default()
        .with("key-updates", 3)
        .with("chunk", 100)
        .sizes(1000, 1000);
    compare(&scene, &peer);
}

#[test]
fn two_hundred_short_connections() {
    let scene = Scene::new("pcap-short");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(100);
    let filter = format!("tcp port {}", nginx.port);
    let capture = PacketCapture::start(&scene, "lo", &filter);
    let url = nginx.url(&format!("{path}?[1-200]"));
    let close = ["--rate", "100/s", "--header", "Connection: close"];
    let out = scene.fresh("answer");
    let out = out.to_str().expect("UTF-8");
    curl_many(
        &scene,
        &[&close[..], &["-o", out, "--http1.1"]].concat(),
        &url,
    );
    let (file, captured) = capture.stop();
    let (uris, answers) = file.http();
    let asked: Vec<_> = (1..=200).map(|n| format!("{path}?{n}")).collect();
    assert_eq!((uris, answers), (asked, 200));
    assert_eq!(file.connections().len(), 200);
    assert_eq!(counted(&captured, "waited in vain for secrets"), 0);
}

/// 200 MiB both ways through loopback: nothing is dropped, and as many packets
/// are there as tcpdump has, which captures beside us.
#[test]
fn twenty_parallel_downloads_beside_tcpdump() {
    let scene = Scene::new("pcap-parallel");
    let nginx = Nginx::start(&scene);
    let (path, content) = nginx.serve(10 * MIB);
    let filter = format!("tcp port {}", nginx.port);
    let tcpdump = Tcpdump::start(&scene, "lo", &filter);
    let tlscope = Tlscope::pcap("lo").with("mapsize", "256M");
    let capture = PacketCapture::start_with(tlscope, &scene, &filter);
    let url = nginx.url(&format!("{path}?[1-20]"));
    let out = format!("{}/download#1", scene.directory().display());
    let parallel = [
        "--parallel",
        "--parallel-max",
        "20",
        "--http1.1",
        "-o",
        &out,
    ];
    curl_many(&scene, &parallel, &url);
    until_closed(nginx.port);
    let (file, captured) = capture.stop();
    assert_eq!(counted(&captured, "dropped by the kernel"), 0);
    let packets = file.count("");
    assert_eq!(tcpdump.stop(packets).count(""), packets);
    let body = Digest::of(&content).sha256;
    assert_eq!(file.bodies(&scene), [(body, 20)].into());
}

#[test]
fn through_a_pipe_into_tshark() {
    let scene = Scene::new("pcap-pipe");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(50 * KIB);
    let shown = scene.fresh("tshark.stdout");
    let mut reader = tshark();
    reader.args(["-r", "-", "-l", "-Y", "http", "-T", "fields"]);
    reader.args(["-e", "http.request.uri", "-e", "http.response.code"]);
    let out = File::create(&shown).expect("tshark's stdout");
    reader
        .stdin(Stdio::piped())
        .stdout(out)
        .stderr(Stdio::null());
    let mut reader = reader.spawn().expect("tshark");
    let pipe = reader.stdin.take().expect("a pipe");
    let filter = ["tcp", "port", &nginx.port.to_string()].map(str::to_owned);
    let tlscope = Tlscope::pcap("lo").args(["-w", "-"]).args(&filter);
    let capture = tlscope.start_to(&scene, scene.fresh("none"), pipe.into());
    for tls in ["1.2", "1.3"] {
        curl(&scene, &nginx.url(&path), &["--tls-max", tls]);
    }
    // At the end tlscope waits two seconds for a reader, which may need longer than that to start.
    wait::until("tshark to read", || {
        let begun = shown.metadata().is_ok_and(|shown| shown.len() > 0);
        begun.then_some(())
    });
    capture.stop();
    assert!(reader.wait().expect("tshark").success());
    let text = std::fs::read_to_string(&shown).expect("tshark's stdout");
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert_eq!(lines, [path.as_str(), "200", path.as_str(), "200"]);
}

#[test]
fn between_namespaces_over_veth_by_ipv4_and_ipv6() {
    let scene = Scene::new("pcap-veth");
    let network = Network::pair();
    let pair = &certificates().ecdsa;
    scene.write(
        "page.txt",
        b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nfrom afar\n",
    );
    let mut server = network.in_far();
    server.args(["openssl", "s_server", "-HTTP", "-accept", "4433", "-cert"]);
    server.arg(&pair.cert).arg("-key").arg(&pair.key);
    server.current_dir(scene.directory()).stdin(Stdio::piped());
    let mut server = Program::start(&scene, "s_server", server);
    server.until("s_server", |p| {
        let out = String::from_utf8_lossy(&p.stdout_so_far()).into_owned();
        out.contains("ACCEPT").then_some(())
    });
    let tlscope = Tlscope::pcap("veth0").under(network.in_near());
    let capture = PacketCapture::start_with(tlscope, &scene, "tcp port 4433");
    for host in [Network::FAR.to_owned(), format!("[{}]", Network::FAR_V6)] {
        let mut client = network.in_near();
        client.args(["curl", "--silent", "--fail", "--insecure", "--http1.0"]);
        client.arg(format!("https://{host}:4433/page.txt"));
        let got = Program::start(&scene, "curl", client).finish().success();
        assert_eq!(got.text(), "from afar\n");
    }
    let (file, _) = capture.stop();
    assert_eq!(file.http(), (vec!["/page.txt".to_owned(); 2], 2));
    assert!(file.count("ipv6 and http") == 2 && file.count("ip and http") == 2);
    assert_eq!(file.info("Name"), ["veth0"]);
}

#[test]
fn all_interfaces_by_name() {
    let scene = Scene::new("pcap-any");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(1000);
    let filter = format!("tcp port {}", nginx.port);
    let capture = PacketCapture::start(&scene, "any", &filter);
    curl(&scene, &nginx.url(&path), &[]);
    let (file, _) = capture.stop();
    assert_eq!(file.http(), (vec![path], 1));
    assert_eq!(file.info("Name"), ["any", "lo"]);
    assert_eq!(file.count("frame.interface_name == \"lo\""), file.count(""));
}

/// What the blocks say, to a reader of blocks and to capinfos.
#[test]
fn the_structure_of_the_file() {
    let scene = Scene::new("pcap-structure");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(5000);
    let filter = format!("tcp port {}", nginx.port);
    let keylog = scene.fresh("keys.log");
    let tlscope = Tlscope::pcap("lo").arg("-k").arg(&keylog);
    let capture = PacketCapture::start_with(tlscope.args(["-s", "1000"]), &scene, &filter);
    curl(&scene, &nginx.url(&path), &[]);
    let (file, _) = capture.stop();
    let blocks = file.blocks();
    assert_eq!(blocks.rest, 0);
    assert_eq!(blocks.count(ENHANCED_PACKET), file.count(""));
    assert_eq!(blocks.count(NAME_RESOLUTION), 1, "localhost, of the SNI");
    assert_eq!(blocks.all.last().map(|b| b.0), Some(INTERFACE_STATISTICS));
    assert!(blocks.count(DECRYPTION_SECRETS) >= 1);
    let keylog = std::fs::read_to_string(keylog).expect("the key log");
    assert_eq!(blocks.secrets(), keylog);
    assert!(file.info("Capture application")[0].starts_with("tlscope "));
    assert!(file.info("Capture oper-sys")[0].starts_with("Linux "));
    assert_eq!(file.info("Filter string"), [filter]);
    assert_eq!(file.info("Capture length"), ["1000"]);
    assert_eq!(file.info("Time resolution"), ["0x09"]);
    let lengths = file.rows("", &["frame.cap_len", "frame.len"]);
    assert!(
        lengths
            .iter()
            .all(|row| row[0].parse::<u32>().unwrap() <= 1000)
    );
    assert!(lengths.iter().any(|row| row[0] != row[1]));
    let mode = file
        .path()
        .metadata()
        .expect("the file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Two peers talk at the same time; of one, both directions are kept.
#[test]
fn packets_of_one_process() {
    let scene = Scene::new("pcap-pid");
    // Of a user whom no other program has: a daemon of `nobody` may talk too.
    let user = 600_000 + std::process::id();
    for (object, by_user) in [(1, false), (2, false), (1, true)] {
        let peer = |user: Option<u32>| {
            let peer = Peer::default()
                .sizes(3000, 5000)
                .with("connections", 3)
                .set("wait");
            user.map_or(peer.clone(), |user| peer.as_user(user))
                .start(&scene)
        };
        let (mut wanted, mut other) = (peer(Some(user)), peer(None));
        let tlscope = Tlscope::pcap("lo").object(object);
        let tlscope = if by_user {
            tlscope.with("uid", user)
        } else {
            tlscope.pid(wanted.pid)
        };
        let capture = PacketCapture::start_with(tlscope, &scene, "tcp");
        wanted.go();
        other.go();
        let (wanted_port, other_port) = (wanted.port, other.port);
        let talk = wanted.finish();
        other.finish();
        let (file, captured) = capture.stop();
        assert_eq!(file.count(&format!("tcp.port == {other_port}")), 0);
        assert_eq!(file.count(&format!("not tcp.port == {wanted_port}")), 0);
        assert!(counted(&captured, "of other processes dropped") > 0);
        // Whole connections, from the first packet to the last.
        assert_eq!(file.senders("tcp.flags.syn == 1 and tcp.flags.ack == 0"), 3);
        assert_eq!(file.senders("tcp.flags.fin == 1"), 6);
        for (stream, local) in file.connections() {
            let client = talk.of("client").find(|side| side.local == local);
            let client = client.expect("a client of ours");
            let [_, answered] = file.plaintext(stream, &local);
            assert_eq!(Digest::of(&answered), client.received());
        }
        let pid = talk.pid;
        let named = format!("frame.comment contains \"pid {pid} (peer)\"");
        assert_eq!(file.count(&named), file.count(""));
    }
}

/// A connection that the process opened before the capture began.
#[test]
fn a_connection_from_before_the_start() {
    let scene = Scene::new("pcap-before");
    let nginx = Nginx::start(&scene);
    nginx.serve(1000);
    let mut client = tool("openssl", "openssl");
    client.args([
        "s_client",
        "-quiet",
        "-no_ign_eof",
        "-servername",
        "localhost",
    ]);
    client.args(["-connect", &format!("127.0.0.1:{}", nginx.port)]);
    client.stdin(Stdio::piped());
    let mut client = Program::start(&scene, "s_client", client);
    let mut ask = |requests| {
        client.say(b"GET /1000.bin HTTP/1.1\r\nHost: localhost\r\n\r\n");
        nginx.until_served(requests);
    };
    ask(1);
    let tlscope = Tlscope::pcap("lo").pid(client.pid());
    let mut capture = PacketCapture::start_with(tlscope, &scene, "tcp");
    let mut ask = |requests| {
        client.say(b"GET /1000.bin HTTP/1.1\r\nHost: localhost\r\n\r\n");
        nginx.until_served(requests);
    };
    ask(2);
    let _ = capture.running();
    let (file, _) = capture.stop();
    let port = nginx.port;
    assert!(file.count(&format!("tcp.dstport == {port} and tcp.len > 0")) > 0);
    assert!(file.count(&format!("tcp.srcport == {port} and tcp.len > 0")) > 0);
    assert_eq!(file.count(&format!("not tcp.port == {port}")), 0);
}

/// Without secrets to come, a flow waits for its cap and others do not.
#[test]
fn a_flow_whose_secrets_never_come_delays_no_other() {
    let scene = Scene::new("pcap-cap");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(1000);
    // The client alone is watched, and it is not the one that talks.
    let tlscope = Tlscope::pcap("lo").args(["--libssl", "/usr/bin/openssl", "--hold", "300"]);
    let probed = tlscope
        .running(&["true"])
        .args(["-w", "/dev/null"])
        .run(&scene);
    // Debian's openssl links the library: there is nothing in it to probe.
    assert_eq!(probed.code(), Some(4), "{}", probed.stderr);

    let library = tlscope_tests::peer::copied_libssl(&scene);
    let tlscope = Tlscope::pcap("lo").arg("--libssl").arg(&library);
    let filter = format!("tcp port {}", nginx.port);
    let capture = PacketCapture::start_with(tlscope, &scene, &filter);
    curl(&scene, &nginx.url(&path), &[]);
    let file = PcapFile::at(capture.path());
    let written = wait::until("packets to be let go", || {
        let count = file.so_far()?.count("tls.app_data");
        (count > 0).then_some(count)
    });
    let (file, captured) = capture.stop();
    assert!(counted(&captured, "waited in vain for secrets") >= written as u64);
    assert_eq!(file.http(), (Vec::new(), 0));
    assert_eq!(file.count("tls.handshake.type == 2"), 1);
}
