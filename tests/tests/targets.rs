//! Programs and libraries that come, go and hide: found without being named.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use tlscope_tests::jail::Memory;
use tlscope_tests::peer::compiled;
use tlscope_tests::python::{PythonServer, Script, client};
use tlscope_tests::{Peer, SYSTEM_LIBSSL, Scene, Tlscope, wait};

/// A copy of the system's library: another inode, so another image.
fn copy(scene: &Scene, name: &str) -> PathBuf {
    let path = scene.path(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("its directory");
    fs::copy(SYSTEM_LIBSSL, &path).expect("copy the library");
    path
}

#[test]
fn a_program_that_comes_later_with_a_library_of_its_own_is_captured_whole() {
    let scene = Scene::new("later");
    let library = copy(&scene, "lib/libssl.so.3");
    let script = Script {
        up: 1000,
        down: 2000,
        library_path: library.parent().map(Path::to_owned),
        ..Script::default()
    };
    let capture = Tlscope::json().start(&scene);
    let server = PythonServer::start(&scene, &script);
    let clients = client(&scene, server.port, &script);
    let servers = server.finish();
    let records = capture.stop().records();
    for side in clients.iter().chain(&servers) {
        let ours = records.only(side.pid);
        assert_eq!(ours.sent.digest(), side.sent());
        assert_eq!(ours.received.digest(), side.received());
    }
}

/// As a package upgrade does it: the new file takes the name of the old one.
#[test]
fn a_library_that_is_replaced_is_probed_anew_and_the_old_one_stays() {
    let scene = Scene::new("replaced");
    let library = copy(&scene, "libssl.so.3");
    let mut before = Peer::on(&library).set("wait").start(&scene);
    let mut capture = Tlscope::json().start(&scene);
    fs::remove_file(&library).expect("remove the old one");
    copy(&scene, "libssl.so.3");
    let mut after = Peer::on(&library).set("wait").start(&scene);
    let name = library.display().to_string();
    capture.program().until("the new library", |p| {
        (p.stderr_so_far().matches(&name).count() >= 2).then_some(())
    });
    before.go();
    after.go();
    let talks = [before.finish(), after.finish()];
    let records = capture.stop().records();
    for talk in &talks {
        talk.assert_captured(&records);
    }
}

/// A probe keeps a file on the disk. A deleted one that nobody maps is let go, and another file may
/// have its number then: it is met anew.
#[test]
fn a_deleted_library_that_nobody_uses_is_let_go() {
    let scene = Scene::new("let-go");
    let mut capture = Tlscope::json().start(&scene);
    let tlscope = capture.pid();
    let mut talks = Vec::new();
    for round in 0..3 {
        let library = copy(&scene, "libssl.so.3");
        let name = library.display().to_string();
        let mut peer = Peer::on(&library).set("wait").start(&scene);
        capture.program().until("the library", |p| {
            (p.stderr_so_far().matches(&name).count() > round).then_some(())
        });
        assert_ne!(held(tlscope, &name), 0, "as long as it is in use");
        peer.go();
        talks.push(peer.finish());
        fs::remove_file(&library).expect("remove it");
        wait::until("the file to be let go", || {
            (held(tlscope, &name) == 0).then_some(())
        });
    }
    let records = capture.stop().records();
    for talk in &talks {
        talk.assert_captured(&records);
    }
}

/// Descriptors of a process that hold a file of this name.
fn held(pid: u32, name: &str) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let links = descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with(name))
        .count()
}

/// Nothing but the mapping leads to the file: `/proc/PID/map_files`.
#[test]
fn a_library_that_was_deleted_while_in_use_is_captured() {
    let scene = Scene::new("deleted");
    let library = copy(&scene, "libssl.so.3");
    let mut peer = Peer::on(&library).set("wait").start(&scene);
    fs::remove_file(&library).expect("remove it");
    let capture = Tlscope::json().pid(peer.pid).start(&scene);
    peer.go();
    let talk = peer.finish();
    let captured = capture.stop();
    talk.assert_captured(&captured.records());
    let stderr = &captured.finished.stderr;
    let shown = format!("{}: OpenSSL", library.display());
    assert!(stderr.contains(&shown), "{stderr}");
}

/// Two containers of one image: an overlay each over one lower directory, seen in a mount
/// namespace of its own. A probe sits on the lower file, so the second is not to be probed again.
#[test]
fn programs_in_containers_on_overlays_are_captured_once() {
    const ENTER: &str = "mkdir -p $0/$1/up $0/$1/work $0/$1/root && \
        mount -t overlay overlay -o lowerdir=$0/lower,upperdir=$0/$1/up,workdir=$0/$1/work $0/$1/root && \
        ip link set lo up && shift && exec \"$@\"";
    let scene = Scene::new("overlay");
    let base = Memory::mount(scene.path("base"));
    copy(&scene, "base/lower/libssl.so.3");
    let mut capture = Tlscope::json().start(&scene);
    let mut talks = Vec::new();
    for name in ["one", "two"] {
        let library = base.0.join(name).join("root/libssl.so.3");
        let words = ["unshare", "--mount", "--net", "sh", "-c", ENTER].map(OsString::from);
        let own = [base.0.clone().into(), name.into(), compiled().into()];
        let peer = Peer::on(&library).launched_by(words.into_iter().chain(own));
        let mut peer = peer.set("wait").start(&scene);
        assert!(
            !library.exists(),
            "it is in the namespace of the peer alone"
        );
        capture.program().until("the container's library", |p| {
            p.stderr_so_far().contains("root/libssl.so.3").then_some(())
        });
        peer.go();
        talks.push(peer.finish());
    }
    let captured = capture.stop();
    let shown = captured
        .finished
        .stderr
        .matches("root/libssl.so.3: OpenSSL");
    assert_eq!(
        shown.count(),
        1,
        "probed once: {}",
        captured.finished.stderr
    );
    let records = captured.records();
    for talk in &talks {
        talk.assert_captured(&records);
    }
}

/// What the user says of the library decides nothing: the plan is made from its code.
#[test]
fn a_claim_that_does_not_fit_is_contradicted_and_not_followed() {
    let scene = Scene::new("claims");
    let wrong: [&[&str]; 4] = [
        &["--android", "--androidver", "13"],
        &["--ssl-version", "openssl 1.1.1"],
        &["--ssl-version", "openssl_3_5"],
        &["--ssl-version", "boringssl"],
    ];
    let fitting: [&[&str]; 1] = [&["--ssl-version", "openssl 3.0.x"]];
    for (claim, is_wrong) in wrong
        .map(|c| (c, true))
        .into_iter()
        .chain(fitting.map(|c| (c, false)))
    {
        let tlscope = Tlscope::json().with("libssl", SYSTEM_LIBSSL).args(claim);
        let capture = tlscope.start(&scene);
        let talk = Peer::default().run(&scene);
        let captured = capture.stop();
        let said = &captured.finished.stderr;
        assert_eq!(said.contains("does not fit"), is_wrong, "{claim:?}: {said}");
        if is_wrong {
            // Which flag, and what the image is: shared, so its version is that of libcrypto.
            assert!(said.contains(claim[0]), "{claim:?}: {said}");
            assert!(
                said.contains("the image holds OpenSSL 3.0."),
                "{claim:?}: {said}"
            );
        }
        talk.assert_captured(&captured.records());
    }
    for refused in [
        &["--androidver", "13"][..],
        &["--android", "--androidver", "11"],
        &["--ssl-version", "wolfssl"],
        &["--ssl-version", "openssl foobar"],
    ] {
        let finished = Tlscope::json().args(refused).run(&scene);
        assert_eq!(finished.code(), Some(2), "{refused:?}: {}", finished.stderr);
    }
}

/// Libssl alone does not tell its version: that is in the libcrypto beside it.
#[test]
fn a_claim_that_cannot_be_checked_is_said_to_be_unchecked() {
    let scene = Scene::new("unchecked");
    let library = copy(&scene, "alone/libssl.so.3");
    let tlscope = Tlscope::json()
        .with("libssl", library.display())
        .args(["--ssl-version", "openssl_3_5"]);
    let capture = tlscope.start(&scene);
    let talk = Peer::on(&library).run(&scene);
    let captured = capture.stop();
    let said = &captured.finished.stderr;
    assert!(
        said.contains(
            "--ssl-version \"openssl_3_5\" could not be checked: the image holds OpenSSL"
        ),
        "{said}"
    );
    talk.assert_captured(&captured.records());
}
