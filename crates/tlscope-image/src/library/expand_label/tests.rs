//! Which function derives, and which shake hands, on both architectures.

use super::*;
use crate::fixture::at;
use crate::fixture::schedule::{ACCEPTS, CONNECTS, DERIVE, EXPAND, ambiguous, schedule};
use crate::library::handshakes;
use crate::plan::Arch;

fn on_both(image: impl Fn(Arch) -> Vec<u8>, test: impl Fn(Arch, &Elf<'_>)) {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let file = image(arch);
        test(
            arch,
            &Elf::parse(&file, &()).expect("the fixture is an ELF file"),
        );
    }
}

#[test]
fn two_secrets_of_one_object_and_labels_that_end_in_0_are_libressl() {
    on_both(schedule, |arch, elf| {
        let (probe, abi) = find(elf, LIBRESSL).expect("derives");
        assert_eq!(probe.address, at(DERIVE.1), "{arch}");
        assert_eq!((abi.connection, abi.label_length), (None, None), "{arch}");
    });
}

#[test]
fn labels_with_their_lengths_and_a_field_of_the_connection_are_openssl() {
    on_both(schedule, |arch, elf| {
        let (probe, abi) = find(elf, OPENSSL).expect("derives");
        assert_eq!(probe.address, at(EXPAND.1), "{arch}");
        assert_eq!(abi.connection, Some(0), "{arch}");
    });
}

#[test]
fn what_no_form_fits_derives_nothing() {
    on_both(schedule, |arch, elf| {
        assert!(find(elf, BORINGSSL).is_err(), "{arch}");
    });
}

#[test]
fn of_two_that_could_derive_neither_is_taken() {
    on_both(ambiguous, |arch, elf| {
        let why = find(elf, LIBRESSL).expect_err("not certain");
        assert!(
            why.ends_with("which derives is not certain"),
            "{arch}: {why}"
        );
    });
}

#[test]
fn the_table_of_methods_holds_what_shakes_hands() {
    on_both(schedule, |arch, elf| {
        let probes = handshakes::add_probes(elf).expect("a table");
        let places: Vec<Address> = probes.iter().map(|probe| probe.address).collect();
        assert_eq!(places, [at(CONNECTS.1), at(ACCEPTS.1)], "{arch}");
    });
}
