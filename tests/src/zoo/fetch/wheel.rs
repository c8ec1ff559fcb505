//! Wheels, by pip: for any Python and any platform, nothing of them is run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::program::{must, tool};

/// `fit` is the Python and the platform that the wheels are for. What a package says that it
/// needs is not asked: the registry may lack it, and the row of the table knows what is used.
pub(super) fn unpack(to: &Path, package: &str, needs: &[&str], fit: (&str, &str)) {
    let (python, platform) = fit;
    let mut pip = tool("python3", "python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
    pip.args(["--no-compile", "--disable-pip-version-check"]);
    pip.args(["--root-user-action=ignore", "--only-binary", ":all:"]);
    // Python 3.7 and older have an ABI of their own for pymalloc.
    let abi = if python.len() == 2 { "m" } else { "" };
    let abi = format!("cp{python}{abi}");
    pip.args(["--implementation", "cp", "--python-version", python]);
    // Wheels on the stable ABI fit each Python after their own.
    pip.args(["--abi", &abi, "--abi", "abi3", "--abi", "none"]);
    pip.args(["--platform", platform]);
    must(pip.arg("--target").arg(to).arg(package).args(needs));
    replace_resolver(to);
}

/// Old wheels bundle a part of the C library, which works only with the one it was built
/// with. The library under test does not use it; its dependencies do.
fn replace_resolver(directory: &Path) {
    const OURS: &str = "/usr/lib/x86_64-linux-gnu/libresolv.so.2";
    let bundled = fs::read_dir(directory)
        .expect("a directory of the cache")
        .flatten();
    for entry in bundled {
        let libraries = entry.path().join(".libs");
        for library in fs::read_dir(&libraries).into_iter().flatten().flatten() {
            if library
                .file_name()
                .to_string_lossy()
                .starts_with("libresolv-")
            {
                fs::remove_file(library.path()).expect("remove a bundled libresolv");
                symlink(OURS, library.path()).expect("link to the system's libresolv");
            }
        }
    }
}
