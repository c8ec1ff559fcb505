//! The finder on made-up systems: a tree in a temporary directory stands for `/`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::thread::set_capabilities;

use super::*;
use crate::names::{NamePattern, OPENSSL, Search};

const LIBRARIES: Search = Search {
    names: OPENSSL,
    any_code: false,
};

/// A small generator for damaged input: the same on every run.
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// A root directory that goes when the test ends.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("tlscope-targets-{}-{n}", std::process::id()));
        fs::create_dir_all(root.join("proc")).unwrap();
        Self(root)
    }

    fn write(&self, path: &str, content: &[u8]) -> ImageId {
        let path = below(&self.0, path.as_bytes());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        ImageId::of(&fs::metadata(path).unwrap())
    }

    fn elf(&self, path: &str) -> ImageId {
        let mut header = b"\x7fELF\x02\x01".to_vec();
        header.resize(18, 0);
        let machine: u16 = if cfg!(target_arch = "x86_64") {
            62
        } else {
            183
        };
        header.extend(machine.to_le_bytes());
        self.write(path, &header)
    }

    /// A process whose root is the tree's own.
    fn process(&self, pid: u32, mappings: &[(ImageId, &str)]) {
        let mut maps = String::new();
        for (i, (image, path)) in mappings.iter().enumerate() {
            let base = 0x7000_0000_0000u64 + i as u64 * 0x2000;
            for (part, perms) in ["r--p", "r-xp"].into_iter().enumerate() {
                let start = base + part as u64 * 0x1000;
                let (major, minor) = image.dev;
                let end = start + 0x1000;
                write!(
                    maps,
                    "{start:08x}-{end:08x} {perms} 00000000 {major:02x}:{minor:02x} "
                )
                .and_then(|()| writeln!(maps, "{} {:20}{path}", image.ino, ""))
                .unwrap();
            }
        }
        self.write(&format!("/proc/{pid}/maps"), maps.as_bytes());
        let root = self.0.join(format!("proc/{pid}/root"));
        let _ = fs::remove_file(&root);
        symlink(&self.0, root).unwrap();
    }

    fn finder(&self) -> Finder {
        Finder::at(&self.0, &[LIBRARIES])
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_image_is_one_target_with_all_its_users() {
    let tree = Tree::new();
    let ssl = tree.elf("/lib/libssl.so.3");
    let libc = tree.elf("/lib/libc.so.6");
    tree.process(10, &[(ssl, "/lib/libssl.so.3"), (libc, "/lib/libc.so.6")]);
    tree.process(11, &[(libc, "/lib/libc.so.6")]);
    tree.process(12, &[(ssl, "/lib/libssl.so.3")]);
    let mut finder = tree.finder();
    let mut targets = finder.scan().unwrap();
    assert_eq!(targets.len(), 1);
    targets[0].users.sort_unstable();
    let expected = Target {
        image: ssl,
        path: tree.0.join("lib/libssl.so.3"),
        layer: None,
        shown: "/lib/libssl.so.3".into(),
        users: vec![10, 12],
        found_by: FoundBy::Mapped,
    };
    assert_eq!(targets[0], expected);
    assert_eq!(finder.report().processes, 3);
}

#[test]
fn a_rescan_gives_what_is_new() {
    let tree = Tree::new();
    let first = tree.elf("/lib/libssl.so.3");
    tree.process(10, &[(first, "/lib/libssl.so.3")]);
    let mut finder = tree.finder();
    assert_eq!(finder.scan().unwrap().len(), 1);
    assert_eq!(finder.scan().unwrap(), []);
    let second = tree.elf("/opt/libssl-0a1b.so.1.1");
    tree.process(
        10,
        &[
            (first, "/lib/libssl.so.3"),
            (second, "/opt/libssl-0a1b.so.1.1"),
        ],
    );
    let new = finder.scan().unwrap();
    assert_eq!(new.len(), 1);
    assert_eq!(new[0].image, second);
    finder.forget(first);
    assert_eq!(finder.scan().unwrap()[0].image, first);
}

#[test]
fn a_library_in_another_root_is_opened_through_the_process() {
    let tree = Tree::new();
    let inside = tree.elf("/containers/a/lib/libssl.so.3");
    tree.elf("/lib/libssl.so.3");
    tree.process(20, &[(inside, "/lib/libssl.so.3")]);
    let root = tree.0.join("proc/20/root");
    fs::remove_file(&root).unwrap();
    symlink(tree.0.join("containers/a"), &root).unwrap();
    let targets = tree.finder().scan().unwrap();
    assert_eq!(targets[0].image, inside);
    assert_eq!(targets[0].path, root.join("lib/libssl.so.3"));
    assert_eq!(
        ImageId::of(&fs::metadata(&targets[0].path).unwrap()),
        inside
    );
}

/// After chroot(2): maps and the link tell both from the root of the mount namespace.
#[test]
fn a_library_below_a_root_directory_of_its_process_is_opened_in_there() {
    let tree = Tree::new();
    let jail = tree.0.join("jail");
    let inside = tree.elf("/jail/lib/libssl.so.3");
    let seen = jail.join("lib/libssl.so.3");
    tree.process(21, &[(inside, &seen.to_string_lossy())]);
    let root = tree.0.join("proc/21/root");
    fs::remove_file(&root).unwrap();
    symlink(&jail, &root).unwrap();
    let targets = tree.finder().scan().unwrap();
    assert_eq!(targets[0].image, inside);
    assert_eq!(targets[0].path, root.join("lib/libssl.so.3"));
}

impl Tree {
    /// Gives a process a root directory, in a mount namespace that it shares with the others.
    fn enter(&self, pid: u32, directory: &str) -> PathBuf {
        let root = self.0.join(format!("proc/{pid}/root"));
        fs::remove_file(&root).unwrap();
        symlink(self.0.join(directory), &root).unwrap();
        fs::create_dir(self.0.join(format!("proc/{pid}/ns"))).unwrap();
        symlink("mnt:[1]", self.0.join(format!("proc/{pid}/ns/mnt"))).unwrap();
        root
    }
}

#[test]
fn a_root_of_another_is_searched_once_and_before_its_library_is_mapped() {
    let tree = Tree::new();
    tree.elf("/lib/libssl.so.3");
    let inside = tree.elf("/containers/a/usr/lib/libssl.so.3");
    for (pid, root) in [(22, "containers/a"), (23, "containers/a"), (24, "")] {
        tree.process(pid, &[]);
        tree.enter(pid, root);
    }
    symlink("24", tree.0.join("proc/self")).unwrap();
    let mut finder = tree.finder();
    let found = finder.loader_of(22).unwrap().targets;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].image, inside);
    assert_eq!(
        found[0].path,
        tree.0.join("proc/22/root/usr/lib/libssl.so.3")
    );
    assert_eq!(finder.loader_of(23), None, "the same root");
    assert_eq!(finder.loader_of(24), None, "our own root");
    assert_eq!(finder.loader_of(25), None, "it has ended");
}

/// The loader's path may lead over links, from the root on even; the kernel maps what is behind.
#[test]
fn a_library_behind_links_of_another_root_is_the_one_that_its_programs_map() {
    let tree = Tree::new();
    tree.elf("/usr/lib/libssl.so.3");
    let layer = tree.elf("/layers/base/usr/lib/libssl.so.3");
    symlink("/usr/lib", tree.0.join("layers/base/lib")).unwrap();
    let above = ImageId {
        dev: (0, 41),
        ino: layer.ino,
    };
    let plain = tree.0.join("layers/base/usr/lib/libssl.so.3");
    tree.process(26, &[(above, &plain.to_string_lossy())]);
    let outside = loader::Tree::at(Path::new("/")).unwrap();
    let id = outside.native_elf(&plain).unwrap().mount;
    let mount = format!("{id} 1 0:41 / / rw - overlay none rw,lowerdir=/layers/base\n");
    tree.write("/proc/26/mountinfo", mount.as_bytes());
    let root = tree.enter(26, "layers/base");
    let mut finder = tree.finder();
    let found = finder.loader_of(26).unwrap().targets;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path, root.join("usr/lib/libssl.so.3"));
    assert_eq!(found[0].shown, "/usr/lib/libssl.so.3");
    assert_eq!(finder.scan_processes(&[26]), [], "it is not probed twice");
}

/// Ten thousand lines that each name a directory of two thousand files.
#[test]
fn a_configuration_that_includes_without_end_is_left() {
    let tree = Tree::new();
    for n in 0..2000 {
        tree.write(&format!("/containers/a/many/{n}"), b"");
    }
    let include = "include /many/*.conf\n".repeat(10_000);
    tree.write("/containers/a/etc/ld.so.conf", include.as_bytes());
    tree.process(28, &[]);
    tree.enter(28, "containers/a");
    let start = Instant::now();
    assert_eq!(tree.finder().loader_of(28).unwrap().targets, []);
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

/// Whoever made the container means harm: nothing is waited for, and nothing without end is read.
#[test]
fn a_hostile_root_is_looked_at_in_bounded_time() {
    let tree = Tree::new();
    let inside = tree.elf("/containers/a/opt/lib/libssl.so.3");
    for name in ["usr/lib/libssl.so.3", "etc/ld.so.conf.d/pipe.conf"] {
        let pipe = tree.0.join("containers/a").join(name);
        fs::create_dir_all(pipe.parent().unwrap()).unwrap();
        mkfifoat(CWD, &pipe, Mode::RUSR).unwrap();
    }
    symlink("/dev/zero", tree.0.join("containers/a/etc/ld.so.cache")).unwrap();
    let include = b"include /etc/ld.so.conf.d/*\ninclude /etc/ld.so.conf\n/opt/lib\n";
    tree.write("/containers/a/etc/ld.so.conf", include);
    for n in 0..40 {
        tree.write(&format!("/containers/a/etc/ld.so.conf.d/{n}.conf"), include);
    }
    tree.process(27, &[]);
    tree.enter(27, "containers/a");
    let found = tree.finder().loader_of(27).unwrap().targets;
    assert_eq!(found.iter().map(|t| t.image).collect::<Vec<_>>(), [inside]);
}

#[test]
fn a_deleted_library_is_opened_through_its_mapping() {
    let tree = Tree::new();
    let deleted = tree.elf("/proc/30/map_files/700000000000-700000001000");
    tree.elf("/lib/libssl.so.3"); // the new version, another inode
    tree.process(30, &[(deleted, "/lib/libssl.so.3 (deleted)")]);
    let targets = tree.finder().scan().unwrap();
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].shown, "/lib/libssl.so.3");
    assert!(
        targets[0]
            .path
            .ends_with("map_files/700000000000-700000001000")
    );
}

#[test]
fn an_image_that_cannot_be_opened_is_tried_again() {
    let tree = Tree::new();
    let gone = ImageId {
        dev: (9, 9),
        ino: 99,
    };
    tree.process(40, &[(gone, "/lib/libssl.so.3")]);
    let mut finder = tree.finder();
    assert_eq!(finder.scan().unwrap(), []);
    let back = tree.elf("/lib/libssl.so.3");
    tree.process(40, &[(back, "/lib/libssl.so.3")]);
    assert_eq!(finder.scan().unwrap().len(), 1);
}

/// Where a layer is known, the layer's file is opened.
fn layers_of(targets: &[Target]) -> Vec<&Path> {
    let layers = targets.iter().flat_map(|target| &target.layer);
    layers.map(|layer| layer.path.as_path()).collect()
}

#[test]
fn one_layer_seen_through_two_overlays_is_one_target() {
    let tree = Tree::new();
    let layer = tree.elf("/layers/base/lib/libssl.so.3");
    for (pid, minor) in [(50, 41), (51, 42)] {
        let above = ImageId {
            dev: (0, minor),
            ino: layer.ino,
        };
        tree.process(pid, &[(above, "/lib/libssl.so.3")]);
        let mount = format!("1 1 0:{minor} / / rw - overlay none rw,lowerdir=/layers/base\n");
        tree.write(&format!("/proc/{pid}/mountinfo"), mount.as_bytes());
        let root = tree.0.join(format!("proc/{pid}/root"));
        fs::remove_file(&root).unwrap();
        symlink(tree.0.join("layers/base"), root).unwrap();
    }
    let mut finder = tree.finder();
    let mut targets = finder.scan().unwrap();
    assert_eq!(targets.len(), 1);
    targets[0].users.sort_unstable();
    assert_eq!(targets[0].users, [50, 51]);
    let file = tree.0.join("layers/base/lib/libssl.so.3");
    assert_eq!(layers_of(&targets), [file], "no overlay is held");
    assert_eq!(finder.scan().unwrap(), []);
}

/// A package was upgraded in the container: the new file stands in the upper layer, the old one,
/// still mapped, in the lower.
#[test]
fn a_library_that_was_replaced_in_an_overlay_is_not_taken_for_the_new_one() {
    let tree = Tree::new();
    let old = tree.elf("/layers/base/lib/libssl.so.3");
    let new = tree.elf("/layers/up/lib/libssl.so.3");
    let file = tree.0.join("layers/up/lib/libssl.so.3");
    let file = File::options().append(true).open(file);
    file.unwrap().write_all(b"longer").unwrap();
    let above = |layer: ImageId| ImageId {
        dev: (0, 41),
        ino: layer.ino,
    };
    tree.process(
        52,
        &[
            (above(old), "/lib/libssl.so.3 (deleted)"),
            (above(new), "/lib/libssl.so.3"),
        ],
    );
    let mount = "1 1 0:41 / / rw - overlay none rw,lowerdir=/layers/base,upperdir=/layers/up\n";
    tree.write("/proc/52/mountinfo", mount.as_bytes());
    let mapped = tree.0.join("proc/52/map_files/700000000000-700000001000");
    fs::create_dir_all(mapped.parent().unwrap()).unwrap();
    fs::hard_link(tree.0.join("layers/base/lib/libssl.so.3"), mapped).unwrap();
    let root = tree.0.join("proc/52/root");
    fs::remove_file(&root).unwrap();
    symlink(tree.0.join("layers/up"), root).unwrap();
    let mut finder = tree.finder();
    let expected = ["base", "up"].map(|l| tree.0.join(format!("layers/{l}/lib/libssl.so.3")));
    assert_eq!(layers_of(&finder.scan().unwrap()), expected);
}

/// Neither number may stand in the way of it when it is mapped again.
#[test]
fn a_library_of_an_overlay_that_could_not_be_opened_comes_again() {
    let tree = Tree::new();
    let layer = tree.elf("/layers/base/lib/libssl.so.3");
    let above = ImageId {
        dev: (0, 41),
        ino: layer.ino,
    };
    tree.process(53, &[(above, "/lib/libssl.so.3")]);
    let mount = "1 1 0:41 / / rw - overlay none rw,lowerdir=/layers/base\n";
    tree.write("/proc/53/mountinfo", mount.as_bytes());
    tree.enter(53, "layers/base");
    let mut finder = tree.finder();
    let found = finder.scan().unwrap();
    assert_eq!(found.len(), 1);
    found[0].numbers().for_each(|number| finder.forget(number));
    assert_eq!(finder.scan().unwrap(), found);
}

/// `hidepid=2` hides other users' processes from who may not look into them.
#[test]
fn where_processes_are_hidden_it_is_not_known_what_is_mapped() {
    let without_privilege = || {
        let mut own = capabilities(None).unwrap();
        own.effective.remove(CapabilitySet::SYS_PTRACE);
        set_capabilities(None, own).unwrap();
        let tree = Tree::new();
        let ssl = tree.elf("/lib/libssl.so.3");
        tree.process(60, &[(ssl, "/lib/libssl.so.3")]);
        assert_eq!(tree.finder().mapped_inodes(), None);
        tree.process(1, &[]);
        assert_eq!(tree.finder().mapped_inodes(), Some([ssl.ino].into()));
    };
    std::thread::spawn(without_privilege).join().unwrap();
}

#[test]
fn a_program_whose_first_thread_ended_is_seen() {
    let tree = Tree::new();
    let ssl = tree.elf("/lib/libssl.so.3");
    tree.process(60, &[(ssl, "/lib/libssl.so.3")]);
    let maps = fs::read(tree.0.join("proc/60/maps")).unwrap();
    tree.write("/proc/60/maps", b"");
    tree.write("/proc/60/task/60/maps", b"");
    tree.write("/proc/60/task/61/maps", &maps);
    tree.write("/proc/70/maps", b""); // a kernel thread: no task/ to read is no error
    assert_eq!(tree.finder().scan().unwrap()[0].users, [60]);
}

#[test]
fn the_loader_reads_cache_configuration_and_default_places() {
    let tree = Tree::new();
    let cached = tree.elf("/opt/cached/libssl.so.1.1");
    let cache = ld_cache::tests::new_cache(&["/opt/cached/libssl.so.1.1", "/lib/libc.so.6"]);
    tree.write("/etc/ld.so.cache", &cache);
    tree.write(
        "/etc/ld.so.conf",
        b"# comment\ninclude ld.so.conf.d/*.conf\n/opt/direct, /opt/more\n",
    );
    tree.write(
        "/etc/ld.so.conf.d/a.conf",
        b"/opt/included # here\ninclude /etc/ld.so.conf\n",
    );
    tree.write("/etc/ld.so.conf.d/a.conf.bak", b"/opt/unused\n");
    let included = tree.elf("/opt/included/libssl.so.3");
    let more = tree.elf("/opt/more/libssl.so");
    let system = tree.elf("/usr/lib/libssl.so.3");
    let android = tree.elf("/apex/com.android.conscrypt/lib64/libssl.so");
    tree.elf("/opt/unused/libssl.so.3");
    tree.write(
        "/lib64/libssl.so",
        b"GROUP ( libssl.so.3 ) /* a linker script */",
    );
    tree.write(
        "/lib/libssl.so.3",
        b"\x7fELF\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ); // 32 bits
    symlink("libssl.so.3", tree.0.join("usr/lib/libssl.so")).unwrap();
    let mut finder = tree.finder();
    let mut found: Vec<_> = finder.loader().iter().map(|t| t.image).collect();
    found.sort_unstable();
    let mut expected = vec![cached, included, more, system, android];
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(finder.loader(), []);
}

#[test]
fn loader_and_scan_share_what_they_have_seen() {
    let tree = Tree::new();
    let ssl = tree.elf("/usr/lib/libssl.so.3");
    let mut finder = tree.finder();
    assert_eq!(finder.loader()[0].found_by, FoundBy::Loader);
    tree.process(80, &[(ssl, "/usr/lib/libssl.so.3")]);
    assert_eq!(finder.scan().unwrap(), []);
}

#[test]
fn a_missing_proc_is_an_error() {
    let tree = Tree::new();
    fs::remove_dir(tree.0.join("proc")).unwrap();
    let error = tree.finder().scan().unwrap_err();
    assert!(
        error.to_string().contains("proc cannot be listed"),
        "{error}"
    );
}

#[test]
fn the_real_system_is_scanned() {
    let mut finder = Finder::new(&[Search {
        names: &[NamePattern("libc.so.6")],
        any_code: false,
    }]);
    let targets = finder.scan().unwrap();
    let us = std::process::id();
    let ours = targets
        .iter()
        .find(|t| t.users.contains(&us))
        .expect("we map libc.so.6");
    assert_eq!(ImageId::of(&fs::metadata(&ours.path).unwrap()), ours.image);
    let ino = ours.image.ino;
    assert!(
        finder
            .mapped_inodes()
            .is_none_or(|inodes| inodes.contains(&ino))
    );
    assert!(finder.report().processes > 0);
    println!("{:?}", finder.report());
}

#[test]
fn code_of_any_name_is_found_when_asked_for() {
    let own = fs::metadata("/proc/self/exe").unwrap();
    let found_by = |any_code| {
        let search = Search {
            names: &[],
            any_code,
        };
        let targets = Finder::new(&[search]).scan().unwrap();
        let own = targets.iter().find(|t| t.image == ImageId::of(&own));
        own.map(|target| target.found_by)
    };
    assert_eq!(found_by(true), Some(FoundBy::Code));
    assert_eq!(found_by(false), None);
}
