//! The programs that are traced in the machines, built here for their architecture.

use std::path::{Path, PathBuf};

use super::fetch;
use super::matrix::{Arch, Kernel};
use crate::program::must;
use crate::{fixtures, gnutls, go, nss, peer};

/// A peer in C: it opens its library by path, or it is linked to the libraries of a root.
struct CPeer {
    name: &'static str,
    headers: &'static [&'static str],
    libraries: &'static [&'static str],
}

const C_PEERS: [CPeer; 3] = [
    CPeer {
        name: "peer",
        headers: peer::HEADERS,
        libraries: &["-ldl", "-lpthread"],
    },
    CPeer {
        name: "gnutls_peer",
        headers: gnutls::HEADERS,
        libraries: &["-ldl", "-lpthread"],
    },
    CPeer {
        name: "nss_peer",
        headers: nss::HEADERS,
        libraries: nss::LIBRARIES,
    },
];

/// As the machine knows it.
pub const GO_PEER: &str = "go-peer";

/// Name and path of each.
#[track_caller]
pub fn build(kernel: &Kernel) -> Vec<(&'static str, PathBuf)> {
    let c = C_PEERS.iter().map(|peer| (peer.name, peer.build(kernel)));
    let go = (GO_PEER, go_peer(kernel.arch));
    c.chain([go]).collect()
}

impl CPeer {
    /// By zig, for the libc of Debian 11 and all later ones.
    #[track_caller]
    fn build(&self, kernel: &Kernel) -> PathBuf {
        let program = fetch::built(kernel.arch, self.name);
        let sources = fixtures::sources(self.name, self.headers);
        fixtures::made(program, &sources, |to| {
            let root = fetch::userland(&kernel.userland, kernel.arch);
            let linked = format!("usr/lib/{}-linux-gnu", kernel.arch.name());
            let mut cc = std::process::Command::new(fetch::built(kernel.arch, "tools/cc-gnu"));
            cc.args(["-O2", "-w", "-o"]).arg(to);
            cc.arg(fixtures::c_source(self.name));
            // The headers of the TLS libraries: the same on every architecture.
            cc.args(["-idirafter", "/usr/include"])
                .arg("-L")
                .arg(root.join(linked))
                .args(self.libraries);
            // What the root's libraries need of its newer libc is there when they run.
            must(cc.arg("-Wl,--allow-shlib-undefined"));
        })
    }
}

#[track_caller]
fn go_peer(arch: Arch) -> PathBuf {
    let program = fetch::built(arch, GO_PEER);
    let build = |to: &Path| {
        let mut tool = go::go_tool();
        tool.env("GOARCH", arch.debian());
        go::STRIPPED.make(tool, to);
    };
    fixtures::made(program, &go::sources(), build)
}
