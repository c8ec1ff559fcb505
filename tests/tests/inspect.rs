//! `tlscope inspect`: the plan of an image and its evidence, for anybody.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tlscope_tests::capture::tlscope_of_nobody;
use tlscope_tests::program::run;
use tlscope_tests::{SYSTEM_LIBSSL, Scene, Tlscope};

#[test]
fn the_system_library_as_text() {
    let scene = Scene::new("inspect-text");
    let finished = Tlscope::new("inspect")
        .arg(SYSTEM_LIBSSL)
        .run(&scene)
        .success();
    let text = finished.text();
    assert!(text.starts_with(SYSTEM_LIBSSL), "{text}");
    for expected in [
        "OpenSSL",
        "build id",
        "probes",
        "SecretSink",
        "layout",
        "client random",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    // Each label that the sink was found by is named.
    for label in [
        "CLIENT_RANDOM",
        "CLIENT_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
    ] {
        assert!(text.contains(label), "no {label} in:\n{text}");
    }
    // Every public data function is probed or covered by a probe.
    for function in [
        "SSL_read",
        "SSL_write",
        "SSL_read_ex",
        "SSL_write_ex",
        "SSL_write_early_data",
    ] {
        assert!(text.contains(function), "no {function} in:\n{text}");
    }
}

#[test]
fn the_system_library_as_json() {
    let scene = Scene::new("inspect-json");
    let finished = Tlscope::new("inspect")
        .arg("--json")
        .arg(SYSTEM_LIBSSL)
        .run(&scene)
        .success();
    let plan: Value = serde_json::from_slice(&finished.stdout).expect("JSON");
    assert_eq!(plan["family"], "openssl");
    assert_eq!(
        plan["arch"],
        if cfg!(target_arch = "x86_64") {
            "x86_64"
        } else {
            "aarch64"
        }
    );
    let probes = plan["probes"].as_array().expect("probes");
    let roles: BTreeSet<_> = probes.iter().filter_map(|p| p["role"].as_str()).collect();
    for role in [
        "read_ex",
        "write_ex",
        "handshake",
        "new",
        "free",
        "secret_sink",
    ] {
        assert!(roles.contains(role), "no {role} in {roles:?}");
    }
    let size = fs::metadata(SYSTEM_LIBSSL).expect("the library").len();
    for probe in probes {
        let offset = probe["offset"].as_u64().expect("an offset");
        assert!(offset > 0 && offset < size, "{probe}");
        assert!(
            !probe["evidence"].as_str().expect("evidence").is_empty(),
            "{probe}"
        );
    }
    let path = plan["layout"]["client_random"]["path"]
        .as_array()
        .expect("a path");
    assert!(
        !path.is_empty() && path.iter().all(Value::is_u64),
        "{path:?}"
    );
    assert_eq!(
        plan["missing"].as_array().map(Vec::len),
        Some(0),
        "{}",
        plan["missing"]
    );
}

#[test]
fn it_needs_no_root() {
    let scene = Scene::new("inspect-nobody");
    let mut setpriv = tlscope_of_nobody(&scene);
    setpriv.args(["inspect", SYSTEM_LIBSSL]);
    let finished = run(&scene, "inspect", setpriv).success();
    assert!(finished.text().contains("SecretSink"));
}

#[test]
fn what_cannot_be_inspected_is_told() {
    let scene = Scene::new("inspect-errors");
    let script = scene.write("script", b"#!/bin/sh\n");
    let cases: [(&Path, i32, &str); 3] = [
        (Path::new("/nonexistent"), 1, "No such file"),
        (&script, 4, "not an ELF file"),
        (Path::new("/usr/bin/true"), 4, "no TLS library"),
    ];
    for (path, code, words) in cases {
        let finished = Tlscope::new("inspect").arg(path).run(&scene);
        assert_eq!(finished.code(), Some(code), "{}", finished.stderr);
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
        assert_eq!(finished.text(), "");
    }
}
