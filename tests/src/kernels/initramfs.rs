//! A root file system as an initramfs: the archive format is cpio's newc, uncompressed.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    pub fn directory(&mut self, path: &str) {
        self.entry(path.as_bytes(), DIRECTORY | 0o755, &[]);
    }

    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path.as_bytes(), FILE | mode, content);
    }

    /// A file of this machine.
    #[track_caller]
    pub fn copy(&mut self, from: &Path, to: &str) {
        let content = match fs::read(from) {
            Ok(content) => content,
            Err(e) => panic!("{}: {e}", from.display()),
        };
        let mode = fs::metadata(from).map_or(0o644, |meta| meta.permissions().mode());
        self.file(to, mode & 0o777, &content);
    }

    /// The files of a directory, which has no others below it.
    #[track_caller]
    pub fn files(&mut self, from: &Path, to: &str) {
        self.directory(to);
        for entry in fs::read_dir(from).expect("a directory").flatten() {
            let name = entry.file_name();
            self.copy(&entry.path(), &format!("{to}/{}", name.to_string_lossy()));
        }
    }

    /// All that is below a directory and `wanted` by its path in there.
    #[track_caller]
    pub fn tree(&mut self, root: &Path, wanted: &dyn Fn(&str) -> bool) {
        self.below(root, root, wanted);
    }

    fn below(&mut self, root: &Path, directory: &Path, wanted: &dyn Fn(&str) -> bool) {
        let mut entries: Vec<_> = fs::read_dir(directory)
            .expect("a directory of the root")
            .flatten()
            .map(|entry| entry.path())
            .collect();
        entries.sort();
        for path in entries {
            let inside = path.strip_prefix(root).expect("below the root");
            let name = inside.to_str().expect("names in packages are ASCII");
            if !wanted(name) {
                continue;
            }
            let kind = fs::symlink_metadata(&path).expect("an entry").file_type();
            if kind.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                self.entry(name.as_bytes(), LINK | 0o777, target.as_os_str().as_bytes());
            } else if kind.is_dir() {
                self.directory(name);
                self.below(root, &path, wanted);
            } else if kind.is_file() {
                self.copy(&path, name);
            }
        }
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.entry(b"TRAILER!!!", 0, &[]);
        self.bytes
    }

    /// 13 numbers of 8 hexadecimal digits, then name and content, each aligned to 4.
    fn entry(&mut self, name: &[u8], mode: u32, content: &[u8]) {
        self.inode += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let [name_size, size] = [name.len() + 1, content.len()].map(|n| n as u32);
        let numbers = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0,
        ];
        self.bytes.extend(b"070701");
        for number in numbers {
            self.bytes.extend(format!("{number:08x}").bytes());
        }
        self.bytes.extend(name);
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
