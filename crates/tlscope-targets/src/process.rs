//! What `/proc/PID` says of one process.

use std::fs;
use std::path::{Path, PathBuf};

/// A process at the time of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    pub pid: u32,
    /// Clock ticks since boot: with the pid, names a process for good.
    pub start_time: u64,
    pub comm: String,
    /// `None` for a kernel thread, or without the right to ask.
    pub exe: Option<PathBuf>,
    /// The real uid: what the kernel's `bpf_get_current_uid_gid` gives.
    pub uid: u32,
    /// `false` for a zombie.
    pub alive: bool,
}

/// `None` when there is no such process.
pub fn process(pid: u32) -> Option<ProcessInfo> {
    process_in(Path::new("/proc"), pid)
}

/// Whether the process that had this pid and start time still runs.
pub fn is_alive(pid: u32, start_time: u64) -> bool {
    read_stat(Path::new("/proc"), pid)
        .is_some_and(|stat| stat.start_time == start_time && stat.alive())
}

/// All processes that descend from these, as far as their parents still live.
pub fn descendants(roots: &[u32]) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut parents: Vec<(u32, u32)> = pids
        .filter_map(|pid| Some((pid, read_stat(Path::new("/proc"), pid)?.parent)))
        .collect();
    let mut found: Vec<u32> = roots.to_vec();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        parents.retain(|(pid, its_parent)| {
            let child = *its_parent == parent && !found.contains(pid);
            if child {
                found.push(*pid);
            }
            !child
        });
    }
    found.split_off(roots.len())
}

fn process_in(proc_dir: &Path, pid: u32) -> Option<ProcessInfo> {
    let stat = read_stat(proc_dir, pid)?;
    let dir = proc_dir.join(pid.to_string());
    let uid = real_uid(&fs::read(dir.join("status")).ok()?)?;
    let exe = fs::read_link(dir.join("exe")).ok();
    let alive = stat.alive();
    Some(ProcessInfo {
        pid,
        start_time: stat.start_time,
        comm: stat.comm,
        exe,
        uid,
        alive,
    })
}

struct Stat {
    comm: String,
    state: u8,
    parent: u32,
    start_time: u64,
}

impl Stat {
    fn alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

fn read_stat(proc_dir: &Path, pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(proc_dir.join(pid.to_string()).join("stat")).ok()?)
}

/// `pid (comm) state ppid ...`: the comm may hold spaces, parentheses and any
/// byte but NUL, so its end is the last `)`.
fn parse_stat(stat: &[u8]) -> Option<Stat> {
    /// The start time is field 22; the state, first after the comm, is field 3.
    const START_TIME: usize = 22 - 3;
    let open = stat.iter().position(|&b| b == b'(')?;
    let close = stat.iter().rposition(|&b| b == b')')?;
    let comm = String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned();
    let mut fields = stat[close + 1..]
        .split(u8::is_ascii_whitespace)
        .filter(|f| !f.is_empty());
    let state = *fields.clone().next()?.first()?;
    let parent = std::str::from_utf8(fields.clone().nth(1)?)
        .ok()?
        .parse()
        .ok()?;
    let start_time = std::str::from_utf8(fields.nth(START_TIME)?)
        .ok()?
        .parse()
        .ok()?;
    Some(Stat {
        comm,
        state,
        parent,
        start_time,
    })
}

fn real_uid(status: &[u8]) -> Option<u32> {
    let line = status
        .split(|&b| b == b'\n')
        .find_map(|line| line.strip_prefix(b"Uid:"))?;
    let real = line
        .split(u8::is_ascii_whitespace)
        .find(|f| !f.is_empty())?;
    std::str::from_utf8(real).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] = b"42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";

    #[test]
    fn a_comm_with_parentheses_does_not_shift_the_fields() {
        let stat = parse_stat(STAT).unwrap();
        assert_eq!(stat.comm, "a) b (c");
        assert_eq!(stat.state, b'S');
        assert_eq!(stat.start_time, 98765);
    }

    #[test]
    fn a_child_of_a_child_descends() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "(cat; true); true"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let own = std::process::id();
        let found = loop {
            let found = descendants(&[own]);
            // The shell, its subshell, and the cat that this starts in its own time.
            if found.len() >= 3 || shell.try_wait().unwrap().is_some() {
                break found;
            }
        };
        assert!(found.contains(&shell.id()), "{found:?}");
        assert_eq!(descendants(&[shell.id()]).len(), 2, "{found:?}");
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }

    #[test]
    fn a_short_stat_is_no_process() {
        for end in 0..STAT.len() - 6 {
            assert!(
                parse_stat(&STAT[..end]).is_none_or(|s| s.start_time != 98765),
                "{end}"
            );
        }
        assert!(parse_stat(b")(").is_none());
    }

    #[test]
    fn we_are_alive() {
        let me = process(std::process::id()).unwrap();
        assert!(me.alive);
        assert_eq!(
            me.exe.as_deref(),
            Some(std::env::current_exe().unwrap().as_path())
        );
        assert_eq!(
            me.uid,
            std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap())
        );
        assert!(is_alive(me.pid, me.start_time));
        assert!(!is_alive(me.pid, me.start_time + 1));
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let start = process(pid).unwrap().start_time;
        // The zombie stays until `wait`, so this loop ends whenever the child does.
        while is_alive(pid, start) {
            std::thread::yield_now();
        }
        assert!(!process(pid).unwrap().alive);
        child.wait().unwrap();
        assert_eq!(process(pid).filter(|p| p.start_time == start), None);
    }

    #[test]
    fn no_process_is_none() {
        assert_eq!(process(u32::MAX), None);
        assert_eq!(real_uid(b"Name:\tx\nUid:\t1000\t0\t0\t0\n"), Some(1000));
        assert_eq!(real_uid(b"Name:\tx\n"), None);
    }
}
