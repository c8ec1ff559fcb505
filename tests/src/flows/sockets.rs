//! Who holds which socket, by `/proc`: what servers do not log.

use std::fs;
use std::net::Ipv4Addr;

use crate::records::Carrier;
use crate::wait;

/// One TCP connection of this network namespace.
#[derive(Debug)]
struct Row {
    local: String,
    remote: String,
    inode: u64,
}

fn rows() -> Vec<Row> {
    const ESTABLISHED: &str = "01";
    let text = fs::read_to_string("/proc/net/tcp").expect("the connections");
    let row = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let established = columns.get(3) == Some(&ESTABLISHED);
        established.then(|| Row {
            local: address(columns[1]),
            remote: address(columns[2]),
            inode: columns[9].parse().expect("an inode"),
        })
    };
    text.lines().filter_map(row).collect()
}

/// `0100007F:1F90`, the address in host order.
fn address(text: &str) -> String {
    let (ip, port) = text.split_once(':').expect("address and port");
    let ip = u32::from_str_radix(ip, 16).expect("an address");
    let port = u16::from_str_radix(port, 16).expect("a port");
    format!("{}:{port}", Ipv4Addr::from(ip.to_ne_bytes()))
}

/// The descriptors of a process that stand for this socket.
fn descriptors(pid: u32, inode: u64) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let is_it = |link: &fs::DirEntry| {
        fs::read_link(link.path()).is_ok_and(|to| to.as_os_str() == &*format!("socket:[{inode}]"))
    };
    let number = |link: fs::DirEntry| link.file_name().to_str()?.parse().ok();
    entries.flatten().filter(is_it).filter_map(number).collect()
}

/// The one process and descriptor of a connection's end. A server that forks for a connection has it
/// too until it is let run again, be the child as far as its answer.
#[track_caller]
pub(super) fn holder(local: &str, remote: &str) -> (u32, i32) {
    let what = format!("one holder of the end from {local} to {remote}");
    wait::until(&what, || {
        let rows = rows();
        let mut ends = rows
            .iter()
            .filter(|r| r.local == local && r.remote == remote);
        let (Some(row), None) = (ends.next(), ends.next()) else {
            return None;
        };
        let pids = fs::read_dir("/proc").expect("processes").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let held: Vec<(u32, i32)> = pids
            .flat_map(|pid| {
                descriptors(pid, row.inode)
                    .into_iter()
                    .map(move |fd| (pid, fd))
            })
            .collect();
        match held.as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    })
}

/// The end of the only connection that a process has.
#[track_caller]
pub(super) fn only(pid: u32) -> Carrier {
    wait::until("its connection", || {
        let rows = rows().into_iter();
        let mut held = rows.filter_map(|row| Some((descriptors(pid, row.inode).pop()?, row)));
        let (fd, row) = held.next()?;
        Some(Carrier {
            fd: Some(fd),
            local: Some(row.local),
            remote: row.remote,
            unknown: None,
        })
    })
}
