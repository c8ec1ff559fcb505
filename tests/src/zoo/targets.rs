//! The table of targets: what each is, where it comes from, how it is run.
//!
//! To add one, add a row to `rows.rs`. A version that nobody listed needs none: `make zoo
//! FILE=...`.

mod rows;

use std::fmt;
use std::sync::LazyLock;

use crate::zoo::go::Facts;

/// One build of a TLS library.
#[derive(Debug, Clone)]
pub struct Target {
    pub name: &'static str,
    /// What it holds, for people, where its source does not say it all.
    pub holds: &'static str,
    /// The family as `tlscope inspect --json` names it.
    pub family: &'static str,
    pub source: Source,
    /// The image, inside what the source unpacks to; `*` stands for anything in a file name.
    pub file: &'static str,
    pub run: Run,
    /// How the same build for aarch64 is had, which is looked at only.
    pub arm: Arm,
    /// Part of `make zoo-quick`, which CI runs.
    pub quick: bool,
}

/// Where a target comes from: always an ordinary package registry, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A file of this machine, copied.
    System,
    /// A wheel, unpacked; its ABI tag and platform need not be those of this machine.
    Wheel {
        package: &'static str,
        version: &'static str,
        python: &'static str,
        platform: &'static str,
        /// Packages without which it cannot be imported, where it is run by Python.
        needs: &'static [&'static str],
    },
    /// A package of a Debian suite, or several with spaces between them, unpacked.
    Debian {
        suite: &'static str,
        arch: &'static str,
        package: &'static str,
    },
    /// The same with all that it depends on, as a root to change to.
    Root {
        suite: &'static str,
        packages: &'static [&'static str],
    },
    Npm {
        package: &'static str,
        version: &'static str,
    },
    /// Sources in a package, compiled here by `scripts/zoo-build.sh RECIPE`.
    Built {
        recipe: &'static str,
        package: &'static str,
        version: &'static str,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("this machine"),
            Self::Wheel {
                package, version, ..
            } => write!(f, "wheel {package} {version}"),
            Self::Debian { suite, .. } | Self::Root { suite, .. } => write!(f, "Debian {suite}"),
            Self::Npm { package, version } => write!(f, "npm {package} {version}"),
            Self::Built {
                package, version, ..
            } => write!(f, "built from {package} {version}"),
        }
    }
}

/// How a target is brought to talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// `fixtures/peer.c` loads it; the library's own key-log callback is the witness.
    Peer(Tls),
    /// The same in the root that the package was unpacked to: it needs its own libc.
    PeerInRoot(Tls),
    /// The library has no key log: peers on the system's OpenSSL are the witnesses.
    PeerAgainstSystem { client: Tls, server: Tls },
    /// A program of its own, client and server, each talking to `fixtures/witness.py`.
    Program(Program, Tls),
    /// `fixtures/nss_peer.c` runs on it; OpenSSL at the other end is the witness.
    Nss(Tls),
    /// A Go: it builds `fixtures/go` in every way, for this machine or for the other. What is for
    /// this machine runs.
    GoToolchain { arch: &'static str, facts: Facts },
    /// A Go program of somebody, only looked at.
    GoProgram(Facts),
    /// Only looked at.
    Look,
    /// Not for this machine. The name of its twin of this machine's architecture.
    Offline { twin: &'static str },
}

/// The versions of TLS that a library has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Only12,
    /// It has both, but of TLS 1.2 no secrets can be had, which its plan says.
    Only13,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `node fixtures/tls_peer.js`.
    Node,
    Bun,
    /// `fixtures/grpc_peer.py` with a grpcio wheel on its path.
    Grpc,
    /// `openssl s_server -rev` and `openssl s_client`, in the root of their suite.
    Openssl,
    /// `fixtures/curl_cffi_peer.py`: a client, with nginx behind the witness.
    CurlCffi,
    /// `fixtures/ffmpeg_peer.py`: the same, and ffmpeg itself holds the library.
    Ffmpeg,
}

/// A build for aarch64 beside the one for `x86_64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    No,
    /// In the same package, for the other architecture.
    Alike,
    /// npm has a package for each architecture.
    Npm(&'static str),
}

/// As `tlscope inspect --json` names it.
pub const NSS: &str = "nss";

/// All targets.
pub static TARGETS: LazyLock<Vec<Target>> = LazyLock::new(|| {
    let mut targets = [
        rows::openssl(),
        rows::boringssl(),
        rows::libressl(),
        rows::nss(),
        rows::gnutls(),
    ]
    .concat();
    let twins: Vec<_> = targets.iter().filter_map(Target::for_aarch64).collect();
    targets.extend(twins);
    targets.extend(rows::go_toolchains());
    targets.extend(rows::go_programs());
    targets
});

/// The target of this name.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    fn new(
        family: &'static str,
        name: &'static str,
        holds: &'static str,
        source: Source,
        file: &'static str,
        run: Run,
    ) -> Self {
        Self {
            name,
            holds,
            family,
            source,
            file,
            run,
            arm: Arm::No,
            quick: false,
        }
    }

    /// What it is, for people.
    pub fn described(&self) -> String {
        match self.holds {
            "" => self.source.to_string(),
            holds => format!("{holds}, {}", self.source),
        }
    }

    fn quick(mut self) -> Self {
        self.quick = true;
        self
    }

    fn on(mut self, arm: Arm) -> Self {
        self.arm = arm;
        self
    }

    /// The twin of this target.
    fn for_aarch64(&self) -> Option<Self> {
        // Names live as long as the program, as the table does.
        let other = |text: &str| -> &'static str { text.replace("x86_64", "aarch64").leak() };
        let arch = "arm64";
        let source = match (self.arm, self.source) {
            (Arm::No, _) => return None,
            (Arm::Npm(package), Source::Npm { version, .. }) => Source::Npm { package, version },
            (
                _,
                Source::Wheel {
                    package,
                    version,
                    python,
                    platform,
                    ..
                },
            ) => Source::Wheel {
                package,
                version,
                python,
                platform: other(platform),
                needs: &[],
            },
            (_, Source::Debian { suite, package, .. }) => Source::Debian {
                suite,
                arch,
                package,
            },
            (_, Source::Root { suite, packages }) => Source::Debian {
                suite,
                arch,
                package: packages[0],
            },
            (
                _,
                Source::Built {
                    recipe,
                    package,
                    version,
                },
            ) => Source::Built {
                recipe: format!("{recipe}-aarch64").leak(),
                package,
                version,
            },
            (_, Source::System | Source::Npm { .. }) => panic!("{} has no twin", self.name),
        };
        Some(Self {
            name: format!("{}-arm64", self.name).leak(),
            source,
            file: other(self.file),
            run: Run::Offline { twin: self.name },
            arm: Arm::No,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_twins_exist() {
        let names: BTreeSet<_> = TARGETS.iter().map(|t| t.name).collect();
        assert_eq!(names.len(), TARGETS.len());
        for target in TARGETS.iter() {
            if let Run::Offline { twin } = target.run {
                let twin = named(twin).expect(twin);
                assert_eq!(twin.family, target.family, "{}", target.name);
                assert!(!matches!(twin.run, Run::Offline { .. }), "{}", target.name);
            }
        }
    }
}
