//! How little privilege a capture takes, and what of it is left once it runs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tlscope_tests::capture::binary;
use tlscope_tests::pcap::PacketCapture;
use tlscope_tests::program::{run, tool};
use tlscope_tests::{Capture, KIB, Peer, Scene, Tlscope, wait};

const CAP_BPF: u64 = 1 << 39;
const CAP_CHECKPOINT_RESTORE: u64 = 1 << 40;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_SYS_PTRACE: u64 = 1 << 19;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
const CAP_DAC_OVERRIDE: u64 = 1 << 1;

/// The kernel cuts names of programs to this.
const COMM_MAX: usize = 15;

/// One thread, by /proc.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Privileges {
    effective: u64,
    permitted: u64,
    no_new_privs: bool,
    seccomp: bool,
}

const NONE: Privileges = Privileges {
    effective: 0,
    permitted: 0,
    no_new_privs: true,
    seccomp: true,
};

/// The threads of a process by name. The first has the process's.
fn threads(pid: u32) -> BTreeMap<String, Privileges> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    tasks
        .flatten()
        .filter_map(|task| thread(&task.path()))
        .collect()
}

fn thread(task: &Path) -> Option<(String, Privileges)> {
    let status = fs::read_to_string(task.join("status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_start_matches(':').trim().to_owned())
    };
    let set = |name: &str| u64::from_str_radix(&field(name)?, 16).ok();
    let privileges = Privileges {
        effective: set("CapEff")?,
        permitted: set("CapPrm")?,
        no_new_privs: field("NoNewPrivs")? == "1",
        seccomp: field("Seccomp")? == "2",
    };
    Some((field("Name")?, privileges))
}

/// Once every thread has confined itself.
#[track_caller]
fn settled(pid: u32, main: u64) {
    let program = binary();
    let program = program.file_name().expect("a name").to_string_lossy();
    let program: String = program.chars().take(COMM_MAX).collect();
    wait::until("threads to confine themselves", || {
        let threads = threads(pid);
        let confined = |name: &str| threads.get(name).is_some_and(|t| *t == NONE);
        let kept = threads.get(&program).is_some_and(|t| t.permitted == main);
        (confined("decode") && confined("events") && kept).then_some(())
    });
}

#[test]
fn threads_that_handle_data_have_no_privilege() {
    let scene = Scene::new("confined");
    let capture = Tlscope::json().start(&scene);
    let searching = CAP_BPF | CAP_SYS_PTRACE | CAP_DAC_READ_SEARCH;
    settled(capture.pid(), searching);
    wait::until("threads that attach to keep what that takes", || {
        let threads = threads(capture.pid());
        let kept = |name: &&str| {
            threads[*name].permitted == searching | CAP_PERFMON | CAP_CHECKPOINT_RESTORE
        };
        ["targets", "code"].iter().all(kept).then_some(())
    });
    let talk = Peer::default().sizes(300 * KIB, 300 * KIB).run(&scene);
    talk.assert_captured(&capture.stop().records());
}

#[test]
fn a_named_library_leaves_the_right_to_read_maps_alone() {
    let scene = Scene::new("confined-named");
    for object in [1, 2] {
        let library = scene.path(&format!("libssl-{object}.so.3"));
        fs::copy(tlscope_tests::SYSTEM_LIBSSL, &library).expect("copy the library");
        let tlscope = Tlscope::json().object(object);
        let capture = tlscope.with("libssl", library.display()).start(&scene);
        settled(capture.pid(), CAP_BPF);
        let talk = Peer::on(&library).run(&scene);
        talk.assert_captured(&capture.stop().records());
    }
}

#[test]
fn packets_in_turn_leave_the_right_to_create_files() {
    let scene = Scene::new("confined-pcap");
    let tlscope = Tlscope::pcap("lo").args(["-G", "3600", "-C", "1"]);
    let mut capture = PacketCapture::start_with(tlscope, &scene, "tcp");
    let pid = capture.running().pid();
    wait::until("the thread that writes to confine itself", || {
        let threads = threads(pid);
        let decode = threads.get("decode")?;
        (decode.seccomp && decode.permitted == CAP_DAC_OVERRIDE).then_some(())
    });
    // More than a million bytes: the next file is begun by a confined thread.
    Peer::default().sizes(1024 * KIB, 1024 * KIB).run(&scene);
    let (first, _) = capture.stop();
    let next = format!("{}1", first.path().display());
    assert!(Path::new(&next).exists(), "no {next}");
}

/// A user with these capabilities and no others: a copy of tlscope that it may run.
fn as_user(scene: &Scene, capabilities: &str) -> Command {
    let copy = scene.fresh("tlscope");
    fs::copy(binary(), &copy).expect("a copy that everybody may run");
    let mut setpriv = tool("setpriv", "util-linux");
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        setpriv.arg(format!("{set}=-all{capabilities}"));
    }
    setpriv.arg(copy);
    setpriv
}

#[track_caller]
fn start_as_user(scene: &Scene, capabilities: &str, words: &[&str]) -> Capture {
    let ready = scene.fresh("ready");
    let mut command = as_user(scene, capabilities);
    command.args(words).arg("--ready-file").arg(&ready);
    Capture::started(scene, command, &ready)
}

#[test]
fn two_capabilities_capture_text_and_keys() {
    let scene = Scene::new("capabilities");
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(scene.directory(), open).expect("a directory for all");
    let words = ["tls", "--json", "--libssl", tlscope_tests::SYSTEM_LIBSSL];
    let capture = start_as_user(&scene, ",+bpf,+perfmon", &words);
    settled(capture.pid(), CAP_BPF);
    let talk = Peer::default().run(&scene);
    talk.assert_captured(&capture.stop().records());

    let mut command = as_user(&scene, ",+perfmon");
    command.args(words);
    let finished = run(&scene, "tlscope", command);
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
    assert!(finished.stderr.contains("CAP_BPF"), "{}", finished.stderr);
}
