//! Root directories of processes, in their mount namespaces: which were met before.
//!
//! As soon as a container has ended another may have all of its numbers: those of
//! the namespace, of the root directory, and of the device of its overlay. Only the
//! number of a mount does not come again, from kernel 6.8 on.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FsWord, StatxFlags, statfs, statx};

use crate::image::ImageId;

/// Root directories remembered. More on one machine are searched anew.
const ROOTS_MAX: usize = 16_384;
/// A root is searched again after that: a package may have come. It takes 0.4 ms.
const SEARCHED: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Roots {
    own: Option<Place>,
    searched: HashMap<Place, Instant>,
}

/// A root directory that is to be searched.
pub(super) struct Met {
    /// The device, if it is an overlay's that nobody can tell to be one that was met before.
    pub(super) new_overlay: Option<(u32, u32)>,
}

impl Roots {
    /// `None` for our own root, for one that was searched just now, and of what has ended.
    pub(super) fn meet(&mut self, process: &Path, own: &Path) -> Option<Met> {
        let place = Place::of(process)?;
        if self.own.is_none() {
            self.own = Place::of(own);
        }
        if self.own.as_ref() == Some(&place) {
            return None;
        }
        if self.searched.len() >= ROOTS_MAX {
            self.searched.clear();
        }
        let before = self.searched.get(&place).copied();
        if before.is_some_and(|searched| searched.elapsed() < SEARCHED) {
            return None;
        }
        let is_known = before.is_some() && place.mount.is_some();
        let device = place.directory.dev;
        self.searched.insert(place, Instant::now());
        let is_new = !is_known && is_overlay(process);
        Some(Met {
            new_overlay: is_new.then_some(device),
        })
    }
}

fn is_overlay(process: &Path) -> bool {
    /// `OVERLAYFS_SUPER_MAGIC` of linux/magic.h.
    const OVERLAY: FsWord = 0x794c_7630;
    statfs(process.join("root")).is_ok_and(|root| root.f_type == OVERLAY)
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    namespace: PathBuf,
    directory: ImageId,
    /// Where the kernel has numbers that do not come again.
    mount: Option<u64>,
}

impl Place {
    fn of(process: &Path) -> Option<Self> {
        /// `STATX_MNT_ID_UNIQUE` of linux/stat.h (6.8), for which rustix has no name.
        const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
        let root = process.join("root");
        let told = statx(CWD, &root, AtFlags::empty(), UNIQUE).ok();
        let unique = told.filter(|told| told.stx_mask & UNIQUE.bits() != 0);
        Some(Self {
            namespace: fs::read_link(process.join("ns/mnt")).ok()?,
            directory: ImageId::of(&fs::metadata(root).ok()?),
            mount: unique.map(|told| told.stx_mnt_id),
        })
    }
}
