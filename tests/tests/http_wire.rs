//! What HTTP may do beside plain exchanges: interim and bodiless answers, tunnels, pushes,
//! events, and content codings that expand without end.

use std::fs;
use std::process::Stdio;

use serde_json::Value;
use tlscope_tests::certificates::certificates;
use tlscope_tests::messages::{Exchange, Messages, answers};
use tlscope_tests::program::{must, tool};
use tlscope_tests::scene::{fixture, free_port, until_listening};
use tlscope_tests::servers::{Nginx, curl, start_curl};
use tlscope_tests::{Digest, MIB, Program, Scene, Tlscope};

fn odd_server(scene: &Scene, role: &str) -> (Program, u16) {
    let pair = &certificates().ecdsa;
    let mut command = tool("python3", "python3");
    command.arg(fixture("odd_server.py")).arg(role);
    command.arg(&pair.cert).arg(&pair.key).stdin(Stdio::piped());
    let mut server = Program::start(scene, role, command);
    let port = server.until("its port", |p| {
        let out = String::from_utf8(p.stdout_so_far()).ok()?;
        let port = out.split_once('\n')?.0.strip_prefix("port ")?;
        port.parse().ok()
    });
    (server, port)
}

fn exchange(method: &str, target: &str, status: u64, sent: &[u8], got: &[u8]) -> Exchange {
    Exchange {
        method: method.into(),
        target: target.into(),
        status,
        request: Digest::of(sent),
        response: Digest::of(got),
    }
}

#[test]
fn interim_and_bodiless_answers() {
    let scene = Scene::new("bodiless");
    let lines = "if_modified_since before;";
    let nginx = Nginx::start_with(&scene, &certificates().ecdsa, lines);
    let (path, content) = nginx.serve(5000);
    let upload = scene.write("upload", &content);
    let upload = upload.to_str().expect("UTF-8");
    let later = "If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT";
    let mut served = 0;
    for (version, base) in [
        ("--http1.1", nginx.url("")),
        ("--http2", nginx.http2_url("")),
    ] {
        let capture = Tlscope::json().start(&scene);
        let put = ["-H", "Expect: 100-continue", "--upload-file", upload];
        let calls: [(&str, &[&str], Exchange); 4] = [
            ("/new", &put, exchange("PUT", "/new", 0, &content, b"")),
            (&path, &["--head"], exchange("HEAD", &path, 200, b"", b"")),
            (&path, &["-H", later], exchange("GET", &path, 304, b"", b"")),
            (&path, &[], exchange("GET", &path, 200, b"", &content)),
        ];
        let mut pids = vec![nginx.worker()];
        for (path, arguments, _) in &calls {
            let arguments = [&[version], *arguments].concat();
            pids.push(
                curl(&scene, &format!("{base}{path}"), &arguments)
                    .finished
                    .pid,
            );
            served += 1;
            nginx.until_served(served);
        }
        let messages = Messages::parse(&capture.stop().finished.stdout, &pids);
        let mut expected = calls.map(|(_, _, exchange)| exchange);
        // Created first, then overwritten.
        expected[0].status = if version == "--http1.1" { 201 } else { 204 };
        messages.assert_shows(nginx.worker(), &expected);
        for (pid, exchange) in pids[1..].iter().zip(&expected) {
            messages.assert_shows(*pid, std::slice::from_ref(exchange));
        }
        let interim: Vec<_> = messages
            .all
            .iter()
            .filter(|m| m.head["status"] == 100)
            .collect();
        if version == "--http1.1" {
            assert_eq!(interim.len(), 2, "curl's and nginx's: {interim:?}");
            assert!(interim.iter().all(|m| m.end["method"] == "PUT"));
        }
    }
}

#[test]
fn a_tunnel_through_a_proxy_shows_both_connections() {
    let scene = Scene::new("tunnel");
    let nginx = Nginx::start(&scene);
    let (path, content) = nginx.serve(100_000);
    let (proxy, port) = odd_server(&scene, "proxy");
    let capture = Tlscope::json().start(&scene);
    let (proxy_url, ca) = (format!("https://localhost:{port}"), &certificates().ca);
    let ca = ca.to_str().expect("UTF-8");
    let arguments = ["--noproxy", "", "-x", &proxy_url, "--proxy-cacert", ca];
    let got = curl(&scene, &nginx.url(&path), &arguments);
    nginx.until_served(1);
    let messages = Messages::parse(
        &capture.stop().finished.stdout,
        &[got.finished.pid, proxy.pid(), nginx.worker()],
    );
    let connect = exchange(
        "CONNECT",
        &format!("localhost:{}", nginx.port),
        200,
        b"",
        b"",
    );
    let get = exchange("GET", &path, 200, b"", &content);
    messages.assert_shows(got.finished.pid, &[connect.clone(), get.clone()]);
    messages.assert_shows(proxy.pid(), &[connect]);
    messages.assert_shows(nginx.worker(), &[get]);
}

/// Each is shown before the next is sent, while the response goes on.
#[test]
fn events_are_shown_as_they_come() {
    let scene = Scene::new("events");
    for json in [false, true] {
        let (mut server, port) = odd_server(&scene, "events");
        let capture = if json {
            Tlscope::json()
        } else {
            Tlscope::text()
        };
        let mut capture = capture.start(&scene);
        let url = format!("https://localhost:{port}/events");
        let client = start_curl(&scene, &url, &["--no-buffer"]);
        for number in 0..5 {
            server.say(format!("number {number}\n").as_bytes());
            let event = format!("data: number {number}");
            capture.program().until(&event, |p| {
                let shown = p.stdout_so_far();
                let shown = String::from_utf8_lossy(&shown);
                // By client and server.
                (shown.matches(&event).count() >= 2).then_some(())
            });
        }
        let server = server.finish().success();
        let got = client.finish();
        let captured = capture.stop();
        if json {
            let messages = Messages::parse(&captured.finished.stdout, &[server.pid]);
            let whole = (0..5).map(|n| format!("data: number {n}\n\n"));
            let whole = whole.collect::<Vec<_>>().concat();
            let expected = exchange("GET", "/events", 200, b"", whole.as_bytes());
            messages.assert_shows(server.pid, &[expected]);
        } else {
            let blocks = captured.blocks();
            let told = blocks.exchanges.iter().filter(|e| e.contains(&url[8..]));
            assert_eq!(told.count(), 2, "{:?}", blocks.exchanges);
        }
        assert!(!got.body.is_empty());
    }
}

#[test]
fn pushed_answers_are_paired_with_their_promise() {
    let scene = Scene::new("push");
    scene.write("www/index.html", b"index\n");
    scene.write("www/pushed.css", b"pushed { }\n");
    let (port, pair) = (free_port(), &certificates().ecdsa);
    let mut server = tool("nghttpd", "nghttp2-server");
    server.args(["--push=/index.html=/pushed.css", "--padding=9", "-d"]);
    server.arg(scene.path("www")).arg(port.to_string());
    server.arg(&pair.key).arg(&pair.cert);
    let mut server = Program::start(&scene, "nghttpd", server);
    until_listening(&mut server, port);
    let capture = Tlscope::json().start(&scene);
    let mut client = tool("nghttp", "nghttp2-client");
    client
        .arg("-n")
        .arg(format!("https://localhost:{port}/index.html"));
    let client = Program::start(&scene, "nghttp", client).finish().success();
    let shown = answers(&capture.stop().finished.stdout);
    for pid in [client.pid, server.pid()] {
        let ours = shown.iter().filter(|a| a.pid == u64::from(pid));
        let mut ours: Vec<_> = ours
            .map(|a| (&*a.target, a.status, a.content.clone(), a.complete))
            .collect();
        ours.sort();
        let expected = [
            ("/index.html", 200, Digest::of(b"index\n"), true),
            ("/pushed.css", 200, Digest::of(b"pushed { }\n"), true),
        ];
        assert_eq!(ours, expected, "process {pid}");
    }
}

/// Of a static file, put there already coded.
const CODED: [(&str, &str, &str); 5] = [
    (
        "gzip",
        "gzip",
        "import gzip,sys; sys.stdout.buffer.write(gzip.compress(DATA))",
    ),
    (
        "zlib",
        "deflate",
        "import zlib,sys; sys.stdout.buffer.write(zlib.compress(DATA))",
    ),
    (
        "deflate",
        "deflate",
        "import zlib,sys; c = zlib.compressobj(wbits=-15); \
         sys.stdout.buffer.write(c.compress(DATA) + c.flush())",
    ),
    (
        "zstd",
        "zstd",
        "import subprocess,sys; subprocess.run(['zstd', '-q'], input=DATA, check=True)",
    ),
    (
        "br",
        "br",
        "import subprocess,sys; subprocess.run(['brotli', '-c', '-q', '2'], input=DATA, check=True)",
    ),
];

fn coded(scene: &Scene, data: &str) -> Nginx {
    let location = |(name, coding, _): &(&str, &str, &str)| {
        format!("location /{name} {{ add_header Content-Encoding {coding}; }}\n")
    };
    let locations = CODED.iter().map(location).collect::<Vec<_>>().concat();
    let nginx = Nginx::start_with(scene, &certificates().ecdsa, &locations);
    tool("zstd", "zstd");
    tool("brotli", "brotli");
    for (name, _, script) in CODED {
        let script = script.replace("DATA", data);
        let bytes = must(tool("python3", "python3").args(["-c", &script]));
        scene.write(&format!("www/{name}"), &bytes);
    }
    nginx
}

#[test]
fn all_codings_are_undone() {
    let scene = Scene::new("all-codings");
    let nginx = coded(&scene, "b'wonderful text '*5000 + bytes(range(256))");
    let all: Vec<u8> = (0..=255).collect();
    let content = [&b"wonderful text ".repeat(5000), &all[..]].concat();
    let capture = Tlscope::json().start(&scene);
    let mut pids = Vec::new();
    for (served, (name, ..)) in CODED.iter().enumerate() {
        let url = nginx.http2_url(&format!("/{name}"));
        let (version, url) = match served % 2 {
            0 => ("--http2", url),
            _ => ("--http1.1", nginx.url(&format!("/{name}"))),
        };
        pids.push(curl(&scene, &url, &[version]).finished.pid);
        nginx.until_served(served + 1);
    }
    let messages = Messages::parse(&capture.stop().finished.stdout, &pids);
    for (pid, (name, ..)) in pids.iter().zip(CODED) {
        let expected = exchange("GET", &format!("/{name}"), 200, b"", &content);
        messages.assert_shows(*pid, &[expected]);
    }
}

/// 70 MiB in a few kilobytes: decoded up to a bound, in little memory, and said so.
#[test]
fn content_that_expands_without_end_is_cut() {
    const BOUND: u64 = 64 * MIB as u64;
    const MEMORY_KIB: u64 = 400 * 1024;
    let scene = Scene::new("bomb");
    let nginx = coded(&scene, "b'a'*(70 << 20)");
    let mut capture = Tlscope::json().with("tsize", 16);
    capture = capture.pid(nginx.worker());
    let capture = capture.start(&scene);
    for (served, (name, ..)) in CODED.iter().enumerate() {
        curl(&scene, &nginx.url(&format!("/{name}")), &[]);
        nginx.until_served(served + 1);
    }
    let status = fs::read_to_string(format!("/proc/{}/status", capture.pid())).expect("status");
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    let captured = capture.stop();
    assert!(
        peak.expect("a number") < MEMORY_KIB,
        "{peak:?} KiB of memory"
    );
    let text = captured.finished.text();
    let objects = text
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
    let ends = objects.filter(|o| o["part"] == "end" && o["name"] == "HTTPResponse");
    let ends: Vec<_> = ends
        .map(|o| (o["target"].clone(), o["decoded"].as_u64()))
        .collect();
    let expected = CODED.map(|(name, ..)| (Value::from(format!("/{name}")), Some(BOUND)));
    assert_eq!(ends, expected);
}
