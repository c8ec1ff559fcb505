//! The places where the dynamic loader looks for a library.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::{below, ld_cache};
use crate::image::{ImageId, open_file};

/// Compiled into loaders: glibc's and musl's, multiarch and not, and Android's.
const DEFAULT_DIRECTORIES: &[&str] = &[
    #[cfg(target_arch = "x86_64")]
    "/lib/x86_64-linux-gnu",
    #[cfg(target_arch = "x86_64")]
    "/usr/lib/x86_64-linux-gnu",
    #[cfg(target_arch = "aarch64")]
    "/lib/aarch64-linux-gnu",
    #[cfg(target_arch = "aarch64")]
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/system/lib64",
    "/system_ext/lib64",
    "/product/lib64",
    "/vendor/lib64",
];

/// Includes may be nested this deep; more is a loop.
const MAX_INCLUDES: usize = 8;

/// Every file whose name is wanted, as an absolute path in the tree at `root`.
pub(super) fn libraries(root: &Path, wanted: impl Fn(&[u8]) -> bool) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let name_of = |path: &Path| path.file_name().map(|n| n.as_bytes().to_vec());
    let cache = fs::read(below(root, b"/etc/ld.so.cache")).unwrap_or_default();
    for path in ld_cache::paths(&cache).map(|p| below(Path::new("/"), p)) {
        if name_of(&path).is_some_and(|name| wanted(&name)) {
            found.insert(path);
        }
    }
    for directory in directories(root) {
        let entries = fs::read_dir(below(root, directory.as_os_str().as_bytes()));
        for entry in entries.into_iter().flatten().filter_map(Result::ok) {
            if wanted(entry.file_name().as_bytes()) {
                found.insert(directory.join(entry.file_name()));
            }
        }
    }
    found
}

fn directories(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    read_conf(root, Path::new("/etc/ld.so.conf"), MAX_INCLUDES, &mut all);
    all.extend(DEFAULT_DIRECTORIES.iter().map(PathBuf::from));
    // Android's modules: /apex/com.android.conscrypt/lib64 and their like.
    let modules = fs::read_dir(below(root, b"/apex"));
    for module in modules.into_iter().flatten().filter_map(Result::ok) {
        all.push(Path::new("/apex").join(module.file_name()).join("lib64"));
    }
    all
}

/// Directories and `include PATTERN` lines; `#` begins a comment.
fn read_conf(root: &Path, conf: &Path, depth: usize, all: &mut Vec<PathBuf>) {
    let Ok(text) = fs::read_to_string(below(root, conf.as_os_str().as_bytes())) else {
        return;
    };
    for line in text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
    {
        if let Some(pattern) = line
            .strip_prefix("include")
            .filter(|p| p.starts_with([' ', '\t']))
        {
            if depth > 0 {
                for file in matching(root, conf, pattern.trim()) {
                    read_conf(root, &file, depth - 1, all);
                }
            }
        } else if line.split_whitespace().next() != Some("hwcap") {
            let separators = [' ', '\t', ',', ':'];
            all.extend(
                line.split(separators)
                    .filter(|d| d.starts_with('/'))
                    .map(PathBuf::from),
            );
        }
    }
}

/// The files that an include pattern names: `*` in the last part only, as all distributions write it.
fn matching(root: &Path, conf: &Path, pattern: &str) -> Vec<PathBuf> {
    let pattern = conf.parent().unwrap_or(Path::new("/")).join(pattern);
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let Some((head, tail)) = name.to_str().and_then(|name| name.split_once('*')) else {
        return vec![pattern];
    };
    let entries = fs::read_dir(below(root, directory.as_os_str().as_bytes()));
    let mut files: Vec<_> = entries
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(|e| {
            let name = e.file_name();
            let name = name.as_bytes();
            name.len() >= head.len() + tail.len()
                && name.starts_with(head.as_bytes())
                && name.ends_with(tail.as_bytes())
        })
        .map(|e| directory.join(e.file_name()))
        .collect();
    files.sort();
    files
}

/// The file's number if it is an ELF file that a program of this machine's own
/// architecture could load: not a 32-bit library, and no linker script.
pub(super) fn native_elf(path: &Path) -> Option<ImageId> {
    number_of_native(open_file(path).ok()?)
}

/// A file in a tree that is another's root directory.
pub(super) struct Inside {
    pub(super) image: ImageId,
    /// Without links, from where the kernel tells paths of that tree.
    pub(super) path: PathBuf,
    pub(super) mount: u64,
}

/// The same of a file in the tree at `root`, found as a program in there finds it, wherever links
/// lead.
pub(super) fn native_elf_in(root: &File, path: &Path) -> Option<Inside> {
    let file = open_in(root, path).ok()?;
    let fd = file.as_raw_fd();
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let mount = about
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))?;
    Some(Inside {
        path: fs::read_link(format!("/proc/self/fd/{fd}")).ok()?,
        mount: mount.trim().parse().ok()?,
        image: number_of_native(file)?,
    })
}

fn open_in(root: &File, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        // Before 5.6, and where a filter forbids it: a link from `/` on leads out of the tree.
        Err(Errno::NOSYS | Errno::PERM) => {
            let root = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
            open_file(&below(&root, path.as_os_str().as_bytes()))
        }
        opened => Ok(opened?.into()),
    }
}

fn number_of_native(mut file: File) -> Option<ImageId> {
    const ELF64_LE: &[u8] = b"\x7fELF\x02\x01";
    #[cfg(target_arch = "x86_64")]
    const MACHINE: [u8; 2] = 62u16.to_le_bytes();
    #[cfg(target_arch = "aarch64")]
    const MACHINE: [u8; 2] = 183u16.to_le_bytes();
    let mut header = [0; 20];
    file.read_exact(&mut header).ok()?;
    let native = header.starts_with(ELF64_LE) && header.ends_with(&MACHINE);
    native.then(|| file.metadata().ok().map(|m| ImageId::of(&m)))?
}
