//! Packets in files that follow each other, and in a pipe as they come.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use tlscope_tests::certificates::certificates;
use tlscope_tests::pcap::{ENHANCED_PACKET, INTERFACE_STATISTICS, PacketCapture, PcapFile};
use tlscope_tests::program::{Program, tool};
use tlscope_tests::servers::{Nginx, curl};
use tlscope_tests::{KIB, Scene, Tlscope};

/// One connection, many requests.
#[track_caller]
fn curl_on_one_connection(scene: &Scene, url: &str) {
    let mut command = tool("curl", "curl");
    command.args(["--silent", "--fail", "--noproxy", "*", "--http1.1"]);
    command.args(["-o", "/dev/null", "--cacert"]);
    command.arg(&certificates().ca).arg(url);
    let _ = Program::start(scene, "curl", command).finish().success();
}

fn requests(file: &PcapFile) -> usize {
    file.http().0.len()
}

/// Each file of a rotation decrypts what began in it; put one behind the other,
/// as `cat` does, they decrypt also what went on from one to the next.
#[test]
fn files_by_size_decrypt_alone_and_whole_together() {
    let scene = Scene::new("pcap-size");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(300 * KIB);
    let filter = format!("tcp port {}", nginx.port);
    let tlscope = Tlscope::pcap("lo").args(["-C", "1"]);
    let capture = PacketCapture::start_with(tlscope, &scene, &filter);
    let first = capture.path().to_path_buf();
    for _ in 0..5 {
        curl(&scene, &nginx.url(&path), &[]);
    }
    curl_on_one_connection(&scene, &nginx.url(&format!("{path}?[1-12]")));
    capture.stop();
    let numbered = |n: usize| match n {
        0 => first.clone(),
        n => PathBuf::from(format!("{}{n}", first.display())),
    };
    let paths: Vec<_> = (0..100)
        .map(numbered)
        .take_while(|path| path.is_file())
        .collect();
    assert!(paths.len() >= 5, "{paths:?}");
    let mut alone = 0;
    for path in &paths {
        let file = PcapFile::at(path);
        assert_eq!(file.blocks().rest, 0);
        assert!(requests(&file) >= file.connections().len(), "{file:?}");
        alone += requests(&file);
    }
    assert!((6..17).contains(&alone), "{alone}");
    let read = |path: &PathBuf| fs::read(path).expect("a file of the rotation");
    let whole: Vec<u8> = paths.iter().flat_map(read).collect();
    let whole = PcapFile::at(&scene.write("whole.pcapng", &whole));
    assert_eq!(
        whole.http(),
        ([vec![path.clone(); 5], asked(&path)].concat(), 17)
    );
}

fn asked(path: &str) -> Vec<String> {
    (1..=12).map(|n| format!("{path}?{n}")).collect()
}

/// `-G 1 -W 3`: a name for each second, and an end after the third.
#[test]
fn files_by_time_end_after_the_last() {
    let scene = Scene::new("pcap-time");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(1000);
    let directory = scene.fresh("files");
    fs::create_dir(&directory).expect("a directory");
    let tlscope = Tlscope::pcap("lo")
        .arg("-w")
        .arg(directory.join("%s.pcapng"));
    let filter = format!("tcp port {}", nginx.port);
    let tlscope = tlscope.args(["-G", "1", "-W", "3"]).args(filter.split(' '));
    let mut capture = tlscope.start(&scene);
    let mut asked = 0;
    let ended = tlscope_tests::wait::until("the end", || {
        curl(&scene, &nginx.url(&path), &[]);
        asked += 1;
        capture.program().ended()
    });
    assert_eq!(ended.code(), Some(0));
    let entries = fs::read_dir(&directory).expect("the files").flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    let seconds = |path: &Path| -> u64 {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        stem.and_then(|s| s.parse().ok()).expect("a time")
    };
    for pair in files.windows(2) {
        assert!(seconds(&pair[1]) > seconds(&pair[0]), "{files:?}");
    }
    let mut decrypted = 0;
    for path in &files {
        let file = PcapFile::at(path);
        let blocks = file.blocks();
        assert_eq!(blocks.rest, 0);
        assert_eq!(blocks.all.last().map(|b| b.0), Some(INTERFACE_STATISTICS));
        let began = file.connections().len();
        // One may have begun at the very end, with its request in the next file.
        assert!(requests(&file) + 1 >= began && began > 0, "{file:?}");
        decrypted += requests(&file);
    }
    // At each end one may be in parts, and a few were asked for after the last.
    assert!(decrypted * 2 > asked, "{decrypted} of {asked}");
}

/// Time from the wire to the reader of the pipe, of each packet.
fn delays(mut pipe: impl Read) -> Vec<Duration> {
    let mut delays = Vec::new();
    let mut head = [0; 8];
    while pipe.read_exact(&mut head).is_ok() {
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        let mut rest = vec![0; word(4) as usize - 8];
        if pipe.read_exact(&mut rest).is_err() {
            break;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        if word(0) == ENHANCED_PACKET {
            let half = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().expect("4"));
            let time = u64::from(half(4)) << 32 | u64::from(half(8));
            let now = now.expect("a time after 1970");
            delays.push(now.saturating_sub(Duration::from_nanos(time)));
        }
    }
    delays
}

/// A live Wireshark has each packet within 200 ms; the bound here leaves room
/// for a machine that does other things too.
#[test]
fn a_reader_of_the_pipe_has_packets_soon() {
    let scene = Scene::new("pcap-live");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(KIB);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let filter = ["tcp", "port", &nginx.port.to_string()].map(str::to_owned);
    let tlscope = Tlscope::pcap("lo").args(["-w", "-"]).args(&filter);
    let capture = tlscope.start_to(&scene, scene.fresh("none"), writer.into());
    let reader = thread::spawn(move || delays(reader));
    for _ in 0..20 {
        curl(&scene, &nginx.url(&path), &[]);
    }
    capture.stop();
    let mut delays = reader.join().expect("the reader");
    delays.sort();
    let (middle, last) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    println!(
        "{} packets: median {middle:?}, longest {last:?}",
        delays.len()
    );
    assert!(delays.len() > 200);
    assert!(middle < Duration::from_millis(200), "{middle:?}");
    assert!(last < Duration::from_secs(1), "{last:?}");
}

/// The keys of TLS 1.2 made anew by the client.
#[test]
fn renegotiation() {
    const SECRET: &[u8] = b"CLIENT_RANDOM ";
    let scene = Scene::new("pcap-renegotiation");
    let pair = &certificates().ecdsa;
    let port = tlscope_tests::scene::free_port();
    let mut server = tool("openssl", "openssl");
    server.args(["s_server", "-rev", "-client_renegotiation", "-tls1_2"]);
    server.args(["-accept", &port.to_string(), "-cert"]);
    server.arg(&pair.cert).arg("-key").arg(&pair.key);
    let mut server = Program::start(&scene, "s_server", server);
    tlscope_tests::scene::until_listening(&mut server, port);
    let capture = PacketCapture::start(&scene, "lo", &format!("tcp port {port}"));
    let mut client = tool("openssl", "openssl");
    client.args([
        "s_client",
        "-tls1_2",
        "-connect",
        &format!("127.0.0.1:{port}"),
    ]);
    client.stdin(std::process::Stdio::piped());
    let mut client = Program::start(&scene, "s_client", client);
    let mut expected = Vec::new();
    for round in ["one", "two"] {
        if round == "two" {
            // What begins while the first handshake still waits is released with it.
            tlscope_tests::wait::until("the first secret in the file", || {
                let file = fs::read(capture.path()).ok()?;
                let mut places = file.windows(SECRET.len());
                places.any(|place| place == SECRET).then_some(())
            });
            // It takes what it reads together with the command for part of it.
            client.say(b"R\n");
            client.until("the renegotiation", |p| {
                p.stderr_so_far().contains("RENEGOTIATING").then_some(())
            });
        }
        let asked = format!("round {round}\n");
        let answer: String = asked.trim_end().chars().rev().chain(['\n']).collect();
        client.say(asked.as_bytes());
        client.until("the answer", |p| {
            let out = String::from_utf8_lossy(&p.stdout_so_far()).into_owned();
            out.contains(&answer).then_some(())
        });
        expected.extend([asked, answer]);
    }
    client.close_stdin();
    client.finish();
    let (file, _) = capture.stop();
    let said: Vec<u8> = file
        .rows("data", &["data.data"])
        .iter()
        .flat_map(|row| tlscope_tests::pcap::unhex(&row[0]))
        .collect();
    assert_eq!(String::from_utf8_lossy(&said), expected.concat());
    assert_eq!(file.count("tls.handshake.type == 1"), 2);
}
