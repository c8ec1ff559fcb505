//! What reads text and files that others write: the door of the fuzz targets, which see of this
//! crate what every user of it sees.

use crate::container::{self, Container};
use crate::image::ImageId;

use super::overlay::{self, Above};
use super::{ld_cache, maps};

/// The most paths that `layer_paths` gives.
pub const LAYERS_MAX: usize = overlay::LAYERS_MAX;

/// A line of `/proc/PID/maps` that names a file.
#[derive(Debug)]
pub struct MappedFile {
    /// As the name below `/proc/PID/map_files`.
    pub range: String,
    pub image: ImageId,
    pub path: Vec<u8>,
}

/// `/etc/ld.so.cache` of any root.
pub fn ld_cache_paths(cache: &[u8]) -> impl Iterator<Item = &[u8]> {
    ld_cache::paths(cache)
}

pub fn mapped_files(maps: &[u8]) -> impl Iterator<Item = MappedFile> {
    maps::parse(maps).map(|mapping| MappedFile {
        range: mapping.range(),
        image: mapping.image,
        path: mapping.path.into_owned(),
    })
}

/// `/proc/PID/cgroup`.
pub fn container_of(groups: &str) -> Option<Container> {
    container::of_groups(groups)
}

/// Of a file on an overlay: `/proc/PID/mountinfo`, the overlay's device, and where the process has
/// the file.
pub fn layer_paths(mountinfo: &[u8], device: (u32, u32), path: &[u8]) -> Vec<Vec<u8>> {
    overlay::layer_paths(mountinfo, Above::Device(device), path)
}
