//! The part of the zoo that CI runs: real builds from package registries. All: `make zoo`.

use std::fs;
use std::path::Path;

use tlscope_tests::SYSTEM_LIBSSL;
use tlscope_tests::Scene;
use tlscope_tests::scene::artifacts;
use tlscope_tests::zoo::fetch::fetch;
use tlscope_tests::zoo::go::{Facts, Toolchain, WAYS};
use tlscope_tests::zoo::plan::Plan;
use tlscope_tests::zoo::targets::named;
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

/// Who reads and who writes is told by the errors they report; secrets are found without them.
#[test]
fn what_is_not_told_for_sure_is_missing_by_name_and_secrets_stay() {
    const UNINITIALIZED: u8 = 226;
    const MOV_TO_EDX: u8 = 0xba;
    let scene = Scene::new("zoo-unsure");
    let target = named("grpcio-1.85.1").expect("a target of the table");
    let image = fetch(target).image;
    let mut bytes = fs::read(&image).expect("the image");
    let mut broken = 0;
    for at in 0..bytes.len() - 5 {
        if bytes[at..at + 5] == [MOV_TO_EDX, UNINITIALIZED, 0, 0, 0] {
            bytes[at + 1] += 1;
            broken += 1;
        }
    }
    assert!(
        broken > 0,
        "no code reports that a connection is not set up"
    );
    let copy = scene.fresh("cygrpc.so");
    fs::write(&copy, bytes).expect("a copy");
    let (whole, plan) = (Plan::of(&image), Plan::of(&copy));
    let lacks = |plan: &Plan, name: &str| plan.missing.iter().any(|m| m.what == name);
    for name in ["`SSL_read`", "`SSL_write`"] {
        assert!(!lacks(&whole, name), "{:?}", whole.missing);
        assert!(lacks(&plan, name), "{name}: {:?}", plan.missing);
    }
    assert!(!plan.has_data(), "{:?}", plan.probes);
    let sink = |plan: &Plan| plan.probe("secret_sink").expect("a sink").address;
    assert_eq!(sink(&plan), sink(&whole));
    let random = |plan: &Plan| plan.layout.client_random.clone().expect("a random").path;
    assert_eq!(random(&plan), random(&whole));
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
