//! How little privilege a capture takes, and what of it is left once it runs.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tlscope_tests::capture::binary;
use tlscope_tests::certificates::certificates;
use tlscope_tests::keylog::KeyLog;
use tlscope_tests::openssl::{SClient, SServer};
use tlscope_tests::pcap::{PacketCapture, PcapFile};
use tlscope_tests::peer::RunningPeer;
use tlscope_tests::program::{run, tool};
use tlscope_tests::{Capture, Captured, Digest, KIB, Peer, Scene, Tlscope, wait};

const CAP_BPF: u64 = 1 << 39;
const CAP_CHECKPOINT_RESTORE: u64 = 1 << 40;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_SYS_PTRACE: u64 = 1 << 19;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_KILL: u64 = 1 << 5;

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
        // Else root would have it all again with the next program that it runs.
        let for_good = threads.values().all(|t| t.no_new_privs);
        (confined("decode") && confined("events") && kept && for_good).then_some(())
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
        let all = searching | CAP_PERFMON | CAP_CHECKPOINT_RESTORE;
        let kept = |name: &&str| threads.get(*name).is_some_and(|t| t.permitted == all);
        let names = ["targets", "code", "ahead", "behind", "release"];
        names.iter().all(kept).then_some(())
    });
    let talk = Peer::default().sizes(300 * KIB, 300 * KIB).run(&scene);
    talk.assert_captured(&capture.stop().records());
}

/// Nor has the one that sends what they made of it.
#[test]
fn the_thread_that_sends_has_no_privilege() {
    let scene = Scene::new("confined-remote");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let address = format!("tcp://localhost:{port}");
    let capture = Tlscope::text().args(["-o", &address]).start(&scene);
    wait::until("the thread that sends to confine itself", || {
        let threads = threads(capture.pid());
        // To look a name up is left to a thread that is confined when it does.
        let names = threads.get("names")?;
        let is_confined = threads.get("remote") == Some(&NONE);
        (is_confined && names.permitted == 0 && names.no_new_privs).then_some(())
    });
    capture.stop();
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

/// Without `CAP_KILL` root may signal its own processes alone.
#[test]
fn a_command_that_has_become_another_user_is_ended_too() {
    let scene = Scene::new("command-of-another");
    let script = format!(
        "echo $$ >{0}; exec setpriv --reuid=65534 --regid=65534 --clear-groups sleep 60",
        scene.path("pid").display()
    );
    let tlscope = Tlscope::json().with("libssl", tlscope_tests::SYSTEM_LIBSSL);
    let capture = tlscope.running(&["sh", "-c", &script]).start(&scene);
    let pid = wait::until("the command", || {
        let text = fs::read_to_string(scene.path("pid")).ok()?;
        text.trim().parse::<u32>().ok()
    });
    let status = format!("/proc/{pid}/status");
    wait::until("the command to become another user's", || {
        let status = fs::read_to_string(&status).ok()?;
        status.contains("Uid:\t65534\t").then_some(())
    });
    settled(capture.pid(), CAP_BPF | CAP_KILL);
    drop(capture.stop_by(Signal::TERM).success());
    wait::until("the command to end", || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        (status.is_empty() || status.contains("State:\tZ")).then_some(())
    });
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

/// A directory in which another user's captures find what they need.
fn open_scene(name: &str) -> Scene {
    let scene = Scene::new(name);
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(scene.directory(), open).expect("a directory for all");
    scene
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
    started(scene, as_user(scene, capabilities), words)
}

#[track_caller]
fn started(scene: &Scene, mut command: Command, words: &[&str]) -> Capture {
    let ready = scene.fresh("ready");
    command.args(words).arg("--ready-file").arg(&ready);
    Capture::started(scene, command, &ready)
}

/// The same with a /proc of its own.
fn with_proc(options: &str, command: &Command) -> Command {
    let mut mounted = tool("unshare", "util-linux");
    mounted.args(["--mount", "sh", "-c"]);
    mounted.arg(format!(
        "mount -t proc -o {options} proc /proc && exec \"$0\" \"$@\""
    ));
    mounted.arg(command.get_program()).args(command.get_args());
    mounted
}

/// That it is not shown does not mean that it has ended.
#[test]
fn a_process_that_proc_hides_keeps_its_connections() {
    let scene = open_scene("hidden");
    let words = ["tls", "--json", "--libssl", tlscope_tests::SYSTEM_LIBSSL];
    let user = as_user(&scene, ",+bpf,+perfmon");
    let mut capture = started(&scene, with_proc("hidepid=2", &user), &words);
    let mut stays = Talking::start(&scene);
    let pid = stays.client.program().pid();
    stays.say("before\n");
    let mut ends = Talking::start(&scene);
    ends.say("before\n");
    ends.client.program().signal(Signal::KILL);
    // Until then its number is taken.
    wait::until("its end", || ends.client.program().ended());
    capture.program().until("the end of the other", |p| {
        let said = String::from_utf8_lossy(&p.stdout_so_far()).into_owned();
        said.contains("process_exited").then_some(())
    });
    stays.say("behind\n");
    capture
        .program()
        .until("both ends of what came behind", |p| {
            let said = String::from_utf8_lossy(&p.stdout_so_far()).into_owned();
            (said.matches("behind").count() == 2).then_some(())
        });
    let records = capture.stop().records();
    assert_eq!(records.only(pid).sent.bytes, b"before\nbehind\n");
}

/// A client that says what it is told to, and its server.
struct Talking {
    client: SClient,
    server: SServer,
}

impl Talking {
    #[track_caller]
    fn start(scene: &Scene) -> Self {
        let server = SServer::start(scene, &certificates().ecdsa, &["-quiet"]);
        let client = SClient::start(scene, server.port, None, &["-quiet"]);
        Self { client, server }
    }

    /// And the server hears it.
    #[track_caller]
    fn say(&mut self, line: &str) {
        self.client.program().say(line.as_bytes());
        self.server.program.until(line, |p| {
            p.stdout_so_far().ends_with(line.as_bytes()).then_some(())
        });
    }
}

/// A library that is named, in a place that is not for everybody.
#[test]
fn a_library_that_may_not_be_read_is_a_privilege_that_is_missing() {
    let scene = open_scene("unreadable");
    let closed = scene.path("closed");
    fs::create_dir(&closed).expect("a directory");
    let [inside, beside] = [closed.join("libssl.so.3"), scene.path("libssl.so.3")];
    for (library, mode) in [(&inside, 0o644), (&beside, 0o600)] {
        fs::copy(tlscope_tests::SYSTEM_LIBSSL, library).expect("copy the library");
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(library, mode).expect("its mode");
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("its mode");
    for library in [inside, beside] {
        let mut command = as_user(&scene, ",+bpf,+perfmon");
        command.args(["tls", "--libssl"]).arg(&library);
        let finished = run(&scene, "tlscope", command);
        assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
        let words = format!(
            "{}: Permission denied (os error 13); reading it takes CAP_DAC_READ_SEARCH",
            library.display()
        );
        assert!(finished.stderr.contains(&words), "{}", finished.stderr);
    }
}

const NAMED: [&str; 3] = ["tls", "--libssl", tlscope_tests::SYSTEM_LIBSSL];

#[test]
fn two_capabilities_capture_text_and_keys() {
    let scene = open_scene("capabilities");
    let text = [&NAMED[..], &["--json"]].concat();
    let capture = start_as_user(&scene, ",+bpf,+perfmon", &text);
    settled(capture.pid(), CAP_BPF);
    let talk = Peer::default().run(&scene);
    talk.assert_captured(&capture.stop().records());

    let keys = [&NAMED[..], &["-m", "keylog", "-k", "-"]].concat();
    let capture = start_as_user(&scene, ",+bpf,+perfmon", &keys);
    let peers = ["1.2", "1.3"].map(|tls| Peer::default().with("tls", tls).keylogs(&scene));
    let logs = peers.iter().map(|peer| {
        peer.run(&scene);
        peer.logged()
    });
    let truth = logs.fold(KeyLog::default(), |all, log| all.union(&log));
    let captured = capture.stop().keylog();
    captured.of_connections_in(&truth).assert_is(&truth);

    let mut command = as_user(&scene, ",+perfmon");
    command.args(text);
    let finished = run(&scene, "tlscope", command);
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
    assert!(finished.stderr.contains("CAP_BPF"), "{}", finished.stderr);
}

#[test]
fn a_third_capability_captures_packets() {
    let scene = open_scene("capabilities-pcap");
    let file = scene.path("capture.pcapng");
    let mut peer = Peer::default().set("wait").start(&scene);
    let filter = format!("tcp port {}", peer.port);
    let path = file.to_str().expect("UTF-8");
    let words = [&NAMED[..], &["-m", "pcap", "-i", "lo", "-w", path, &filter]].concat();
    let capture = start_as_user(&scene, ",+bpf,+perfmon,+net_raw", &words);
    settled(capture.pid(), CAP_BPF);
    peer.go();
    let talk = peer.finish();
    drop(capture.stop());
    let file = PcapFile::at(&file);
    let side = talk.of("client").next().expect("a client");
    let [(stream, client)] = &file.connections()[..] else {
        panic!("not one connection: {:?}", file.connections());
    };
    assert_eq!(*client, side.local);
    let texts = file.plaintext(*stream, client);
    let texts = texts.map(|text| Digest::of(&text));
    assert_eq!(texts, [side.sent(), side.received()]);

    let mut command = as_user(&scene, ",+bpf,+perfmon");
    command.args(words);
    let finished = run(&scene, "tlscope", command);
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
    let lacking = finished.stderr.contains("CAP_NET_RAW");
    assert!(lacking, "{}", finished.stderr);
}

/// Of other users, with a library that is theirs alone, and with one that has no name any more.
#[test]
fn a_search_finds_with_its_capabilities_what_root_finds() {
    let scene = open_scene("capabilities-search");
    let [closed, gone] = ["closed/libssl.so.3", "gone/libssl.so.3"].map(|name| scene.path(name));
    for library in [&closed, &gone] {
        fs::create_dir(library.parent().expect("a directory")).expect("a directory");
        fs::copy(tlscope_tests::SYSTEM_LIBSSL, library).expect("copy the library");
    }
    let closed_mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&closed, closed_mode).expect("its mode");
    let mut peers = [&closed, &gone].map(|path| Peer::on(path).set("wait").start(&scene));
    fs::remove_file(&gone).expect("remove a library");
    let all = ",+bpf,+perfmon,+sys_ptrace,+dac_read_search,+checkpoint_restore";
    let capture = start_as_user(&scene, all, &["tls", "--json"]);
    settled(
        capture.pid(),
        CAP_BPF | CAP_SYS_PTRACE | CAP_DAC_READ_SEARCH,
    );
    peers.iter_mut().for_each(RunningPeer::go);
    let talks = peers.map(RunningPeer::finish);
    let captured = capture.stop();
    let records = captured.records();
    for talk in &talks {
        talk.assert_captured(&records);
    }
}

/// On Linux 6.18 `CAP_PERFMON` reads maps of others, unless /proc keeps them to their users.
#[test]
fn processes_that_may_not_be_looked_into_are_counted() {
    let scene = open_scene("unreadable-processes");
    let told = |capabilities: &str| {
        let user = as_user(&scene, capabilities);
        let capture = started(&scene, with_proc("hidepid=1", &user), &["tls", "--json"]);
        unreadable(&capture.stop())
    };
    // There may be some that nobody may look into. Our own process is root's.
    let [few, many] = [",+bpf,+perfmon,+sys_ptrace", ",+bpf,+perfmon"].map(told);
    assert!(many > few, "{many} without CAP_SYS_PTRACE, {few} with it");
}

/// How many processes tlscope said that it may not look into.
fn unreadable(captured: &Captured) -> u32 {
    let said = &captured.finished.stderr;
    let before = said.split_once(" of the processes may not be looked into");
    let number = before.and_then(|(before, _)| before.rsplit(' ').next());
    number.map_or(0, |number| number.parse().expect("a number"))
}
