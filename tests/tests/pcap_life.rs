//! The life of a packet capture: its command line, and every way to end.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tlscope_tests::certificates::certificates;
use tlscope_tests::network::Network;
use tlscope_tests::pcap::{
    ENHANCED_PACKET, INTERFACE_STATISTICS, PacketCapture, PcapFile, counted,
};
use tlscope_tests::program::{Program, must, tool};
use tlscope_tests::servers::{Nginx, curl};
use tlscope_tests::{KIB, MIB, Scene, Tlscope, wait};

#[test]
fn a_wrong_filter_is_a_usage_error_that_shows_the_place() {
    let scene = Scene::new("pcap-filter");
    let run = |words: &[&str]| Tlscope::pcap("lo").args(words).run(&scene);
    let wrong = run(&["tcp", "port", "and", "443"]);
    assert_eq!(wrong.code(), Some(2));
    assert!(
        wrong
            .stderr
            .contains("syntax error\n  tcp port and 443\n           ^^^"),
        "{}",
        wrong.stderr
    );
    let unknown = run(&["port nosuchport"]);
    assert_eq!(unknown.code(), Some(2));
    assert!(
        unknown.stderr.contains("unknown port 'nosuchport'"),
        "{}",
        unknown.stderr
    );
    let none = Tlscope::new("tls").args(["-m", "pcap"]).run(&scene);
    assert_eq!(none.code(), Some(2));
    let nowhere = Tlscope::pcap("nosuch0").run(&scene);
    assert_eq!(nowhere.code(), Some(1), "{}", nowhere.stderr);
    assert!(nowhere.stderr.contains("nosuch0"));
}

#[test]
fn the_life_of_a_command() {
    let scene = Scene::new("pcap-command");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(1000);
    let ca = certificates().ca.to_str().expect("UTF-8");
    let url = nginx.url(&path);
    let filter = format!("tcp port {}", nginx.port);
    let words = [
        "curl",
        "-s",
        "--noproxy",
        "*",
        "--cacert",
        ca,
        "-o",
        "/dev/null",
        &url,
    ];
    let tlscope = Tlscope::pcap("lo").running(&words);
    let (file, captured) = PacketCapture::start_with(tlscope, &scene, &filter).end();
    assert_eq!(captured.finished.code(), Some(0));
    assert_eq!(file.http(), (vec![path], 1));
    // The server may close its end when the command, and the capture with it, have ended.
    let fin = format!("tcp.flags.fin == 1 and tcp.dstport == {}", nginx.port);
    assert_eq!(file.senders(&fin), 1);
    let failing = Tlscope::pcap("lo").running(&["sh", "-c", "exit 7"]);
    let ended = PacketCapture::start_with(failing, &scene, "tcp").end().1;
    assert_eq!(ended.finished.code(), Some(7));
}

#[test]
fn a_number_of_packets() {
    let scene = Scene::new("pcap-count");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(1000);
    let filter = format!("tcp port {}", nginx.port);
    let capture = PacketCapture::start_with(Tlscope::pcap("lo").args(["-c", "7"]), &scene, &filter);
    curl(&scene, &nginx.url(&path), &[]);
    let (file, _) = capture.end();
    assert_eq!(file.count(""), 7);
}

#[test]
fn killed_outright_the_file_is_whole_so_far() {
    let scene = Scene::new("pcap-kill");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(10 * KIB);
    let filter = format!("tcp port {}", nginx.port);
    let mut capture = PacketCapture::start(&scene, "lo", &filter);
    curl(&scene, &nginx.url(&path), &[]);
    let file = PcapFile::at(capture.path());
    wait::until("the answer to be written", || {
        let file = file.so_far()?;
        (file.blocks().count(ENHANCED_PACKET) > 10 && file.http().1 == 1).then_some(())
    });
    capture
        .running()
        .program()
        .signal(rustix::process::Signal::KILL);
    wait::until("the end", || capture.running().program().ended());
    assert_eq!(file.blocks().rest, 0);
    assert_eq!(file.http(), (vec![path], 1));
}

/// A disk of 1 MiB: the capture ends, says so, and leaves whole blocks.
#[test]
fn a_full_disk() {
    let scene = Scene::new("pcap-full");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(3 * MIB);
    let disk = Disk::mount(&scene);
    let file = disk.path.join("x.pcapng");
    let tlscope = Tlscope::pcap("lo").arg("-w").arg(&file);
    let capture = tlscope
        .args(["tcp", "port", &nginx.port.to_string()])
        .start(&scene);
    curl(&scene, &nginx.url(&path), &[]);
    let ended = capture.end();
    assert_eq!(ended.finished.code(), Some(1));
    assert!(
        ended.finished.stderr.contains("No space left"),
        "{}",
        ended.finished.stderr
    );
    let file = PcapFile::at(&file);
    assert_eq!(file.blocks().rest, 0);
    assert!(file.count("") > 5);
}

struct Disk {
    path: std::path::PathBuf,
}

impl Disk {
    fn mount(scene: &Scene) -> Self {
        let path = scene.fresh("disk");
        fs::create_dir(&path).expect("mount point");
        let mut mount = tool("mount", "mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=1m", "tlscope-test"])
            .arg(&path);
        assert!(mount.status().expect("mount").success());
        Self { path }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = tool("umount", "mount").arg("-l").arg(&self.path).status();
    }
}

#[test]
fn an_interface_that_goes_away() {
    let scene = Scene::new("pcap-gone");
    let network = Network::pair();
    let tlscope = Tlscope::pcap("veth0").under(network.in_near());
    let capture = PacketCapture::start_with(tlscope, &scene, "");
    let mut ping = network.in_near();
    ping.args(["curl", "--silent", "--max-time", "1", "http://10.97.0.2:1/"]);
    Program::start(&scene, "curl", ping).finish();
    network.take_down();
    network.remove_link();
    let (file, ended) = capture.end();
    assert_eq!(ended.finished.code(), Some(1));
    assert!(
        ended.finished.stderr.contains("veth0"),
        "{}",
        ended.finished.stderr
    );
    assert_eq!(file.blocks().rest, 0);
    assert_eq!(
        file.blocks().all.last().map(|b| b.0),
        Some(INTERFACE_STATISTICS)
    );
    assert!(file.count("tcp") >= 1);
}

/// The reader of the pipe takes nothing: packets are lost and counted, the
/// capture still ends when it is told to.
#[test]
fn a_reader_that_stops_reading() {
    let scene = Scene::new("pcap-stuck");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(10 * MIB);
    let mut reader = Command::new("sleep");
    reader
        .arg("60")
        .stderr(Stdio::null())
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut reader = reader.spawn().expect("sleep");
    let pipe = reader.stdin.take().expect("a pipe");
    let tlscope = Tlscope::pcap("lo").args(["-w", "-", "tcp", "port", &nginx.port.to_string()]);
    let capture = tlscope.start_to(&scene, scene.fresh("none"), pipe.into());
    let url = nginx.url(&format!("{path}?[1-16]"));
    let mut client = tool("curl", "curl");
    client.args([
        "--silent",
        "--insecure",
        "--noproxy",
        "*",
        "-o",
        "/dev/null",
    ]);
    let _ = Program::start(&scene, "curl", {
        client.arg(&url);
        client
    })
    .finish()
    .success();
    let captured = capture.stop();
    assert!(counted(&captured, "the output is too slow") > 0);
    assert!(counted(&captured, "the reader did not take") > 0);
    reader
        .kill()
        .and_then(|()| reader.wait())
        .expect("the reader");
}

/// tshark lists tlscope among its interfaces and captures through it: with the secrets
/// of every library, and with those of the kind that is chosen.
#[test]
fn wireshark_captures_through_us() {
    let scene = Scene::new("pcap-extcap");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(1000);
    let sources = scene.fresh("extcap");
    install_extcap(&scene, &sources);
    // curl and nginx have OpenSSL, wget has GnuTLS.
    let both = [
        (format!("{path}?curl"), true),
        (format!("{path}?wget"), true),
    ];
    let one = [
        (format!("{path}?curl"), false),
        (format!("{path}?wget"), true),
    ];
    for (setting, shown) in [("all", both), ("gnutls", one)] {
        let mut program = tshark_through_us(&scene, &sources, nginx.port, setting);
        curl(&scene, &nginx.url(&shown[0].0), &[]);
        let mut wget = tool("wget", "wget");
        wget.args(["-q", "--no-check-certificate", "-O", "/dev/null"]);
        must(wget.arg(nginx.url(&shown[1].0)));
        let text = |p: &Program| String::from_utf8_lossy(&p.stdout_so_far()).into_owned();
        program.until("the exchanges", |p| {
            let text = text(p);
            let mut wanted = shown.iter().filter(|(_, wanted)| *wanted);
            (wanted.all(|(uri, _)| text.contains(uri)) && text.contains("200")).then_some(())
        });
        program.signal(rustix::process::Signal::INT);
        let ended = program.finish();
        let text = ended.text();
        assert!(text.contains("tlscope (TLS of this machine, decrypted)"));
        for (uri, wanted) in &shown {
            assert_eq!(text.contains(uri), *wanted, "{setting}: {text}");
        }
        let stderr = &ended.stderr;
        assert!(!stderr.contains("Error by extcap"), "{stderr}");
    }
}

#[track_caller]
fn tshark_through_us(scene: &Scene, sources: &Path, port: u16, module: &str) -> Program {
    // As root, tshark looks in its own directory only: ours goes over it for once.
    let script = format!(
        "mount --bind {} \"$(tshark -G folders 2>/dev/null | sed -n 's/^Extcap path:[[:space:]]*//p')\" && \
         tshark -D && exec tshark -i tlscope -o extcap.tlscope.ifname:lo \
         -o extcap.tlscope.module:{module} -f 'tcp port {port}' \
         -d tcp.port=={port},tls -Y http -l -T fields -e http.request.uri -e http.response.code",
        sources.display()
    );
    let mut command = tool("unshare", "util-linux");
    command.args(["--mount", "sh", "-c", &script]);
    let mut program = Program::start(scene, "tshark", command);
    program.until("tshark to capture", |p| {
        p.stderr_so_far().contains("Capture started").then_some(())
    });
    program
}

/// As `make install-extcap` puts it there, of the binary under test.
#[track_caller]
fn install_extcap(scene: &Scene, sources: &Path) {
    let target = scene.fresh("target");
    let release = target.join("release");
    fs::create_dir_all(&release).expect("directory");
    let link = release.join("tlscope");
    std::os::unix::fs::symlink(tlscope_tests::capture::binary(), link).expect("link");
    let mut make = tool("make", "make");
    make.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    // It is built already.
    make.args(["install-extcap", "CARGO=true"]);
    make.arg(format!("TARGET={}", target.display()));
    must(make.arg(format!("EXTCAP={}", sources.display())));
}

/// A reader that has seen enough, as `head` has.
#[test]
fn a_reader_that_goes() {
    let scene = Scene::new("pcap-head");
    let nginx = Nginx::start(&scene);
    let (path, _) = nginx.serve(100 * KIB);
    let mut reader = Command::new("head");
    reader.args(["-c", "1000"]).stdin(Stdio::piped());
    let mut reader = reader.stdout(Stdio::null()).spawn().expect("head");
    let pipe = reader.stdin.take().expect("a pipe");
    let tlscope = Tlscope::pcap("lo").args(["-w", "-", "tcp", "port", &nginx.port.to_string()]);
    let mut capture = tlscope.start_to(&scene, scene.fresh("none"), pipe.into());
    let ended = wait::until("the end", || {
        curl(&scene, &nginx.url(&path), &[]);
        capture.program().ended()
    });
    assert_eq!(ended.code(), Some(0));
    reader.wait().expect("head");
}
