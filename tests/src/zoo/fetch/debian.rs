//! Packages of any Debian suite and architecture, without touching the system.
//!
//! apt runs on a configuration, lists and an empty package status of its own, with the
//! system's mirror and keyring.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cache;
use crate::program::{must, tool};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt of one suite and architecture.
#[derive(Debug)]
pub(crate) struct Apt {
    directory: PathBuf,
    suite: &'static str,
    arch: &'static str,
}

impl Apt {
    /// Reads the suite's package lists.
    pub(crate) fn new(suite: &'static str, arch: &'static str) -> Self {
        let directory = cache().join(format!("apt-{suite}-{arch}"));
        for part in ["etc/apt.conf.d", "lists/partial", "archives/partial"] {
            fs::create_dir_all(directory.join(part)).expect("directories for apt");
        }
        let apt = Self {
            directory,
            suite,
            arch,
        };
        fs::write(apt.path("status"), "").expect("an empty package status");
        fs::write(apt.path("etc/sources.list"), apt.sources()).expect("sources of apt");
        must(apt.command().args(["-qq", "update"]));
        apt
    }

    fn path(&self, part: &str) -> PathBuf {
        self.directory.join(part)
    }

    /// The suite on the mirror that this machine uses; experimental rests on sid.
    fn sources(&self) -> String {
        let suites: &[&str] = match self.suite {
            "experimental" => &["sid", "experimental"],
            _ => &[self.suite],
        };
        let mirror = mirror();
        let line = |suite: &&str| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        suites.iter().map(line).collect()
    }

    fn command(&self) -> Command {
        self.configured(tool("apt-get", "apt"))
    }

    fn configured(&self, mut apt: Command) -> Command {
        let option = |name: &str, path: PathBuf| format!("{name}={}", path.display());
        for setting in [
            option("Dir::Etc", self.path("etc")),
            option("Dir::State", self.directory.clone()),
            option("Dir::State::lists", self.path("lists")),
            option("Dir::State::status", self.path("status")),
            option("Dir::Cache", self.directory.clone()),
            option("Dir::Cache::archives", self.path("archives")),
            format!("APT::Architecture={}", self.arch),
            format!("APT::Architectures={}", self.arch),
            format!("APT::Default-Release={}", self.suite),
            // apt's own user need not be able to write to our directory.
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=3".into(),
            "Debug::NoLocking=1".into(),
        ] {
            apt.arg("-o").arg(setting);
        }
        apt
    }

    /// The first package that a package depends on and whose name begins so: what a
    /// metapackage stands for today.
    pub(crate) fn dependency(&self, package: &str, prefix: &str) -> Option<String> {
        let mut cache = self.configured(tool("apt-cache", "apt"));
        let out = must(cache.args(["depends", package]));
        let text = String::from_utf8_lossy(&out).into_owned();
        let named = |line: &str| {
            let (_, name) = line.split_once("Depends: ")?;
            name.starts_with(prefix).then(|| name.to_owned())
        };
        text.lines().find_map(named)
    }

    /// Unpacks one package, or several with spaces between them.
    pub(crate) fn unpack(&self, to: &Path, package: &str) {
        let download = to.join("download");
        fs::create_dir_all(&download).expect("a directory for the package");
        must(
            self.command()
                .args(["-qq", "download"])
                .args(package.split(' '))
                .current_dir(&download),
        );
        extract_all(&download, to);
        fs::remove_dir_all(&download).expect("remove the package");
    }

    /// Unpacks packages and all that they depend on: a root for `chroot`.
    pub(crate) fn root(&self, to: &Path, packages: &[&str]) {
        for part in ["bin", "sbin", "lib", "lib64"] {
            let real = format!("usr/{part}");
            fs::create_dir_all(to.join(&real)).expect("a directory of the root");
            symlink(&real, to.join(part)).expect("a link of the root");
        }
        must(self.command().arg("clean"));
        fs::create_dir_all(self.path("archives/partial")).expect("directories for apt");
        let mut install = self.command();
        install.args([
            "-qq",
            "--yes",
            "--download-only",
            "--no-install-recommends",
            "install",
        ]);
        must(install.args(packages));
        extract_all(&self.path("archives"), to);
        must(self.command().arg("clean"));
    }
}

fn extract_all(packages: &Path, to: &Path) {
    let entries = fs::read_dir(packages)
        .expect("downloaded packages")
        .flatten();
    let packages: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "deb"))
        .collect();
    assert!(!packages.is_empty(), "apt downloaded no package");
    for package in packages {
        must(tool("dpkg-deb", "dpkg").arg("-x").arg(package).arg(to));
    }
}

/// The address that this machine's own apt has Debian's main archive from.
fn mirror() -> String {
    let mut targets = tool("apt-get", "apt");
    targets.args([
        "indextargets",
        "--format",
        "$(ORIGIN) $(REPO_URI) $(RELEASE)",
    ]);
    let out = must(targets.arg("Created-By: Packages"));
    let text = String::from_utf8_lossy(&out).into_owned();
    let own = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let &["Debian", uri, suite] = words.as_slice() else {
            return None;
        };
        // Not the archives of updates and security, which have other suites.
        (!suite.contains('-')).then(|| uri.to_owned())
    };
    match text.lines().find_map(own) {
        Some(uri) => uri,
        None => panic!("apt has no Debian archive among its sources (apt-get update?):\n{text}"),
    }
}
