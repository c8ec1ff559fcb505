//! Finding images: what running processes map, and what the loader would find.
//!
//! An image is handed out once, named by (device, inode). The numbers of a
//! probed image cannot come back for another file: a probe holds its inode.
//! Processes that end while they are looked at are normal, not errors.

mod ld_cache;
mod loader;
mod maps;
mod overlay;
mod roots;
pub mod texts;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::thread::{CapabilitySet, capabilities};

use crate::image::{FoundBy, ImageId, Layer, Target};
use crate::names::Search;
use loader::{Inside, Tree};
use maps::Mapping;
use overlay::Above;
use roots::{Met, Roots};

/// What the dynamic loader would find in a root directory that is not ours.
#[derive(Debug, PartialEq, Eq)]
pub struct RootFiles {
    /// The device of an overlay: what was met on it may have been on another.
    pub new_overlay: Option<(u32, u32)>,
    pub targets: Vec<Target>,
}

#[derive(Debug)]
pub struct Finder {
    searches: Vec<Search>,
    /// `/`, or a tree that stands for it in tests.
    root: PathBuf,
    /// Images handed out: of what is seen through an overlay, the number in its layer.
    seen: HashSet<ImageId>,
    roots: Roots,
    /// One maps file after the other is read into this.
    buffer: Vec<u8>,
    last: ScanReport,
}

/// What the last scan looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanReport {
    pub processes: usize,
    /// Processes whose maps we have no right to read.
    pub unreadable: usize,
    pub elapsed: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("{} cannot be listed: {source}", path.display())]
pub struct ScanError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl Finder {
    pub fn new(searches: &[Search]) -> Self {
        Self::at(Path::new("/"), searches)
    }

    /// A finder for the system whose root directory, with `proc` in it, is `root`.
    pub fn at(root: &Path, searches: &[Search]) -> Self {
        Self {
            searches: searches.to_vec(),
            root: root.to_owned(),
            seen: HashSet::new(),
            roots: Roots::default(),
            buffer: Vec::with_capacity(256 * 1024),
            last: ScanReport::default(),
        }
    }

    /// The images that running processes map, without those handed out before.
    pub fn scan(&mut self) -> Result<Vec<Target>, ScanError> {
        let pids = self.pids()?;
        Ok(self.scan_processes(&pids))
    }

    /// The same of these processes only.
    pub fn scan_processes(&mut self, pids: &[u32]) -> Vec<Target> {
        let start = Instant::now();
        let mut found = Found::default();
        let mut report = ScanReport::default();
        for pid in pids.iter().copied() {
            report.processes += 1;
            match self.read_maps(pid) {
                Ok(()) => self.sift(pid, &mut found),
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => report.unreadable += 1,
                Err(_) => {} // it ended
            }
        }
        let real = found.index.into_keys();
        self.seen
            .extend(real.filter(|image| !found.above.contains(image)));
        report.elapsed = start.elapsed();
        self.last = report;
        found.targets
    }

    /// Whether a file that a process maps as code may be an image to hand out, by its path.
    pub fn may_want(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
        path.starts_with(b"/") && (self.takes_any_code() || self.has_name(name))
    }

    /// The images that the dynamic loader would find, without those handed out before.
    pub fn loader(&mut self) -> Vec<Target> {
        let Ok(tree) = Tree::at(&self.root) else {
            return Vec::new();
        };
        let mut targets = Vec::new();
        for shown in tree.libraries(|name| self.has_name(name)) {
            let Some(Inside { image, .. }) = tree.native_elf(&shown) else {
                continue;
            };
            if self.seen.insert(image) {
                targets.push(Target {
                    image,
                    path: below(&self.root, shown.as_os_str().as_bytes()),
                    layer: None,
                    shown: shown.display().to_string(),
                    users: Vec::new(),
                    found_by: FoundBy::Loader,
                });
            }
        }
        targets
    }

    /// What the loader would find in the root directory of a process, unless this root was searched
    /// just now: a container's programs map it some time after they begin.
    pub fn loader_of(&mut self, pid: u32) -> Option<RootFiles> {
        let process = self.process(pid);
        let root = process.join("root");
        let Met { new_overlay } = self.roots.meet(&process, &self.root.join("proc/self"))?;
        let tree = Tree::at(&root).ok()?;
        let mounts = Mounts::of(&process);
        let mut targets = Vec::new();
        for path in tree.libraries(|name| self.has_name(name)) {
            let Some(Inside { image, path, mount }) = tree.native_elf(&path) else {
                continue;
            };
            let path = path.as_os_str().as_bytes();
            let inside = in_root(&process, path);
            let opens = below(&root, &inside);
            let layer = self.behind_overlay(&mounts, Above::Mount(mount), &inside, &opens);
            let probed = layer.as_ref().map_or(image, |layer| layer.image);
            if self.seen.insert(probed) {
                targets.push(Target {
                    image,
                    path: opens,
                    layer,
                    shown: String::from_utf8_lossy(&inside).into_owned(),
                    users: vec![pid],
                    found_by: FoundBy::OtherRoot,
                });
            }
        }
        Some(RootFiles {
            new_overlay,
            targets,
        })
    }

    /// Lets an image be handed out again: it was gone before it could be opened, or its
    /// number has come to another file.
    pub fn forget(&mut self, image: ImageId) {
        self.seen.remove(&image);
    }

    /// The inodes that processes map, of whatever device: an overlay shows its layers' under its
    /// own. `None` where others may map what we have no right to see. With `CAP_SYS_PTRACE`, what
    /// cannot be seen is beyond the container that we are in, and no target.
    pub fn mapped_inodes(&mut self) -> Option<HashSet<u64>> {
        let ours = capabilities(None).ok()?;
        let sees_all = ours.effective.contains(CapabilitySet::SYS_PTRACE);
        // Without it `hidepid` may hide others; the first process is hidden then, too.
        if !sees_all && !self.process(1).exists() {
            return None;
        }
        let mut inodes = HashSet::new();
        for pid in self.pids().ok()? {
            match self.read_maps(pid) {
                Ok(()) => inodes.extend(maps::parse(&self.buffer).map(|m| m.image.ino)),
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !sees_all => return None,
                Err(_) => {} // it ended
            }
        }
        Some(inodes)
    }

    pub fn report(&self) -> ScanReport {
        self.last
    }

    fn process(&self, pid: u32) -> PathBuf {
        self.root.join("proc").join(pid.to_string())
    }

    fn pids(&self) -> Result<Vec<u32>, ScanError> {
        let path = self.root.join("proc");
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(source) => return Err(ScanError { path, source }),
        };
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        Ok(entries.filter_map(Result::ok).filter_map(number).collect())
    }

    /// Reads the process's maps file into `buffer`. It is empty for a kernel
    /// thread, but also when the first thread of a program has ended before others.
    fn read_maps(&mut self, pid: u32) -> io::Result<()> {
        let dir = self.process(pid);
        self.read_file(&dir.join("maps"))?;
        if !self.buffer.is_empty() {
            return Ok(());
        }
        for thread in fs::read_dir(dir.join("task"))?.filter_map(Result::ok) {
            if thread.file_name().as_bytes() != pid.to_string().as_bytes() {
                self.read_file(&thread.path().join("maps"))?;
                if !self.buffer.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: &Path) -> io::Result<()> {
        self.buffer.clear();
        File::open(path)?.read_to_end(&mut self.buffer).map(drop)
    }

    /// Takes the new images of one process out of `buffer`.
    fn sift(&self, pid: u32, found: &mut Found) {
        let mounts = Mounts::of(&self.process(pid));
        let mut last = None;
        for mapping in maps::parse(&self.buffer) {
            if last == Some(mapping.image) || self.seen.contains(&mapping.image) {
                continue;
            }
            let name = mapping
                .path
                .rsplit(|&b| b == b'/')
                .next()
                .unwrap_or_default();
            let found_by = if self.has_name(name) {
                FoundBy::Mapped
            } else if mapping.executable && self.takes_any_code() {
                FoundBy::Code
            } else {
                continue;
            };
            last = Some(mapping.image);
            if !found.has_user(mapping.image, pid) {
                self.add(pid, &mounts, &mapping, found_by, found);
            }
        }
    }

    fn add(
        &self,
        pid: u32,
        mounts: &Mounts,
        mapping: &Mapping<'_>,
        found_by: FoundBy,
        found: &mut Found,
    ) {
        // Without a path it is not marked as seen: the next scan tries again.
        let Some(path) = self.locate(pid, mapping) else {
            return;
        };
        // File systems without a device of their own, overlays among them, have major 0.
        let dev = mapping.image.dev;
        let above = (dev.0 == 0).then_some(Above::Device(dev));
        let inside = in_root(&mounts.process, &mapping.path);
        let layer = above.and_then(|above| self.behind_overlay(mounts, above, &inside, &path));
        let real = layer.as_ref().map(|layer| layer.image);
        if real.is_some_and(|real| self.seen.contains(&real)) {
            // Probed already under its real number; not again under this one.
            return;
        }
        if real.is_some_and(|real| found.has_user(real, pid)) {
            found.alias(mapping.image, real);
            return;
        }
        found.push(Target {
            image: mapping.image,
            path,
            layer,
            shown: String::from_utf8_lossy(&mapping.path).into_owned(),
            users: vec![pid],
            found_by,
        });
        found.alias(mapping.image, real);
    }

    /// A path that opens the mapped file from here, the longest-lived first: our
    /// own tree, the process's root, and for deleted files the mapping itself.
    fn locate(&self, pid: u32, mapping: &Mapping<'_>) -> Option<PathBuf> {
        let process = self.process(pid);
        let plain = below(&self.root, &mapping.path);
        let rooted = below(&process.join("root"), &in_root(&process, &mapping.path));
        let mapped = process.join("map_files").join(mapping.range());
        let id = |path: &PathBuf| fs::metadata(path).ok().map(|file| ImageId::of(&file));
        let exact = [&plain, &rooted, &mapped]
            .into_iter()
            .find(|p| id(p) == Some(mapping.image));
        // btrfs: stat() gives another device than maps does.
        let near = || {
            let same_inode = || id(&rooted).is_some_and(|id| id.ino == mapping.image.ino);
            if id(&mapped).is_some() {
                Some(&mapped)
            } else {
                same_inode().then_some(&rooted)
            }
        };
        exact.or_else(near).cloned()
    }

    /// The file in an overlay's layer, for one that is seen through the overlay at `path` and
    /// opened by `opens`.
    fn behind_overlay(
        &self,
        mounts: &Mounts,
        above: Above,
        path: &[u8],
        opens: &Path,
    ) -> Option<Layer> {
        let file = fs::metadata(opens).ok()?;
        overlay::layer_paths(mounts.told(), above, path)
            .iter()
            .map(|path| below(&self.root, path))
            .filter_map(|path| Some((fs::symlink_metadata(&path).ok()?, path)))
            .find(|(layer, _)| overlay::same_file(&file, layer))
            .map(|(layer, path)| Layer {
                image: ImageId::of(&layer),
                path,
            })
    }

    fn has_name(&self, name: &[u8]) -> bool {
        let mut names = self.searches.iter().flat_map(|search| search.names);
        names.any(|pattern| pattern.matches(name))
    }

    fn takes_any_code(&self) -> bool {
        self.searches.iter().any(|search| search.any_code)
    }
}

/// The mounts that a process sees, read once and only when they are asked for.
struct Mounts {
    process: PathBuf,
    told: OnceCell<Vec<u8>>,
}

impl Mounts {
    fn of(process: &Path) -> Self {
        Self {
            process: process.to_owned(),
            told: OnceCell::new(),
        }
    }

    fn told(&self) -> &[u8] {
        let read = || fs::read(self.process.join("mountinfo")).unwrap_or_default();
        self.told.get_or_init(read)
    }
}

/// The new images of one scan.
#[derive(Default)]
struct Found {
    targets: Vec<Target>,
    index: HashMap<ImageId, usize>,
    /// Numbers that an overlay shows, which mean nothing once it is gone.
    above: HashSet<ImageId>,
}

impl Found {
    /// Whether the image is among the found; if so, `pid` is now one of its users.
    fn has_user(&mut self, image: ImageId, pid: u32) -> bool {
        let Some(&at) = self.index.get(&image) else {
            return false;
        };
        let users = &mut self.targets[at].users;
        if users.last() != Some(&pid) {
            users.push(pid);
        }
        true
    }

    fn push(&mut self, target: Target) {
        self.index.insert(target.image, self.targets.len());
        self.targets.push(target);
    }

    /// Makes two numbers of one file lead to the same target.
    fn alias(&mut self, image: ImageId, real: Option<ImageId>) {
        let Some(real) = real else { return };
        let known = self
            .index
            .get(&image)
            .or_else(|| self.index.get(&real))
            .copied();
        if let Some(at) = known {
            self.index.insert(image, at);
            self.index.insert(real, at);
            if image != real {
                self.above.insert(image);
            }
        }
    }
}

/// A mapped file's path in the root directory of its process. After chroot(2) maps still tells
/// it from the root of the mount namespace, and so does the link to the process's own root.
fn in_root<'a>(process: &Path, path: &'a [u8]) -> Cow<'a, [u8]> {
    let link = fs::read_link(process.join("root")).unwrap_or_default();
    match path.strip_prefix(link.as_os_str().as_bytes()) {
        Some(inside) if inside.starts_with(b"/") => inside.into(),
        _ => path.into(),
    }
}

/// `path`, absolute in another tree, as a path below that tree's `root`.
fn below(root: &Path, path: &[u8]) -> PathBuf {
    let relative = path
        .iter()
        .position(|&b| b != b'/')
        .map_or(&path[..0], |at| &path[at..]);
    root.join(OsStr::from_bytes(relative))
}

#[cfg(test)]
mod tests;
