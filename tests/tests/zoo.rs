//! The part of the zoo that CI runs: real builds from package registries. All: `make zoo`.

use std::fs;
use std::path::Path;

use tlscope_tests::SYSTEM_LIBSSL;
use tlscope_tests::Scene;
use tlscope_tests::scene::artifacts;
use tlscope_tests::zoo::go::{Facts, Toolchain, WAYS};
use tlscope_tests::zoo::{Row, TARGETS, examine, examine_file, report};

#[track_caller]
fn assert_sound(row: &Row) {
    let line = report::line(row);
    println!("{line}");
    assert!(!row.failed(), "{line}");
}

#[track_caller]
fn check(name: &str) {
    let target = TARGETS.iter().find(|t| t.name == name);
    let target = target.expect("a target of the table");
    assert!(target.quick, "{name} is not marked as one that CI runs");
    assert_sound(&examine(target));
}

#[test]
fn openssl_without_a_sink() {
    check("openssl-1.0.2r");
}

#[test]
fn openssl_of_two_generations() {
    check("openssl-1.1.1w");
    check("openssl-3.5.4");
}

#[test]
fn boringssl_with_symbols() {
    check("boringssl-bookworm");
}

#[test]
fn boringssl_static_and_stripped() {
    check("grpcio-1.85.1");
}

#[test]
fn gnutls_shared() {
    check("gnutls-bookworm");
}

#[test]
fn arm64_offline() {
    check("openssl-bookworm-arm64");
    check("gnutls-bookworm-arm64");
}

#[test]
fn go_builds_for_two_architectures() {
    let scene = Scene::new("zoo-go");
    let go = Toolchain::of_the_system();
    let facts = Facts {
        abi: "register",
        labelled: true,
        release: None,
    };
    let [plain, pie, ..] = WAYS;
    go.check_builds(&scene, "amd64", &[plain, pie], facts);
    go.check_builds(&scene, "arm64", &[plain], facts);
}

#[test]
fn a_file_that_nobody_listed() {
    // A copy: what any other program said meanwhile would be captured too.
    let copy = artifacts().join("unlisted").join("libssl.so.3");
    fs::create_dir_all(copy.parent().expect("a directory")).expect("a directory for the copy");
    fs::copy(SYSTEM_LIBSSL, &copy).expect("copy the library");
    let row = examine_file(&copy);
    assert_sound(&row);
    // It was run, not only looked at.
    assert_eq!(
        (row.text.to_string(), row.keylog.to_string()),
        ("yes".into(), "yes".into())
    );
}

#[test]
fn a_file_without_tls_fails() {
    let row = examine_file(Path::new("/usr/bin/true"));
    assert!(row.failed(), "{row:?}");
}
