//! Programs that bear no meddling: locked up, privileged, static, huge. All go on as without
//! tlscope, and are captured.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use tlscope_tests::certificates::certificates;
use tlscope_tests::peer::compiled;
use tlscope_tests::program::tool;
use tlscope_tests::{Finished, KIB, MIB, Peer, Program, SYSTEM_LIBSSL, Scene, Tlscope, fixtures};

const DYNAMIC: &[&str] = &["-lssl", "-lcrypto"];
const STATIC: &[&str] = &["-static", "-lssl", "-lcrypto"];
const STRIPPED: &[&str] = &["-static", "-s", "-lssl", "-lcrypto"];

const MESSAGES: usize = 40;

/// `fixtures/confined.c`: both ends of a connection, which has begun.
struct Confined(Program);

impl Confined {
    #[track_caller]
    fn start(scene: &Scene, program: &Path, how: &str) -> Self {
        let pair = &certificates().ecdsa;
        let mut command = Command::new(program);
        command.arg(&pair.cert).arg(&pair.key);
        command.args([how, &MESSAGES.to_string()]);
        command.stdin(Stdio::piped());
        let mut program = Program::start(scene, "confined", command);
        program.until("the program to be ready", |p| {
            p.stdout_so_far().starts_with(b"ready\n").then_some(())
        });
        Self(program)
    }

    /// From here on it is locked up.
    #[track_caller]
    fn talk(mut self) -> Finished {
        self.0.say(b"\n");
        self.0.finish()
    }
}

fn confined() -> PathBuf {
    fixtures::compile("confined", &[], DYNAMIC)
}

/// What one end sends: every other message, each in 64 bytes.
fn said(first: usize) -> String {
    let padded = |number| format!("{:\0<64}", format!("message {number}"));
    (first..MESSAGES).step_by(2).map(padded).collect()
}

/// Lets the program talk while it is captured: all its messages, and it ends well.
#[track_caller]
fn assert_captured(scene: &Scene, program: &Path, how: &str, flags: &[&str]) {
    let running = Confined::start(scene, program, how);
    let pid = running.0.pid();
    let capture = Tlscope::json().args(flags).pid(pid).start(scene);
    let text = running.talk().success().text();
    assert_eq!(text, format!("ready\n{MESSAGES}\n"), "{how}");
    let records = capture.stop().records();
    records.assert_lossless();
    let ends = records.of(pid).into_iter();
    let mut ends: Vec<_> = ends
        .map(|end| [&end.sent, &end.received].map(|way| text_of(&way.bytes)))
        .collect();
    ends.sort();
    let [client, server] = [said(0), said(1)];
    assert_eq!(ends, [[client.clone(), server.clone()], [server, client]]);
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// From 6.11 to the fix in 6.14, 6.13 and 6.12, a function with a return probe returned through
/// a system call that the program's own filter then judged.
#[test]
fn programs_that_lock_themselves_up_live_on_and_are_captured_whole() {
    let scene = Scene::new("locked-up");
    let program = confined();
    let end = Confined::start(&scene, &program, "breach").talk();
    assert_eq!(
        end.killed_by(),
        Some(Signal::SYS.as_raw()),
        "the filter kills"
    );
    for how in ["filter", "strict"] {
        for flags in [
            &["-b", "1"][..],
            &["-b", "1", "--attach", "multi"],
            &["-b", "1", "--attach", "single"],
            &["-b", "2"],
        ] {
            assert_captured(&scene, &program, how, flags);
        }
    }
}

/// What such a kernel is to be spared, where one that does no harm is told to be one.
#[test]
fn where_return_probes_kill_only_a_process_without_a_filter_is_probed() {
    const UNABLE: Option<i32> = Some(3);
    let scene = Scene::new("filtered-returns");
    let flags = |more: &[&'static str]| [&["--filtered-returns"], more].concat();
    let running = Confined::start(&scene, &confined(), "free");
    let pid = running.0.pid();
    for (pid, flags) in [
        (0, flags(&[])),
        (0, flags(&["--attach", "multi"])),
        (pid, flags(&["-b", "1", "--attach", "single-cookie"])),
        (pid, flags(&["-b", "2"])),
    ] {
        let finished = Tlscope::json().args(&flags).pid(pid).run(&scene);
        let said = &finished.stderr;
        assert_eq!(finished.code(), UNABLE, "{pid} {flags:?}: {said}");
        assert!(said.contains("would kill programs"), "{said}");
    }
    drop(running.talk().success());
    for mode in ["session", "multi"] {
        assert_captured(&scene, &confined(), "free", &flags(&["--attach", mode]));
    }
    let confined = Confined::start(&scene, &confined(), "locked");
    let tlscope = Tlscope::json().args(flags(&[])).pid(confined.0.pid());
    let finished = tlscope.run(&scene);
    assert_eq!(finished.code(), UNABLE, "{}", finished.stderr);
    drop(confined.talk().success());
    // Keys of OpenSSL take no return probe.
    let keys = Tlscope::keylog().args(flags(&[]));
    drop(keys.start(&scene).stop());
}

#[test]
fn a_setuid_program_of_another_user_is_captured() {
    let scene = Scene::new("setuid");
    let program = scene.path("peer");
    fs::copy(compiled(), &program).expect("a copy of the peer");
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).expect("make it setuid");
    let mut nobody = tool("setpriv", "util-linux");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let words = [nobody.get_program()].into_iter().chain(nobody.get_args());
    let words = words.map(Into::into).chain([program.into()]);
    let peer = Peer::default().launched_by(words).sizes(20 * KIB, MIB);
    let mut peer = peer.set("wait").start(&scene);
    let status = fs::read_to_string(format!("/proc/{}/status", peer.pid)).expect("its status");
    assert!(status.contains("Uid:\t65534\t0\t0\t0\n"), "{status}");
    let capture = Tlscope::json().pid(peer.pid).start(&scene);
    peer.go();
    peer.finish().assert_captured(&capture.stop().records());
}

/// They map no library: their own code is searched.
#[test]
fn static_programs_with_and_without_symbols_are_captured() {
    let scene = Scene::new("static");
    for (name, arguments) in [("confined-static", STATIC), ("confined-stripped", STRIPPED)] {
        let program = fixtures::compile_as(name, "confined", &[], arguments);
        assert_captured(&scene, &program, "strict", &[]);
    }
}

/// It is read whole once, and given back: what stays is small.
#[test]
fn a_program_of_300_mib_is_captured_in_bounded_time_and_memory() {
    const TIMES: usize = 34;
    let scene = Scene::new("huge");
    let filler = Path::new(SYSTEM_LIBSSL).with_file_name("libcrypto.so.3");
    let filler = format!("-DFILLER=\"{}\"", filler.display());
    let times = format!("-DTIMES=\"{TIMES}\"");
    let arguments = [&[&*filler, &*times], STATIC].concat();
    let program = fixtures::compile_as("confined-huge", "confined", &[], &arguments);
    let size = fs::metadata(&program).expect("the program").len();
    let program = moved(&scene, &program);
    assert!(size > 300 * MIB as u64, "{size} bytes");
    let began = Instant::now();
    let running = Confined::start(&scene, &program, "strict");
    let pid = running.0.pid();
    let capture = Tlscope::json().arg("--no-cache").pid(pid).start(&scene);
    let took = began.elapsed();
    let [most, now] = ["VmHWM", "VmRSS"].map(|name| kib(capture.pid(), name) / 1024);
    println!("{size} bytes: ready in {took:?}, {most} MiB at most, {now} MiB then");
    drop(running.talk().success());
    assert_eq!(capture.stop().records().of(pid).len(), 2);
    assert!(most < 3 * size / MIB as u64, "{most} MiB");
    assert!(now < 128, "{now} MiB stay");
}

/// Away with the scene: nobody is to keep 300 MiB.
fn moved(scene: &Scene, program: &Path) -> PathBuf {
    let to = scene.path("huge");
    fs::copy(program, &to)
        .and_then(|_| fs::remove_file(program))
        .expect("move the program");
    to
}

fn kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim_start_matches(':').trim().strip_suffix(" kB"));
    number.expect(name).parse().expect("a number")
}
