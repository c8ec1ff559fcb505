//! What runs inside a machine: real captures, compared with what the peers logged.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::subjects::{self, Sizes, Subject};
use super::transcript::Line;
use crate::keylog::KeyLog;
use crate::pcap::PacketCapture;
use crate::program::Finished;
use crate::{KIB, Scene, Tlscope};

/// Just more than a TLS record, and several chunks.
const OF_TEXT: Sizes = [16 * KIB + 1, 300 * KIB];
/// What leaves the machine goes over a serial line.
const OF_PACKETS: Sizes = [100, 16 * KIB + 1];
const OF_KEYS: Sizes = [1, 100];
/// The modes of a capture, each with what compares it with the peers' own account.
const MODELS: [(&str, Compare); 3] = [("text", text), ("keylog", keylog), ("pcap", pcap)];
const ATTACH: [&str; 5] = ["session", "multi", "single-cookie", "single", "tracefs"];

const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

type Compare = fn(&Scene, &Subject, &Forced);

/// What is forced, by flags; whether this kernel has it.
#[derive(Debug, Clone)]
struct Forced {
    name: String,
    flags: Vec<String>,
    there: bool,
}

impl Forced {
    fn new(name: &str, flags: &[&str], there: bool) -> Self {
        Self {
            name: name.to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            there,
        }
    }

    fn on(&self, tlscope: Tlscope) -> Tlscope {
        tlscope.args(&self.flags)
    }
}

/// Runs every case and tells how each went; true when all went well.
pub fn run() -> bool {
    let subjects = subjects::all();
    let nothing = Forced::new("auto", &[], true);
    let noncore = Forced::new("noncore", &["-b", "2"], true);
    let mut well = case("doctor", doctor);
    for forced in [&nothing, &noncore] {
        for subject in &subjects {
            for (mode, compare) in MODELS {
                let name = format!("{}:{}:{mode}", forced.name, subject.module);
                well &= case(&name, |scene| compare(scene, subject, forced));
            }
        }
    }
    for forced in fallbacks() {
        let name = format!("{}:tls:text", forced.name);
        let compare = if forced.there { text } else { refused };
        well &= case(&name, |scene| compare(scene, &subjects[0], &forced));
    }
    // Last, for there is no way back.
    for (state, compare) in [
        ("integrity", text as Compare),
        ("confidentiality", told_of_lockdown),
    ] {
        well &= case(&format!("lockdown-{state}:tls"), |scene| {
            fs::write(LOCKDOWN, state).expect("a kernel that can be locked down");
            compare(scene, &subjects[0], &nothing);
        });
    }
    well
}

/// Each way that could be taken instead of the best, and some that are not there.
fn fallbacks() -> Vec<Forced> {
    let attach = argument("tlscope.attach");
    let sockets = argument("tlscope.sockets");
    let noncore = argument("tlscope.noncore_sockets");
    let there = |all: &[String], name: &str| all.iter().any(|one| one == name);
    let modes = ATTACH.iter().map(|mode| {
        let flags = ["-b", "1", "--attach", mode];
        Forced::new(&format!("attach-{mode}"), &flags, there(&attach, mode))
    });
    let core = ["tracepoints", "syscall"].map(|route| {
        let flags = ["-b", "1", "--sockets", route];
        Forced::new(&format!("sockets-{route}"), &flags, there(&sockets, route))
    });
    let noncore = ["tracepoints", "kprobes"].map(|route| {
        let flags = ["-b", "2", "--sockets", route];
        let name = format!("noncore-sockets-{route}");
        Forced::new(&name, &flags, there(&noncore, route))
    });
    modes.chain(core).chain(noncore).collect()
}

/// A word of the kernel's command line, split at commas.
fn argument(name: &str) -> Vec<String> {
    let line = fs::read_to_string("/proc/cmdline").expect("/proc is mounted");
    let word = line.split_whitespace().find_map(|word| {
        let (key, value) = word.split_once('=')?;
        (key == name).then(|| value.split(',').map(str::to_owned).collect())
    });
    word.unwrap_or_default()
}

/// `TLSCOPE_CASES` outside chooses cases by how their names begin.
fn is_wanted(name: &str) -> bool {
    let wanted = argument("tlscope.cases");
    wanted.is_empty() || wanted.iter().any(|start| name.starts_with(start))
}

/// What the last panic said.
static SAID: Mutex<String> = Mutex::new(String::new());

fn case(name: &str, run: impl FnOnce(&Scene)) -> bool {
    if !is_wanted(name) {
        return true;
    }
    panic::set_hook(Box::new(|info| {
        *SAID.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
    let start = Instant::now();
    let scene = Scene::new(&name.replace(':', "-"));
    let result = panic::catch_unwind(AssertUnwindSafe(|| run(&scene)));
    let said = std::mem::take(&mut *SAID.lock().unwrap_or_else(PoisonError::into_inner));
    if result.is_err() {
        for line in said.lines() {
            Line::Failed(name.to_owned(), line.to_owned()).say();
        }
        return false;
    }
    let seconds = format!("{:.1}", start.elapsed().as_secs_f64());
    Line::Passed(name.to_owned(), seconds).say();
    true
}

/// All of it is for the report. What it picks is the best that this kernel is known to have.
fn doctor(scene: &Scene) {
    let finished = Tlscope::new("doctor").run(scene);
    for line in finished.text().lines() {
        Line::Fact("doctor".into(), line.to_owned()).say();
    }
    let text = finished.success().text();
    let core = text.split_once("core object (-b 1, picked by -b 0)");
    let (_, core) = core.unwrap_or_else(|| panic!("the core object is not picked"));
    let sockets = match argument("tlscope.sockets")[0].as_str() {
        "tracepoints" => "socket tracepoints",
        _ => "the system call tracepoint",
    };
    for (name, best) in [
        ("attach", argument("tlscope.attach")[0].as_str()),
        ("sockets", sockets),
    ] {
        let picked = core.lines().find_map(|line| line.trim().strip_prefix(name));
        let picked = picked.unwrap_or_default().trim();
        assert!(picked.starts_with(best), "{name} is {picked:?}, not {best}");
    }
}

/// Every byte of both sides, with their addresses and descriptors, and the key log beside it.
fn text(scene: &Scene, subject: &Subject, forced: &Forced) {
    let keylog = scene.path("captured.keylog");
    let tlscope = forced.on(subject.tlscope().arg("--json"));
    let capture = tlscope.with("keylogfile", keylog.display()).start(scene);
    let said = subject.talk(scene, OF_TEXT);
    let captured = capture.stop();
    note(forced, &captured.finished);
    said.assert_captured(&captured.records());
    KeyLog::read(&keylog).assert_is(&said.keylog);
}

fn keylog(scene: &Scene, subject: &Subject, forced: &Forced) {
    let tlscope = subject.tlscope().args(["-m", "keylog", "-k", "-"]);
    let capture = forced.on(tlscope).start(scene);
    let said = subject.talk(scene, OF_KEYS);
    capture.stop().keylog().assert_is(&said.keylog);
}

/// The file goes out of the machine, with what the peers sent: tshark is there.
fn pcap(scene: &Scene, subject: &Subject, forced: &Forced) {
    let tlscope = subject.tlscope().args(["-m", "pcap", "-i", "lo"]);
    let capture = PacketCapture::start_with(forced.on(tlscope), scene, "tcp");
    let said = subject.talk(scene, OF_PACKETS);
    let (file, _) = capture.stop();
    let bytes = fs::read(file.path()).expect("the capture");
    let streams = serde_json::to_vec(&said.streams()).expect("streams as JSON");
    let name = format!("{}:{}", forced.name, subject.module);
    Line::File(format!("{name}.json"), streams).say();
    Line::File(format!("{name}.pcapng"), bytes).say();
}

/// What is not there is refused at once, by name, and not replaced in silence.
fn refused(scene: &Scene, subject: &Subject, forced: &Forced) {
    let finished = forced.on(subject.tlscope()).run(scene);
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
    let flag = &forced.flags[2];
    let named = finished.stderr.contains(&format!("leave out {flag}"));
    assert!(named, "no word of {flag}:\n{}", finished.stderr);
}

/// In that state no program may read the kernel's memory.
fn told_of_lockdown(scene: &Scene, subject: &Subject, _: &Forced) {
    for tlscope in [subject.tlscope(), Tlscope::new("doctor")] {
        let finished = tlscope.run(scene);
        assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
        let said = finished.text() + &finished.stderr;
        assert!(said.contains("locked down (confidentiality)"), "{said}");
    }
}

/// What tlscope said, for the log: its counters tell why bytes are missing.
fn note(forced: &Forced, finished: &Finished) {
    for line in finished.stderr.lines() {
        Line::Fact(format!("said:{}", forced.name), line.to_owned()).say();
    }
}
