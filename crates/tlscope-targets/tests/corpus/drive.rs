//! What must hold of every text and file that this crate reads, whoever wrote it.
//! Shared by the corpus test and the fuzz targets: each function takes one input.

use tlscope_targets::texts;

/// Gives how much it found.
#[allow(dead_code)] // each fuzz target uses one function only
type Target = fn(&[u8]) -> usize;

/// Every target by name: the fuzz target's, and the corpus folder's.
#[allow(dead_code)]
pub(crate) const TARGETS: &[(&str, Target)] = &[
    ("targets_cgroup", cgroup),
    ("targets_ld_cache", ld_cache),
    ("targets_maps", maps),
    ("targets_overlay", overlay),
];

/// A path of the kernel's.
const PATH_MAX: usize = 4096;

pub(crate) fn cgroup(input: &[u8]) -> usize {
    let Some(container) = texts::container_of(&String::from_utf8_lossy(input)) else {
        return 0;
    };
    // It goes to terminals and into lines of text.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    assert!((1..=64).contains(&container.id.len()), "{container:?}");
    assert!(container.id.bytes().all(is_plain), "{container:?}");
    if let Some(pod) = &container.pod {
        let is_uid = |b: u8| b.is_ascii_hexdigit() || b == b'-';
        assert!(pod.len() == 36 && pod.bytes().all(is_uid), "{container:?}");
    }
    1
}

pub(crate) fn ld_cache(input: &[u8]) -> usize {
    let paths = texts::ld_cache_paths(input).inspect(|path| {
        assert!(path.starts_with(b"/") && !path.contains(&0), "{path:?}");
        assert!(path.len() < PATH_MAX, "{} bytes", path.len());
    });
    let count = paths.count();
    // The shorter entries of both formats.
    assert!(count <= input.len() / 12, "{count} paths");
    count
}

pub(crate) fn maps(input: &[u8]) -> usize {
    let files = texts::mapped_files(input).inspect(|file| {
        assert!(file.path.starts_with(b"/"), "{file:?}");
        let (start, end) = file.range.split_once('-').expect("two ends");
        for end in [start, end] {
            let is_hex = !end.is_empty() && end.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(is_hex && (end == "0" || !end.starts_with('0')), "{file:?}");
        }
    });
    let count = files.count();
    assert!(count <= input.split(|&b| b == b'\n').count());
    count
}

/// A line with the path, as the process has it, then mountinfo.
pub(crate) fn overlay(input: &[u8]) -> usize {
    let mut parts = input.splitn(2, |&b| b == b'\n');
    let (path, mounts) = (parts.next().unwrap_or_default(), parts.next());
    let layers = texts::layer_paths(mounts.unwrap_or_default(), (0, 39), path);
    assert!(layers.len() <= texts::LAYERS_MAX);
    for layer in &layers {
        assert!(layer.starts_with(b"/"), "{layer:?}");
        assert!(layer.len() <= 2 * input.len(), "{} bytes", layer.len());
    }
    layers.len()
}
