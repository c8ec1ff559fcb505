//! Programs that the tests compile: once, and anew when a source changed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::program::{must, tool};
use crate::scene::{artifacts, fixture};

/// The program, made by `make` unless it is younger than all its sources. Where there are no
/// sources, in a virtual machine, it was brought.
#[track_caller]
pub fn made(program: PathBuf, sources: &[PathBuf], make: impl FnOnce(&Path)) -> PathBuf {
    let time = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let newest = sources.iter().filter_map(|source| time(source)).max();
    if time(&program) < newest {
        let fresh = program.with_extension(std::process::id().to_string());
        make(&fresh);
        fs::rename(&fresh, &program).expect("put the program in place");
    }
    program
}

/// Compiles `NAME.c` and gives the program's path.
#[track_caller]
pub fn compile(name: &str, headers: &[&str], libraries: &[&str]) -> PathBuf {
    compile_as(name, name, headers, libraries)
}

/// Compiles `NAME.c` in a way of its own, and gives the path of the program of that name.
#[track_caller]
pub fn compile_as(program: &str, name: &str, headers: &[&str], arguments: &[&str]) -> PathBuf {
    let program = artifacts().join(program);
    made(program, &sources(name, headers), |to| {
        let mut gcc = tool("gcc", "gcc libc6-dev");
        gcc.args([
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-sign-compare",
            "-o",
        ]);
        must(gcc.arg(to).arg(c_source(name)).args(arguments));
    })
}

pub fn c_source(name: &str) -> PathBuf {
    fixture(&format!("{name}.c"))
}

/// `NAME.c` and its headers.
pub fn sources(name: &str, headers: &[&str]) -> Vec<PathBuf> {
    let headers = headers.iter().map(|header| fixture(header));
    headers.chain([c_source(name)]).collect()
}
