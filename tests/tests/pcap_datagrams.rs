//! Packets of DTLS and QUIC with their secrets: tshark finds in one pass over the
//! file, and with nothing else, what client and server said.

use std::collections::BTreeSet;
use std::process::Stdio;

use tlscope_tests::certificates::certificates;
use tlscope_tests::openssl::dtls_server;
use tlscope_tests::pcap::{NAME_RESOLUTION, PacketCapture, PcapFile, counted, unhex};
use tlscope_tests::program::{Program, tool};
use tlscope_tests::scene::{fixture, free_port};
use tlscope_tests::zoo::fetch::fetch;
use tlscope_tests::zoo::targets::{Arm, Run, Source};
use tlscope_tests::zoo::{TARGETS, Target};
use tlscope_tests::{Scene, Tlscope};

/// A QUIC server that is no OpenSSL: the secrets are those of the client.
const AIOQUIC: Target = Target {
    name: "aioquic",
    holds: "no library that is probed",
    family: "none",
    source: Source::Wheel {
        package: "aioquic",
        version: "1.7.2",
        python: "311",
        platform: "manylinux2014_x86_64",
        needs: &[
            "cryptography",
            "cffi",
            "pyopenssl",
            "pylsqpack",
            "service-identity",
            "attrs",
            "certifi",
            "typing-extensions",
        ],
    },
    file: "aioquic/_buffer.abi3.so",
    run: Run::Look,
    arm: Arm::No,
    quick: true,
};

/// Lines that need several packets, each way.
fn lines() -> Vec<u8> {
    let line = |n| format!("line {n} of what is said over datagrams\n");
    (0..400).map(line).collect::<String>().into_bytes()
}

/// What went from and to this port. `at` names the field of the offsets, as QUIC
/// sends some bytes again; none is one of 0, as it is the first of its packet.
#[track_caller]
fn said(file: &PcapFile, field: &str, at: Option<&str>, port: u16) -> [Vec<u8>; 2] {
    let mut sides = [Vec::new(), Vec::new()];
    for row in file.rows(field, &["udp.srcport", field, at.unwrap_or("ip.ttl")]) {
        let side = &mut sides[usize::from(row[0] != port.to_string())];
        let values: Vec<_> = row[1].split(',').map(unhex).collect();
        let mut offsets: Vec<usize> = match at {
            Some(_) => row[2].split(',').flat_map(str::parse).collect(),
            None => vec![side.len()],
        };
        if offsets.len() < values.len() {
            offsets.insert(0, 0);
        }
        for (value, offset) in values.into_iter().zip(offsets) {
            side.resize(side.len().max(offset + value.len()), 0);
            side[offset..offset + value.len()].copy_from_slice(&value);
        }
    }
    sides
}

/// Handshake messages of a type. After a second without an answer they are sent again.
#[track_caller]
fn messages(file: &PcapFile, kind: u8) -> BTreeSet<Vec<String>> {
    let filter = format!("dtls.handshake.type == {kind}");
    let fields = ["udp.srcport", "udp.dstport", "dtls.handshake.message_seq"];
    file.rows(&filter, &fields).into_iter().collect()
}

#[test]
fn dtls_1_2_resumed_or_not_decrypts() {
    let scene = Scene::new("pcap-dtls");
    let port = free_port();
    let mut server = dtls_server(&scene, port);
    let capture = PacketCapture::start(&scene, "lo", &format!("udp port {port}"));
    let session = scene.path("session.pem");
    let mut expected = Vec::new();
    for (round, option) in ["-sess_out", "-sess_in"].into_iter().enumerate() {
        let mut command = tool("openssl", "openssl");
        command.args(["s_client", "-dtls1_2", "-connect"]);
        command.arg(format!("127.0.0.1:{port}"));
        command
            .args(["-quiet", "-no_ign_eof", option])
            .arg(&session);
        let mut client = Program::start(&scene, "s_client", {
            command.stdin(Stdio::piped());
            command
        });
        let text = format!("over dtls, round {round}\n");
        client.say(text.as_bytes());
        expected.extend_from_slice(text.as_bytes());
        server.until("the line", |p| {
            let out = String::from_utf8_lossy(&p.stdout_so_far()).into_owned();
            out.contains(&text).then_some(())
        });
        client.close_stdin();
        let _ = client.finish().success();
    }
    let (file, captured) = capture.stop();
    let file = file.read_as(&format!("udp.port=={port},dtls"));
    assert_eq!(said(&file, "data.data", None, port), [Vec::new(), expected]);
    assert_eq!(counted(&captured, "waited in vain for secrets"), 0);
    assert_eq!(messages(&file, 1).len(), 4, "with cookies");
    assert_eq!(messages(&file, 14).len(), 1, "the second is resumed");
}

/// `openssl s_client -quic` of Debian trixie, whose secrets alone decrypt the file.
#[test]
fn quic_of_openssl_3_5_decrypts() {
    let scene = Scene::new("pcap-quic");
    let openssl = TARGETS.iter().find(|t| t.name == "s_client-trixie");
    let openssl = fetch(openssl.expect("a row of the table"));
    let aioquic = fetch(&AIOQUIC).directory;
    for retry in [false, true] {
        let port = free_port();
        let mut server = tool("python3", "python3");
        server
            .env("PYTHONPATH", &aioquic)
            .arg(fixture("quic_echo.py"));
        // A long flight fills its datagrams. aioquic pads a short one with zeros, which
        // tshark 4.0 takes for a packet, and half of the times for a key update.
        let pair = &certificates().rsa;
        server.arg(port.to_string()).arg(&pair.cert).arg(&pair.key);
        server.args(retry.then_some("retry"));
        let mut server = Program::start(&scene, "quic_echo", server);
        server.until("the server", |p| {
            (p.stdout_so_far() == b"listening\n").then_some(())
        });

        let tlscope = Tlscope::pcap("lo").arg("--libssl").arg(&openssl.image);
        let filter = format!("udp port {port}");
        let capture = PacketCapture::start_with(tlscope, &scene, &filter);
        let mut client = tool("chroot", "coreutils");
        client.arg(&openssl.directory);
        client.args(["openssl", "s_client", "-quic", "-alpn", "echo"]);
        client.args(["-connect", &format!("127.0.0.1:{port}")]);
        client.args(["-servername", "localhost", "-quiet", "-no_ign_eof"]);
        if retry {
            // A hello in one packet: aioquic answers each with a Retry, the client
            // takes the first, as it must, and tshark 4.0 the last.
            client.args(["-groups", "X25519"]);
        }
        client.stdin(Stdio::piped());
        let mut client = Program::start(&scene, "s_client", client);
        let lines = lines();
        client.say(&lines);
        client.until("the echo", |p| (p.stdout_so_far() == lines).then_some(()));
        client.close_stdin();
        let _ = client.finish().success();
        let (file, captured) = capture.stop();
        let file = file.read_as(&format!("udp.port=={port},quic"));
        assert_eq!(
            said(&file, "quic.stream_data", Some("quic.stream.offset"), port),
            [lines.clone(), lines]
        );
        assert_eq!(file.count("quic.long.packet_type == 3"), usize::from(retry));
        assert_eq!(counted(&captured, "waited in vain for secrets"), 0);
        assert_eq!(file.blocks().count(NAME_RESOLUTION), 1);
    }
}
