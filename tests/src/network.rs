//! Two network namespaces with a veth pair between them, gone with the guard; and the end of
//! connections.

use std::fs;
use std::process::Command;

use crate::program::{must, tool};
use crate::wait;

/// `near` and `far`, each with one interface `veth0`.
#[derive(Debug)]
pub struct Network {
    near: String,
    far: String,
}

impl Network {
    pub const NEAR: &str = "10.97.0.1";
    pub const FAR: &str = "10.97.0.2";
    pub const FAR_V6: &str = "fd97::2";

    #[track_caller]
    pub fn pair() -> Self {
        let name = |end| format!("tlscope-{}-{end}", std::process::id());
        let network = Self {
            near: name("near"),
            far: name("far"),
        };
        for namespace in [&network.near, &network.far] {
            must(ip().args(["netns", "add", namespace]));
            must(ip().args(["-n", namespace, "link", "set", "lo", "up"]));
        }
        let (near, far) = (network.near.as_str(), network.far.as_str());
        must(ip().args([
            "-n", near, "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns",
            far,
        ]));
        for (namespace, v4, v6) in [
            (near, "10.97.0.1/24", "fd97::1/64"),
            (far, "10.97.0.2/24", "fd97::2/64"),
        ] {
            must(ip().args(["-n", namespace, "addr", "add", v4, "dev", "veth0"]));
            must(ip().args(["-n", namespace, "addr", "add", v6, "dev", "veth0", "nodad"]));
            must(ip().args(["-n", namespace, "link", "set", "veth0", "up"]));
        }
        network
    }

    /// The namespaces as files.
    pub fn paths(&self) -> [String; 2] {
        [&self.near, &self.far].map(|name| format!("/run/netns/{name}"))
    }

    /// `ip netns exec NAMESPACE`, to go before a command.
    pub fn in_near(&self) -> Command {
        exec(&self.near)
    }

    pub fn in_far(&self) -> Command {
        exec(&self.far)
    }

    #[track_caller]
    pub fn take_down(&self) {
        must(ip().args(["-n", &self.near, "link", "set", "veth0", "down"]));
    }

    #[track_caller]
    pub fn remove_link(&self) {
        must(ip().args(["-n", &self.near, "link", "del", "veth0"]));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            let _ = ip().args(["netns", "del", namespace]).status();
        }
    }
}

fn ip() -> Command {
    tool("ip", "iproute2")
}

fn exec(namespace: &str) -> Command {
    let mut command = ip();
    command.args(["netns", "exec", namespace]);
    command
}

/// Waits until both ends of every connection of a port have been closed: a client may be gone long
/// before its server is let run, and what the server says then is on the wire too.
#[track_caller]
pub fn until_closed(port: u16) {
    wait::until(&format!("connections of port {port} to be closed"), || {
        (open_ends(port) == 0).then_some(())
    });
}

/// Ends that may still say something, of connections within this network namespace.
fn open_ends(port: u16) -> usize {
    const SILENT: [&str; 2] = ["06", "0A"]; // TIME_WAIT, LISTEN
    let port = format!("{port:04X}");
    let is_open = |line: &&str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, state, ..] = columns.as_slice() else {
            return false;
        };
        let ends = [local, remote].map(|end| end.rsplit_once(':').unwrap_or_default());
        let here = ends[0].0 == ends[1].0;
        let ours = here && ends.iter().any(|(_, number)| *number == port);
        ours && !SILENT.contains(state)
    };
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let ends = tables.iter().flatten();
    ends.map(|table| table.lines().filter(is_open).count())
        .sum()
}
