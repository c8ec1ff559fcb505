//! The noncore object of both architectures: what proves that an old kernel takes one proves the
//! other too. The program holds its own; the other is compiled here, once, as `build.rs` would.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use tlscope_probe::ObjectKind;

/// Of one architecture.
#[derive(Debug)]
pub(crate) struct Noncore {
    pub(crate) arch: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// What a program may read of `struct pt_regs`: `user_pt_regs` on aarch64.
    #[allow(dead_code)] // not every test looks at it
    pub(crate) registers: i64,
}

impl Noncore {
    pub(crate) fn file(&self) -> object::File<'_> {
        object::File::parse(&*self.bytes).expect("an ELF file")
    }

    pub(crate) fn opened(&self) -> libbpf_rs::OpenObject {
        libbpf_rs::ObjectBuilder::default()
            .open_memory(&self.bytes)
            .expect("opening needs no privilege")
    }
}

const ARCHITECTURES: [(&str, i64); 2] = [("x86_64", 168), ("aarch64", 272)];

/// Ours first.
pub(crate) static NONCORE: LazyLock<[Noncore; 2]> = LazyLock::new(|| {
    let other = fs::read(compiled()).expect("the other object");
    let own = ObjectKind::Noncore.bytes();
    assert_ne!(own, other, "two architectures");
    let mut objects = ARCHITECTURES.map(|(arch, registers)| {
        let bytes = if arch == ARCH { own } else { &other };
        Noncore {
            arch,
            bytes: bytes.to_vec(),
            registers,
        }
    });
    objects.sort_by_key(|object| object.arch != ARCH);
    objects
});

/// Kept until the build script has run again.
fn compiled() -> PathBuf {
    let out = Path::new(env!("OUT_DIR"));
    let object = out.join("noncore-other.bpf.o");
    let time = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    if time(&object) > time(&out.join("noncore-other.words")) {
        return object;
    }
    let words = include_str!(concat!(env!("OUT_DIR"), "/noncore-other.words"));
    let mut words = words.lines();
    let mut clang = Command::new(words.next().expect("a compiler"));
    let fresh = out.join(format!("noncore-other.{}", std::process::id()));
    let status = clang.args(words).arg("-o").arg(&fresh).status();
    assert!(status.expect("clang can be run").success(), "{clang:?}");
    fs::rename(&fresh, &object).expect("a name for the object");
    object
}
