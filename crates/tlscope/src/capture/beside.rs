//! Files that belong to an image: debug files, which have its names, and the libraries that it
//! needs, which know its version.

use std::cell::RefCell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tlscope_image::elf::Files;
use tlscope_targets::open_file;

use super::known::{Asked, stamp_of};

/// Where Debian's and Fedora's packages of debug files put them.
const DEBUG: &str = "/usr/lib/debug";

/// The files that belong to the image at `path`, which its process knows as `shown`.
#[derive(Debug)]
pub(super) struct Beside<'p> {
    path: &'p Path,
    shown: &'p Path,
    asked: RefCell<Asked>,
}

impl<'p> Beside<'p> {
    pub(super) fn new(path: &'p Path, shown: &'p Path) -> Self {
        let asked = RefCell::default();
        Self { path, shown, asked }
    }

    /// What the names in the plan depend on.
    pub(super) fn into_asked(self) -> Asked {
        self.asked.into_inner()
    }

    /// The first of these debug files that there is.
    fn first(&self, candidates: impl IntoIterator<Item = PathBuf>) -> Option<Vec<u8>> {
        let others = candidates.into_iter().filter(|other| other != self.path);
        let mut contents = others.filter_map(|other| {
            let found = read(&other).ok();
            let stamp = stamp_of(&other);
            self.asked.borrow_mut().push((other, stamp));
            found
        });
        contents.next()
    }
}

impl Files for Beside<'_> {
    fn by_build_id(&self, build_id: &str) -> Option<Vec<u8>> {
        let (head, tail) = build_id.split_at_checked(2)?;
        let path = format!("{DEBUG}/.build-id/{head}/{tail}.debug");
        self.first([path.into()])
    }

    fn by_link(&self, name: &str) -> Option<Vec<u8>> {
        let name = file_name(name)?;
        let beside = self.path.parent()?;
        let central = self.shown.parent()?.strip_prefix("/").ok();
        let central = central.map(|directory| Path::new(DEBUG).join(directory).join(name));
        let candidates = [beside.join(".debug").join(name), beside.join(name)];
        self.first(candidates.into_iter().chain(central))
    }

    fn needed(&self, name: &str) -> Option<Vec<u8>> {
        // A version to show: what is known of the image does not depend on it.
        let beside = self.path.parent()?;
        read(&beside.join(file_name(name)?)).ok()
    }
}

/// The name comes from the image: it may name a file, not lead anywhere.
fn file_name(name: &str) -> Option<&Path> {
    let plain = Path::new(name).file_name()?;
    (plain == name).then_some(Path::new(plain))
}

/// An image may name what never ends, waits for a writer, or is a device.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    const LARGEST: u64 = 1 << 30;
    let file = open_file(path)?;
    if file.metadata()?.len() > LARGEST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_name() {
        assert_eq!(file_name("libssl.debug"), Some(Path::new("libssl.debug")));
        for path in ["../libssl.debug", "/etc/shadow", "a/b", "..", ""] {
            assert_eq!(file_name(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        for path in ["/dev/zero", "/", "/nonexistent"] {
            assert!(read(Path::new(path)).is_err(), "{path}");
        }
        assert!(read(Path::new("/proc/self/exe")).is_ok());
    }
}
