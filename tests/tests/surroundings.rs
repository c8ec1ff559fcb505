//! What a machine may hide or forbid: BTF, sysfs, tracefs, writing. tlscope works all the same, or
//! says what it lacks.

use std::fs;
use std::path::PathBuf;

use tlscope_tests::capture::tlscope_of_nobody;
use tlscope_tests::program::run;
use tlscope_tests::{KIB, Peer, SYSTEM_LIBSSL, Scene, Tlscope};

const FAILED: Option<i32> = Some(1);
const UNABLE: Option<i32> = Some(3);

/// A library of the scene alone, which no other program uses.
fn library(scene: &Scene) -> PathBuf {
    let library = scene.fresh("libssl.so.3");
    fs::copy(SYSTEM_LIBSSL, &library).expect("copy the library");
    library
}

/// Every byte, where this was mounted; what tlscope said on the way.
#[track_caller]
fn assert_captures(scene: &Scene, mounts: &str) -> String {
    let library = library(scene);
    let tlscope = Tlscope::json().with("libssl", library.display());
    let capture = tlscope.mounting(mounts).start(scene);
    let talk = Peer::on(&library).sizes(20 * KIB, 100 * KIB).run(scene);
    let captured = capture.stop();
    talk.assert_captured(&captured.records());
    captured.finished.stderr
}

#[track_caller]
fn assert_refused(scene: &Scene, tlscope: Tlscope, code: Option<i32>, words: &[&str]) {
    let finished = tlscope.run(scene);
    assert_eq!(finished.code(), code, "{}", finished.stderr);
    for word in words {
        assert!(finished.stderr.contains(word), "{}", finished.stderr);
    }
}

#[test]
fn without_btf_the_noncore_object_is_picked() {
    let scene = Scene::new("no-btf");
    let hidden = "mount -t tmpfs none /sys/kernel/btf";
    let said = assert_captures(&scene, hidden);
    assert!(said.contains("noncore object"), "{said}");
    for flag in ["-b1", "--follow"] {
        let tlscope = Tlscope::json().args([flag, "--pid", "1"]).mounting(hidden);
        let words = ["needs BTF (/sys/kernel/btf/vmlinux)", "use -b 0 or -b 2"];
        assert_refused(&scene, tlscope, UNABLE, &words);
    }
    let doctor = Tlscope::new("doctor").mounting(hidden).run(&scene);
    let doctor = doctor.success().text();
    for words in [
        "loads          no: the core object needs BTF",
        "noncore object (-b 2, picked by -b 0)",
    ] {
        assert!(doctor.contains(words), "no {words:?} in:\n{doctor}");
    }
}

#[test]
fn tracefs_is_not_needed() {
    let scene = Scene::new("no-tracefs");
    assert_captures(&scene, "mount -t tmpfs none /sys/kernel/tracing");
}

/// Shells allow 1024; each probe takes one.
#[test]
fn few_open_files_are_no_limit_and_stay_one_for_the_command() {
    let scene = Scene::new("few-files");
    let few = "ulimit -Sn 32";
    assert_captures(&scene, few);
    let tlscope = Tlscope::text().with("libssl", SYSTEM_LIBSSL).mounting(few);
    let command = tlscope.running(&["sh", "-c", "ulimit -Sn"]);
    let captured = command.start(&scene).end().success();
    assert_eq!(captured.finished.text(), "32\n");
}

#[test]
fn without_sysfs_it_is_told_to_mount_it() {
    let scene = Scene::new("no-sysfs");
    let hidden = "umount -l /sys";
    let tlscope = Tlscope::json().mounting(hidden);
    assert_refused(&scene, tlscope, UNABLE, &["mount sysfs at /sys"]);
    let doctor = Tlscope::new("doctor").mounting(hidden).run(&scene);
    assert_eq!(doctor.code(), UNABLE, "{}", doctor.stderr);
    assert!(doctor.text().contains("mount sysfs at /sys"));
}

#[test]
fn a_read_only_root_takes_nothing_but_files_that_were_asked_for() {
    let scene = Scene::new("read-only");
    // The scene's own directory stays writable: for the file that tells the test of readiness.
    let place = scene.directory().display();
    let read_only =
        format!("mount --bind {place} {place} && mount -o remount,bind,ro / && cd /usr");
    assert_captures(&scene, &read_only);
    for (flags, name) in [
        (&["-m", "keylog"][..], "tlscope_tls_keylog.log"),
        (&["-m", "pcap", "-i", "lo"], "tlscope_tls.pcapng"),
    ] {
        let tlscope = Tlscope::text().args(flags).mounting(&read_only);
        let words = [name, "Read-only file system", "choose the place"];
        assert_refused(&scene, tlscope, FAILED, &words);
    }
}

/// A setting of the machine; as it was when dropped.
struct Setting {
    path: &'static str,
    was: String,
}

impl Setting {
    fn change(path: &'static str, value: &str) -> Option<Self> {
        let was = fs::read_to_string(path).expect("a setting");
        fs::write(path, value).ok()?;
        Some(Self { path, was })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(self.path, &self.was);
    }
}

/// Tracing programs are never for users without capabilities, whatever this says.
#[test]
fn unprivileged_bpf_makes_no_difference() {
    const DISABLED: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";
    let scene = Scene::new("unprivileged");
    for value in ["0", "2"] {
        // Once it is 1, it stays.
        let _setting = Setting::change(DISABLED, value);
        assert_captures(&scene, "true");
        let mut command = tlscope_of_nobody(&scene);
        command.args(["tls", "--libssl", SYSTEM_LIBSSL]);
        let finished = run(&scene, "tlscope", command);
        assert_eq!(finished.code(), UNABLE, "{}", finished.stderr);
        assert!(finished.stderr.contains("CAP_BPF"), "{}", finished.stderr);
    }
}
