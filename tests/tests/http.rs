//! Messages of HTTP/1, HTTP/2, gRPC and WebSocket as the peers logged them: each
//! shown once, paired right, with the content that was meant.

use std::process::{Command, Stdio};

use serde::Deserialize;
use tlscope_tests::certificates::certificates;
use tlscope_tests::messages::{Exchange, Messages};
use tlscope_tests::program::tool;
use tlscope_tests::scene::{fixture, free_port, until_listening};
use tlscope_tests::servers::{Nginx, curl};
use tlscope_tests::zoo::fetch::{Specimen, fetch};
use tlscope_tests::zoo::targets::named;
use tlscope_tests::{Digest, Finished, MIB, Program, Scene, Tlscope, digest};

/// A server and a client of the same fixture.
struct Pair {
    server: Finished,
    client: Finished,
}

impl Pair {
    /// The server ends with its stdin, or with its only connection.
    #[track_caller]
    fn run(scene: &Scene, command: impl Fn() -> Command, arguments: &[&str]) -> Self {
        let (ca, pair) = (&certificates().ca, &certificates().ecdsa);
        let mut server = command();
        server.arg("server").arg(&pair.cert).arg(&pair.key);
        server.stdin(Stdio::piped());
        let mut server = Program::start(scene, "server", server);
        let port = server.until("its port", |p| {
            let out = String::from_utf8(p.stdout_so_far()).ok()?;
            let line = out.split_inclusive('\n').next()?.strip_suffix('\n')?;
            line.strip_prefix("port ").map(str::to_owned)
        });
        let mut client = command();
        client.arg("client").arg(ca).arg(port).args(arguments);
        Self {
            client: Program::start(scene, "client", client).finish().success(),
            server: server.finish().success(),
        }
    }

    fn pids(&self) -> [u32; 2] {
        [self.client.pid, self.server.pid]
    }

    /// Both sides of what both logged.
    #[track_caller]
    fn assert_shown(&self, captured: &[u8]) {
        let messages = Messages::parse(captured, &self.pids());
        for side in [&self.client, &self.server] {
            messages.assert_shows(side.pid, &Exchange::read_log(&side.text()));
        }
    }
}

fn script(interpreter: &'static str, name: &'static str) -> impl Fn() -> Command {
    move || {
        let mut command = tool(interpreter, interpreter);
        command.arg(fixture(name));
        command
    }
}

fn specimen(name: &str) -> Specimen {
    fetch(named(name).expect("a target of the table"))
}

/// Codings of nginx, for each of which curl asks by header, so that nothing is undone before.
const CODINGS: [&str; 3] = ["identity", "gzip", "br"];

#[test]
fn curl_and_nginx_in_both_versions_and_all_codings() {
    let scene = Scene::new("codings");
    let lines = "gzip on; gzip_types *; gzip_min_length 0;
        brotli on; brotli_types *; brotli_min_length 0;";
    let nginx = Nginx::start_with(&scene, &certificates().ecdsa, lines);
    let content = b"all work and no play makes Jack a dull boy\n".repeat(5000);
    scene.write("www/text.bin", &content);
    let mut served = 0;
    for (version, base) in [("1.1", nginx.url("")), ("2", nginx.http2_url(""))] {
        for coding in CODINGS {
            let accept = format!("Accept-Encoding: {coding}");
            let arguments = [&*format!("--http{version}"), "-H", &accept];
            let capture = Tlscope::json().start(&scene);
            let got = curl(&scene, &format!("{base}/text.bin?{coding}"), &arguments);
            served += 1;
            nginx.until_served(served);
            let messages = Messages::parse(
                &capture.stop().finished.stdout,
                &[got.finished.pid, nginx.worker()],
            );
            let expected = [Exchange {
                method: "GET".into(),
                target: format!("/text.bin?{coding}"),
                status: 200,
                request: Digest::of(b""),
                response: Digest::of(&content),
            }];
            messages.assert_shows(got.finished.pid, &expected);
            messages.assert_shows(nginx.worker(), &expected);
            let answer = messages.all.last().expect("an answer");
            assert_eq!(answer.head["version"], format!("HTTP/{version}"));
            let shrunk = answer.end["transferred"].as_u64() < Some(content.len() as u64 / 10);
            assert_eq!(shrunk, coding != "identity", "{coding}: {:?}", answer.end);
        }
    }
}

#[test]
fn curl_uploads_by_http2() {
    let scene = Scene::new("upload2");
    let nginx = Nginx::start(&scene);
    let content = digest::noise(MIB, 5);
    let file = scene.write("upload.bin", &content);
    let capture = Tlscope::json().start(&scene);
    let arguments = ["--http2", "--upload-file", file.to_str().expect("UTF-8")];
    let put = curl(&scene, &nginx.http2_url("/put.bin"), &arguments);
    nginx.until_served(1);
    let messages = Messages::parse(
        &capture.stop().finished.stdout,
        &[put.finished.pid, nginx.worker()],
    );
    let expected = [Exchange {
        method: "PUT".into(),
        target: "/put.bin".into(),
        status: 201,
        request: Digest::of(&content),
        response: Digest::of(b""),
    }];
    messages.assert_shows(put.finished.pid, &expected);
    messages.assert_shows(nginx.worker(), &expected);
}

/// Of h2load, unless `make http-load` asks for more.
const REQUESTS: usize = 2000;

fn requests() -> usize {
    let asked = std::env::var("TLSCOPE_HTTP_REQUESTS").ok();
    asked.map_or(REQUESTS, |number| {
        number.parse().expect("a number of requests")
    })
}

#[test]
fn h2load_with_a_hundred_interleaved_streams() {
    let requests = requests();
    // Many requests are of small files, so that what is compared fits in memory.
    let step = if requests > REQUESTS { 2 } else { 211 };
    let scene = Scene::new("h2load");
    let nginx = Nginx::start(&scene);
    let contents: Vec<_> = (0..100).map(|n| nginx.serve(n * step)).collect();
    let urls: String = contents
        .iter()
        .map(|(path, _)| nginx.http2_url(path) + "\n")
        .collect();
    let list = scene.write("urls", urls.as_bytes());
    let mut command = tool("h2load", "nghttp2-client");
    command.args(["-n", &requests.to_string(), "-c", "2", "-m", "100", "-i"]);
    command.arg(list);
    let capture = Tlscope::json().with("mapsize", "64M").start(&scene);
    let load = Program::start(&scene, "h2load", command).finish().success();
    nginx.until_served(requests);
    let captured = capture.stop();
    captured.records().assert_lossless();
    let messages = Messages::parse(&captured.finished.stdout, &[load.pid, nginx.worker()]);
    let logged: Vec<_> = nginx
        .logged()
        .into_iter()
        .map(|(method, target, status)| {
            let content = contents.iter().find(|(path, _)| *path == target);
            let (_, content) = content.expect("a file that was asked for");
            Exchange {
                method,
                target,
                status,
                request: Digest::of(b""),
                response: Digest::of(content),
            }
        })
        .collect();
    assert_eq!(logged.len(), requests);
    messages.assert_shows(nginx.worker(), &logged);
    messages.assert_shows(load.pid, &logged);
}

#[test]
fn nghttp_and_nghttpd_with_padding_continuation_and_trailers() {
    let scene = Scene::new("nghttp");
    let content = digest::noise(100_000, 8);
    scene.write("www/file.bin", &content);
    let data = scene.write("upload.bin", &content[..50_000]);
    let (port, pair) = (free_port(), &certificates().ecdsa);
    let mut server = tool("nghttpd", "nghttp2-server");
    server.args(["--padding=77", "--trailer=x-sum: 1", "--echo-upload"]);
    server
        .arg("-d")
        .arg(scene.path("www"))
        .arg(port.to_string());
    let mut server = Program::start(&scene, "nghttpd", {
        server.arg(&pair.key).arg(&pair.cert);
        server
    });
    until_listening(&mut server, port);
    let url = format!("https://localhost:{port}/file.bin");
    let capture = Tlscope::json().start(&scene);
    let client = |arguments: &[&str]| {
        let mut command = tool("nghttp", "nghttp2-client");
        command.args(["-n", "--padding=99", "--continuation"]);
        command.args(arguments).arg(&url);
        Program::start(&scene, "nghttp", command).finish().success()
    };
    let get = client(&["-m", "20"]);
    let data = format!("--data={}", data.display());
    let upload = client(&[&data, "--trailer=x-tail: 2"]);
    let messages = Messages::parse(
        &capture.stop().finished.stdout,
        &[get.pid, upload.pid, server.pid()],
    );
    let exchange = |method: &str, sent: &[u8], got: &[u8]| Exchange {
        method: method.into(),
        target: "/file.bin".into(),
        status: 200,
        request: Digest::of(sent),
        response: Digest::of(got),
    };
    let gets = vec![exchange("GET", b"", &content); 20];
    let posted = exchange("POST", &content[..50_000], &content[..50_000]);
    messages.assert_shows(get.pid, &gets);
    messages.assert_shows(upload.pid, std::slice::from_ref(&posted));
    messages.assert_shows(server.pid(), &[gets, vec![posted]].concat());
    let trailers = messages.all.iter().filter(|m| !m.trailers.is_null());
    assert_eq!(trailers.count(), 2 * (21 + 1), "trailers, on both sides");
}

#[test]
fn asyncio_with_pipelining_chunks_and_trailers() {
    let scene = Scene::new("asyncio");
    let capture = Tlscope::json().start(&scene);
    let pair = Pair::run(&scene, script("python3", "http_peer.py"), &[]);
    pair.assert_shown(&capture.stop().finished.stdout);
}

#[test]
fn node_by_http2_and_http1() {
    let scene = Scene::new("node");
    let node = specimen("node-22.23.3").image;
    let capture = Tlscope::json().arg("--libssl").arg(&node).start(&scene);
    let command = || {
        let mut command = Command::new(&node);
        command.arg(fixture("http_peer.js"));
        command
    };
    let pair = Pair::run(&scene, command, &[]);
    pair.assert_shown(&capture.stop().finished.stdout);
}

#[test]
fn grpc_messages() {
    const SIZES: [usize; 4] = [0, 1, 16_384, 300_000];
    let scene = Scene::new("grpc");
    let grpc = specimen("grpcio-1.85.1");
    let capture = Tlscope::json()
        .arg("--libssl")
        .arg(&grpc.image)
        .start(&scene);
    let command = || {
        let mut command = tool("python3", "python3");
        command.env("PYTHONPATH", &grpc.directory);
        command.arg("-B").arg(fixture("grpc_peer.py"));
        command
    };
    let sizes = SIZES.map(|size| size.to_string());
    let pair = Pair::run(&scene, command, &sizes.each_ref().map(String::as_str));
    let messages = Messages::parse(&capture.stop().finished.stdout, &pair.pids());
    let framed = |message: &[u8]| {
        let length = u32::try_from(message.len()).expect("a short message");
        Digest::of(&[&[0][..], &length.to_be_bytes(), message].concat())
    };
    let expected = SIZES.map(|size| {
        let byte = |i: usize| ((i * 31 + (i >> 8) * 17) & 255) as u8;
        let mut message: Vec<u8> = (0..size).map(byte).collect();
        let request = framed(&message);
        message.reverse();
        Exchange {
            method: "POST".into(),
            target: "/zoo.Zoo/Turn".into(),
            status: 200,
            request,
            response: framed(&message),
        }
    });
    messages.assert_shows(pair.client.pid, &expected);
    messages.assert_shows(pair.server.pid, &expected);
    let status = serde_json::json!(["grpc-status", "0"]);
    let answers = messages.all.iter().filter(|m| m.name == "HTTP2Response");
    for answer in answers {
        let trailers = answer.trailers["headers"].as_array();
        assert!(trailers.is_some_and(|t| t.contains(&status)), "{answer:?}");
    }
}

#[derive(Debug, Deserialize)]
struct LoggedFrame {
    sent: bool,
    opcode: String,
    length: u64,
    sha256: String,
}

#[test]
fn websocket_with_masks_fragments_and_compression() {
    let scene = Scene::new("websocket");
    let capture = Tlscope::json().start(&scene);
    let pair = Pair::run(&scene, script("python3", "ws_peer.py"), &[]);
    let messages = Messages::parse(&capture.stop().finished.stdout, &pair.pids());
    for side in [&pair.client, &pair.server] {
        let log = side.text();
        let lines = log.lines().filter(|line| line.starts_with('{'));
        let logged: Vec<LoggedFrame> = lines
            .map(|line| serde_json::from_str(line).expect("a logged message"))
            .collect();
        for sent in [true, false] {
            let of_side = |m: &&_| pid_and_sent(m) == (u64::from(side.pid), sent);
            let shown = messages.websocket.iter().filter(of_side);
            let mut shown: Vec<_> = shown
                .map(|m| (m.opcode.clone(), Digest::of(&m.payload)))
                .collect();
            let mut logged: Vec<_> = logged
                .iter()
                .filter(|m| m.sent == sent)
                .map(|m| {
                    let (length, sha256) = (m.length, m.sha256.clone());
                    (m.opcode.clone(), Digest { length, sha256 })
                })
                .collect();
            assert!(logged.len() > 20, "{logged:?}");
            // A ping among fragments begins before and is logged after, by who gets it.
            shown.sort();
            logged.sort();
            assert_eq!(shown, logged, "process {}, sent {sent}", side.pid);
        }
    }
}

fn pid_and_sent(message: &tlscope_tests::messages::WebSocketMessage) -> (u64, bool) {
    (message.pid, message.sent)
}
