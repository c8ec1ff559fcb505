//! Files on an overlay file system: the layers that one may come from.
//!
//! Measured on Linux 6.18: maps of a file on an overlay gives the overlay's device;
//! `stat()` does too, with the layer's inode, where all layers are on one file
//! system, and else a device for each layer. A uprobe lands on the layer's file. So
//! containers of one container image show many devices for one probed inode, and
//! each would be probed again.
//! Older kernels (before 6.8) show the layer's own device in maps [unmeasured].

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// An overlay has 500 at most, but may be mounted many times over at one place.
pub(super) const LAYERS_MAX: usize = 2048;

/// What tells the overlay that a file was met on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Above {
    /// As maps has it.
    Device((u32, u32)),
    /// Of an open file.
    Mount(u64),
}

/// Where the layers would have the file `path` of an overlay: upper directory first, then the
/// lower ones in order.
pub(super) fn layer_paths(mountinfo: &[u8], above: Above, path: &[u8]) -> Vec<Vec<u8>> {
    let is_above = |mount: &Mount<'_>| match above {
        Above::Device((major, minor)) => mount.dev == format!("{major}:{minor}").as_bytes(),
        Above::Mount(id) => mount.id == id.to_string().as_bytes(),
    };
    mountinfo
        .split(|&b| b == b'\n')
        .filter_map(Mount::parse)
        .filter(is_above)
        .filter_map(|mount| Some((mount.inside(path)?, mount)))
        .flat_map(|(inside, mount)| {
            mount
                .layers()
                .into_iter()
                .map(move |layer| [&layer[..], b"/", &inside].concat())
        })
        .take(LAYERS_MAX)
        .collect()
}

/// An overlay passes size and time through, and with `xino` or on one file system the inode.
pub(super) fn same_file(above: &Metadata, layer: &Metadata) -> bool {
    layer.is_file()
        && above.len() == layer.len()
        && (above.mtime(), above.mtime_nsec()) == (layer.mtime(), layer.mtime_nsec())
}

struct Mount<'a> {
    id: &'a [u8],
    dev: &'a [u8],
    /// The part of the file system that is mounted.
    root: Vec<u8>,
    /// Where, as the process sees it.
    point: Vec<u8>,
    options: &'a [u8],
}

impl<'a> Mount<'a> {
    /// `id parent major:minor root point options [tags] - type source super-options`.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|&b| b == b' ');
        let (id, dev) = (fields.next()?, fields.nth(1)?);
        let (root, point) = (octal(fields.next()?), octal(fields.next()?));
        fields.find(|f| *f == b"-")?;
        (fields.next()? == b"overlay").then_some(())?;
        Some(Self {
            id,
            dev,
            root,
            point,
            options: fields.nth(1)?,
        })
    }

    /// The path of the process's `path` inside the file system.
    fn inside(&self, path: &[u8]) -> Option<Vec<u8>> {
        let trim = |dir: &[u8]| {
            if dir == b"/" {
                Vec::new()
            } else {
                dir.to_vec()
            }
        };
        let rest = path.strip_prefix(&trim(&self.point)[..])?;
        rest.starts_with(b"/")
            .then(|| [&trim(&self.root)[..], rest].concat())
    }

    fn layers(&self) -> Vec<Vec<u8>> {
        let value = |name: &str| {
            let options = self.options.split(|&b| b == b',');
            options
                .filter_map(|o| o.strip_prefix(name.as_bytes()))
                .map(octal)
                .collect::<Vec<_>>()
        };
        let mut layers = value("upperdir=");
        for list in value("lowerdir=").into_iter().chain(value("lowerdir+=")) {
            // `a:b` are two directories, `a\:b` is one; `::` begins data-only layers.
            let mut layer = Vec::new();
            let mut bytes = list.into_iter().peekable();
            while let Some(byte) = bytes.next() {
                match byte {
                    b'\\' if bytes.peek() == Some(&b':') => layer.extend(bytes.next()),
                    b':' => layers.push(std::mem::take(&mut layer)),
                    _ => layer.push(byte),
                }
            }
            layers.push(layer);
        }
        layers.retain(|layer| layer.starts_with(b"/"));
        layers
    }
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn octal(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, others)) = rest.split_first() {
        let digits = others
            .get(..3)
            .filter(|d| d.iter().all(|b| (b'0'..=b'7').contains(b)));
        if let (b'\\', Some(d)) = (first, digits) {
            let code = d.iter().fold(0u32, |n, b| n * 8 + u32::from(b - b'0'));
            plain.push(code as u8);
            rest = &others[3..];
        } else {
            plain.push(first);
            rest = others;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
47 22 0:39 / /run/c\\0401 rw shared:7 master:2 - overlay overlay rw,lowerdir=/l\\0401:/l\\134:2,upperdir=/up,workdir=/w
48 22 0:40 /sub / rw - overlay none rw,lowerdir+=/a,lowerdir+=/b,datadir+=/d
";

    fn strings(paths: Vec<Vec<u8>>) -> Vec<String> {
        paths
            .into_iter()
            .map(|p| String::from_utf8(p).unwrap())
            .collect()
    }

    #[test]
    fn upper_then_lower_layers() {
        let paths = layer_paths(
            MOUNTS,
            Above::Device((0, 39)),
            b"/run/c 1/usr/lib/libssl.so.3",
        );
        let expected = ["/up/", "/l 1/", "/l:2/"].map(|l| format!("{l}/usr/lib/libssl.so.3"));
        assert_eq!(strings(paths), expected);
        let paths = layer_paths(MOUNTS, Above::Mount(47), b"/run/c 1/usr/lib/libssl.so.3");
        assert_eq!(strings(paths), expected);
    }

    #[test]
    fn a_part_of_an_overlay_and_the_new_options() {
        let paths = layer_paths(MOUNTS, Above::Device((0, 40)), b"/libssl.so");
        assert_eq!(strings(paths), ["/a//sub/libssl.so", "/b//sub/libssl.so"]);
    }

    #[test]
    fn other_file_systems_and_other_places_have_no_layers() {
        assert!(layer_paths(MOUNTS, Above::Device((254, 0)), b"/libssl.so").is_empty());
        assert!(layer_paths(MOUNTS, Above::Mount(22), b"/libssl.so").is_empty());
        assert!(layer_paths(MOUNTS, Above::Device((0, 39)), b"/run/c 12/libssl.so").is_empty());
    }

    #[test]
    fn an_overlay_that_is_mounted_many_times_over_has_an_end() {
        let mounts = MOUNTS.repeat(LAYERS_MAX);
        let paths = layer_paths(&mounts, Above::Device((0, 39)), b"/run/c 1/x");
        assert_eq!(paths.len(), LAYERS_MAX);
    }

    #[test]
    fn no_damage_panics() {
        let mut random = crate::finder::tests::Random(11);
        for _ in 0..10_000 {
            let mut mounts = MOUNTS.to_vec();
            for _ in 0..4 {
                let at = random.below(mounts.len());
                mounts[at] = b"\0 -/:\n\\07,="[random.below(11)];
            }
            let _ = layer_paths(&mounts, Above::Device((0, 39)), b"/run/c 1/x");
        }
    }
}
