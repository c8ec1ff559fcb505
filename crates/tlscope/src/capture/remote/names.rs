//! Where the reader is: an address, or a name that is looked up at each attempt.
//!
//! The thread that sends may open no file. To look a name up takes some, and Landlock's rules
//! stay with the very file, while resolv.conf is replaced whenever a network comes or goes. So
//! each look-up has a thread of its own, confined to what is there by then.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tlscope_probe::confine::{Sandbox, keep_capabilities};

/// What glibc and musl read of the system to look a name up.
const SETTINGS: [&str; 6] = [
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/services",
];
/// The ways that nsswitch.conf names are libraries. None is loaded into a static program.
const LIBRARIES: [&str; 5] = [
    "/etc/ld.so.cache",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
];
/// For answers that are too long for UDP.
const DNS: u16 = 53;

type Found = io::Result<Vec<SocketAddr>>;

#[derive(Debug)]
pub(super) enum Names {
    Address(SocketAddr),
    Name {
        ask: SyncSender<()>,
        found: Receiver<Found>,
    },
}

impl Names {
    /// `address` is `host:port`.
    pub(super) fn start(address: &str) -> io::Result<Self> {
        if let Ok(address) = address.parse() {
            return Ok(Self::Address(address));
        }
        let address = address.to_owned();
        let ((ask, asked), (tell, found)) = (sync_channel(1), sync_channel(1));
        let thread = thread::Builder::new().name("names".into());
        thread.spawn(move || serve(&address, &asked, &tell))?;
        Ok(Self::Name { ask, found })
    }

    pub(super) fn look_up(&self) -> Found {
        match self {
            Self::Address(address) => Ok(vec![*address]),
            Self::Name { ask, found } => {
                let asked = ask.send(()).map_err(io::Error::other);
                asked.and_then(|()| found.recv().map_err(io::Error::other)?)
            }
        }
    }
}

/// This thread itself touches nothing that comes from elsewhere.
fn serve(address: &str, asked: &Receiver<()>, tell: &SyncSender<Found>) {
    if let Err(error) = keep_capabilities(&[]) {
        eprintln!("tlscope: capabilities cannot be given up: {error}");
    }
    while asked.recv().is_ok() {
        if tell.send(look_up_confined(address.to_owned())).is_err() {
            return;
        }
    }
}

fn look_up_confined(address: String) -> Found {
    let look_up = move || {
        // Where it cannot be confined, no thread can: that has been said.
        let _ = sandbox().enter();
        address.to_socket_addrs().map(Iterator::collect)
    };
    let thread = thread::Builder::new().name("look-up".into());
    let result = thread.spawn(look_up)?.join();
    result.unwrap_or_else(|_| Err(io::Error::other("the look-up broke off")))
}

fn sandbox() -> Sandbox {
    let loads_libraries = cfg!(not(target_feature = "crt-static"));
    let libraries = LIBRARIES.iter().filter(|_| loads_libraries);
    Sandbox {
        reads: SETTINGS
            .iter()
            .chain(libraries)
            .map(PathBuf::from)
            .collect(),
        connects_to: vec![DNS],
        ..Sandbox::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confined_thread_finds_names_each_time_it_is_asked() {
        let names = Names::start("localhost:80").unwrap();
        for _ in 0..2 {
            let found = names.look_up().unwrap();
            let is_local = |found: &SocketAddr| found.ip().is_loopback() && found.port() == 80;
            assert!(!found.is_empty() && found.iter().all(is_local), "{found:?}");
        }
        let address = "[::1]:80".parse().unwrap();
        let names = Names::start("[::1]:80").unwrap();
        assert_eq!(names.look_up().unwrap(), [address]);
    }
}
