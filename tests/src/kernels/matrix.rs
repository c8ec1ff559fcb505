//! The kernels, and what each is known to have: data only.
//!
//! A feature that a version has and that does not work is a failure; so is one that works
//! and that it has not, for then the table is wrong.

use std::fmt;

/// A version of the kernel, and the best that it has: what is behind that in `ATTACH` and in
/// `SOCKETS`, it has too.
#[derive(Debug, Clone, Copy)]
pub struct Version {
    pub name: &'static str,
    /// Where the package `linux-image-cloud-ARCH` is from.
    pub suite: &'static str,
    pub attach: &'static str,
    pub sockets: &'static str,
    /// What a user takes to attach to a library that is named; `CAP_NET_RAW` besides for packets.
    pub capabilities: &'static [Capability],
}

/// Its name in words of setcap(8), and its bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    pub name: &'static str,
    pub bit: u32,
}

const fn capability(name: &'static str, bit: u32) -> Capability {
    Capability { name, bit }
}

pub const NET_RAW: Capability = capability("CAP_NET_RAW", 13);
const SYS_ADMIN: Capability = capability("CAP_SYS_ADMIN", 21);
const SYS_RESOURCE: Capability = capability("CAP_SYS_RESOURCE", 24);
const PERFMON: Capability = capability("CAP_PERFMON", 38);
const BPF: Capability = capability("CAP_BPF", 39);

/// Best first.
pub const ATTACH: &[&str] = &["session", "multi", "single-cookie", "single", "tracefs"];
/// Of the core object.
pub const SOCKETS: &[&str] = &["tracepoints", "syscall"];

const fn version(
    name: &'static str,
    suite: &'static str,
    [attach, sockets]: [&'static str; 2],
    capabilities: &'static [Capability],
) -> Version {
    Version {
        name,
        suite,
        attach,
        sockets,
        capabilities,
    }
}

const V7_3: Version = version(
    "7.3",
    "trixie-backports",
    ["session", "tracepoints"],
    &[BPF, PERFMON],
);
const V6_12: Version = version("6.12", "trixie", ["multi", "tracepoints"], &[BPF, PERFMON]);
/// Uprobes as perf events: stable kernels of 2025 want more than `CAP_PERFMON`.
const V6_1: Version = version(
    "6.1",
    "bookworm",
    ["single-cookie", "syscall"],
    &[BPF, PERFMON, SYS_ADMIN],
);
/// Before 5.11 a map counts as locked memory, of which a user has little.
const V5_10: Version = version(
    "5.10",
    "bullseye",
    ["single", "syscall"],
    &[BPF, PERFMON, SYS_RESOURCE],
);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    X86,
    Arm,
}

impl Arch {
    /// As Debian names it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm => "arm64",
        }
    }

    /// As Rust and the kernel name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }
}

/// Where libc and the TLS libraries are from: kernel and user space mix freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Userland {
    pub suite: &'static str,
    pub openssl: &'static str,
    pub packages: &'static [&'static str],
}

const BULLSEYE: Userland = Userland {
    suite: "bullseye",
    openssl: "1.1.1",
    packages: &["libc6", "libssl1.1", "libgnutls30", "libnss3"],
};
const BOOKWORM: Userland = Userland {
    suite: "bookworm",
    openssl: "3.0",
    packages: &["libc6", "libssl3", "libgnutls30", "libnss3"],
};
pub const TRIXIE: Userland = Userland {
    suite: "trixie",
    openssl: "3.5",
    packages: &["libc6", "libssl3t64", "libgnutls30t64", "libnss3"],
};

/// When a machine is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// By CI, too.
    Always,
    /// By `make kernels`.
    InFull,
}

/// A kernel of one architecture, with the user space that runs on it.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    pub version: Version,
    pub arch: Arch,
    pub userland: Userland,
    pub runs: Runs,
}

const fn kernel(version: Version, arch: Arch, userland: Userland, runs: Runs) -> Kernel {
    Kernel {
        version,
        arch,
        userland,
        runs,
    }
}

/// In the order of their beginning: newer ones take longer under emulation.
pub const KERNELS: [Kernel; 7] = [
    kernel(V7_3, Arch::X86, TRIXIE, Runs::InFull),
    kernel(V6_12, Arch::X86, BULLSEYE, Runs::Always),
    kernel(V6_12, Arch::Arm, TRIXIE, Runs::InFull),
    kernel(V6_1, Arch::X86, BOOKWORM, Runs::InFull),
    kernel(V6_1, Arch::Arm, BOOKWORM, Runs::Always),
    kernel(V5_10, Arch::X86, TRIXIE, Runs::Always),
    kernel(V5_10, Arch::Arm, BULLSEYE, Runs::InFull),
];

/// As in "6.1 aarch64".
impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.version.name, self.arch.name())
    }
}

impl Kernel {
    /// Told to the machine on the kernel's command line.
    pub fn arguments(&self) -> String {
        let cases = std::env::var("TLSCOPE_CASES").map(|cases| format!(" tlscope.cases={cases}"));
        format!("tlscope.version={}", self.version.name) + &cases.unwrap_or_default()
    }
}

/// A way that flags force.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// `-b`
    pub object: &'static str,
    /// `--attach`
    pub attach: Option<&'static str>,
    /// `--sockets`
    pub sockets: Option<&'static str>,
}

impl Version {
    #[track_caller]
    pub fn named(name: &str) -> Self {
        let mut versions = KERNELS.iter().map(|kernel| kernel.version);
        let found = versions.find(|version| version.name == name);
        found.unwrap_or_else(|| panic!("no version {name}"))
    }

    /// Capabilities that no other one stands for: `CAP_SYS_ADMIN` does for the two that came of it.
    pub fn needed_each(&self) -> Vec<Capability> {
        let all = self.capabilities;
        let stood_for =
            |one: &&Capability| all.contains(&SYS_ADMIN) && [BPF, PERFMON].contains(one);
        all.iter().filter(|one| !stood_for(one)).copied().collect()
    }

    /// Each way that it has besides the best, which `-b 0` picks.
    pub fn fallbacks(&self) -> Vec<Way> {
        let modes = from(ATTACH, self.attach)[1..].iter();
        // Beginning with the worst, all have their turn.
        let ways = from(SOCKETS, self.sockets).iter().rev().cycle();
        let core = modes.zip(ways).map(|(attach, sockets)| Way {
            object: "1",
            attach: Some(attach),
            sockets: Some(sockets),
        });
        let noncore = Way {
            object: "2",
            attach: Some("tracefs"),
            sockets: Some("kprobes"),
        };
        core.chain([noncore]).collect()
    }

    /// What is to be refused.
    pub fn lacks(&self) -> Vec<Way> {
        let modes = ATTACH.iter().take_while(|mode| **mode != self.attach);
        let modes = modes.map(|mode| Way {
            object: "1",
            attach: Some(mode),
            sockets: None,
        });
        let ways = SOCKETS.iter().take_while(|way| **way != self.sockets);
        let ways = ways.flat_map(|way| {
            ["1", "2"].map(|object| Way {
                object,
                attach: None,
                sockets: Some(way),
            })
        });
        modes.chain(ways).collect()
    }
}

/// What of these is as good as the best, or worse.
fn from(all: &'static [&'static str], best: &str) -> &'static [&'static str] {
    let place = all.iter().position(|one| *one == best);
    &all[place.expect("one of all")..]
}

impl Way {
    pub fn flags(&self) -> Vec<&'static str> {
        let attach = self.attach.map(|mode| ["--attach", mode]);
        let sockets = self.sockets.map(|way| ["--sockets", way]);
        let named = [attach, sockets].into_iter().flatten().flatten();
        ["-b", self.object].into_iter().chain(named).collect()
    }
}

/// As in `-b1:single+syscall`: one word.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = [self.attach, self.sockets].into_iter().flatten().collect();
        write!(f, "-b{}:{}", self.object, named.join("+"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_a_version_is_forced() {
        for Kernel { version, .. } in KERNELS {
            let fallbacks = version.fallbacks();
            let forced = |way: &&str| {
                let of = |one: &Way| one.attach == Some(*way) || one.sockets == Some(*way);
                fallbacks.iter().any(of)
            };
            let name = version.name;
            let modes = &from(ATTACH, version.attach)[1..];
            assert!(modes.iter().all(forced), "{name}");
            let ways = &from(SOCKETS, version.sockets)[1..];
            assert!(ways.iter().all(forced), "{name}");
        }
    }
}
