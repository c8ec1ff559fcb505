//! What programs and people do with messages: HAR files, filters, secrets beside them,
//! a terminal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use tlscope_tests::certificates::certificates;
use tlscope_tests::digest::noise;
use tlscope_tests::har::{self, Entry};
use tlscope_tests::keylog::KeyLog;
use tlscope_tests::program::tool;
use tlscope_tests::servers::{Nginx, curl};
use tlscope_tests::text::Blocks;
use tlscope_tests::{Peer, Program, Scene, Tlscope};

const TEXT: &[u8] = b"all work and no play makes Jack a dull boy\n";

#[test]
fn a_har_file_of_both_versions_codings_and_directions() {
    let scene = Scene::new("har");
    let lines = "gzip on; gzip_types *; gzip_min_length 0; brotli on; brotli_types *;
        brotli_min_length 0; add_header Set-Cookie 'session=8f3a; Path=/; HttpOnly';";
    let nginx = Nginx::start_with(&scene, &certificates().ecdsa, lines);
    let content = TEXT.repeat(2000);
    scene.write("www/text.bin", &content);
    let (path, binary) = nginx.serve(70_000);
    let upload = noise(5000, 9);
    let file = scene.write("upload.bin", &upload);
    let har = scene.path("all.har");
    let capture = Tlscope::json().arg("--har").arg(&har).start(&scene);
    let upload_file = file.to_str().expect("UTF-8");
    let gzip = ["-H", "Accept-Encoding: gzip", "-b", "a=1; b=2"];
    let calls: [(String, &[&str]); 4] = [
        (nginx.url("/text.bin?coding=gzip&x"), &gzip),
        (
            nginx.http2_url("/text.bin"),
            &["--http2", "-H", "Accept-Encoding: br"],
        ),
        (nginx.http2_url(&path), &["--http2"]),
        (nginx.url("/put.bin"), &["--upload-file", upload_file]),
    ];
    let mut pids = Vec::new();
    for (done, (url, arguments)) in calls.iter().enumerate() {
        pids.push(curl(&scene, url, arguments).finished.pid);
        nginx.until_served(done + 1);
    }
    capture.stop();
    let mode = fs::metadata(&har).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let entries = har::read(&fs::read(&har).expect("the file"));
    let of = |pid: u32, name: &str, url: &str| -> &Entry {
        let comment = format!("{name} ({pid})");
        let is_it = |e: &&Entry| e.comment.as_ref() == Some(&comment) && e.request.url == url;
        let found: Vec<_> = entries.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{comment} {url}: {entries:#?}");
        found[0]
    };
    let expected = [&content, &content, &binary, &Vec::new()];
    for ((pid, (url, _)), body) in pids.iter().zip(&calls).zip(expected) {
        for entry in [of(*pid, "curl", url), of(nginx.worker(), "nginx", url)] {
            assert_eq!(entry.response.content.bytes(), *body, "{url}");
            assert_eq!(entry.server.as_deref(), Some("127.0.0.1"));
            let version = if url.starts_with(&nginx.http2_url("")) {
                "HTTP/2"
            } else {
                "HTTP/1.1"
            };
            assert_eq!(entry.request.http_version, version);
            assert_eq!(entry.response.http_version, version);
        }
    }
    let first = of(pids[0], "curl", &calls[0].0);
    let query: Vec<_> = first.request.query_string.iter().collect();
    assert_eq!((&*query[0].name, &*query[0].value), ("coding", "gzip"));
    assert_eq!((&*query[1].name, &*query[1].value), ("x", ""));
    let cookies: Vec<_> = first.request.cookies.iter().map(|c| &*c.value).collect();
    assert_eq!(cookies, ["1", "2"]);
    let set = &first.response.cookies[0];
    assert_eq!((&*set.name, &*set.value), ("session", "8f3a"));
    assert_eq!(
        (set.path.as_deref(), set.http_only),
        (Some("/"), Some(true))
    );
    assert!(first.response.content.compression > Some(80_000));
    let put = of(pids[3], "curl", &calls[3].0);
    assert_eq!((&*put.request.method, put.response.status), ("PUT", 201));
    let posted = put.request.post_data.as_ref().expect("what was sent");
    assert_eq!(posted.bytes(), upload);
    assert_eq!(put.request.body_size, 5000);
}

/// Each filter in a capture of its own, at the same time, over the same requests.
#[test]
fn filters_choose_messages() {
    let scene = Scene::new("message-filters");
    let nginx = Nginx::start(&scene);
    scene.write("www/api/a", b"a\n");
    scene.write("www/other", b"other\n");
    let port = nginx.port.to_string();
    let filters: [&[&str]; 8] = [
        &["--host", "localhost", "--path", "/api"],
        &["--host", "*.example.org"],
        &["--method", "put", "--method", "DELETE"],
        &["--status", "404", "--status", "5xx"],
        &["--port", &port],
        &["--comm", "curl"],
        &["--path", "/api", "--status", "200", "--comm", "nginx"],
        &["--host", "nowhere.example"],
    ];
    let captures = filters.map(|filter| Tlscope::text().args(filter).start(&scene));
    let file = scene.write("put", b"put\n");
    let file = file.to_str().expect("UTF-8");
    let call = |path: &str, arguments: &[&str]| curl(&scene, &nginx.url(path), arguments);
    call("/api/a", &[]);
    call("/other", &["-H", "Host: www.example.org"]);
    call("/new", &["--upload-file", file]);
    call("/missing", &["--no-fail"]);
    curl(&scene, &nginx.http2_url("/api/a"), &["--http2"]);
    nginx.until_served(5);
    let ours = [nginx.port, nginx.http2_port].map(|port| format!(":{port}"));
    let shown = captures.map(|capture| {
        let blocks = capture.stop().blocks();
        let mut told: Vec<_> = blocks.exchanges.into_iter().collect();
        told.retain(|e| ours.iter().any(|o| e.contains(o)) || e.contains("www.example.org"));
        let mut told: Vec<String> = told
            .iter()
            .map(|e| {
                let (request, rest) = e.split_once(": ").expect("a status");
                let path = request.find('/').map_or("", |at| &request[at..]);
                let method = request.split(' ').next().unwrap_or_default();
                format!("{method} {path} {}", &rest[..3])
            })
            .collect();
        told.sort();
        let headers = blocks.all.iter().map(|b| b.comm.clone());
        (told, headers.collect::<Vec<_>>())
    });
    let twice = |lines: &[&str]| -> Vec<String> {
        let both = lines
            .iter()
            .flat_map(|l| [(*l).to_owned(), (*l).to_owned()]);
        both.collect()
    };
    let api = "GET /api/a 200";
    assert_eq!(shown[0].0, twice(&[api, api]));
    assert_eq!(shown[1].0, twice(&["GET /other 200"]));
    assert_eq!(shown[2].0, twice(&["PUT /new 201"]));
    assert_eq!(shown[3].0, twice(&["GET /missing 404"]));
    let all = [api, "GET /missing 404", "GET /other 200", "PUT /new 201"];
    assert_eq!(shown[4].0, twice(&all));
    let curls = [
        api,
        api,
        "GET /missing 404",
        "GET /other 200",
        "PUT /new 201",
    ];
    assert_eq!(shown[5].0, curls);
    assert!(
        shown[5].1.iter().all(|comm| comm == "curl"),
        "{:?}",
        shown[5].1
    );
    assert_eq!(shown[6].0, [api, api]);
    assert!(
        shown[6].1.iter().all(|comm| comm == "nginx"),
        "{:?}",
        shown[6].1
    );
    assert_eq!(shown[7].0, Vec::<String>::new());
}

#[test]
fn secrets_in_json_are_those_that_the_peer_logs() {
    let scene = Scene::new("json-secrets");
    let file = scene.path("all.json");
    let peer = Peer::default().keylogs(&scene);
    let mut running = peer.clone().set("wait").start(&scene);
    let capture = |secrets: bool, file: &std::path::Path| {
        let capture = Tlscope::json().pid(running.pid).arg("-o").arg(file);
        let secrets: &[&str] = if secrets { &["--secrets"] } else { &[] };
        capture.args(secrets).start(&scene)
    };
    let (with, without) = (
        capture(true, &file),
        capture(false, &scene.path("none.json")),
    );
    running.go();
    running.finish();
    with.stop();
    without.stop();
    let mode = fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let secrets = |file: &std::path::Path| -> String {
        let text = fs::read_to_string(file).expect("the file");
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        let secrets = lines.filter(|o: &serde_json::Value| o["kind"] == "secret");
        let word = |o: &serde_json::Value, member: &str| o[member].as_str().map(str::to_owned);
        secrets
            .map(|o| {
                let words = ["label", "client_random", "secret"].map(|m| word(&o, m));
                words.map(|w| w.expect("a word")).join(" ") + "\n"
            })
            .collect()
    };
    KeyLog::parse(&secrets(&file)).assert_is(&peer.logged());
    assert_eq!(secrets(&scene.path("none.json")), "");
}

/// Under `script`, which gives it a terminal.
#[test]
fn a_terminal_has_color_and_a_width() {
    let scene = Scene::new("terminal");
    let nginx = Nginx::start(&scene);
    let long = format!("/{}", "x".repeat(300));
    scene.write(&format!("www{}", &long[..200]), b"x\n");
    let show = |before: &str| {
        let ready = scene.fresh("ready");
        let line = format!(
            "stty cols 100; {before} exec {} tls --pid {} --ready-file {}",
            tlscope_tests::capture::binary().display(),
            nginx.worker(),
            ready.display()
        );
        let mut script = tool("script", "bsdutils");
        script.args(["-q", "-e", "-c", &line, "/dev/null"]);
        script.stdin(Stdio::piped());
        let mut script = Program::start(&scene, "script", script);
        script.until("tlscope to be ready", |_| ready.exists().then_some(()));
        curl(&scene, &nginx.url(&long[..200]), &[]);
        script.until("the exchange", |p| {
            let shown = p.stdout_so_far();
            let shown = String::from_utf8_lossy(&shown);
            shown.contains("first byte ").then_some(())
        });
        // Ctrl-C, of the terminal.
        script.say(b"\x03");
        String::from_utf8(script.finish().stdout).expect("UTF-8")
    };
    let escape = '\u{1b}';
    let exchange = |shown: &str| {
        let line = shown.lines().find(|line| line.contains("first byte "));
        let line = line.expect("an exchange").trim_end();
        let line = line
            .trim_start_matches("\u{1b}[33m")
            .trim_end_matches("\u{1b}[0m");
        line.chars().count()
    };
    let colored = show("");
    assert!(colored.contains("\u{1b}[36mUUID:") && colored.contains("\u{1b}[32mUUID:"));
    assert_eq!(exchange(&colored), 100, "{colored}");
    let plain = show("NO_COLOR=1");
    assert!(!plain.contains(escape), "{plain}");
    assert_eq!(exchange(&plain), 100, "{plain}");
    // No terminal: neither.
    let capture = Tlscope::text().pid(nginx.worker()).start(&scene);
    curl(&scene, &nginx.url(&long[..200]), &[]);
    nginx.until_served(3);
    let shown = capture.stop().finished.stdout;
    assert!(!shown.contains(&0x1b));
    let exchanges = Blocks::parse(&shown).exchanges;
    assert!(exchanges[0].contains(&long[..200]), "{exchanges:?}");
}
