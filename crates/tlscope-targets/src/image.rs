//! An image: one file as the kernel tells files apart, and how to open it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::names::NamePattern;

/// An image that may hold a TLS library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub image: ImageId,
    /// Opens the image from our own mount namespace.
    pub path: PathBuf,
    /// The same file in a layer of the overlay that it is seen through.
    pub layer: Option<Layer>,
    /// The path as the process, the loader or the user names it.
    pub shown: String,
    /// The processes that mapped it when it was found.
    pub users: Vec<u32>,
    pub found_by: FoundBy,
}

/// A file in a layer of an overlay: what a probe on the overlay's file sits on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub image: ImageId,
    pub path: PathBuf,
}

impl Target {
    /// Opens the image. What is held open, and what is probed, holds its mount: an overlay could not
    /// be mounted again while a capture runs.
    pub fn open(&self) -> io::Result<File> {
        let layer = self.layer.as_ref().map(|layer| open_file(&layer.path));
        match layer {
            Some(Ok(file)) => Ok(file),
            _ => open_file(&self.path),
        }
    }

    /// All numbers by which the image is known.
    pub fn numbers(&self) -> impl Iterator<Item = ImageId> {
        let layer = self.layer.as_ref().map(|layer| layer.image);
        std::iter::once(self.image).chain(layer)
    }
}

/// Opens a file for reading, and nothing that is none.
pub fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    reopen_file(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens for reading what was opened as a path, if it is a file. To open a device may do something:
/// a watchdog restarts the machine, and Docker's containers may have one by the name of a library.
pub(crate) fn reopen_file(path: OwnedFd) -> io::Result<File> {
    let place = File::from(path);
    if !place.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    // A file under a lease of its owner's would be waited for.
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

/// A file's device and inode, as `/proc/PID/maps` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId {
    pub dev: (u32, u32),
    pub ino: u64,
}

impl ImageId {
    pub fn of(file: &fs::Metadata) -> Self {
        let dev = file.dev();
        Self {
            dev: (libc::major(dev), libc::minor(dev)),
            ino: file.ino(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// A running process maps it, and its name is that of a library.
    Mapped,
    /// A running process maps it as code; its name says nothing.
    Code,
    /// The dynamic loader would find it.
    Loader,
    /// The dynamic loader of a container would find it, and nobody has mapped it yet.
    OtherRoot,
    /// The user named it.
    Named,
}

/// The image that the user named on the command line.
pub fn named(path: &Path) -> Result<Target, NamedError> {
    let shown = path.display().to_string();
    let file = match fs::metadata(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(NamedError::NotFound {
                path: path.to_owned(),
            });
        }
        Err(source) => {
            return Err(NamedError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    if !file.is_file() {
        let kind = kind_of(file.file_type());
        return Err(NamedError::NotAFile {
            path: path.to_owned(),
            kind,
        });
    }
    Ok(Target {
        image: ImageId::of(&file),
        path: path.to_owned(),
        layer: None,
        shown,
        users: Vec::new(),
        found_by: FoundBy::Named,
    })
}

/// Files of these names beside a target that the user named: a library may come in several. Debian
/// 11 has the token of NSS in a directory `nss` of its own.
pub fn beside(path: &Path, names: &[NamePattern]) -> Vec<Target> {
    const OWN: &str = "nss";
    let Some(home) = path.parent() else {
        return Vec::new();
    };
    let above = home.parent().filter(|_| home.ends_with(OWN));
    let directories = [
        Some(home.to_owned()),
        Some(home.join(OWN)),
        above.map(Path::to_owned),
    ];
    let entries = directories
        .iter()
        .flatten()
        .filter_map(|directory| fs::read_dir(directory).ok());
    let wanted = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        names.iter().any(|pattern| pattern.matches(name.as_bytes()))
    };
    let files = entries.flatten().flatten().filter(wanted);
    let mut found: Vec<Target> = files
        .filter_map(|entry| named(&entry.path()).ok())
        .collect();
    found.retain(|other| other.path != path);
    found
}

#[derive(Debug, thiserror::Error)]
pub enum NamedError {
    #[error("{}: no such file", path.display())]
    NotFound { path: PathBuf },
    #[error("{}: is a {kind}, not a library or program", path.display())]
    NotAFile { path: PathBuf, kind: &'static str },
    #[error("{}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn kind_of(kind: fs::FileType) -> &'static str {
    if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_is_a_target() {
        let exe = std::env::current_exe().unwrap();
        let target = named(&exe).unwrap();
        assert_eq!(target.found_by, FoundBy::Named);
        assert_eq!(target.path, exe);
        assert_eq!(target.image, ImageId::of(&fs::metadata(&exe).unwrap()));
    }

    #[test]
    fn a_library_in_several_files_is_found_from_each() {
        use crate::names::NSS;
        let home = std::env::temp_dir().join(format!("tlscope-beside-{}", std::process::id()));
        fs::create_dir_all(home.join("nss")).unwrap();
        let files = ["libssl3.so", "libnss3.so", "nss/libsoftokn3.so"].map(|name| home.join(name));
        for file in &files {
            fs::write(file, "").unwrap();
        }
        let [tls, base, token] = &files;
        let found = |path: &PathBuf| {
            let mut paths: Vec<_> = beside(path, NSS).into_iter().map(|t| t.path).collect();
            paths.sort();
            paths
        };
        assert_eq!(found(base), [tls.clone(), token.clone()]);
        assert_eq!(&found(tls)[..], std::slice::from_ref(token));
        assert_eq!(&found(token)[..], std::slice::from_ref(tls));
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn what_is_no_file_is_said() {
        let missing = named(Path::new("/nonexistent/libssl.so.3")).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "/nonexistent/libssl.so.3: no such file"
        );
        let dir = named(Path::new("/")).unwrap_err();
        assert_eq!(
            dir.to_string(),
            "/: is a directory, not a library or program"
        );
        let device = named(Path::new("/dev/null")).unwrap_err();
        assert_eq!(
            device.to_string(),
            "/dev/null: is a device, not a library or program"
        );
    }
}
