//! `tlscope gnutls`: every byte and every secret of programs that use GnuTLS.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tlscope_tests::certificates::certificates;
use tlscope_tests::digest::noise;
use tlscope_tests::gnutls::{self, SYSTEM_LIBGNUTLS};
use tlscope_tests::keylog::KeyLog;
use tlscope_tests::openssl::SServer;
use tlscope_tests::pcap::{PacketCapture, PcapFile};
use tlscope_tests::peer::{Side, Talk};
use tlscope_tests::program::{Program, must, run, tool};
use tlscope_tests::scene::{free_port, until_listening};
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
    peers.push(gnutls::peer().sizes(64 * MIB, 1));
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

/// Of resumed TLS 1.2 sessions GnuTLS says nothing: those are for OpenSSL to witness, and tshark.
#[test]
fn the_key_log_is_gnutls_own() {
    let scene = Scene::new("gnutls-keylog");
    let peer = || gnutls::peer().with("connections", 2);
    for object in [1, 2] {
        let peers = [
            peer().with("tls", "1.2"),
            peer(),
            peer().set("resume"),
            peer().with("early", 5000),
            peer().with("key-updates", 2).sizes(MIB, 1),
            gnutls::peer().with("tls", "d1.2"),
        ]
        .map(|peer| peer.keylogs(&scene));
        let capture = Tlscope::new("gnutls").object(object);
        let capture = capture.args(["-m", "keylog", "-k", "-"]).start(&scene);
        let mut truth = KeyLog::default();
        for peer in &peers {
            peer.run(&scene);
            truth = truth.union(&peer.logged());
        }
        let captured = capture.stop().keylog();
        captured.of_connections_in(&truth).assert_is(&truth);
    }
}

/// A client on GnuTLS that comes back to a server on OpenSSL, which logs each session.
#[test]
fn a_resumed_tls_1_2_session_has_its_master_secret() {
    let scene = Scene::new("gnutls-resumed");
    let server = SServer::start(&scene, &certificates().ecdsa, &["-tls1_2", "-rev"]);
    let mut client = tool("gnutls-cli", "gnutls-bin");
    let port = server.port.to_string();
    client.args(["--insecure", "--resume", "-p", &port, "localhost"]);
    client.stdin(Stdio::null());
    let (_, keys) = beside(&scene, || drop(must(&mut client)));
    let truth = KeyLog::read(&server.keylog);
    assert_eq!(
        truth.count("CLIENT_RANDOM"),
        2,
        "the session was not resumed"
    );
    keys.of_connections_in(&truth).assert_is(&truth);
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

/// Captures beside a key log, runs, and gives what was captured.
#[track_caller]
fn beside(scene: &Scene, run: impl FnOnce()) -> (tlscope_tests::records::Records, KeyLog) {
    let keys = scene.fresh("captured.keylog");
    let capture = gnutls::json().arg("--gnutls").arg(SYSTEM_LIBGNUTLS);
    let capture = capture.arg("-k").arg(&keys).start(scene);
    run();
    let records = capture.stop().records();
    (records, KeyLog::read(&keys))
}

/// `openssl s_server` that serves the files of its directory, and what it is asked for.
#[track_caller]
fn serve_by_openssl(scene: &Scene, content: &[u8], arguments: &[&str]) -> (SServer, String) {
    fs::write(scene.path("file.bin"), content).expect("a file to serve");
    let mut all = vec!["-WWW"];
    all.extend(arguments);
    let server = SServer::start_in(scene, &certificates().ecdsa, &all);
    let url = format!("https://localhost:{}/file.bin", server.port);
    (server, url)
}

/// Each client, GnuTLS behind it, and how it is told to print what it gets without checking whom
/// it talks to: that is not what is tested.
fn clients(url: &str) -> [(&'static str, Command); 4] {
    let mut wget = tool("wget", "wget");
    wget.args(["-q", "--no-check-certificate", "-O", "-", url]);
    let mut lftp = tool("lftp", "lftp");
    lftp.args(["-c", &format!("set ssl:verify-certificate no; cat {url}")]);
    let mut curl = tool("python3", "python3");
    curl.args(["-c", CURL_GNUTLS, url]);
    let mut cli = tool("gnutls-cli", "gnutls-bin");
    let port = url.split([':', '/']).nth(4).expect("a port");
    cli.args(["--insecure", "--logfile=/dev/null", "-p", port, "localhost"]);
    [
        ("wget", wget),
        ("lftp", lftp),
        ("python3", curl),
        ("gnutls-cli", cli),
    ]
}

/// curl's GnuTLS flavour, which has no program of its own: git and others use it.
const CURL_GNUTLS: &str = "
import ctypes, sys
curl = ctypes.CDLL('libcurl-gnutls.so.4')
curl.curl_easy_init.restype = ctypes.c_void_p
handle = ctypes.c_void_p(curl.curl_easy_init())
URL, VERIFY_PEER, VERIFY_HOST = 10002, 64, 81
curl.curl_easy_setopt(handle, URL, sys.argv[1].encode())
curl.curl_easy_setopt(handle, VERIFY_PEER, 0)
curl.curl_easy_setopt(handle, VERIFY_HOST, 0)
sys.exit(curl.curl_easy_perform(handle))
";

#[test]
fn programs_that_use_gnutls_are_seen_whole() {
    let scene = Scene::new("gnutls-clients");
    let content = noise(300_000, 7);
    let request = scene.write("request", b"GET /file.bin HTTP/1.0\r\n\r\n");
    for flag in ["-tls1_2", "-tls1_3"] {
        let (server, url) = serve_by_openssl(&scene, &content, &[flag]);
        let remote = format!("127.0.0.1:{}", server.port);
        let mut secrets = KeyLog::default();
        for (name, mut command) in clients(&url) {
            command.stdin(fs::File::open(&request).expect("the request"));
            let mut client = None;
            let (records, keys) = beside(&scene, || client = Some(run(&scene, name, command)));
            let client = client.expect("a client that ran");
            let connection = records.only(client.pid);
            let name = format!("{name} {flag}");
            let printed = |part: &[u8]| {
                client
                    .stdout
                    .windows(part.len())
                    .any(|window| window == part)
            };
            assert!(printed(&content), "{name} did not get the file");
            assert!(connection.received.bytes.ends_with(&content), "{name}");
            let asked = String::from_utf8_lossy(&connection.sent.bytes);
            assert!(
                asked.starts_with("GET /file.bin HTTP/1."),
                "{name}: {asked}"
            );
            assert!(asked.ends_with("\r\n\r\n"), "{name}: {asked}");
            assert_eq!(
                connection.remote.as_deref(),
                Some(remote.as_str()),
                "{name}"
            );
            secrets = secrets.union(&keys);
        }
        let truth = KeyLog::read(&server.keylog);
        secrets.of_connections_in(&truth).assert_is(&truth);
    }
}

/// A server on GnuTLS, with OpenSSL at the other end.
#[test]
fn lighttpd_with_mod_gnutls_is_seen_whole() {
    let scene = Scene::new("gnutls-lighttpd");
    let content = noise(700_000, 8);
    fs::write(scene.path("file.bin"), &content).expect("a file to serve");
    let port = free_port();
    let mut server = start_lighttpd(&scene, port);
    until_listening(&mut server, port);
    let truth = scene.fresh("curl.keylog");
    let out = scene.fresh("answer");
    let (records, keys) = beside(&scene, || {
        for tls in ["1.2", "1.3"] {
            // So that the file is in one piece on the wire.
            let mut curl = tool("curl", "curl");
            curl.args(["-sS", "--http1.1", "--tls-max", tls, "--cacert"])
                .arg(&certificates().ca);
            curl.arg("-o").arg(&out).env("SSLKEYLOGFILE", &truth);
            curl.arg(format!("https://localhost:{port}/file.bin"));
            must(&mut curl);
            assert_eq!(fs::read(&out).expect("the answer"), content);
        }
    });
    let connections = records.of(server.pid());
    assert_eq!(connections.len(), 2, "{:#?}", records.outline());
    for connection in connections {
        assert!(
            connection
                .received
                .bytes
                .starts_with(b"GET /file.bin HTTP/1.1")
        );
        assert!(connection.sent.bytes.ends_with(&content), "the file");
    }
    let truth = KeyLog::read(&truth);
    keys.of_connections_in(&truth).assert_is(&truth);
}

#[track_caller]
fn start_lighttpd(scene: &Scene, port: u16) -> Program {
    let pair = &certificates().ecdsa;
    let conf = format!(
        "server.modules = (\"mod_gnutls\")\n\
         server.document-root = \"{}\"\n\
         server.bind = \"127.0.0.1\"\n\
         server.port = {port}\n\
         ssl.engine = \"enable\"\n\
         ssl.pemfile = \"{}\"\n\
         ssl.privkey = \"{}\"\n",
        scene.directory().display(),
        pair.cert.display(),
        pair.key.display(),
    );
    let conf = scene.write("lighttpd.conf", conf.as_bytes());
    let mut lighttpd = tool("lighttpd", "lighttpd lighttpd-mod-gnutls");
    lighttpd.arg("-D").arg("-f").arg(conf);
    Program::start(scene, "lighttpd", lighttpd)
}

#[test]
fn libraries_beside_gnutls_are_passed_over() {
    let scene = Scene::new("gnutls-others");
    let mut command = tool("python3", "python3");
    command.args([
        "-c",
        "import ctypes; [ctypes.CDLL(n) for n in ('libgnutls-dane.so.0', \
                   'libgnutls-openssl.so.27', 'libgnutls.so.30')]; input()",
    ]);
    command.stdin(Stdio::piped());
    let user = Program::start(&scene, "user", command);
    let maps = format!("/proc/{}/maps", user.pid());
    tlscope_tests::wait::until("the libraries", || {
        let maps = fs::read_to_string(&maps).ok()?;
        maps.contains(Path::new(SYSTEM_LIBGNUTLS).file_name()?.to_str()?)
            .then_some(())
    });
    let captured = Tlscope::new("gnutls").start(&scene).stop();
    let words = &captured.finished.stderr;
    assert!(words.contains("libgnutls.so"), "{words}");
    assert!(!words.contains("not probed"), "{words}");
    drop(user);
}
