//! The address behind a descriptor of another process, from `/proc`: for
//! kernels on which the kernel side cannot read it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// What a socket is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketPeer {
    Inet {
        local: SocketAddr,
        remote: SocketAddr,
    },
    Unix,
}

/// `None` when the descriptor is no socket, or its process or connection is gone.
pub fn socket_peer(pid: u32, fd: i32) -> Option<SocketPeer> {
    let process = Path::new("/proc").join(pid.to_string());
    let link = fs::read_link(process.join("fd").join(fd.to_string())).ok()?;
    let inode = link
        .to_str()?
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .to_owned();
    // The tables of the process's own network namespace.
    let table = |name: &str| fs::read_to_string(process.join("net").join(name)).ok();
    for name in ["tcp", "tcp6", "udp", "udp6"] {
        if let Some(peer) = table(name).and_then(|table| find_inet(&table, &inode)) {
            return Some(peer);
        }
    }
    table("unix")
        .filter(|table| is_unix(table, &inode))
        .map(|_| SocketPeer::Unix)
}

/// Columns of `/proc/net/tcp`: 1 local, 2 remote, 9 inode.
fn find_inet(table: &str, inode: &str) -> Option<SocketPeer> {
    let line = table
        .lines()
        .skip(1)
        .find(|line| line.split_whitespace().nth(9) == Some(inode))?;
    let mut columns = line.split_whitespace().skip(1);
    let local = address(columns.next()?)?;
    let remote = address(columns.next()?)?;
    (remote.port() != 0).then_some(SocketPeer::Inet { local, remote })
}

/// Column 6 of `/proc/net/unix` is the inode.
fn is_unix(table: &str, inode: &str) -> bool {
    table
        .lines()
        .skip(1)
        .any(|line| line.split_whitespace().nth(6) == Some(inode))
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
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn own_sockets_are_found() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(ip).unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let expected = SocketPeer::Inet {
                local: stream.local_addr().unwrap(),
                remote: stream.peer_addr().unwrap(),
            };
            assert_eq!(
                socket_peer(std::process::id(), stream.as_raw_fd()),
                Some(expected)
            );
            // A listening socket has no peer.
            assert_eq!(socket_peer(std::process::id(), listener.as_raw_fd()), None);
        }
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(
            socket_peer(std::process::id(), one.as_raw_fd()),
            Some(SocketPeer::Unix)
        );
        assert_eq!(socket_peer(std::process::id(), 9999), None);
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
