//! Compiles the BPF programs twice from the same sources: the core object
//! (CO-RE, ring buffers) and the noncore object (no BTF needed, kernel 4.18).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Object {
    name: &'static str,
    flags: &'static [&'static str],
}

const OBJECTS: [Object; 2] = [
    // v3: 32-bit ALU and jumps, understood since 5.1; every core kernel has them.
    Object {
        name: "core",
        flags: &["-DTLSCOPE_CORE", "-mcpu=v3"],
    },
    // v1: what the verifier of 4.18 takes.
    Object {
        name: "noncore",
        flags: &["-mcpu=v1"],
    },
];

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let clang = find_clang();
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let (ours, other) = match arch.as_str() {
        "x86_64" => ("x86", "arm64"),
        "aarch64" => ("arm64", "x86"),
        other => panic!("tlscope runs on x86_64 and aarch64, not on {other:?}"),
    };
    for object in &OBJECTS {
        compile(&clang, object, ours, &out);
    }
    // Tests prove the other architecture's noncore object too, and compile it by these words.
    let words = [vec![clang], arguments(&OBJECTS[1], other)].concat();
    fs::write(out.join("noncore-other.words"), words.join("\n")).expect("OUT_DIR can be written");
}

/// Newest first: clang 15 is the oldest that compiles the programs.
fn find_clang() -> String {
    let named = env::var("CLANG").ok();
    let known = [
        "clang-19", "clang", "clang-18", "clang-17", "clang-16", "clang-15",
    ];
    named
        .into_iter()
        .chain(known.map(String::from))
        .find(|name| Command::new(name).arg("--version").output().is_ok())
        .expect("no clang found: install the package clang-19, or set CLANG to its path")
}

fn compile(clang: &str, object: &Object, arch: &str, out: &Path) {
    let status = Command::new(clang)
        .args(arguments(object, arch))
        .arg("-o")
        .arg(out.join(format!("{}.bpf.o", object.name)))
        .status()
        .expect("clang can be run");
    assert!(
        status.success(),
        "{clang} could not compile the {} object",
        object.name
    );
}

/// All but where the object goes.
fn arguments(object: &Object, arch: &str) -> Vec<String> {
    // Set by libbpf-sys (`links = "bpf"`): the headers of the libbpf it vendors.
    let libbpf = env::var("DEP_BPF_INCLUDE").expect("libbpf-sys exports its headers");
    let host = env::var("HOST").expect("cargo sets HOST");
    // Debian keeps <asm/types.h> in the multiarch folder of the build machine.
    let multiarch = format!("/usr/include/{}", host.replace("-unknown", ""));
    let arch = format!("-D__TARGET_ARCH_{arch}");
    let first = ["-g", "-O2", "-target", "bpf", "-std=gnu11"];
    let warnings = [
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unused-parameter",
        "-Wno-sign-compare",
    ];
    let places = ["-I", &libbpf, "-I", "bpf", "-idirafter", &multiarch];
    let source = ["-c", "bpf/tlscope.bpf.c"];
    let parts = [
        &first[..],
        &warnings,
        &[&arch],
        object.flags,
        &places,
        &source,
    ];
    parts.concat().into_iter().map(str::to_owned).collect()
}
