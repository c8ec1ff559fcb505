//! Go programs: one program by many toolchains, built in every way, and programs of strangers.
//!
//! What Go itself says is the truth: `go tool objdump` where a function returns, `go version` which
//! release it is, `readelf` where a symbol is. A stripped build must say what its unstripped
//! twin says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::go::{self, Build};
use crate::keylog::KeyLog;
use crate::program::{must, tool};
use crate::records::Records;
use crate::scene::artifacts;
use crate::zoo::fetch::read;
use crate::zoo::live::{Live, Watch};
use crate::zoo::offline::{self, Truth};
use crate::zoo::outcome::Outcome;
use crate::zoo::plan::{GoLayout, Plan, Probe, Value};
use crate::zoo::targets::Tls;
use crate::{Scene, Tlscope};

/// What is known of a Go program from elsewhere than its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// `stack` or `register`.
    pub abi: &'static str,
    /// Before Go 1.12 the key log had no labels.
    pub labelled: bool,
    /// What the release is called, unless the toolchain says it, or the suite moves on.
    pub release: Option<&'static str>,
}

const fn way(name: &'static str, arguments: &'static [&'static str], cgo: bool) -> Build {
    Build {
        name,
        arguments,
        cgo,
    }
}

const STRIP: &str = "-ldflags=-s -w";
const PIE: &str = "-buildmode=pie";
const SHARED: &str = "-buildmode=c-shared";
const EXPORTS: &str = "-tags=shared";

/// The ways to build a program, and stripped.
pub const WAYS: [(Build, Build); 4] = [
    (
        way("nocgo", &[], false),
        way("nocgo-stripped", &[STRIP], false),
    ),
    (
        way("pie", &[PIE], false),
        way("pie-stripped", &[PIE, STRIP], false),
    ),
    (way("cgo", &[], true), way("cgo-stripped", &[STRIP], true)),
    (
        way("shared", &[SHARED, EXPORTS], true),
        way("shared-stripped", &[SHARED, EXPORTS, STRIP], true),
    ),
];

/// A Go of one's own.
#[derive(Debug)]
pub struct Toolchain {
    go: PathBuf,
}

impl Toolchain {
    /// From the `go` of an unpacked distribution. Wheels do not keep what may be executed.
    #[track_caller]
    pub fn at(go: &Path) -> Self {
        let go = fs::canonicalize(go).expect("the go of a toolchain");
        let root = go.ancestors().nth(2).expect("GOROOT/bin/go");
        for directory in [root.join("bin"), root.join("pkg/tool/linux_amd64")] {
            for file in fs::read_dir(directory).into_iter().flatten().flatten() {
                let metadata = file.metadata().expect("a file of the toolchain");
                if metadata.is_file() && metadata.permissions().mode() & 0o111 == 0 {
                    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o755))
                        .expect("make a tool executable");
                }
            }
        }
        Self { go }
    }

    /// The one that Debian installs.
    #[track_caller]
    pub fn of_the_system() -> Self {
        Self::at(Path::new(tool("go", "golang-go").get_program()))
    }

    fn command(&self, arch: &str) -> Command {
        let mut go = Command::new(&self.go);
        let root = self.go.ancestors().nth(2).expect("GOROOT/bin/go");
        let compiler = match arch {
            "arm64" => "aarch64-linux-gnu-gcc",
            _ => "gcc",
        };
        go.env("GOROOT", root)
            .env("GOCACHE", artifacts().join("go-cache"))
            .env("GOTOOLCHAIN", "local")
            .env("GOARCH", arch)
            .env("CC", compiler);
        go
    }

    #[track_caller]
    fn release(&self) -> String {
        let out = must(self.command("amd64").arg("version"));
        // `go version go1.19.8 linux/amd64`
        let text = String::from_utf8_lossy(&out).into_owned();
        text.split_whitespace().nth(2).expect("a release").into()
    }

    /// Where a function's returns are, by the addresses that Go's own disassembler gives.
    #[track_caller]
    fn returns(&self, image: &Path, arch: &str, function: &str) -> Vec<u64> {
        let mut go = self.command(arch);
        // The tool is built where a distribution has it not: for this machine.
        go.env_remove("GOARCH");
        let pattern = format!("^{}$", function.replace(['(', ')', '*', '.'], "."));
        let out = must(go.args(["tool", "objdump", "-s", &pattern]).arg(image));
        let text = String::from_utf8_lossy(&out).into_owned();
        let places = text.lines().filter_map(|line| {
            let mut fields = line.split('\t').filter(|field| !field.is_empty());
            let (_, address) = (fields.next()?, fields.next()?);
            let address = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
            let instruction = fields.nth(1)?.trim();
            (instruction == "RET").then_some(address)
        });
        places.collect()
    }

    /// Builds the program in these ways and checks each plan; all that is built, with its way.
    #[track_caller]
    pub fn check_builds(
        &self,
        scene: &Scene,
        arch: &str,
        ways: &[(Build, Build)],
        facts: Facts,
    ) -> Vec<(Build, PathBuf)> {
        let mut built = Vec::new();
        for (way, twin) in ways.iter().copied() {
            let image = self.build(scene, arch, way);
            let plan = self.check(scene, arch, &image, facts);
            let stripped = self.build(scene, arch, twin);
            assert!(!Truth::of(&stripped).has_symtab(), "{}", twin.name);
            let other = Plan::of(&stripped);
            assert_facts(&other, facts, Some(&self.release()));
            assert_twins(&plan, &other);
            assert_found_without_sections(scene, &stripped, &other);
            built.extend([(way, image), (twin, stripped)]);
        }
        built
    }

    #[track_caller]
    fn build(&self, scene: &Scene, arch: &str, way: Build) -> PathBuf {
        let image = scene.path(&format!("{}-{arch}", way.name));
        way.make(self.command(arch), &image);
        image
    }

    #[track_caller]
    fn check(&self, scene: &Scene, arch: &str, image: &Path, facts: Facts) -> Plan {
        let plan = Plan::of(image);
        assert_facts(&plan, facts, Some(&self.release()));
        let truth = Truth::of(image);
        assert!(truth.has_symtab(), "{}", image.display());
        truth.assert_agrees(&plan);
        let data = ["go_write", "go_read"];
        for probe in data.iter().filter_map(|role| plan.probe(role)) {
            let name = probe.symbol.as_deref().expect("a name");
            assert!(truth.has(name), "{name} in .symtab");
            assert_eq!(
                returns_of(probe),
                self.returns(image, arch, name),
                "returns of {name}, ours and those of go tool objdump"
            );
        }
        offline::assert_stripped_agrees(scene, image, &plan);
        plan
    }
}

/// What each program does beside `tlscope gotls`, in both versions of TLS.
#[track_caller]
pub fn run_builds(scene: &Scene, builds: &[(Build, PathBuf)]) -> Live {
    let programs = builds
        .iter()
        .filter(|(way, _)| !way.arguments.contains(&SHARED));
    let mut all = Live {
        text: Outcome::Yes,
        keylog: Outcome::Yes,
    };
    for (way, image) in programs {
        let live = run_build(scene, image);
        let of_way = |outcome: Outcome| match outcome {
            Outcome::No(why) => Outcome::No(format!("{}: {why}", way.name)),
            other => other,
        };
        all = Live {
            text: all.text.and(of_way(live.text)),
            keylog: all.keylog.and(of_way(live.keylog)),
        };
    }
    all
}

#[track_caller]
fn run_build(scene: &Scene, image: &Path) -> Live {
    const SIZES: &str = "1,16385,1048576";
    let tlscope = Tlscope::new("gotls").arg("-e").arg(image).arg("--json");
    let watch = Watch::by(scene, tlscope);
    let log = scene.fresh("go.keys");
    let path = log.to_str().expect("a path in UTF-8");
    let talks = Tls::Both.versions().iter().map(|version| {
        let arguments = format!("-tls {version} -sizes {SIZES} -connections 3 -keylog {path}");
        go::run(scene, image, &arguments)
    });
    let talks: Vec<_> = talks.collect();
    let truth = KeyLog::read(&log);
    let text = |records: &Records| {
        for talk in &talks {
            talk.assert_captured_with_addresses(records);
        }
    };
    watch.end(text, &truth)
}

/// The addresses at which a probed function returns.
fn returns_of(probe: &Probe) -> Vec<u64> {
    let place = |offset: &u64| offset - probe.offset + probe.address;
    probe.returns.iter().map(place).collect()
}

/// The plan of a stranger's program; where it has symbols, they agree.
#[track_caller]
pub fn check_program(plan: &Plan, facts: Facts) {
    assert_facts(plan, facts, facts.release);
}

#[track_caller]
fn assert_facts(plan: &Plan, facts: Facts, release: Option<&str>) {
    plan.assert_whole("go");
    if release.is_some() {
        assert_eq!(plan.version.as_deref(), release, "release");
    }
    let GoLayout {
        abi,
        key_log,
        tcp_fd,
        connection,
        ..
    } = plan.go();
    assert_eq!(abi, facts.abi);
    let form = if facts.labelled {
        "labelled"
    } else {
        "master_secret"
    };
    assert_eq!(key_log, form);
    // The same in every release since Go 1.8, though derived from each image.
    let path = |value: &Option<Value>| value.as_ref().map(|value| value.path.clone());
    assert_eq!(path(connection), Some(vec![0]), "the connection below");
    assert_eq!(path(tcp_fd), Some(vec![0, 0x10]), "the descriptor");
    let missing: Vec<_> = plan.missing.iter().map(|m| &m.what).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}

/// Section headers are no part of what runs, and some strip them too.
#[track_caller]
fn assert_found_without_sections(scene: &Scene, image: &Path, plan: &Plan) {
    // `e_shoff`, then `e_shnum` and `e_shstrndx`.
    const FIELDS: [std::ops::Range<usize>; 2] = [0x28..0x30, 0x3c..0x40];
    let mut bytes = read(image);
    for field in FIELDS {
        bytes[field].fill(0);
    }
    let bare = Plan::of(&scene.write("bare", &bytes));
    for probe in &plan.probes {
        let found = bare.probe(&probe.role).expect("the same role");
        assert_eq!(
            (found.offset, &found.returns),
            (probe.offset, &probe.returns)
        );
    }
    assert_eq!(bare.version, plan.version);
    assert_eq!(bare.go().abi, plan.go().abi);
}

/// A stripped build is the same code, be it elsewhere.
#[track_caller]
fn assert_twins(whole: &Plan, stripped: &Plan) {
    assert_eq!(whole.roles(), stripped.roles());
    for probe in &whole.probes {
        let twin = stripped.probe(&probe.role).expect("the same role");
        assert_eq!(probe.symbol, twin.symbol);
        let relative = |probe: &Probe| -> Vec<u64> {
            probe.returns.iter().map(|at| at - probe.offset).collect()
        };
        assert_eq!(
            relative(probe),
            relative(twin),
            "returns of {:?}",
            probe.symbol
        );
    }
}
