//! The key log is good for what it is for: tshark decrypts what tcpdump took beside.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tlscope_tests::pcap::tshark;
use tlscope_tests::program::{Program, must, tool};
use tlscope_tests::servers::{Nginx, curl};
use tlscope_tests::{Digest, KIB, Scene, Tlscope};

#[test]
fn tshark_decrypts_tls_1_2_and_1_3() {
    let scene = Scene::new("decrypt");
    let nginx = Nginx::start(&scene);
    let (path, content) = nginx.serve(200 * KIB);
    for (done, version) in ["1.2", "1.3"].into_iter().enumerate() {
        let keys = scene.path(&format!("keys-{version}.log"));
        let capture = Tlscope::new("tls")
            .arg("-m")
            .arg("keylog")
            .arg("-k")
            .arg(&keys);
        let capture = capture.start(&scene);
        let packets = Packets::start(&scene, nginx.port);
        curl(&scene, &nginx.url(&path), &["--tls-max", version]);
        nginx.until_served(done + 1);
        let packets = packets.stop();
        capture.stop();
        let nothing = scene.write("empty.log", b"");
        assert_eq!(
            bodies(&scene, &packets, &nothing),
            [],
            "decrypted without a key"
        );
        assert_eq!(
            bodies(&scene, &packets, &keys),
            [Digest::of(&content)],
            "TLS {version}"
        );
    }
}

/// tcpdump on the loopback interface.
struct Packets {
    program: Program,
    file: PathBuf,
    marker: UdpSocket,
}

/// The last datagram of a capture: what came before it is in the file before it.
const MARKER: &[u8] = b"the end of this capture";

impl Packets {
    fn start(scene: &Scene, port: u16) -> Self {
        let file = scene.fresh("packets.pcap");
        let marker = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a UDP port");
        let own = marker.local_addr().expect("its address");
        marker.connect(own).expect("a socket that talks to itself");
        let mut tcpdump = tool("tcpdump", "tcpdump");
        tcpdump.args([
            "-i", "lo", "-U", "-s", "0", "-B", "65536", "-Z", "root", "-w",
        ]);
        tcpdump
            .arg(&file)
            .arg(format!("tcp port {port} or udp port {}", own.port()));
        let mut program = Program::start(scene, "tcpdump", tcpdump);
        program.until("tcpdump", |p| {
            p.stderr_so_far().contains("listening on").then_some(())
        });
        Self {
            program,
            file,
            marker,
        }
    }

    fn stop(mut self) -> PathBuf {
        self.marker.send(MARKER).expect("send the marker");
        let file = &self.file;
        self.program.until("the marker in the capture", |_| {
            let taken = fs::read(file).unwrap_or_default();
            taken.ends_with(MARKER).then_some(())
        });
        self.program.signal(Signal::INT);
        drop(self.program.finish().success());
        self.file
    }
}

/// The HTTP bodies that tshark finds in the packets with these keys.
fn bodies(scene: &Scene, packets: &Path, keys: &Path) -> Vec<Digest> {
    let objects = scene.fresh("objects");
    let mut tshark = tshark();
    tshark.arg("-r").arg(packets).arg("-o");
    tshark
        .arg(format!("tls.keylog_file:{}", keys.display()))
        .args(["-q", "--export-objects"]);
    must(tshark.arg(format!("http,{}", objects.display())));
    let files = fs::read_dir(&objects).into_iter().flatten().flatten();
    files
        .map(|file| Digest::of(&fs::read(file.path()).expect("an object")))
        .collect()
}
