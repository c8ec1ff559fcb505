//! The whole plan of a Go program in miniature, in each form of the function table.

use crate::elf::PclntabVersion;
use crate::fixture::go::{DATA_AT, Made, VERSION, program};
use crate::plan::{Arch, FieldPath, GoAbi, GoKeyLogForm, Goroutine, Plan, Role};
use crate::{ImageError, analyze, might_hold};

fn all() -> impl Iterator<Item = Made> {
    let tables = [
        (PclntabVersion::Go12, false),
        (PclntabVersion::Go116, false),
        (PclntabVersion::Go118, true),
        (PclntabVersion::Go120, true),
        (PclntabVersion::Go120, false),
    ];
    [Arch::X86_64, Arch::Aarch64]
        .into_iter()
        .flat_map(move |arch| {
            tables.map(|(table, text_in_header)| Made {
                arch,
                table,
                text_in_header,
            })
        })
}

fn plan(made: Made) -> Plan {
    analyze(&program(made)).unwrap_or_else(|error| panic!("{made:?}: {error}"))
}

#[test]
fn functions_and_their_returns_are_found() {
    for made in all() {
        let plan = plan(made);
        for (role, name) in [
            (Role::GoWrite, "crypto/tls.(*Conn).writeRecordLocked"),
            (Role::GoRead, "crypto/tls.(*Conn).Read"),
            (Role::GoClose, "crypto/tls.(*Conn).Close"),
            (Role::GoKeyLog, "crypto/tls.(*Config).writeKeyLog"),
        ] {
            let probe = plan.probes.iter().find(|probe| probe.role == role);
            let probe = probe.unwrap_or_else(|| panic!("{made:?}: {role:?}"));
            let (address, returns) = made.place(name);
            assert_eq!(probe.address, address, "{made:?}: {name}");
            assert_eq!(probe.symbol.as_deref(), Some(name), "{made:?}");
            let probed: Vec<u64> = probe.returns.iter().map(|at| at.0).collect();
            let expected = if role.is_data() { returns } else { Vec::new() };
            assert_eq!(probed, expected, "{made:?}: {name}");
        }
        assert_eq!(plan.missing, [], "{made:?}");
        assert_eq!(plan.version.as_deref(), Some(VERSION), "{made:?}");
    }
}

#[test]
fn the_convention_and_the_fields_are_found() {
    for made in all() {
        let go = plan(made).layout.go.unwrap_or_else(|| panic!("{made:?}"));
        let (abi, goroutine) = match (made.in_registers(), made.arch) {
            (true, _) => (GoAbi::Register, Goroutine::Register),
            (false, Arch::Aarch64) => (GoAbi::Stack, Goroutine::Register),
            (false, Arch::X86_64) => (GoAbi::Stack, Goroutine::ThreadLocal { offset: -8 }),
        };
        assert_eq!((go.abi, go.goroutine), (abi, goroutine), "{made:?}");
        assert_eq!(go.key_log, GoKeyLogForm::Labelled, "{made:?}");
        let connection = go.connection.map(|value| value.path);
        assert_eq!(connection, Some(FieldPath(vec![8])), "{made:?}");
        let socket = go.tcp_fd.map(|value| value.path);
        assert_eq!(socket, Some(FieldPath(vec![0, 16])), "{made:?}");
        assert!(go.tcp_type.is_some() && go.tls_type.is_some(), "{made:?}");
    }
}

/// Every copy of `from` becomes `to`.
fn replaced(mut image: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = memchr::memmem::find_iter(&image, from).collect();
    assert!(!places.is_empty());
    for at in places {
        image[at..at + to.len()].copy_from_slice(to);
    }
    image
}

#[test]
fn what_a_go_program_lacks_is_told() {
    for made in all() {
        let whole = program(made);
        let without = replaced(whole.clone(), b"crypto/tls.(", b"crypto/tlz.(");
        let without = replaced(without, b".writeKeyLog", b".writeKeyLo_");
        let is_without = |image: &[u8]| matches!(analyze(image), Err(ImageError::GoWithoutTls(_)));
        assert!(is_without(&without), "{made:?}");
        assert!(might_hold(&whole, &[crate::plan::Module::Gotls]));
        assert!(!might_hold(&without, &[crate::plan::Module::Gotls]));

        // As if a program carried another one as data: a table that is not of this image.
        let (headers, data) = whole.split_at(DATA_AT);
        let (main, _) = made.place("main.main");
        let text = main.0.to_le_bytes();
        let data = replaced(data.to_vec(), &text, &0x77_7000_u64.to_le_bytes());
        let other = [headers, &data].concat();
        let unreadable = matches!(analyze(&other), Err(ImageError::GoWithoutTable(_)));
        assert!(unreadable, "{made:?}");
    }
}

#[test]
fn a_function_with_other_arguments_is_not_probed() {
    for made in all() {
        let (known, other) = if made.in_registers() {
            (40_u32, 48_u32)
        } else {
            (64, 72)
        };
        let image = replaced(program(made), &known.to_le_bytes(), &other.to_le_bytes());
        let Ok(plan) = analyze(&image) else { continue };
        assert_eq!(plan.probes, [], "{made:?}");
        assert!(!plan.missing.is_empty(), "{made:?}");
    }
}
