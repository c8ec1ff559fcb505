//! Programs in C that the tests compile: once, and anew when a source changed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::program::{must, tool};
use crate::scene::{artifacts, fixture};

/// Compiles `NAME.c` and gives the program's path.
#[track_caller]
pub fn compile(name: &str, headers: &[&str], libraries: &[&str]) -> PathBuf {
    let program = artifacts().join(name);
    let source = fixture(&format!("{name}.c"));
    let time = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let sources = headers
        .iter()
        .map(|header| fixture(header))
        .chain([source.clone()]);
    let newest = sources.filter_map(|source| time(&source)).max();
    if time(&program) < newest {
        let fresh = artifacts().join(format!("{name}-{}", std::process::id()));
        let mut gcc = tool("gcc", "gcc libc6-dev");
        gcc.args([
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-sign-compare",
            "-o",
        ]);
        must(gcc.arg(&fresh).arg(&source).args(libraries));
        fs::rename(&fresh, &program).expect("put the fixture in place");
    }
    program
}
