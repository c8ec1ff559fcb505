//! Plaintext, whole and with its owner: `tlscope tls` beside real programs.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use tlscope_tests::certificates::certificates;
use tlscope_tests::openssl::{SClient, SServer};
use tlscope_tests::peer::compiled;
use tlscope_tests::python::{PythonServer, Script, client};
use tlscope_tests::records::Records;
use tlscope_tests::servers::{Nginx, Redis, curl, start_curl};
use tlscope_tests::{Digest, KIB, MIB, Peer, SYSTEM_LIBSSL, Scene, Tlscope, digest};

/// A byte, a whole record, one more, and many.
const SIZES: [usize; 4] = [1, 16 * KIB, 16 * KIB + 1, MIB];

#[test]
fn all_sizes_in_both_directions_by_each_object() {
    let scene = Scene::new("sizes");
    for object in [1, 2] {
        for size in SIZES {
            let capture = Tlscope::json().object(object).start(&scene);
            let talk = Peer::default().sizes(size, size).run(&scene);
            let records = capture.stop().records();
            talk.assert_captured(&records);
            records.assert_lossless();
        }
    }
}

#[test]
fn the_ex_calls() {
    let scene = Scene::new("ex");
    for object in [1, 2] {
        let capture = Tlscope::json().object(object).start(&scene);
        let talk = Peer::default()
            .with("form", "ex")
            .sizes(MIB, 16 * KIB + 1)
            .run(&scene);
        talk.assert_captured(&capture.stop().records());
    }
}

#[test]
fn sixty_four_mebibytes_both_ways() {
    let scene = Scene::new("64m");
    let mut peer = Peer::default()
        .sizes(64 * MIB, 64 * MIB)
        .set("wait")
        .start(&scene);
    let capture = Tlscope::json()
        .with("mapsize", "256M")
        .pid(peer.pid)
        .start(&scene);
    peer.go();
    let talk = peer.finish();
    let records = capture.stop().records();
    records.assert_lossless();
    talk.assert_captured(&records);
}

#[test]
fn one_write_of_four_mebibytes() {
    let scene = Scene::new("4m");
    for object in [1, 2] {
        let capture = Tlscope::json().object(object).start(&scene);
        let talk = Peer::default().sizes(4 * MIB, 0).run(&scene);
        let client = talk.of("client").next().expect("a client");
        assert_eq!(
            client.write_calls, 1,
            "the fixture no longer writes in one call"
        );
        talk.assert_captured(&capture.stop().records());
    }
}

#[test]
fn many_small_calls() {
    let scene = Scene::new("small");
    let capture = Tlscope::json().start(&scene);
    let talk = Peer::default()
        .sizes(20_000, 20_000)
        .with("chunk", 7)
        .with("read", 5)
        .run(&scene);
    talk.assert_captured(&capture.stop().records());
}

#[test]
fn retried_and_partial_writes_and_peeks_count_once() {
    let scene = Scene::new("retry");
    for form in ["plain", "ex"] {
        let capture = Tlscope::json().start(&scene);
        let peer = Peer::default().sizes(3 * MIB, 3 * MIB).with("form", form);
        let talk = peer.set("nonblock").set("peek").run(&scene);
        assert!(
            talk.sides.iter().any(|s| s.retried > 0),
            "nothing was retried"
        );
        talk.assert_captured(&capture.stop().records());
    }
}

#[test]
fn early_data_is_data() {
    let scene = Scene::new("early");
    for object in [1, 2] {
        let capture = Tlscope::json().object(object).start(&scene);
        let peer = Peer::default().with("resume", "ticket").with("early", 5000);
        let talk = peer.with("connections", 3).run(&scene);
        assert_eq!(talk.of("server").filter(|s| s.early_accepted).count(), 2);
        talk.assert_captured(&capture.stop().records());
    }
}

#[test]
fn eight_connections_at_once() {
    let scene = Scene::new("eight");
    let capture = Tlscope::json().with("mapsize", "32M").start(&scene);
    let peer = Peer::default().sizes(MIB, MIB).with("chunk", 10_000);
    let talk = peer.with("connections", 8).with("parallel", 8).run(&scene);
    talk.assert_captured(&capture.stop().records());
}

#[test]
fn a_burst_of_fifty_connections() {
    let scene = Scene::new("burst");
    for object in [1, 2] {
        let capture = Tlscope::json().object(object).start(&scene);
        let peer = Peer::default().sizes(5000, 40_000);
        let talk = peer
            .with("connections", 50)
            .with("parallel", 50)
            .run(&scene);
        assert_eq!(talk.sides.len(), 100);
        talk.assert_captured(&capture.stop().records());
    }
}

#[test]
fn descriptors_and_objects_that_are_used_again_are_new_connections() {
    let scene = Scene::new("reuse");
    let capture = Tlscope::json().start(&scene);
    let talk = Peer::default()
        .sizes(10, 20)
        .with("connections", 20)
        .run(&scene);
    talk.assert_captured(&capture.stop().records());
}

#[test]
fn connections_over_ipv6() {
    let scene = Scene::new("ipv6");
    for object in [1, 2] {
        let capture = Tlscope::json().object(object).start(&scene);
        let talk = Peer::default().with("address", "::1").run(&scene);
        assert!(talk.sides.iter().all(|s| s.remote.starts_with("[::1]:")));
        talk.assert_captured(&capture.stop().records());
    }
}

#[test]
fn tls_1_2_is_captured_alike() {
    let scene = Scene::new("tls12");
    let capture = Tlscope::json().start(&scene);
    let talk = Peer::default()
        .with("tls", "1.2")
        .sizes(100_000, 100_000)
        .run(&scene);
    talk.assert_captured(&capture.stop().records());
}

#[test]
fn a_program_that_was_running_before() {
    let scene = Scene::new("before");
    let mut peer = Peer::default().set("wait").sizes(1000, 2000).start(&scene);
    let capture = Tlscope::json().start(&scene);
    peer.go();
    let talk = peer.finish();
    talk.assert_captured(&capture.stop().records());
}

#[test]
fn a_library_named_by_path_and_no_other() {
    let scene = Scene::new("libssl");
    let copy = scene.path("libssl-0123abcd.so.3");
    fs::copy(SYSTEM_LIBSSL, &copy).expect("copy the library");
    let capture = Tlscope::json().arg("--libssl").arg(&copy).start(&scene);
    let on_copy = Peer::on(&copy).run(&scene);
    let on_system = Peer::default().run(&scene);
    let records = capture.stop().records();
    on_copy.assert_captured(&records);
    assert!(
        records.of(on_system.pid).is_empty(),
        "{:#?}",
        records.outline()
    );
}

#[test]
fn a_running_programs_own_library_is_found() {
    let scene = Scene::new("own");
    let copy = scene.path("libssl-0123abcd.so.3");
    fs::copy(SYSTEM_LIBSSL, &copy).expect("copy the library");
    let mut peer = Peer::on(&copy).set("wait").start(&scene);
    let capture = Tlscope::json().start(&scene);
    peer.go();
    peer.finish().assert_captured(&capture.stop().records());
}

#[test]
fn a_deleted_library_is_found() {
    let scene = Scene::new("deleted");
    let copy = scene.path("libssl.so.3");
    fs::copy(SYSTEM_LIBSSL, &copy).expect("copy the library");
    let mut peer = Peer::on(&copy).set("wait").start(&scene);
    fs::remove_file(&copy).expect("remove it while it is mapped");
    let capture = Tlscope::json().start(&scene);
    peer.go();
    peer.finish().assert_captured(&capture.stop().records());
}

#[test]
fn a_library_in_another_mount_namespace_is_found() {
    let scene = Scene::new("namespace");
    let hidden = scene.path("hidden");
    fs::create_dir(&hidden).expect("a place to mount on");
    let library = hidden.join("libssl.so.3");
    let script = format!(
        "mount -t tmpfs none {} && cp {SYSTEM_LIBSSL} {} && exec \"$0\" \"$@\"",
        hidden.display(),
        library.display()
    );
    let words = ["unshare", "--mount", "sh", "-c", &script].map(OsString::from);
    let mut peer = Peer::on(&library)
        .launched_by(words.into_iter().chain([compiled().into()]))
        .set("wait")
        .start(&scene);
    assert!(
        !library.exists(),
        "it is in the namespace of the peer alone"
    );
    let capture = Tlscope::json().start(&scene);
    peer.go();
    peer.finish().assert_captured(&capture.stop().records());
}

#[test]
fn curl_and_nginx() {
    let scene = Scene::new("curl");
    let nginx = Nginx::start(&scene);
    let worker = nginx.worker();
    for (done, size) in SIZES.into_iter().enumerate() {
        let (path, content) = nginx.serve(size);
        let capture = Tlscope::json().start(&scene);
        let got = curl(&scene, &nginx.url(&path), &[]);
        nginx.until_served(done + 1);
        let records = capture.stop().records();
        assert_eq!(Digest::of(&got.body), Digest::of(&content));
        let ours = records.only(got.finished.pid);
        assert_eq!(Digest::of(&got.sent), ours.sent.digest(), "curl sent");
        assert_eq!(
            Digest::of(&got.received),
            ours.received.digest(),
            "curl received"
        );
        assert_eq!(ours.comm, "curl");
        assert_eq!(ours.remote, Some(format!("127.0.0.1:{}", nginx.port)));
        assert_eq!(ours.messages, ["HTTPRequest", "HTTPResponse"]);
        let theirs = records.only(worker);
        assert_eq!(theirs.sent.digest(), ours.received.digest(), "nginx sent");
        assert_eq!(
            theirs.received.digest(),
            ours.sent.digest(),
            "nginx received"
        );
        assert_eq!((&theirs.remote, &theirs.local), (&ours.local, &ours.remote));
        assert_eq!(theirs.comm, "nginx");
    }
}

#[test]
fn curl_uploads_to_nginx() {
    let scene = Scene::new("upload");
    let nginx = Nginx::start(&scene);
    let content = digest::noise(MIB, 77);
    let file = scene.write("upload.bin", &content);
    let capture = Tlscope::json().start(&scene);
    let arguments = ["--upload-file", file.to_str().expect("UTF-8")];
    let put = curl(&scene, &nginx.url("/put.bin"), &arguments);
    nginx.until_served(1);
    let records = capture.stop().records();
    assert_eq!(nginx.uploaded("put.bin"), content);
    assert_eq!(
        records.only(put.finished.pid).sent.digest(),
        Digest::of(&put.sent)
    );
    assert_eq!(
        records.only(nginx.worker()).received.digest(),
        Digest::of(&put.sent)
    );
}

#[test]
fn eight_curls_at_once() {
    let scene = Scene::new("curls");
    let nginx = Nginx::start(&scene);
    let capture = Tlscope::json().start(&scene);
    let size = |n: usize| 100_000 + n;
    let start = |n| start_curl(&scene, &nginx.url(&nginx.serve(size(n)).0), &[]);
    let running: Vec<_> = (0..8).map(start).collect();
    let curls: Vec<_> = running
        .into_iter()
        .map(tlscope_tests::servers::RunningCurl::finish)
        .collect();
    nginx.until_served(8);
    let records = capture.stop().records();
    for (n, curl) in curls.iter().enumerate() {
        assert_eq!(curl.body.len(), size(n));
        let ours = records.only(curl.finished.pid);
        assert_eq!(
            Digest::of(&curl.received),
            ours.received.digest(),
            "curl {n}"
        );
    }
    assert_eq!(records.of(nginx.worker()).len(), 8);
}

#[test]
fn python_client_and_server() {
    let scene = Scene::new("python");
    for object in [1, 2] {
        let script = Script {
            up: MIB,
            down: 16 * KIB + 1,
            connections: 2,
            ..Script::default()
        };
        let capture = Tlscope::json().object(object).start(&scene);
        let server = PythonServer::start(&scene, &script);
        let clients = client(&scene, server.port, &script);
        let servers = server.finish();
        let records = capture.stop().records();
        for side in clients.iter().chain(&servers) {
            let ours = records
                .of(side.pid)
                .into_iter()
                .find(|c| c.remote.as_ref() == Some(&side.remote) && c.fd == Some(side.fd))
                .unwrap_or_else(|| panic!("{side:?}: {:#?}", records.outline()));
            assert_eq!(ours.sent.digest(), side.sent());
            assert_eq!(ours.received.digest(), side.received());
            assert_eq!(ours.comm, "python3");
        }
        assert_eq!(records.of(clients[0].pid).len(), 2);
    }
}

#[test]
fn s_client_and_s_server() {
    let scene = Scene::new("s_client");
    let content = digest::noise(300_000, 3);
    let input = scene.write("input", &content);
    let capture = Tlscope::json().start(&scene);
    let mut server = SServer::start(
        &scene,
        &certificates().rsa,
        &["-quiet", "-num_tickets", "0"],
    );
    let arguments = ["-quiet", "-no_ign_eof", "-nocommands", "-verify_quiet"];
    let client = SClient::start(&scene, server.port, Some(&input), &arguments);
    let client = client.finish();
    server.program.until("all bytes", |p| {
        (p.stdout_so_far().len() >= content.len()).then_some(())
    });
    let records = capture.stop().records();
    let ours = records.only(client.pid);
    assert_eq!(ours.sent.digest(), Digest::of(&content));
    assert_eq!(ours.remote, Some(format!("127.0.0.1:{}", server.port)));
    let received: Vec<_> = records
        .of(server.program.pid())
        .into_iter()
        .filter(|c| c.received.length() > 0)
        .map(|c| c.received.digest())
        .collect();
    assert_eq!(received, [Digest::of(&content)]);
}

#[test]
fn redis_over_tls() {
    let scene = Scene::new("redis");
    let redis = Redis::start(&scene);
    let value = digest::noise(MIB, 4);
    let input = scene.write("value", &value);
    let capture = Tlscope::json().start(&scene);
    let set = redis.client(&scene, &["SET", "key"], Some(&input));
    let get = redis.client(&scene, &["GET", "key"], None);
    // Served when the answer above was written for good.
    redis.client(&scene, &["PING"], None);
    let records = capture.stop().records();
    let bulk = |bytes: &[u8]| [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let request = [b"*3\r\n".to_vec(), bulk(b"SET"), bulk(b"key"), bulk(&value)].concat();
    assert_eq!(records.only(set.pid).sent.digest(), Digest::of(&request));
    assert_eq!(records.only(set.pid).received.bytes, b"+OK\r\n");
    assert_eq!(
        records.only(get.pid).received.digest(),
        Digest::of(&bulk(&value))
    );
    let served = records.of(redis.pid());
    assert!(
        served
            .iter()
            .any(|c| c.received.digest() == Digest::of(&request))
    );
    assert!(
        served
            .iter()
            .any(|c| c.sent.digest() == Digest::of(&bulk(&value)))
    );
}

#[test]
fn text_as_a_person_sees_it() {
    let scene = Scene::new("header");
    let nginx = Nginx::start(&scene);
    let file = scene.write("www/hello.txt", b"hello, world\n");
    assert!(file.exists());
    let capture = Tlscope::text().start(&scene);
    let got = curl(&scene, &nginx.url("/hello.txt"), &[]);
    nginx.until_served(1);
    let blocks = capture.stop().blocks();
    let exchange = format!(
        "GET localhost:{}/hello.txt: 200, 13 bytes, first byte ",
        nginx.port
    );
    let told = blocks.exchanges.iter().filter(|e| e.starts_with(&exchange));
    assert_eq!(told.count(), 2, "of client and server: {blocks:#?}");
    for (pid, request, response) in [(got.finished.pid, 1, 0), (nginx.worker(), 0, 1)] {
        let asked = blocks.direction(pid, request);
        assert_eq!(asked.len(), 1, "{blocks:#?}");
        assert_eq!((&*asked[0].name, asked[0].number), ("HTTPRequest", 1));
        assert_eq!(asked[0].length, got.sent.len() as u64);
        assert_eq!(asked[0].body, String::from_utf8_lossy(&got.sent));
        let answered = blocks.direction(pid, response);
        assert!(
            answered
                .iter()
                .all(|b| (&*b.name, b.number) == ("HTTPResponse", 3))
        );
        let length: u64 = answered.iter().map(|b| b.length).sum();
        assert_eq!(length, got.received.len() as u64);
        let body: String = answered.iter().map(|b| b.body.as_str()).collect();
        assert_eq!(body, String::from_utf8_lossy(&got.received));
    }
    let ours = blocks.of(got.finished.pid)[0];
    assert_eq!(
        (&*ours.comm, &*ours.tuple),
        ("curl", &*format!("127.0.0.1:{}", nginx.port))
    );
    assert_eq!(ours.tid, got.finished.pid);
    assert!(ours.fd > 2);
}

#[test]
fn hex_shows_every_byte() {
    let scene = Scene::new("hex");
    let mut peer = Peer::default().set("wait").sizes(1000, 0).start(&scene);
    let capture = Tlscope::text().arg("--hex").pid(peer.pid).start(&scene);
    peer.go();
    let talk = peer.finish();
    let blocks = capture.stop().blocks();
    let client = talk.of("client").next().expect("a client");
    for direction in [0, 1] {
        let dumped: Vec<u8> = blocks
            .direction(talk.pid, direction)
            .iter()
            .flat_map(|block| bytes_of_dump(&block.body))
            .collect();
        assert_eq!(Digest::of(&dumped), client.sent(), "direction {direction}");
    }
}

/// The bytes of lines `00000000  47 45 ... |GE...|`, as hexdump and xxd write them.
fn bytes_of_dump(body: &str) -> Vec<u8> {
    let is_byte = |word: &&str| word.len() == 2 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let bytes_of_line = |line: &str| -> Vec<u8> {
        let columns = line.split('|').next().unwrap_or_default();
        let words = columns.split_whitespace().skip(1).take_while(is_byte);
        words
            .map(|word| u8::from_str_radix(word, 16).expect("two digits"))
            .collect()
    };
    body.lines().flat_map(bytes_of_line).collect()
}

#[test]
fn output_goes_to_a_file() {
    let scene = Scene::new("output");
    let file: PathBuf = scene.path("captured.txt");
    let capture = Tlscope::text().arg("-o").arg(&file).start(&scene);
    let talk = Peer::default().set("text").sizes(100, 100).run(&scene);
    let captured = capture.stop();
    assert_eq!(captured.finished.text(), "", "stdout");
    let blocks = tlscope_tests::text::Blocks::parse(&fs::read(&file).expect("the output file"));
    assert_eq!(blocks.of(talk.pid).len(), 4);
}

/// In JSON and in text: files of whole lines and blocks, which together are the capture.
#[test]
fn output_goes_to_files_in_turn() {
    let scene = Scene::new("turns");
    let start = |capture: Tlscope, name: &str| {
        let capture = capture.args(["-C", "1", "-o"]).arg(scene.path(name));
        capture.start(&scene)
    };
    let (json, text) = (
        start(Tlscope::json(), "json"),
        start(Tlscope::text(), "text"),
    );
    let peer = Peer::default().set("text").sizes(2 * MIB, 2 * MIB);
    let talk = peer.with("chunk", 1000).run(&scene);
    json.stop();
    text.stop();
    let files = |name: &str| {
        let path = |n: usize| match n {
            0 => scene.path(name),
            n => scene.path(&format!("{name}{n}")),
        };
        let files = (0..).map_while(|n| fs::read(path(n)).ok());
        let files: Vec<_> = files.collect();
        let before = &files[..files.len() - 1];
        assert!(before.len() > 1, "{name}: {} files", files.len());
        assert!(before.iter().all(|file| file.len() > 1_000_000), "{name}");
        files
    };
    let json = files("json");
    assert!(json.iter().all(|file| file.ends_with(b"}\n")), "torn lines");
    talk.assert_captured(&Records::parse(&json.concat()));
    let parse = |file: &Vec<u8>| tlscope_tests::text::Blocks::parse(file).all;
    let shown = files("text").iter().flat_map(parse).collect::<Vec<_>>();
    let length = shown.iter().filter(|b| b.pid == talk.pid).map(|b| b.length);
    assert_eq!(length.sum::<u64>(), talk.bytes(), "text");
}

/// Also when nothing is said.
#[test]
fn files_in_turn_end_on_time() {
    let scene = Scene::new("turns-end");
    let peer = Peer::default().set("wait").start(&scene);
    let capture = Tlscope::json().pid(peer.pid);
    let capture = capture
        .args(["-G", "1", "-W", "2", "-o"])
        .arg(scene.path("out"));
    let captured = capture.start(&scene).end().success();
    assert_eq!(captured.finished.text(), "");
    drop(peer);
}

#[test]
fn the_summary_goes_to_stderr() {
    let scene = Scene::new("summary");
    let capture = Tlscope::text().start(&scene);
    let talk = Peer::default().sizes(1234, 4321).run(&scene);
    let errors = capture.stop().finished.stderr;
    for row in ["bytes sent, captured", "bytes received, captured"] {
        let line = errors.lines().find(|l| l.trim_end().ends_with(row));
        let number = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
        assert!(
            number >= Some(talk.bytes() / 2),
            "{row}: {number:?} in\n{errors}"
        );
    }
}
