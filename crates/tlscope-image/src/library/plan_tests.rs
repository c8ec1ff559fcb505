//! The whole plan of the library in miniature, the same on both architectures.

use crate::analyze;
use crate::elf::Elf;
use crate::fixture::schedule::schedule_and;
use crate::fixture::{self, READ_EX, SINK, at};
use crate::library;
use crate::plan::{Arch, Family, FieldPath, Plan, Role, SinkAbi};

fn plan(arch: Arch) -> Plan {
    analyze(&fixture::library(arch)).expect("the miniature has a plan")
}

#[test]
fn the_sink_and_the_random_are_found() {
    for (arch, random) in [(Arch::X86_64, 0x188), (Arch::Aarch64, 0x190)] {
        let plan = plan(arch);
        let sink = plan.secret_probes().next().expect("a sink");
        assert_eq!(
            (sink.role, sink.address),
            (Role::SecretSink, at(SINK.1)),
            "{arch}"
        );
        assert_eq!(sink.offset.0, fixture::OFFSET + SINK.1, "{arch}");
        assert_eq!(plan.layout.sink, SinkAbi::default(), "{arch}");
        let path = plan.layout.client_random.map(|value| value.path);
        assert_eq!(path, Some(FieldPath(vec![random])), "{arch}");
        assert!(
            !plan
                .missing
                .iter()
                .any(|missing| missing.what.contains("secret")),
            "{arch}"
        );
    }
}

#[test]
fn what_hands_its_work_on_is_covered() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let plan = plan(arch);
        let covered: Vec<_> = plan
            .covered
            .iter()
            .map(|covered| (covered.symbol.as_str(), covered.by.as_str()))
            .collect();
        assert_eq!(covered, [("SSL_read_early_data", READ_EX.0)], "{arch}");
    }
}

/// A rival of what was found may stand in the rest.
#[test]
fn of_code_that_was_not_walked_to_its_end_nothing_is_planned() {
    let file = fixture::library(Arch::X86_64);
    let elf = Elf::parse(&file, &()).expect("the fixture is an ELF file");
    let mut libraries = library::LIBRARIES.iter();
    let (library, recognised) = libraries
        .find_map(|library| Some((library, library.recognise(&elf)?)))
        .expect("a library by its names");
    while !elf.is_spent() {
        elf.spend_step();
    }
    let plan = library.plan(&elf, recognised);
    assert_eq!((plan.probes, plan.covered), (vec![], vec![]));
    for what in ["plaintext", "secrets"] {
        assert!(
            plan.missing.iter().any(|missing| missing.what == what),
            "{what}: {:?}",
            plan.missing
        );
    }
}

#[test]
fn what_is_not_there_is_said() {
    let plan = plan(Arch::X86_64);
    for name in ["`SSL_new`", "`SSL_free`"] {
        assert!(
            plan.missing.iter().any(|missing| missing.what == name),
            "{name}"
        );
    }
}

#[test]
fn libressl_without_names_is_told_by_its_texts_and_what_is_lost_is_said() {
    const OWN: &[u8] = b"\0LibreSSL 3.1.0\0key expansion\0ssl_lib.c\0";
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let plan = analyze(&schedule_and(arch, OWN)).expect("a plan");
        assert_eq!(plan.family, Family::LibreSsl, "{arch}");
        assert_eq!(plan.version.as_deref(), Some("3.1.0"), "{arch}");
        for what in ["`SSL_read`", "secrets", "secrets of TLS 1.3"] {
            let said = plan.missing.iter().any(|missing| missing.what == what);
            assert!(said, "{arch}: {what}: {:?}", plan.missing);
        }
        // A program that says what it was built with, and OpenSSL with such a text.
        let others: [&[u8]; 3] = [
            b"\0LibreSSL 3.1.0\0ssl_lib.c\0",
            b"\0LibreSSL 3.1.0\0key expansion\0",
            b"\0LibreSSL 3.1.0\0key expansion\0ssl_lib.c\0OpenSSL 1.1.0i  14 Aug 2018\0",
        ];
        for other in others {
            let family = analyze(&schedule_and(arch, other)).map(|plan| plan.family);
            assert_ne!(family.ok(), Some(Family::LibreSsl), "{arch}");
        }
    }
}
