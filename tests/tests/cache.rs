//! What one run learns of images, for the next one: used, never trusted blindly.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tlscope_tests::{Peer, Scene, Tlscope};

/// Captures a peer on the system's library, which has not changed for long, and gives what was
/// told of the images: all, and those known from an earlier run.
#[track_caller]
fn capture(scene: &Scene, cache: &Path) -> ((usize, usize), String) {
    let mut peer = Peer::default().set("wait").sizes(100, 200).start(scene);
    let capture = Tlscope::json().with("cache", cache.display()).pid(peer.pid);
    let capture = capture.start(scene);
    peer.go();
    let talk = peer.finish();
    let captured = capture.stop();
    talk.assert_captured(&captured.records());
    let stderr = captured.finished.stderr;
    let number = |after: &str, before: &str| {
        let (text, _) = stderr.split_once(before)?;
        text.rsplit_once(after)?.1.parse().ok()
    };
    let all = number(" processes, ", " images (");
    let known = number(" images (", " known from an earlier run)");
    match all.zip(known) {
        Some(told) => (told, stderr),
        None => panic!("nothing is told of images: {stderr}"),
    }
}

fn remembering(cache: &Path) -> PathBuf {
    let mut files = fs::read_dir(cache).expect("the cache").flatten();
    let file = files.next().expect("a file in it").path();
    assert!(files.next().is_none(), "one file of this tlscope");
    file
}

#[test]
fn what_one_run_learned_the_next_one_knows() {
    let scene = Scene::new("cache");
    let cache = scene.path("cache");
    let ((all, known), _) = capture(&scene, &cache);
    assert!(all > 2 && known == 0, "{known} of {all} known at first");
    let ((all, known), _) = capture(&scene, &cache);
    // The peer was built just now, perhaps.
    assert!(known + 1 >= all, "{known} of {all} known then");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!((mode(&cache), mode(&remembering(&cache))), (0o700, 0o600));
}

#[test]
fn a_damaged_memory_is_passed_over() {
    let scene = Scene::new("cache-damaged");
    let cache = scene.path("cache");
    capture(&scene, &cache);
    let file = remembering(&cache);
    let whole = fs::read(&file).expect("what was learned");
    let mut half = whole[..whole.len() / 2].to_vec();
    half.extend_from_slice(b"\xff\n[[[[[\n{}\n");
    fs::write(&file, half).expect("damage it");
    capture(&scene, &cache);
    fs::write(&file, "\0".repeat(1 << 20)).expect("damage it more");
    let ((_, known), _) = capture(&scene, &cache);
    assert_eq!(known, 0);
}

#[test]
fn a_directory_that_others_may_write_to_is_not_used() {
    let scene = Scene::new("cache-open");
    let cache = scene.path("cache");
    capture(&scene, &cache);
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).expect("open it");
    let ((_, known), stderr) = capture(&scene, &cache);
    assert_eq!(known, 0);
    assert!(
        stderr.contains("cache: not used: it is not root's alone"),
        "{stderr}"
    );
}
