//! Kernels, qemu and user space from Debian's packages, unpacked into `.cache/kernels`.
//!
//! Nothing is installed: the system may have qemu packages of another suite, which
//! conflict with these.

use std::fs;
use std::path::{Path, PathBuf};

use super::matrix::{Arch, Kernel, Userland};
use crate::zoo::fetch::debian::Apt;
use crate::zoo::fetch::find;

/// qemu 10: that of Debian 12 emulates cmpxchg16b badly, and 6.12 panics on it.
const QEMU_SUITE: &str = "trixie";

pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the workspace")
}

pub fn cache() -> PathBuf {
    workspace().join(".cache/kernels")
}

/// What `scripts/dist.sh` built for the machines.
pub fn built(arch: Arch, program: &str) -> PathBuf {
    workspace()
        .join(".cache/dist")
        .join(arch.name())
        .join(program)
}

/// The kernel's image: what the suite's metapackage stands for today.
#[track_caller]
pub fn kernel(kernel: &Kernel) -> PathBuf {
    let (suite, arch) = (kernel.version.suite, kernel.arch.debian());
    let root = once(&format!("kernel-{suite}-{arch}"), |to| {
        let apt = Apt::new(suite, arch);
        let meta = format!("linux-image-cloud-{arch}");
        let image = apt.dependency(&meta, "linux-image-");
        let image = image.unwrap_or_else(|| panic!("{meta} depends on no linux-image-"));
        // Debian's newer kernels have a package for the image alone, and it is in another place.
        let binary = apt.dependency(&image, "linux-binary-");
        let whole = to.join("whole");
        apt.unpack(&whole, binary.as_ref().unwrap_or(&image));
        let found = match binary {
            Some(_) => find(&whole, "usr/lib/modules/*").join("vmlinuz"),
            None => find(&whole, "boot/vmlinuz-*"),
        };
        fs::rename(found, to.join("vmlinuz")).expect("keep the image");
        fs::remove_dir_all(&whole).expect("leave the rest");
    });
    root.join("vmlinuz")
}

/// A root with the user space's libraries, and busybox.
#[track_caller]
pub fn userland(userland: &Userland, arch: Arch) -> PathBuf {
    let (suite, arch) = (userland.suite, arch.debian());
    let packages = userland.packages.join("+");
    once(&format!("userland-{suite}-{arch}-{packages}"), |to| {
        let packages = [userland.packages, &["busybox-static"]].concat();
        Apt::new(suite, arch).root(to, &packages);
    })
}

/// A root with qemu for both architectures.
#[track_caller]
pub fn qemu() -> PathBuf {
    let host = match std::env::consts::ARCH {
        "aarch64" => Arch::Arm,
        _ => Arch::X86,
    };
    once(&format!("qemu-{QEMU_SUITE}"), |to| {
        let packages = ["qemu-system-x86", "qemu-system-arm"];
        Apt::new(QEMU_SUITE, host.debian()).root(to, &packages);
    })
}

/// Makes a directory of the cache, whole or not at all, unless it is there.
#[track_caller]
fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let directory = cache().join(name);
    if !directory.exists() {
        let partial = directory.with_extension("partial");
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).expect("a directory in the cache");
        eprintln!("fetching {name}");
        make(&partial);
        fs::rename(&partial, &directory).expect("put the download in place");
    }
    directory
}
