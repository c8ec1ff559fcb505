//! What runs inside a machine: real captures, compared with what the peers logged.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::{XattrFlags, setxattr};

use super::matrix::{ATTACH, Capability, NET_RAW, Version, Way};
use super::subjects::{self, Extent, Sizes, Subject};
use super::transcript::Line;
use crate::capture::binary;
use crate::keylog::KeyLog;
use crate::pcap::PacketCapture;
use crate::program::Finished;
use crate::{KIB, Scene, Tlscope};

/// Just more than a TLS record; more than a program of the noncore object sends by itself.
const OF_TEXT: Sizes = [16 * KIB + 1, 200 * KIB];
/// Where the way matters, and not what goes there.
const OF_A_WAY: Sizes = [1, 20 * KIB];
/// What leaves the machine goes over a serial line.
const OF_PACKETS: Sizes = [100, 16 * KIB + 1];

const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// Runs every case and tells how each went; true when all went well.
pub fn run() -> bool {
    let version = Version::named(&argument("tlscope.version").concat());
    let subjects = subjects::all();
    let openssl = &subjects[0];
    let mut well = case("doctor", |scene| doctor(scene, &version));
    for (object, flags) in [("auto", &[][..]), ("noncore", &["-b", "2"])] {
        for subject in &subjects {
            let name = format!("{object}:{}", subject.module);
            let tlscope = || subject.tlscope().args(flags);
            well &= case(&format!("{name}:text"), |scene| {
                text(scene, subject, tlscope(), OF_TEXT);
            });
            well &= case(&format!("{name}:secrets"), |scene| {
                let packets = secrets(scene, subject, &tlscope);
                packets.leave(&name);
            });
        }
    }
    well &= case("auto:memory", |scene| {
        let memory = subjects::memory();
        text(scene, &memory, memory.tlscope(), OF_A_WAY);
    });
    for way in version.fallbacks() {
        well &= case(&format!("forced:{way}"), |scene| {
            let tlscope = openssl.tlscope().args(way.flags());
            text(scene, openssl, tlscope, OF_A_WAY);
        });
    }
    well &= case("refused", |scene| {
        for way in version.lacks() {
            refused(scene, openssl, &way);
        }
    });
    well &= case("user:text", |scene| {
        // Debian's own level, 3, keeps perf events for CAP_SYS_ADMIN.
        fs::write(PARANOID, "2").expect("a kernel with perf events");
        let tlscope = as_user(scene, openssl.tlscope(), version.capabilities);
        text(scene, openssl, tlscope, OF_A_WAY);
    });
    well &= case("user:secrets", |scene| {
        let all = [version.capabilities, &[NET_RAW]].concat();
        let packets = secrets(scene, openssl, &|| as_user(scene, openssl.tlscope(), &all));
        packets.leave("user");
    });
    well &= case("user:lacks", |scene| {
        for lacking in version.needed_each() {
            told_of_capability(scene, openssl, &version, lacking);
        }
    });
    // Last, for there is no way back.
    well &= case("lockdown:integrity", |scene| {
        lock_down("integrity");
        text(scene, openssl, openssl.tlscope(), OF_A_WAY);
    });
    well &= case("lockdown:confidentiality", |scene| {
        lock_down("confidentiality");
        told_of_lockdown(scene, openssl);
    });
    well
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
fn doctor(scene: &Scene, version: &Version) {
    let finished = Tlscope::new("doctor").run(scene);
    for line in finished.text().lines() {
        Line::Fact("doctor".into(), line.to_owned()).say();
    }
    let text = finished.success().text();
    let modes = text
        .lines()
        .skip_while(|line| !line.starts_with("attach modes"));
    let modes = modes.skip(1).take_while(|line| !line.is_empty());
    let modes: Vec<_> = modes
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(modes, ATTACH, "each is forced, or refused");
    let core = text.split_once("core object (-b 1, picked by -b 0)");
    let (_, core) = core.unwrap_or_else(|| panic!("the core object is not picked"));
    let sockets = match version.sockets {
        "tracepoints" => "socket tracepoints",
        _ => "the system call tracepoints",
    };
    for (name, best) in [("attach", version.attach), ("sockets", sockets)] {
        let picked = core.lines().find_map(|line| line.trim().strip_prefix(name));
        let picked = picked.unwrap_or_default().trim();
        assert!(picked.starts_with(best), "{name} is {picked:?}, not {best}");
    }
}

/// Every byte of both sides, with their addresses and descriptors, and the key log beside it.
fn text(scene: &Scene, subject: &Subject, tlscope: Tlscope, sizes: Sizes) {
    let keylog = scene.path("captured.keylog");
    let tlscope = tlscope.arg("--json").with("keylogfile", keylog.display());
    let capture = tlscope.start(scene);
    let said = subject.talk(scene, sizes, Extent::Whole);
    let captured = capture.stop();
    note(&captured.finished);
    said.assert_captured(&captured.records());
    KeyLog::read(&keylog).assert_is(&said.keylog);
}

/// A capture of keys and one of packets, side by side.
fn secrets(scene: &Scene, subject: &Subject, tlscope: &dyn Fn() -> Tlscope) -> Packets {
    let keys = tlscope().args(["-m", "keylog", "-k", "-"]).start(scene);
    // Under emulation, beside other work, secrets may take longer than the second that is usual.
    let packets = tlscope().args(["-m", "pcap", "-i", "lo", "--hold", "10000"]);
    let packets = PacketCapture::start_with(packets, scene, "tcp");
    let said = subject.talk(scene, OF_PACKETS, Extent::Short);
    let (file, _) = packets.stop();
    keys.stop().keylog().assert_is(&said.keylog);
    Packets {
        file: fs::read(file.path()).expect("the capture"),
        streams: serde_json::to_vec(&said.streams()).expect("streams as JSON"),
    }
}

/// A capture of packets, and what the peers sent.
struct Packets {
    file: Vec<u8>,
    streams: Vec<u8>,
}

impl Packets {
    /// Out of the machine: tshark is there.
    fn leave(self, name: &str) {
        Line::File(format!("{name}.json"), self.streams).say();
        Line::File(format!("{name}.pcapng"), self.file).say();
    }
}

/// What is not there is refused at once, by name, and not replaced in silence.
fn refused(scene: &Scene, subject: &Subject, way: &Way) {
    let flags = way.flags();
    let finished = subject.tlscope().args(&flags).run(scene);
    assert_eq!(finished.code(), Some(3), "{way}: {}", finished.stderr);
    let words = format!("leave out {}", flags[2]);
    assert!(
        finished.stderr.contains(&words),
        "{way}: {}",
        finished.stderr
    );
}

/// A user's tlscope, whose file has these capabilities as setcap(8) writes them: `=ep`.
fn as_user(scene: &Scene, tlscope: Tlscope, capabilities: &[Capability]) -> Tlscope {
    const NOBODY: u32 = 65534;
    const REVISION_2_EFFECTIVE: u32 = 0x0200_0001;
    let all = Permissions::from_mode(0o777);
    fs::set_permissions(scene.directory(), all).expect("a directory for all");
    let copy = scene.fresh("tlscope");
    fs::copy(binary(), &copy).expect("a copy of tlscope");
    let permitted = capabilities
        .iter()
        .fold(0_u64, |set, one| set | 1 << one.bit);
    let [low, high] = [permitted as u32, (permitted >> 32) as u32];
    let words = [REVISION_2_EFFECTIVE, low, 0, high, 0];
    let value = words.map(u32::to_le_bytes).concat();
    let set = setxattr(&copy, "security.capability", &value, XattrFlags::empty());
    set.expect("capabilities of a file");
    tlscope.as_user(&copy, NOBODY)
}

fn told_of_capability(scene: &Scene, subject: &Subject, version: &Version, lacking: Capability) {
    let mut held = version.capabilities.to_vec();
    held.retain(|one| *one != lacking);
    let finished = as_user(scene, subject.tlscope(), &held).run(scene);
    let said = &finished.stderr;
    assert_eq!(finished.code(), Some(3), "without {}: {said}", lacking.name);
    assert!(said.contains(lacking.name), "no {}: {said}", lacking.name);
}

fn lock_down(state: &str) {
    fs::write(LOCKDOWN, state).expect("a kernel that can be locked down");
}

/// In that state no program may read the kernel's memory.
fn told_of_lockdown(scene: &Scene, subject: &Subject) {
    for tlscope in [subject.tlscope(), Tlscope::new("doctor")] {
        let finished = tlscope.run(scene);
        assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
        let said = finished.text() + &finished.stderr;
        assert!(said.contains("locked down (confidentiality)"), "{said}");
    }
}

/// What tlscope said, for the log: its counters tell why bytes are missing.
fn note(finished: &Finished) {
    for line in finished.stderr.lines() {
        Line::Fact("said".into(), line.to_owned()).say();
    }
}
