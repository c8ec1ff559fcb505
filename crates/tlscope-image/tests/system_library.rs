//! The plans of the system's own libssl and libgnutls, checked against what their symbols and their
//! code must agree on.

use tlscope_image::plan::{Arch, Family, Module, Role};
use tlscope_image::{ImageError, analyze, might_hold};

/// The tests install libssl3; a machine without it fails here, by name.
const LIBSSL: &str = "/usr/lib/x86_64-linux-gnu/libssl.so.3";

fn libssl() -> Vec<u8> {
    std::fs::read(LIBSSL).unwrap_or_else(|error| panic!("{LIBSSL} (Debian's libssl3): {error}"))
}

#[test]
fn every_part_of_the_plan_is_found() {
    let plan = analyze(&libssl()).expect("a plan");
    assert_eq!((plan.family, plan.arch), (Family::OpenSsl, Arch::X86_64));
    for name in ["SSL_read", "SSL_read_ex", "SSL_write", "SSL_write_ex"] {
        let probed = plan
            .data_probes()
            .any(|probe| probe.symbol.as_deref() == Some(name));
        let covered = plan.covered.iter().any(|covered| covered.symbol == name);
        assert!(probed != covered, "{name} is probed or covered, not both");
    }
    for role in [Role::Handshake, Role::New, Role::Clear, Role::Free] {
        assert!(
            plan.probes.iter().any(|probe| probe.role == role),
            "{role:?}"
        );
    }
    let sinks = plan
        .probes
        .iter()
        .filter(|probe| probe.role == Role::SecretSink);
    assert_eq!(sinks.count(), 1);
    assert!(plan.layout.client_random.is_some());
    assert_eq!(plan.missing, []);
}

#[test]
fn early_data_is_not_counted_twice() {
    let plan = analyze(&libssl()).expect("a plan");
    for early in ["SSL_read_early_data", "SSL_write_early_data"] {
        assert!(
            plan.covered.iter().any(|covered| covered.symbol == early),
            "{early}"
        );
    }
}

/// What is named then is named by the loader's own table.
#[test]
fn without_section_headers_the_plan_is_the_same() {
    let whole = analyze(&libssl()).expect("a plan");
    let mut image = libssl();
    // e_shoff; e_shentsize, e_shnum and e_shstrndx.
    image[0x28..0x30].fill(0);
    image[0x3a..0x40].fill(0);
    let bare = analyze(&image).expect("a plan");
    assert_eq!(bare.probes, whole.probes);
    assert_eq!(bare.covered, whole.covered);
    assert_eq!(bare.layout, whole.layout);
    assert_eq!(bare.missing, whole.missing);
}

/// Cut, and with bytes flipped all over: an answer or an error, within bounds, never a panic.
#[test]
fn a_damaged_image_ends_in_an_answer() {
    let whole = libssl();
    for length in [
        0,
        1,
        4,
        16,
        63,
        64,
        200,
        4096,
        40_000,
        200_000,
        400_000,
        whole.len() - 1,
    ] {
        let _ = analyze(&whole[..length]);
    }
    let mut state = 0x2545_f491_u32;
    for round in 0..24 {
        let mut image = whole.clone();
        for _ in 0..64 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            // The headers and the tables at both ends more often than the middle.
            let place = match round % 3 {
                0 => state as usize % 0x400,
                1 => image.len() - 1 - state as usize % 0x1000,
                _ => state as usize % image.len(),
            };
            image[place] ^= (state >> 24) as u8 | 1;
        }
        let _ = analyze(&image);
    }
}

#[test]
fn what_is_no_library_is_said_by_name() {
    assert!(matches!(analyze(b"#!/bin/sh\n"), Err(ImageError::NotElf)));
    assert!(matches!(
        analyze(b"\x7fELF\x01\x01"),
        Err(ImageError::Elf32)
    ));
    assert!(matches!(analyze(b"\x7fELF"), Err(ImageError::Malformed(_))));
    let mut other = libssl();
    other[18] = 243;
    assert!(matches!(
        analyze(&other),
        Err(ImageError::UnsupportedArch(_))
    ));
    let own = std::fs::read("/proc/self/exe").expect("readable");
    let nothing = matches!(analyze(&own), Err(ImageError::NothingFound { .. }));
    assert!(
        nothing,
        "this test program holds the names, but no TLS library"
    );
}

#[test]
fn a_look_is_enough_to_pass_by_other_files() {
    assert!(might_hold(&libssl(), &Module::ALL));
    assert!(!might_hold(
        b"\x7fELF and nothing of interest",
        &Module::ALL
    ));
    assert!(!might_hold(b"SSL_read in a script", &Module::ALL));
}

/// apt itself needs it.
const LIBGNUTLS: &str = "/usr/lib/x86_64-linux-gnu/libgnutls.so.30";

#[test]
fn gnutls_sends_through_one_function_and_logs_through_another() {
    let image = std::fs::read(LIBGNUTLS)
        .unwrap_or_else(|error| panic!("{LIBGNUTLS} (Debian's libgnutls30): {error}"));
    let plan = analyze(&image).expect("a plan");
    assert_eq!((plan.family, plan.arch), (Family::GnuTls, Arch::X86_64));
    let mut roles: Vec<Role> = plan.probes.iter().map(|probe| probe.role).collect();
    roles.sort_unstable();
    let mut expected = vec![
        Role::Read,
        Role::Read,
        Role::Read,
        Role::ReadPacket,
        Role::Handshake,
        Role::Clear,
        Role::SendSealed,
        Role::SealRecord,
        Role::SecretSink,
        Role::KeyBlock,
    ];
    expected.sort_unstable();
    assert_eq!(roles, expected);
    for value in [
        &plan.layout.client_random,
        &plan.layout.master_secret,
        &plan.layout.packet_size,
    ] {
        assert!(value.is_some(), "{:?}", plan.layout);
    }
    assert!(
        plan.version
            .is_some_and(|version| version.starts_with("3."))
    );
    assert_eq!(plan.missing, []);
}
