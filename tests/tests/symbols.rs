//! Names that do not stand in the image as it runs: in `.gnu_debugdata`, and in debug files that
//! the build id or a link names. The image is a program that holds Debian's static libssl, so that
//! no table that is loaded has its names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tlscope_tests::program::{must, tool};
use tlscope_tests::zoo::plan::Plan;
use tlscope_tests::{SYSTEM_LIBSSL, Scene, capture};

/// The program, its names in a file of their own, and the program without them.
struct Holder {
    debug: PathBuf,
    stripped: PathBuf,
    /// The plan of the program with all its names.
    whole: Plan,
}

/// Nobody's but ours, so that no debug file of the system has it.
const BUILD_ID: &str = "7175c0de7175c0de7175c0de7175c0de7175c0de";
const OTHER_BUILD_ID: &str = "7175c0de7175c0de7175c0de7175c0de7175c0df";

impl Holder {
    /// In the scene's `bin`.
    #[track_caller]
    fn build(scene: &Scene, build_id: &str) -> Self {
        let program = scene.path("bin/holder");
        let source = scene.write("bin/holder.c", b"int main(void) { return 0; }\n");
        let mut gcc = tool("gcc", "gcc");
        gcc.arg("-o").arg(&program).arg(&source);
        gcc.arg(format!("-Wl,--build-id=0x{build_id}"));
        gcc.args([
            "-Wl,--whole-archive",
            "-l:libssl.a",
            "-Wl,--no-whole-archive",
        ]);
        must(gcc.arg("-l:libcrypto.a"));
        let whole = Plan::of(&program);
        let debug = scene.path("bin/holder.debug");
        must(objcopy(&["--only-keep-debug"]).arg(&program).arg(&debug));
        let stripped = scene.path("bin/stripped");
        must(objcopy(&["--strip-all"]).arg(&program).arg(&stripped));
        fs::remove_file(program).expect("remove the program with names");
        Self {
            debug,
            stripped,
            whole,
        }
    }

    /// The stripped program with a section more.
    #[track_caller]
    fn with_section(&self, name: &str, content: &Path) -> PathBuf {
        let made = self.stripped.with_file_name("with-section");
        let section = format!("{name}={}", content.display());
        must(
            objcopy(&["--add-section", &section])
                .arg(&self.stripped)
                .arg(&made),
        );
        made
    }

    /// The stripped program with a link to its debug file, which is moved to `kept` then.
    #[track_caller]
    fn linked(&self, kept: &Path) -> PathBuf {
        let made = self.stripped.with_file_name("linked");
        let link = format!("--add-gnu-debuglink={}", self.debug.display());
        must(objcopy(&[&link]).arg(&self.stripped).arg(&made));
        fs::rename(&self.debug, kept).expect("move the debug file");
        made
    }

    /// The plan of an image is that of the program with all its names, which come from this source.
    #[track_caller]
    fn assert_named(&self, image: &Path, source: &str) {
        let plan = Plan::of(image);
        let named = format!("named in {source}");
        let read = plan.data_probe().expect("a probe of reads");
        assert_eq!(places(&plan), places(&self.whole), "{}", image.display());
        let new = plan.probe("new").expect("a probe of births");
        assert_eq!(new.evidence, named, "{read:?}");
        plan.assert_shown(image);
    }
}

/// The image's own code is all that tells of it.
#[track_caller]
fn assert_unnamed(image: &Path) {
    let plan = Plan::of(image);
    let mut probes = plan.probes.iter();
    assert!(
        probes.all(|probe| probe.symbol.is_none()),
        "{:?}",
        plan.probes
    );
    assert!(plan.has_secrets(), "{:?}", plan.missing);
}

fn places(plan: &Plan) -> Vec<(&str, u64)> {
    plan.probes
        .iter()
        .map(|probe| (probe.role.as_str(), probe.offset))
        .collect()
}

#[track_caller]
fn objcopy(arguments: &[&str]) -> Command {
    let mut objcopy = tool("objcopy", "binutils");
    objcopy.args(arguments);
    objcopy
}

/// A file that goes with the test, in a directory of the system.
struct Installed(PathBuf);

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        // If it is empty now.
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

#[track_caller]
fn put(file: &Path, place: &Path) -> Installed {
    fs::create_dir_all(place.parent().expect("a directory")).expect("make the directory");
    fs::copy(file, place).expect("copy the file");
    Installed(place.to_owned())
}

fn by_build_id(build_id: &str) -> PathBuf {
    let (head, tail) = build_id.split_at(2);
    format!("/usr/lib/debug/.build-id/{head}/{tail}.debug").into()
}

#[track_caller]
fn xz(plain: &Path) -> PathBuf {
    must(
        tool("xz", "xz-utils")
            .args(["-0", "--keep", "--force"])
            .arg(plain),
    );
    PathBuf::from(format!("{}.xz", plain.display()))
}

/// One test, for the program takes seconds to link.
#[test]
fn names_come_from_each_place_that_has_them() {
    let scene = Scene::new("symbols");
    let holder = Holder::build(&scene, BUILD_ID);
    let whole = &holder.whole;
    assert!(
        whole.recognised_by.ends_with("in .symtab"),
        "{}",
        whole.recognised_by
    );
    assert_eq!(whole.missing.len(), 0, "{:?}", whole.missing);
    assert_unnamed(&holder.stripped);

    let image = holder.with_section(".gnu_debugdata", &xz(&holder.debug));
    holder.assert_named(&image, ".gnu_debugdata");

    let installed = put(&holder.debug, &by_build_id(BUILD_ID));
    holder.assert_named(&holder.stripped, "the debug file of its build id");
    drop(installed);

    let kept = scene.path("kept.debug");
    let image = holder.linked(&kept);
    assert_unnamed(&image);
    let bin = scene.path("bin");
    let central = Path::new("/usr/lib/debug").join(bin.strip_prefix("/").expect("a whole path"));
    for directory in [bin.clone(), bin.join(".debug"), central] {
        let _installed = put(&kept, &directory.join("holder.debug"));
        holder.assert_named(&image, "the debug file of its .gnu_debuglink");
    }
}

/// The name of a debug file is the image's, and what stands there is anybody's.
#[test]
fn debug_files_that_do_not_fit_are_refused() {
    let scene = Scene::new("symbols-refused");
    let holder = Holder::build(&scene, BUILD_ID);
    let kept = scene.path("kept.debug");
    let image = holder.linked(&kept);

    // Another checksum than the link's.
    let mut changed = fs::read(&kept).expect("the debug file");
    changed.push(0);
    let place = scene.write("bin/holder.debug", &changed);
    assert_unnamed(&image);

    // Opening it would wait for somebody who writes.
    fs::remove_file(&place).expect("remove the changed file");
    must(tool("mkfifo", "coreutils").arg(&place));
    assert_unnamed(&image);
    fs::remove_file(&place).expect("remove the pipe");

    // Another image's, where that of this build id belongs.
    let other = Holder::build(&scene, OTHER_BUILD_ID);
    let _installed = put(&other.debug, &by_build_id(BUILD_ID));
    assert_unnamed(&image);

    let image = holder.with_section(".gnu_debugdata", &scene.path("bin/holder.c"));
    assert_unnamed(&image);
}

/// A section of some KiB that is hundreds of MiB when it is unpacked.
#[test]
fn mini_debug_information_that_swells_is_given_up() {
    const SWOLLEN: u64 = 400 << 20;
    const ADDRESS_SPACE: u64 = 320 << 20;
    let scene = Scene::new("symbols-swell");
    let zeros = scene.path("zeros");
    let file = fs::File::create(&zeros).expect("a file");
    file.set_len(SWOLLEN).expect("a long file");
    let section = format!(".gnu_debugdata={}", xz(&zeros).display());
    let image = scene.path("libssl.so.3");
    must(objcopy(&["--add-section", &section, SYSTEM_LIBSSL]).arg(&image));
    let mut prlimit = tool("prlimit", "util-linux");
    prlimit
        .arg(format!("--as={ADDRESS_SPACE}"))
        .arg(capture::binary());
    let plan = must(prlimit.args(["inspect", "--json"]).arg(image));
    let plan: Plan = serde_json::from_slice(&plan).expect("a plan");
    assert!(plan.has_secrets() && plan.has_data(), "{:?}", plan.missing);
}
