//! What images hold, on disk, from one run to the next.
//!
//! A build id is what a file says of itself: another file may say the same. So a
//! file is known by what the kernel says of it, down to the nanosecond of its last
//! change, which nobody but root can set, and by a look at its two ends. Numbers of
//! devices and inodes mean something until the machine starts again, and a plan to
//! the tlscope that made it: both are in the name of the file that remembers.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{geteuid, getuid};
use serde::{Deserialize, Serialize};
use tlscope_image::plan::{Module, Plan};

use crate::modules;

const PREFIX: &str = "images-";
/// A machine with 500 processes fills some 300 KiB.
const BYTES_MAX: u64 = 16 << 20;
/// Of each end of a file: the build id stands in the first, the section table in the last.
const SAMPLE: usize = 4096;
/// A file changed since then may be changed again within one tick of the clock of its times.
const SETTLED: Duration = Duration::from_secs(2);

/// What the kernel says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(file: &Metadata) -> Self {
        Self {
            dev: file.dev(),
            ino: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let changed = u64::try_from(self.changed.0).map(Duration::from_secs);
        now.is_ok_and(|now| changed.is_ok_and(|changed| changed + SETTLED < now))
    }
}

/// One state of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Identity {
    stamp: Stamp,
    sample: u64,
}

impl Identity {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let stamp = Stamp::of(&file.metadata()?);
        let mut ends = [[0; SAMPLE]; 2];
        file.read_at(&mut ends[0], 0)?;
        file.read_at(&mut ends[1], stamp.size.saturating_sub(SAMPLE as u64))?;
        Ok(Self {
            stamp,
            sample: hash(&ends),
        })
    }
}

/// The debug files that an analysis asked for, and what was there.
pub(crate) type Asked = Vec<(PathBuf, Option<Stamp>)>;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// None when it holds no library.
    pub(crate) plans: Vec<Plan>,
    /// Libraries that are not captured, by name; where there is no plan.
    pub(crate) other: Option<String>,
}

impl Held {
    pub(crate) fn of(plans: &[Plan]) -> Self {
        Self {
            plans: plans.to_vec(),
            other: None,
        }
    }

    pub(crate) fn nothing(other: Option<String>) -> Self {
        Self {
            plans: Vec::new(),
            other,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    file: Identity,
    /// The names of their subcommands.
    modules: String,
    asked: Asked,
    held: Held,
}

#[derive(Debug)]
pub(super) struct Memory {
    entries: HashMap<(Identity, String), Entry>,
    file: Mutex<File>,
}

impl Memory {
    /// Of root alone: with a tlscope that was given capabilities, its user would choose what is
    /// probed in the programs of others.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        if !(getuid().is_root() && geteuid().is_root()) {
            return Err(io::Error::other("only root remembers"));
        }
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => check_private(&fs::symlink_metadata(directory)?, Metadata::is_dir)?,
        }
        let name = format!("{PREFIX}{:016x}", circumstances()?);
        remove_others(directory, &name);
        let path = directory.join(name);
        let mut file = open_file(&path)?;
        if file.metadata()?.len() >= BYTES_MAX {
            fs::remove_file(&path)?;
            file = open_file(&path)?;
        }
        let mut lines = Vec::new();
        (&mut file).take(BYTES_MAX).read_to_end(&mut lines)?;
        Ok(Self {
            entries: parse(&lines),
            file: Mutex::new(file),
        })
    }

    pub(super) fn recall(&self, file: &Identity, modules: &[Module]) -> Option<Held> {
        let entry = self.entries.get(&(*file, names(modules)))?;
        let as_it_was = |(path, stamp): &(PathBuf, Option<Stamp>)| stamp_of(path) == *stamp;
        entry
            .asked
            .iter()
            .all(as_it_was)
            .then(|| entry.held.clone())
    }

    /// What cannot be written is learned again.
    pub(super) fn learn(&self, file: Identity, modules: &[Module], held: &Held, asked: Asked) {
        if !file.stamp.is_settled() {
            return;
        }
        let entry = Entry {
            file,
            modules: names(modules),
            asked,
            held: held.clone(),
        };
        let Ok(mut line) = serde_json::to_vec(&entry) else {
            return;
        };
        line.push(b'\n');
        let mut to = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let length = to.metadata().map_or(u64::MAX, |file| file.len());
        if length.saturating_add(line.len() as u64) <= BYTES_MAX {
            // In one write: two captures may run at once. A part of a line is no line.
            let _ = to.write(&line);
        }
    }
}

/// Of a debug file; `None` when there is none.
pub(crate) fn stamp_of(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().map(|file| Stamp::of(&file))
}

/// A line that is not what it should be is passed over; of two, the last counts.
fn parse(lines: &[u8]) -> HashMap<(Identity, String), Entry> {
    let lines = lines.split(|&byte| byte == b'\n');
    let entries = lines.filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
    entries
        .map(|entry| ((entry.file, entry.modules.clone()), entry))
        .collect()
}

fn names(modules: &[Module]) -> String {
    let names: Vec<&str> = modules.iter().map(|m| modules::row(*m).name).collect();
    names.join(",")
}

/// This very tlscope, and this run of the machine.
fn circumstances() -> io::Result<u64> {
    let boot = fs::read("/proc/sys/kernel/random/boot_id")?;
    let program = File::open("/proc/self/exe")?.metadata()?;
    Ok(hash(&(boot, Stamp::of(&program))))
}

/// Another tlscope that still writes to its file does so in vain, and without harm.
fn remove_others(directory: &Path, name: &str) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let other = entry.file_name();
        if other.to_string_lossy().starts_with(PREFIX) && other != *name {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    check_private(&file.metadata()?, Metadata::is_file)?;
    Ok(file)
}

/// What others can write decides nothing.
fn check_private(file: &Metadata, is_kind: fn(&Metadata) -> bool) -> io::Result<()> {
    let private = file.mode().trailing_zeros() >= 6 && file.uid() == 0;
    if is_kind(file) && private {
        return Ok(());
    }
    Err(io::Error::other("it is not root's alone (mode 0700)"))
}

/// The same in each run of one build.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::env::consts::ARCH;

    use super::*;

    fn identity(ino: u64) -> Identity {
        let stamp = Stamp {
            dev: 1,
            ino,
            size: 10,
            modified: (1, 2),
            changed: (3, 4),
        };
        Identity { stamp, sample: 5 }
    }

    fn line(file: Identity, held: &Held) -> Vec<u8> {
        let entry = Entry {
            file,
            modules: "tls".into(),
            asked: vec![("/nonexistent.debug".into(), None)],
            held: held.clone(),
        };
        let mut line = serde_json::to_vec(&entry).unwrap();
        line.push(b'\n');
        line
    }

    #[test]
    fn a_plan_comes_back_as_it_was() {
        let library = fs::read(format!("/usr/lib/{ARCH}-linux-gnu/libssl.so.3")).unwrap();
        let held = Held::of(&[tlscope_image::analyze(&library).unwrap()]);
        let other = Held::nothing(Some("rustls".into()));
        let entries = parse(&[line(identity(1), &held), line(identity(2), &other)].concat());
        assert_eq!(entries[&(identity(1), "tls".into())].held, held);
        assert_eq!(entries[&(identity(2), "tls".into())].held, other);
        assert_eq!(entries.len(), 2);
    }

    #[test]
    fn any_damage_is_passed_over() {
        let nothing = Held::nothing(None);
        let whole = [line(identity(1), &nothing), line(identity(2), &nothing)].concat();
        for at in 0..whole.len() {
            for byte in [0, b'\n', b'"', b'9', b'}', 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                assert!(parse(&damaged).len() <= 3);
                assert!(parse(&damaged[..at]).len() <= 2);
            }
        }
    }

    #[test]
    fn a_file_that_was_just_changed_is_not_remembered() {
        let path = std::env::temp_dir().join(format!("tlscope-stamp-{}", std::process::id()));
        fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        let before = Identity::of(&file).unwrap();
        assert!(!before.stamp.is_settled());
        fs::write(&path, "y").unwrap();
        assert_ne!(
            Identity::of(&file).unwrap(),
            before,
            "same size, other content"
        );
        fs::remove_file(&path).unwrap();
        assert!(identity(1).stamp.is_settled());
    }
}
