//! The places where the dynamic loader looks for a library.
//!
//! The tree may be that of a container, whose owner may put anything anywhere: a link to
//! `/dev/zero`, a pipe that nobody writes to, files that include each other.

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;

use super::{below, ld_cache};
use crate::image::{ImageId, reopen_file};

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

/// Files of configuration that are read, and directories that they name; distributions have some ten.
const CONFIGURATION_MAX: usize = 256;
/// Of one file of configuration: each is held while those that it includes are read.
const CONFIGURATION_BYTES_MAX: u64 = 64 << 10;
/// A cache of 4,000 libraries has 300 KB.
const CACHE_BYTES_MAX: u64 = 16 << 20;
/// Of all directories together; Debian's largest has some 5,000, and two names.
const ENTRIES_MAX: usize = 100_000;
/// Libraries of wanted names in one tree.
const LIBRARIES_MAX: usize = 256;

/// A root directory, looked at from outside as a program in there sees it, wherever links lead.
pub(super) struct Tree {
    root: File,
    entries_left: Cell<usize>,
}

impl Tree {
    pub(super) fn at(root: &Path) -> io::Result<Self> {
        Ok(Self {
            root: File::open(root)?,
            entries_left: Cell::new(ENTRIES_MAX),
        })
    }

    /// Every file whose name is wanted, as an absolute path in the tree.
    pub(super) fn libraries(&self, wanted: impl Fn(&[u8]) -> bool) -> BTreeSet<PathBuf> {
        let cache = self.read(Path::new("/etc/ld.so.cache"), CACHE_BYTES_MAX);
        let cached = ld_cache::paths(&cache).map(|path| below(Path::new("/"), path));
        let in_directory = |directory: PathBuf| {
            let entries = self.entries(&directory);
            entries.into_iter().map(move |name| directory.join(name))
        };
        let in_directories = self.directories().into_iter().flat_map(in_directory);
        let is_wanted = |path: &PathBuf| path.file_name().is_some_and(|n| wanted(n.as_bytes()));
        let found = cached.chain(in_directories).filter(is_wanted);
        found.take(LIBRARIES_MAX).collect()
    }

    /// A file if it is an ELF file that a program of this machine's own architecture could load:
    /// not a 32-bit library, and no linker script.
    pub(super) fn native_elf(&self, path: &Path) -> Option<Inside> {
        let mut file = self.open(path).ok()?;
        is_native_elf(&mut file).then_some(())?;
        let fd = file.as_raw_fd();
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let mount = about
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:"))?;
        Some(Inside {
            image: ImageId::of(&file.metadata().ok()?),
            path: fs::read_link(format!("/proc/self/fd/{fd}")).ok()?,
            mount: mount.trim().parse().ok()?,
        })
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        reopen_file(self.resolve(path, OFlags::PATH)?)
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        // The kernel refuses `..` when anything is renamed or mounted anywhere meanwhile: 3 in 1000
        // beside one busy thread.
        const TRIES: usize = 16;
        let flags = flags | OFlags::CLOEXEC;
        let inside = ResolveFlags::IN_ROOT;
        let open_inside = || openat2(&self.root, path, flags, Mode::empty(), inside);
        let mut tries = std::iter::repeat_with(open_inside).take(TRIES);
        match tries.find(|opened| !matches!(opened, Err(Errno::AGAIN))) {
            // Before 5.6, and where a filter forbids it: a link from `/` on leads out of the tree.
            Some(Err(Errno::NOSYS | Errno::PERM)) => {
                let root = format!("/proc/self/fd/{}", self.root.as_raw_fd());
                let path = below(Path::new(&root), path.as_os_str().as_bytes());
                Ok(open(path, flags, Mode::empty())?)
            }
            opened => Ok(opened.unwrap_or(Err(Errno::AGAIN))?),
        }
    }

    /// The first bytes of a file; what cannot be read is empty.
    fn read(&self, path: &Path, most: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Ok(file) = self.open(path) {
            // Half a file is as good as another one.
            let _ = file.take(most).read_to_end(&mut bytes);
        }
        bytes
    }

    /// Names in a directory, while there is room for more; an empty one takes room too.
    fn entries(&self, directory: &Path) -> Vec<OsString> {
        let Some(room) = self.entries_left.get().checked_sub(1) else {
            return Vec::new();
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let names = self.resolve(directory, flags).and_then(|directory| {
            let entries = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
            let names = entries.flatten().map(|entry| entry.file_name());
            Ok(names.take(room).collect())
        });
        let names: Vec<_> = names.unwrap_or_default();
        self.entries_left.set(room - names.len());
        names
    }

    fn directories(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        self.read_conf(Path::new("/etc/ld.so.conf"), &mut HashSet::new(), &mut all);
        all.extend(DEFAULT_DIRECTORIES.iter().map(PathBuf::from));
        // Android's modules: /apex/com.android.conscrypt/lib64 and their like.
        let apex = Path::new("/apex");
        let modules = self.entries(apex).into_iter();
        all.extend(modules.map(|module| apex.join(module).join("lib64")));
        all
    }

    /// Directories and `include PATTERN` lines; `#` begins a comment.
    fn read_conf(&self, conf: &Path, read: &mut HashSet<PathBuf>, all: &mut Vec<PathBuf>) {
        if read.len() >= CONFIGURATION_MAX || !read.insert(conf.to_owned()) {
            return;
        }
        let text = self.read(conf, CONFIGURATION_BYTES_MAX);
        for line in String::from_utf8_lossy(&text)
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default().trim())
        {
            if let Some(pattern) = line
                .strip_prefix("include")
                .filter(|p| p.starts_with([' ', '\t']))
            {
                for file in self.matching(conf, pattern.trim()) {
                    self.read_conf(&file, read, all);
                }
            } else if line.split_whitespace().next() != Some("hwcap") {
                let separators = [' ', '\t', ',', ':'];
                let directories = line.split(separators).filter(|d| d.starts_with('/'));
                let room = CONFIGURATION_MAX.saturating_sub(all.len());
                all.extend(directories.take(room).map(PathBuf::from));
            }
        }
    }

    /// The files that an include pattern names: `*` in the last part only, as all distributions write it.
    fn matching(&self, conf: &Path, pattern: &str) -> Vec<PathBuf> {
        let pattern = conf.parent().unwrap_or(Path::new("/")).join(pattern);
        let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else {
            return Vec::new();
        };
        let Some((head, tail)) = name.to_str().and_then(|name| name.split_once('*')) else {
            return vec![pattern];
        };
        let matches = |name: &OsString| {
            let name = name.as_bytes();
            name.len() >= head.len() + tail.len()
                && name.starts_with(head.as_bytes())
                && name.ends_with(tail.as_bytes())
        };
        let names = self.entries(directory).into_iter().filter(matches);
        let mut files: Vec<_> = names.map(|name| directory.join(name)).collect();
        files.sort();
        files
    }
}

/// A file of a tree.
pub(super) struct Inside {
    pub(super) image: ImageId,
    /// Without links, from where the kernel tells paths of that tree.
    pub(super) path: PathBuf,
    pub(super) mount: u64,
}

fn is_native_elf(file: &mut File) -> bool {
    const ELF64_LE: &[u8] = b"\x7fELF\x02\x01";
    #[cfg(target_arch = "x86_64")]
    const MACHINE: [u8; 2] = 62u16.to_le_bytes();
    #[cfg(target_arch = "aarch64")]
    const MACHINE: [u8; 2] = 183u16.to_le_bytes();
    let mut header = [0; 20];
    file.read_exact(&mut header).is_ok()
        && header.starts_with(ELF64_LE)
        && header.ends_with(&MACHINE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use rustix::fs::{CWD, mkfifoat};

    use super::*;

    /// What is done in a directory of its own, which goes then.
    fn in_tree(name: &str, test: impl FnOnce(&Path, &Tree)) {
        let root = std::env::temp_dir().join(format!("tlscope-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("lib")).unwrap();
        test(&root, &Tree::at(&root).unwrap());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        in_tree("pipe", |root, tree| {
            mkfifoat(CWD, root.join("pipe"), Mode::RUSR).unwrap();
            for path in ["/pipe", "/lib"] {
                let refused = tree.open(Path::new(path)).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{path}");
            }
        });
    }

    /// The kernel refuses `..` then (openat2(2), `EAGAIN`).
    #[test]
    fn a_link_upwards_is_followed_while_files_elsewhere_are_renamed() {
        in_tree("renamed", |root, tree| {
            fs::write(root.join("file"), b"").unwrap();
            symlink("../file", root.join("lib/link")).unwrap();
            let over = AtomicBool::new(false);
            let rename = || {
                let (one, other) = (root.join("one"), root.join("other"));
                fs::write(&one, b"").unwrap();
                while !over.load(Ordering::Relaxed) {
                    fs::rename(&one, &other).unwrap();
                    fs::rename(&other, &one).unwrap();
                }
            };
            let failed = thread::scope(|scope| {
                scope.spawn(rename);
                let link = Path::new("/lib/link");
                let failed = (0..10_000).find_map(|_| tree.open(link).err());
                over.store(true, Ordering::Relaxed);
                failed
            });
            assert!(failed.is_none(), "{failed:?}");
        });
    }
}
