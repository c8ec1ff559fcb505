//! The rules of the house that a machine can check. No root, no kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tlscope_tests::program::must;
use tlscope_tests::zoo::TARGETS;

/// What each crate may depend on among ours: DESIGN section 2, and the tests on none.
const ARROWS: [(&str, &[&str]); 6] = [
    (
        "tlscope",
        &[
            "tlscope-core",
            "tlscope-image",
            "tlscope-probe",
            "tlscope-targets",
        ],
    ),
    ("tlscope-probe", &["tlscope-image"]),
    ("tlscope-core", &["tlscope-image"]),
    ("tlscope-targets", &["tlscope-image"]),
    ("tlscope-image", &[]),
    ("tlscope-tests", &[]),
];

/// Dependencies that are the business of one crate.
const RESERVED: [(&str, &str); 4] = [
    ("clap", "tlscope"),
    ("anyhow", "tlscope"),
    ("libbpf-rs", "tlscope-probe"),
    ("libbpf-sys", "tlscope-probe"),
];

const MAX_LINES: usize = 600;
const MAX_HEADER: usize = 10;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

/// Crate by crate, what it depends on outside of its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ]);
    let metadata: Value =
        serde_json::from_slice(&must(command.current_dir(root()))).expect("cargo metadata");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let of_crate = |package: &Value| {
        let all = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter();
        let own = all.filter(|d| d["kind"] != "dev").map(name).collect();
        (name(package), own)
    };
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(of_crate)
        .collect()
}

#[test]
fn dependency_arrows_run_one_way() {
    let all = dependencies();
    let ours: BTreeSet<_> = all.keys().cloned().collect();
    let ruled: BTreeMap<_, _> = ARROWS.into_iter().collect();
    for (name, dependencies) in &all {
        let allowed = ruled
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name}: no rule for it"));
        for arrow in dependencies.intersection(&ours) {
            assert!(
                allowed.contains(&arrow.as_str()),
                "{name} must not depend on {arrow}"
            );
        }
    }
    assert_eq!(ours.len(), ARROWS.len(), "{ours:?}");
}

#[test]
fn some_dependencies_belong_to_one_crate() {
    for (name, dependencies) in dependencies() {
        for (reserved, owner) in RESERVED {
            assert!(
                name == owner || !dependencies.contains(reserved),
                "{name} uses {reserved}"
            );
        }
    }
}

#[test]
fn unsafe_code_is_in_one_crate() {
    for (name, _) in ARROWS.iter().filter(|(name, _)| *name != "tlscope-probe") {
        let directory = match *name {
            "tlscope-tests" => root().join("tests/src"),
            name => root().join("crates").join(name).join("src"),
        };
        let roots = ["lib.rs", "main.rs"].map(|file| directory.join(file));
        for file in roots.iter().filter(|file| file.exists()) {
            let text = fs::read_to_string(file).expect("a crate root");
            let shown = file.display();
            assert!(
                text.contains("#![forbid(unsafe_code)]"),
                "{shown} does not forbid it"
            );
        }
        assert!(roots.iter().any(|file| file.exists()), "{name} has no root");
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut faults = Vec::new();
    for file in sources(&["rs", "c", "h", "py", "js", "sh"]) {
        let text = fs::read_to_string(&file).expect("a source file");
        let lines = text.lines().count();
        if lines >= MAX_LINES {
            faults.push(format!("{}: {lines} lines", file.display()));
        }
        let header = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .count();
        if header > MAX_HEADER {
            faults.push(format!("{}: a header of {header} lines", file.display()));
        }
        if header == 0 && needs_header(&file) {
            faults.push(format!("{}: no header", file.display()));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A module's unit tests and a fuzz target are named by what they are.
fn needs_header(file: &Path) -> bool {
    let named = file.ends_with("tests.rs") || file.starts_with(root().join("fuzz"));
    file.extension().is_some_and(|e| e == "rs") && !named
}

#[test]
fn no_file_is_named_for_nothing() {
    for file in sources(&["rs", "c", "h"]) {
        let name = file
            .file_stem()
            .and_then(|s| s.to_str())
            .unwrap_or_default();
        for empty in [
            "util", "utils", "common", "helper", "helpers", "manager", "misc",
        ] {
            assert_ne!(name, empty, "{}", file.display());
        }
    }
}

#[test]
fn tests_do_not_sleep() {
    // Put together so that this file does not have it.
    let sleep = ["thread::", "sleep("].concat();
    for file in sources(&["rs"])
        .iter()
        .filter(|f| f.starts_with(root().join("tests")))
    {
        let text = fs::read_to_string(file).expect("a source file");
        assert!(!text.contains(&sleep), "{} sleeps", file.display());
    }
}

#[test]
fn the_two_commands_of_the_readme_exist() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let makefile = fs::read_to_string(root().join("Makefile")).expect("Makefile");
    for command in ["demo", "test"] {
        assert!(
            readme.contains(&format!("make {command}")),
            "README without make {command}"
        );
        let rule = format!("\n{command}:");
        assert!(makefile.contains(&rule), "Makefile without {command}");
    }
    let ci = fs::read_to_string(root().join(".ci/run")).expect(".ci/run");
    assert!(
        ci.lines().any(|line| line == "make test"),
        ".ci/run does not run make test"
    );
}

/// `make zoo` writes a row for each target, in the order of the table.
#[test]
fn the_pages_of_libraries_and_of_go_list_every_target() {
    for (page, is_go) in [("docs/libraries.md", false), ("docs/go.md", true)] {
        let text = fs::read_to_string(root().join(page)).expect("a page");
        let rows = text
            .lines()
            .skip_while(|line| !line.starts_with("| target |"));
        let rows = rows.skip(2).map_while(|line| line.strip_prefix("| "));
        let listed: Vec<_> = rows.filter_map(|row| row.split(" |").next()).collect();
        let targets = TARGETS.iter().filter(|t| (t.family == "go") == is_go);
        let targets: Vec<_> = targets.map(|target| target.name).collect();
        let lacking: Vec<_> = targets.iter().filter(|t| !listed.contains(t)).collect();
        let gone: Vec<_> = listed.iter().filter(|t| !targets.contains(t)).collect();
        let fresh = lacking.is_empty() && gone.is_empty();
        assert!(
            fresh,
            "{page}: run `make zoo`: {lacking:?} lack, {gone:?} are gone"
        );
        assert_eq!(listed, targets, "{page}: the order of the table");
    }
}

/// Our source files with these endings.
fn sources(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories: Vec<_> = ["crates", "tests", "scripts", "fuzz/fuzz_targets"]
        .map(|d| root().join(d))
        .into();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path
                .extension()
                .is_some_and(|e| endings.iter().any(|want| e == *want))
            {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 10, "where are the sources? {found:?}");
    found
}
