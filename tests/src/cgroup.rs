//! Control groups named as container runtimes name them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::wait;

/// A group that goes with the test, with those above it that it made.
#[derive(Debug)]
pub struct Cgroup {
    /// The innermost first.
    made: Vec<PathBuf>,
}

impl Cgroup {
    /// `path` below the root of a hierarchy of this machine.
    #[track_caller]
    pub fn make(path: &str) -> Self {
        let mut group = Self { made: Vec::new() };
        let mut directory = hierarchy();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            directory.push(part);
            if !directory.exists() {
                if let Err(e) = fs::create_dir(&directory) {
                    panic!(
                        "{}: {e}: control groups must be writable",
                        directory.display()
                    );
                }
                group.made.insert(0, directory.clone());
            }
        }
        assert!(!group.made.is_empty(), "{path} is there already");
        group
    }

    /// Who writes 0 there is in the group.
    pub fn procs(&self) -> String {
        self.made[0].join("cgroup.procs").display().to_string()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in &self.made {
            // A process leaves its group some time after it has ended.
            wait::poll(wait::BOUND, || fs::remove_dir(directory).ok());
        }
    }
}

/// Version 2 where it is mounted, else one of version 1 that needs no settings.
#[track_caller]
fn hierarchy() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let mount = |kind: &str, option: &str| {
        let fields = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let mut fitting = fields.filter(|f| {
            f.len() > 3
                && f[2] == kind
                && (option.is_empty() || f[3].split(',').any(|o| o == option))
        });
        fitting.next().map(|f| Path::new(f[1]).to_owned())
    };
    let found = [("cgroup2", ""), ("cgroup", "pids"), ("cgroup", "freezer")]
        .into_iter()
        .find_map(|(kind, option)| mount(kind, option));
    found.expect("control groups are not mounted: mount -t cgroup2 none /sys/fs/cgroup")
}
