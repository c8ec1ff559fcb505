//! Every fallback, forced on this kernel: what an older one would pick gives the same bytes.

use std::fs;
use std::path::PathBuf;

use tlscope_tests::mixture::{Mixture, Waiting};
use tlscope_tests::pcap::PacketCapture;
use tlscope_tests::program::{must, tool};
use tlscope_tests::{Captured, KIB, MIB, Peer, SYSTEM_LIBSSL, Scene, Tlscope, go};

const UNABLE: Option<i32> = Some(3);

/// Bytes, addresses and descriptors, with these flags.
#[track_caller]
fn assert_captures(scene: &Scene, flags: &[&str]) {
    assert_captures_by(scene, Tlscope::json().args(flags));
}

/// Two libraries, which probes must tell apart.
#[track_caller]
fn assert_captures_by(scene: &Scene, tlscope: Tlscope) {
    let libraries = ["a", "b"].map(|name| scene.fresh(&format!("libssl-{name}.so.3")));
    for library in &libraries {
        fs::copy(SYSTEM_LIBSSL, library).expect("copy the library");
    }
    let named = |tlscope: Tlscope, library: &PathBuf| tlscope.with("libssl", library.display());
    let capture = libraries.iter().fold(tlscope, named).start(scene);
    let talks = libraries.each_ref().map(|library| {
        let peer = Peer::on(library).with("connections", 2);
        peer.sizes(20 * KIB, 300 * KIB).run(scene)
    });
    let records = capture.stop().records();
    records.assert_lossless();
    for talk in talks {
        talk.assert_captured(&records);
    }
}

/// What `tlscope doctor` says of each attach mode: whether the kernel has it.
#[track_caller]
fn attach_modes(doctor: &str) -> Vec<(&str, bool)> {
    let (_, modes) = doctor
        .split_once("attach modes, best first (--attach)\n")
        .unwrap_or_else(|| panic!("no attach modes in:\n{doctor}"));
    let lines = modes.lines().take_while(|line| !line.is_empty());
    let modes = lines.map(|line| {
        let (mode, has) = line.trim().split_once(' ').expect("a mode and a word");
        let has = has.trim();
        assert!(has == "yes" || has.starts_with("no: needs "), "{line}");
        (mode, has == "yes")
    });
    modes.collect()
}

/// Where tracefs is mounted, whatever this machine has.
fn with_tracefs(tlscope: Tlscope) -> Tlscope {
    tlscope.mounting("mount -t tracefs none /sys/kernel/tracing")
}

#[test]
fn every_attach_mode_captures_the_same() {
    let scene = Scene::new("attach-modes");
    let doctor = with_tracefs(Tlscope::new("doctor")).run(&scene);
    let doctor = doctor.success().text();
    let modes = attach_modes(&doctor);
    assert!(modes.len() >= 5, "{modes:?}");
    for (mode, has) in modes {
        let flags = ["-b", "1", "--attach", mode];
        let tlscope = with_tracefs(Tlscope::json().args(flags));
        if has {
            assert_captures_by(&scene, tlscope);
        } else {
            let finished = tlscope.run(&scene);
            assert_eq!(finished.code(), UNABLE, "{}", finished.stderr);
        }
    }
}

/// Go's returns are entries of their own, and NSS is several images.
#[test]
fn every_library_captures_the_same_by_the_oldest_attach_modes() {
    let scene = Scene::new("attach-libraries");
    for mode in ["single", "tracefs"] {
        let (mixture, captured) = mixed(&scene, mode, &["--json"]);
        mixture.assert_captured(&captured.records());
        let (mixture, captured) = mixed(&scene, mode, &["-m", "keylog", "-k", "-"]);
        captured.keylog().assert_is(&mixture.keylog);
    }
}

/// Programs on OpenSSL, GnuTLS, NSS and Go under one capture.
#[track_caller]
fn mixed(scene: &Scene, mode: &str, flags: &[&str]) -> (Mixture, Captured) {
    let waiting = Waiting::start(scene, &go::STRIPPED.program());
    let tlscope = Tlscope::new("all").args(["-b", "1", "--attach", mode]);
    let tlscope = waiting.watched_by(tlscope.args(flags));
    let capture = with_tracefs(tlscope).start(scene);
    let mixture = waiting.talk(scene);
    (mixture, capture.stop())
}

/// By then tlscope has given up the privileges that it believes to need no more.
#[test]
fn a_library_that_comes_later_is_attached_in_every_way() {
    let scene = Scene::new("later-fallbacks");
    let ways: [&[&str]; 8] = [
        &[],
        &["-b", "1", "--attach", "multi"],
        &["-b", "1", "--attach", "single-cookie"],
        &["-b", "1", "--attach", "single"],
        &["-b", "1", "--attach", "tracefs"],
        &["-b", "2"],
        &["-b", "2", "--attach", "tracefs"],
        // Processes are looked at in turns.
        &["--untold-mappings"],
    ];
    for flags in ways {
        let mut capture = with_tracefs(Tlscope::json().args(flags)).start(&scene);
        let library = scene.fresh("libssl.so.3");
        fs::copy(SYSTEM_LIBSSL, &library).expect("copy the library");
        let mut peer = Peer::on(&library).set("wait").start(&scene);
        let name = library.display().to_string();
        capture.program().until("the library", |tlscope| {
            tlscope.stderr_so_far().contains(&name).then_some(())
        });
        peer.go();
        let talk = peer.finish();
        talk.assert_captured(&capture.stop().records());
    }
}

/// libbpf learns from sysfs what kind of perf event a uprobe is.
#[test]
fn tracefs_is_picked_where_sysfs_tells_of_no_uprobes() {
    let scene = Scene::new("picks-tracefs");
    let hidden = |tlscope: Tlscope| {
        tlscope.mounting(
            "mount -t tracefs none /sys/kernel/tracing && \
             mount -t tmpfs none /sys/bus/event_source",
        )
    };
    let doctor = hidden(Tlscope::new("doctor")).run(&scene).success().text();
    for words in [
        "attach         tracefs: no perf events of uprobes",
        "single         no: needs",
    ] {
        assert!(doctor.contains(words), "no {words:?} in:\n{doctor}");
    }
    assert_captures_by(&scene, hidden(Tlscope::json().object(2)));
    let capture = hidden(Tlscope::json().object(2)).start(&scene);
    let pid = capture.pid();
    assert_ne!(events_of(pid), [""; 0], "events");
    drop(capture.stop());
    assert_eq!(events_of(pid), [""; 0], "events left behind");
}

/// The uprobe events of a process, by the names that libbpf gives them. Other tlscopes may have some.
#[track_caller]
fn events_of(pid: u32) -> Vec<String> {
    let mut events = tool("unshare", "util-linux");
    events.args(["--mount", "sh", "-c"]);
    events
        .arg("mount -t tracefs none /sys/kernel/tracing && cat /sys/kernel/tracing/uprobe_events");
    let text = String::from_utf8_lossy(&must(&mut events)).into_owned();
    let ours = text
        .lines()
        .filter(|line| line.contains(&format!("libbpf_{pid}_")));
    ours.map(str::to_owned).collect()
}

#[test]
fn every_way_to_sockets_captures_the_same() {
    let scene = Scene::new("socket-ways");
    for flags in [
        ["-b", "1", "--sockets", "tracepoints"],
        ["-b", "1", "--sockets", "syscall"],
        ["-b", "2", "--sockets", "tracepoints"],
    ] {
        assert_captures(&scene, &flags);
    }
    // The noncore object reads kprobes, where the kernel has them.
    let flags = ["-b", "2", "--sockets", "kprobes"];
    let config = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    if config
        .lines()
        .any(|line| line.ends_with(" register_kprobe"))
    {
        assert_captures(&scene, &flags);
    } else {
        let finished = Tlscope::json().args(flags).run(&scene);
        assert_eq!(finished.code(), UNABLE, "{}", finished.stderr);
    }
}

/// At its return alone it would have to fit into one buffer, of which there are several.
#[test]
fn a_write_beyond_the_buffer_is_followed_in_every_way_of_the_core_object() {
    let scene = Scene::new("long-ways");
    for route in ["tracepoints", "syscall"] {
        let tlscope = Tlscope::json().args(["-b", "1", "--sockets", route]);
        let capture = tlscope.with("mapsize", "64M").start(&scene);
        let talk = Peer::default().sizes(64 * MIB, 0).run(&scene);
        let records = capture.stop().records();
        records.assert_lossless();
        talk.assert_captured(&records);
    }
}

/// As before 6.3 on a kernel without kprobes.
#[test]
fn without_a_way_to_sockets_every_byte_comes_and_no_address_is_made_up() {
    let scene = Scene::new("no-sockets");
    let library = scene.path("libssl.so.3");
    fs::copy(SYSTEM_LIBSSL, &library).expect("copy the library");
    let tlscope = Tlscope::json().args(["-b", "2", "--sockets", "none"]);
    let capture = tlscope.with("libssl", library.display()).start(&scene);
    let talk = Peer::on(&library).sizes(20 * KIB, 300 * KIB).run(&scene);
    let records = capture.stop().records();
    records.assert_lossless();
    let captured = records.of(talk.pid).into_iter();
    let mut captured: Vec<_> = captured
        .map(|connection| {
            for carrier in connection.carriers.iter().flatten() {
                assert_eq!(carrier.remote, "unknown", "{carrier:?}");
                assert_eq!(carrier.unknown.as_deref(), Some("kernel"), "{carrier:?}");
            }
            [connection.sent.digest(), connection.received.digest()]
        })
        .collect();
    let sides = talk.sides.iter();
    let mut said: Vec<_> = sides.map(|side| [side.sent(), side.received()]).collect();
    captured.sort();
    said.sort();
    assert_eq!(captured, said);
}

#[test]
fn packets_name_their_process_in_every_way_to_sockets() {
    let scene = Scene::new("owner-ways");
    for (object, route) in [("1", "tracepoints"), ("1", "syscall"), ("2", "tracepoints")] {
        let library = scene.fresh("libssl.so.3");
        fs::copy(SYSTEM_LIBSSL, &library).expect("copy the library");
        let tlscope = Tlscope::pcap("lo").args(["-b", object, "--sockets", route]);
        let tlscope = tlscope.with("libssl", library.display());
        let peer = Peer::on(&library).set("wait").start(&scene);
        let (port, mut peer) = (peer.port, peer);
        let capture = PacketCapture::start_with(tlscope, &scene, &format!("tcp port {port}"));
        peer.go();
        let talk = peer.finish();
        let (file, _) = capture.stop();
        // By then either side has used its socket.
        let data = "tls.app_data and not tls.handshake";
        let named = format!(
            "{data} and frame.comment contains \"pid {} (peer)\"",
            talk.pid
        );
        assert!(file.count(&named) > 0, "-b {object} --sockets {route}");
        assert_eq!(
            file.count(&named),
            file.count(data),
            "-b {object} --sockets {route}"
        );
    }
}

#[test]
fn what_an_object_cannot_do_is_refused_by_name() {
    let scene = Scene::new("refused-fallbacks");
    for (flags, word) in [
        (["-b", "2", "--attach", "session"], "--attach"),
        (["-b", "2", "--sockets", "syscall"], "--sockets"),
        (["-b", "1", "--sockets", "kprobes"], "--sockets"),
        (["-b", "1", "--sockets", "none"], "--sockets"),
    ] {
        let finished = Tlscope::json().args(flags).run(&scene);
        assert_eq!(finished.code(), UNABLE, "{flags:?}: {}", finished.stderr);
        let words = format!("leave out {word}");
        assert!(finished.stderr.contains(&words), "{}", finished.stderr);
    }
}

/// 4.18 looks at no more than 131072 instructions of a program, along all its branches, and it
/// recognises fewer states that it has seen before: so there has to be room.
#[test]
fn the_verifier_has_little_to_do_with_the_noncore_object() {
    const LOOKED_AT_MAX: u64 = 131_072 / 8;
    let scene = Scene::new("verified");
    let capture = Tlscope::new("all").object(2).start(&scene);
    let directory = format!("/proc/{}/fdinfo", capture.pid());
    let looked_at: Vec<u64> = fs::read_dir(directory)
        .expect("a running process")
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let value = text.split_once("verified_insns:")?.1;
            value.split_whitespace().next()?.parse().ok()
        })
        .collect();
    drop(capture.stop());
    assert!(looked_at.len() > 20, "{} programs", looked_at.len());
    let most = looked_at.into_iter().max();
    assert!(most < Some(LOOKED_AT_MAX), "{most:?} instructions");
}
