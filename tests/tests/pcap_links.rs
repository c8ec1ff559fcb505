//! Packets of links that are not plain Ethernet, and frames longer than a packet
//! may be: true link types, whole frames, decrypted.

use std::process::Stdio;

use tlscope_tests::certificates::certificates;
use tlscope_tests::network::Network;
use tlscope_tests::pcap::{PacketCapture, PcapFile, counted};
use tlscope_tests::program::{Program, must, tool};
use tlscope_tests::scene::fixture;
use tlscope_tests::{Digest, MIB, Scene, Tlscope};

/// The devices of `fixtures/tunnel.py` between the ends of a network.
#[track_caller]
fn tunnel(scene: &Scene, kind: &str, network: &Network) -> Program {
    let mut command = tool("python3", "python3");
    command.arg(fixture("tunnel.py")).arg(kind);
    command.args(network.paths());
    let mut program = Program::start(scene, "tunnel", command);
    program.until("the tunnel", |p| {
        (p.stdout_so_far() == b"up\n").then_some(())
    });
    program
}

/// Fetches a page from the far end, as `interface` of the near end sees it.
#[track_caller]
fn fetch(
    scene: &Scene,
    network: &Network,
    far: &str,
    page: &[u8],
    (interface, filter): (&str, &str),
) -> PcapFile {
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
    scene.write("page.bin", &[head.as_bytes(), page].concat());
    let pair = &certificates().ecdsa;
    let mut server = network.in_far();
    server.args(["openssl", "s_server", "-HTTP", "-accept", "4433", "-cert"]);
    server.arg(&pair.cert).arg("-key").arg(&pair.key);
    server.current_dir(scene.directory()).stdin(Stdio::piped());
    let mut server = Program::start(scene, "s_server", server);
    server.until("s_server", |p| {
        let out = String::from_utf8_lossy(&p.stdout_so_far()).into_owned();
        out.contains("ACCEPT").then_some(())
    });

    let tlscope = Tlscope::pcap(interface).with("mapsize", "128M");
    let tlscope = tlscope.under(network.in_near());
    let capture = PacketCapture::start_with(tlscope, scene, filter);
    let mut client = network.in_near();
    client.args(["curl", "--silent", "--fail", "--insecure", "--http1.0"]);
    client.arg(format!("https://{far}:4433/page.bin"));
    let got = Program::start(scene, "curl", client).finish().success();
    assert!(got.stdout == page, "what curl got");
    let (file, captured) = capture.stop();
    assert_eq!(counted(&captured, "dropped by the kernel"), 0);
    assert_eq!(counted(&captured, "waited in vain for secrets"), 0);
    assert_eq!(file.http(), (vec!["/page.bin".to_owned()], 1));
    let body = Digest::of(page).sha256;
    assert_eq!(file.bodies(scene), [(body, 1)].into());
    file
}

#[test]
fn a_tun_device_has_no_link_layer() {
    let scene = Scene::new("pcap-tun");
    let network = Network::pair();
    let _tunnel = tunnel(&scene, "tun", &network);
    let seen = ("tun0", "tcp port 4433");
    let file = fetch(&scene, &network, "10.96.0.2", b"from afar", seen);
    assert_eq!(file.info("Encapsulation"), ["Raw IP (7 - rawip)"]);
    assert_eq!(file.count("eth"), 0);
}

#[test]
fn vlan_tags_are_there_though_the_kernel_takes_them_off() {
    let scene = Scene::new("pcap-vlan");
    let network = Network::pair();
    let _tunnel = tunnel(&scene, "vlan", &network);
    let seen = ("veth0", "vlan 5 and tcp port 4433");
    let file = fetch(&scene, &network, "10.96.0.2", b"from afar", seen);
    let tagged = "vlan.id == 5 and tcp.port == 4433";
    assert_eq!(file.count(tagged), file.count(""));
}

/// Segmentation offload gives the interface frames far longer than its MTU.
#[test]
fn frames_beyond_the_mtu_are_whole() {
    let scene = Scene::new("pcap-offload");
    let network = Network::pair();
    let page: Vec<u8> = (0..20 * MIB).map(|n| (n % 251) as u8).collect();
    let seen = ("veth0", "tcp port 4433");
    for far in [Network::FAR.to_owned(), format!("[{}]", Network::FAR_V6)] {
        let file = fetch(&scene, &network, &far, &page, seen);
        assert!(file.count("frame.len > 20000") > 0);
        assert_eq!(file.count("frame.cap_len != frame.len"), 0);
    }
}

/// BIG TCP (IPv6 5.19, IPv4 6.3): longer than the length fields of IP can say. IPv6 has a hop-by-hop
/// header in them, behind which libpcap's `tcp` does not look.
#[test]
fn segments_beyond_64_kib_are_whole() {
    let scene = Scene::new("pcap-big");
    let network = Network::pair();
    for mut end in [network.in_near(), network.in_far()] {
        must(end.arg("python3").arg(fixture("big_tcp.py")).arg("180000"));
    }
    let page: Vec<u8> = (0..20 * MIB).map(|n| (n % 241) as u8).collect();
    for (far, filter) in [
        (Network::FAR.to_owned(), "tcp port 4433"),
        (format!("[{}]", Network::FAR_V6), "ip6"),
    ] {
        let file = fetch(&scene, &network, &far, &page, ("veth0", filter));
        assert!(file.count("frame.len > 65600") > 0, "{far}");
        assert_eq!(file.count("frame.cap_len != frame.len"), 0);
    }
}
