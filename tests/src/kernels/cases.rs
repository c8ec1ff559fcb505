//! What runs inside a machine: real captures, compared with what the peers logged.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::transcript::Line;
use crate::keylog::KeyLog;
use crate::pcap::PacketCapture;
use crate::peer::Talk;
use crate::program::Finished;
use crate::{KIB, Peer, Scene, Tlscope};

/// Just more than a TLS record, and several chunks.
const SIZES: [usize; 2] = [16 * KIB + 1, 300 * KIB];
const VERSIONS: [&str; 2] = ["1.2", "1.3"];
const MODES: [&str; 4] = ["session", "multi", "single-cookie", "single"];

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
    let library = library();
    let nothing = Forced::new("auto", &[], true);
    let noncore = Forced::new("noncore", &["-b", "2"], true);
    let mut well = case("doctor", doctor);
    for forced in [&nothing, &noncore] {
        let name = |what: &str| format!("{}:{what}", forced.name);
        well &= case(&name("text"), |scene| text(scene, &library, forced));
        well &= case(&name("keylog"), |scene| keylog(scene, &library, forced));
        well &= case(&name("pcap"), |scene| pcap(scene, &library, forced));
    }
    for forced in fallbacks() {
        let name = format!("{}:text", forced.name);
        let compare = if forced.there { text } else { refused };
        well &= case(&name, |scene| compare(scene, &library, &forced));
    }
    well
}

/// Each way that could be taken instead of the best, and some that are not there.
fn fallbacks() -> Vec<Forced> {
    let attach = argument("tlscope.attach");
    let sockets = argument("tlscope.sockets");
    let noncore = argument("tlscope.noncore_sockets");
    let there = |all: &[String], name: &str| all.iter().any(|one| one == name);
    let modes = MODES.iter().map(|mode| {
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

fn library() -> PathBuf {
    let directory = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    ["libssl.so.3", "libssl.so.1.1"]
        .map(|name| Path::new(&directory).join(name))
        .into_iter()
        .find(|path| path.exists())
        .expect("a libssl in the root")
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

/// All of it is for the report; that it ends well is the test.
fn doctor(scene: &Scene) {
    let finished = Tlscope::new("doctor").run(scene);
    for line in finished.text().lines() {
        Line::Fact("doctor".into(), line.to_owned()).say();
    }
    drop(finished.success());
}

/// Every byte of both sides, with their addresses and descriptors.
fn text(scene: &Scene, library: &Path, forced: &Forced) {
    let keylog = scene.path("captured.keylog");
    let tlscope = Tlscope::json().with("libssl", library.display());
    let tlscope = forced.on(tlscope).with("keylogfile", keylog.display());
    let capture = tlscope.start(scene);
    let (talks, truth) = talk(scene, library);
    let captured = capture.stop();
    picked(forced, &captured.finished);
    let records = captured.records();
    records.assert_lossless();
    for talk in &talks {
        talk.assert_captured(&records);
    }
    let sides: usize = talks.iter().map(|talk| talk.sides.len()).sum();
    assert_eq!(records.connections.len(), sides, "{:#?}", records.outline());
    KeyLog::read(&keylog).assert_is(&truth);
}

fn keylog(scene: &Scene, library: &Path, forced: &Forced) {
    let tlscope = Tlscope::keylog().with("libssl", library.display());
    let capture = forced.on(tlscope).start(scene);
    let (_, truth) = talk(scene, library);
    capture.stop().keylog().assert_is(&truth);
}

/// The file goes out of the machine, with what the peers sent: tshark is there.
fn pcap(scene: &Scene, library: &Path, forced: &Forced) {
    let tlscope = Tlscope::pcap("lo").with("libssl", library.display());
    let capture = PacketCapture::start_with(forced.on(tlscope), scene, "tcp");
    let (talks, _) = talk(scene, library);
    let (file, _) = capture.stop();
    let bytes = fs::read(file.path()).expect("the capture");
    let sides: Vec<_> = talks.iter().flat_map(|talk| talk.of("client")).collect();
    let sides = serde_json::to_vec(&sides).expect("reports as JSON");
    Line::File(format!("{}.pcapng", forced.name), bytes).say();
    Line::File(format!("{}.json", forced.name), sides).say();
}

/// What is not there is refused at once, by name, and not replaced in silence.
fn refused(scene: &Scene, library: &Path, forced: &Forced) {
    let tlscope = Tlscope::json().with("libssl", library.display());
    let finished = forced.on(tlscope).run(scene);
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
    let flag = &forced.flags[2];
    let named = finished.stderr.contains(&format!("leave out {flag}"));
    assert!(named, "no word of {flag}:\n{}", finished.stderr);
}

fn talk(scene: &Scene, library: &Path) -> (Vec<Talk>, KeyLog) {
    let mut talks = Vec::new();
    let mut truth = KeyLog::default();
    for (version, size) in VERSIONS.into_iter().zip(SIZES) {
        let peer = Peer::on(library).keylogs(scene).with("tls", version);
        let peer = peer.with("connections", 2).sizes(size, size);
        talks.push(peer.run(scene));
        truth = truth.union(&peer.logged());
    }
    (talks, truth)
}

/// The line that says which object and attach mode were taken.
fn picked(forced: &Forced, finished: &Finished) {
    let mut lines = finished.stderr.lines();
    if let Some(line) = lines.find(|line| line.contains("attach mode")) {
        Line::Fact(format!("picked:{}", forced.name), line.to_owned()).say();
    }
}
