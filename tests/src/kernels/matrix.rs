//! The kernels, and what each is known to have: data only.
//!
//! A feature that is listed and does not work is a failure; so is one that works and is
//! not listed, for then the table is wrong.

/// One kernel, with the user space that runs on it.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    pub name: &'static str,
    pub arch: Arch,
    /// Where the package `linux-image-cloud-ARCH` is from.
    pub suite: &'static str,
    /// Where libc and the TLS libraries are from: kernel and user space mix freely.
    pub userland: Userland,
    pub attach: &'static [&'static str],
    /// Ways to sockets of the core object; the noncore object has `NONCORE_SOCKETS`.
    pub sockets: &'static [&'static str],
    /// Whether CI runs it.
    pub quick: bool,
}

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

const OLD: &[&str] = &["single", "tracefs"];
const COOKIE: &[&str] = &["single-cookie", "single", "tracefs"];
const MULTI: &[&str] = &["multi", "single-cookie", "single", "tracefs"];
const SESSION: &[&str] = &["session", "multi", "single-cookie", "single", "tracefs"];

const SYSCALL: &[&str] = &["syscall"];
const TRACEPOINTS: &[&str] = &["tracepoints", "syscall"];

const fn kernel(name: &'static str, arch: Arch, suite: &'static str, userland: Userland) -> Kernel {
    Kernel {
        name,
        arch,
        suite,
        userland,
        attach: COOKIE,
        sockets: SYSCALL,
        quick: false,
    }
}

pub const KERNELS: &[Kernel] = &[
    Kernel {
        attach: OLD,
        quick: true,
        ..kernel("5.10 x86_64", Arch::X86, "bullseye", TRIXIE)
    },
    kernel("6.1 x86_64", Arch::X86, "bookworm", BOOKWORM),
    Kernel {
        attach: MULTI,
        sockets: TRACEPOINTS,
        quick: true,
        ..kernel("6.12 x86_64", Arch::X86, "trixie", BULLSEYE)
    },
    Kernel {
        attach: SESSION,
        sockets: TRACEPOINTS,
        ..kernel("7.3 x86_64", Arch::X86, "trixie-backports", TRIXIE)
    },
    Kernel {
        attach: OLD,
        ..kernel("5.10 aarch64", Arch::Arm, "bullseye", BULLSEYE)
    },
    Kernel {
        quick: true,
        ..kernel("6.1 aarch64", Arch::Arm, "bookworm", BOOKWORM)
    },
    Kernel {
        attach: MULTI,
        sockets: TRACEPOINTS,
        ..kernel("6.12 aarch64", Arch::Arm, "trixie", TRIXIE)
    },
];

impl Kernel {
    /// The way to sockets of the noncore object that `--sockets` may force.
    pub fn noncore_sockets(&self) -> Vec<&'static str> {
        let tracepoints = self.sockets.iter().filter(|s| **s == "tracepoints");
        tracepoints.copied().chain(["kprobes"]).collect()
    }

    /// Told to the machine on the kernel's command line.
    pub fn arguments(&self) -> String {
        let cases = std::env::var("TLSCOPE_CASES").map(|cases| format!(" tlscope.cases={cases}"));
        let features = format!(
            "tlscope.attach={} tlscope.sockets={} tlscope.noncore_sockets={}",
            self.attach.join(","),
            self.sockets.join(","),
            self.noncore_sockets().join(",")
        );
        features + &cases.unwrap_or_default()
    }
}
