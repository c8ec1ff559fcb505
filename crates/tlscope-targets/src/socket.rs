//! Sockets that processes have open, from `/proc`: what was there before the
//! kernel side began to watch.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::process::{ProcessInfo, process};

/// A socket of the internet, and a process that has it open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSocket {
    pub pid: u32,
    pub comm: String,
    pub transport: Transport,
    pub local: SocketAddr,
    /// `None` for a socket that is not connected.
    pub remote: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

const TABLES: [(&str, Transport); 4] = [
    ("tcp", Transport::Tcp),
    ("tcp6", Transport::Tcp),
    ("udp", Transport::Udp),
    ("udp6", Transport::Udp),
];

/// Sockets by inode, of one network namespace.
type Table = HashMap<u64, (Transport, SocketAddr, Option<SocketAddr>)>;

/// The sockets of all processes that are wanted. Listening ones are left out:
/// what is accepted from them is a socket of its own.
pub fn open_sockets(wanted: impl Fn(&ProcessInfo) -> bool) -> Vec<OpenSocket> {
    let mut namespaces: HashMap<PathBuf, Table> = HashMap::new();
    let mut found = Vec::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for process in pids.filter_map(process).filter(|process| wanted(process)) {
        let dir = Path::new("/proc").join(process.pid.to_string());
        let inodes = socket_inodes(&dir);
        if inodes.is_empty() {
            continue;
        }
        let namespace = fs::read_link(dir.join("ns/net")).unwrap_or_default();
        let table = namespaces
            .entry(namespace)
            .or_insert_with(|| read_tables(&dir));
        for (transport, local, remote) in inodes.iter().filter_map(|inode| table.get(inode)) {
            found.push(OpenSocket {
                pid: process.pid,
                comm: process.comm.clone(),
                transport: *transport,
                local: *local,
                remote: *remote,
            });
        }
    }
    found
}

fn socket_inodes(process: &Path) -> Vec<u64> {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten();
    let inode = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        let link = link.to_str()?.strip_prefix("socket:[")?;
        link.strip_suffix(']')?.parse().ok()
    };
    descriptors.flatten().filter_map(inode).collect()
}

fn read_tables(process: &Path) -> Table {
    let mut table = Table::new();
    for (name, transport) in TABLES {
        let text = fs::read_to_string(process.join("net").join(name)).unwrap_or_default();
        let sockets = text.lines().skip(1).filter_map(|line| row(line, transport));
        table.extend(sockets.map(|(inode, local, remote)| (inode, (transport, local, remote))));
    }
    table
}

/// Columns: 1 local, 2 remote, 3 state, 9 inode.
fn row(line: &str, transport: Transport) -> Option<(u64, SocketAddr, Option<SocketAddr>)> {
    const LISTEN: &str = "0A";
    let mut columns = line.split_whitespace().skip(1);
    let local = address(columns.next()?)?;
    let remote = address(columns.next()?)?;
    let state = columns.next()?;
    let inode = columns.nth(5)?.parse().ok()?;
    if transport == Transport::Tcp && state == LISTEN {
        return None;
    }
    Some((inode, local, (remote.port() != 0).then_some(remote)))
}

/// `0100007F:1F90`: each 32-bit word in host order, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words = (0..ip.len() / 8)
        .map(|i| {
            u32::from_str_radix(ip.get(i * 8..i * 8 + 8)?, 16)
                .ok()
                .map(u32::to_ne_bytes)
        })
        .collect::<Option<Vec<_>>>()?;
    let ip: IpAddr = match words.as_slice() {
        [word] => Ipv4Addr::from(*word).into(),
        words => Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into(),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn own() -> Vec<OpenSocket> {
        open_sockets(|process| process.pid == std::process::id())
    }

    #[test]
    fn own_connections_are_found_and_listeners_are_not() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(ip).unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            let found = own();
            let ours = found.iter().find(|socket| socket.local == local).unwrap();
            assert_eq!(ours.remote, Some(remote));
            assert_eq!(ours.transport, Transport::Tcp);
            assert!(!found.iter().any(|socket| socket.local == remote));
        }
    }

    #[test]
    fn a_datagram_socket_has_a_remote_once_it_is_connected() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        let find = || own().into_iter().find(|s| s.local == local).unwrap();
        assert_eq!((find().transport, find().remote), (Transport::Udp, None));
        socket.connect("127.0.0.1:9").unwrap();
        assert_eq!(find().remote, Some("127.0.0.1:9".parse().unwrap()));
    }

    #[test]
    fn a_broken_table_is_no_address() {
        for text in [
            "",
            "x",
            "0100007F",
            "0100007F:",
            "0100007:1",
            "ZZZZZZZZ:1",
            "é:1",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
