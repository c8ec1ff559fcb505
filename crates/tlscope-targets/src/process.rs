//! What `/proc/PID` says of one process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// What tells the process that has a pid from those that had it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Clock ticks since boot.
    pub start_time: u64,
    /// To within 20 ms.
    pub age: Duration,
}

/// `None` when no process has the pid, or none that still runs.
pub fn life(pid: u32) -> Option<Life> {
    let stat = read_stat(Path::new("/proc"), pid).filter(Stat::alive)?;
    let uptime = parse_uptime(&fs::read("/proc/uptime").ok()?)?;
    let began = Duration::from_millis(stat.start_time.saturating_mul(1000 / TICKS_PER_SECOND));
    Some(Life {
        start_time: stat.start_time,
        age: uptime.saturating_sub(began),
    })
}

/// `USER_HZ`, in which the kernel tells times on all architectures that we run on.
const TICKS_PER_SECOND: u64 = 100;

/// `seconds.hundredths idle`, of the same clock as start times.
fn parse_uptime(text: &[u8]) -> Option<Duration> {
    let word = std::str::from_utf8(text).ok()?.split_whitespace().next()?;
    Duration::try_from_secs_f64(word.parse().ok()?).ok()
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
    threads: u32,
    start_time: u64,
}

impl Stat {
    /// The first thread may end ahead of the others: it is a zombie then, the process is none.
    fn alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x') || self.threads > 1
    }
}

fn read_stat(proc_dir: &Path, pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(proc_dir.join(pid.to_string()).join("stat")).ok()?)
}

/// `pid (comm) state ppid ...`: the comm may hold spaces, parentheses and any
/// byte but NUL, so its end is the last `)`.
fn parse_stat(stat: &[u8]) -> Option<Stat> {
    /// The state, first after the comm, is field 3.
    const STATE: usize = 3;
    const PARENT: usize = 4 - STATE;
    const THREADS: usize = 20 - STATE;
    const START_TIME: usize = 22 - STATE;
    let open = stat.iter().position(|&b| b == b'(')?;
    let close = stat.iter().rposition(|&b| b == b')')?;
    let comm = String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned();
    let fields = stat[close + 1..]
        .split(u8::is_ascii_whitespace)
        .filter(|f| !f.is_empty());
    let number = |index| -> Option<u64> {
        let field = fields.clone().nth(index)?;
        std::str::from_utf8(field).ok()?.parse().ok()
    };
    Some(Stat {
        comm,
        state: *fields.clone().next()?.first()?,
        parent: u32::try_from(number(PARENT)?).ok()?,
        threads: u32::try_from(number(THREADS)?).ok()?,
        start_time: number(START_TIME)?,
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
        let life = life(me.pid).unwrap();
        assert_eq!(life.start_time, me.start_time);
        assert!(life.age < Duration::from_secs(3600), "{life:?}");
    }

    /// The state is field 3, the number of threads field 20.
    #[test]
    fn a_process_lives_on_without_its_first_thread() {
        let stat = String::from_utf8_lossy(STAT).replace(" S ", " Z ");
        assert!(!parse_stat(stat.as_bytes()).unwrap().alive());
        let threads = stat.replace(" 20 0 1 0 ", " 20 0 2 0 ");
        assert!(parse_stat(threads.as_bytes()).unwrap().alive());
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let start = process(pid).unwrap().start_time;
        // The zombie stays until `wait`, so this loop ends whenever the child does.
        while life(pid).is_some() {
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
        assert_eq!(life(u32::MAX), None);
        assert_eq!(
            parse_uptime(b"12.34 5.6\n"),
            Some(Duration::from_millis(12_340))
        );
        assert_eq!(parse_uptime(b"-1 5.6\n"), None);
    }
}
