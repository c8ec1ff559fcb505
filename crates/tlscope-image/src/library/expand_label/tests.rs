//! Which function derives, and which shake hands, on both architectures.

use super::*;
use crate::fixture::at;
use crate::fixture::schedule::{
    ACCEPTS, CONNECTS, DERIVE, EXPAND, INNER, ambiguous, dissolved, passed_by, schedule,
};
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
        let Derivation { probe, abi, .. } = find(elf, LIBRESSL).expect("derives");
        assert_eq!(probe.address, at(DERIVE.1), "{arch}");
        assert_eq!((abi.connection, abi.label_length), (None, None), "{arch}");
    });
}

#[test]
fn labels_with_their_lengths_and_a_field_of_the_connection_are_openssl() {
    on_both(schedule, |arch, elf| {
        let Derivation { probe, abi, .. } = find(elf, OPENSSL).expect("derives");
        assert_eq!(probe.address, at(EXPAND.1), "{arch}");
        assert_eq!(abi.connection, Some(0), "{arch}");
    });
}

#[test]
fn of_two_functions_the_one_that_is_told_the_connection_is_taken_if_no_secret_passes_it_by() {
    on_both(schedule, |arch, elf| {
        let Derivation { probe, lost, .. } = find(elf, OPENSSL).expect("derives");
        assert_eq!(probe.address, at(EXPAND.1), "{arch}");
        let inner = format!("hands all on to {}", at(INNER.1));
        assert!(
            probe.evidence.contains(&inner),
            "{arch}: {}",
            probe.evidence
        );
        assert_eq!(lost, [], "{arch}");
    });
}

#[test]
fn else_the_inner_one_is_taken_which_all_secrets_pass() {
    on_both(passed_by, |arch, elf| {
        let Derivation { probe, abi, lost } = find(elf, OPENSSL).expect("derives");
        assert_eq!(probe.address, at(INNER.1), "{arch}");
        assert_eq!(abi.connection, None, "{arch}");
        let outer = format!("{} hands on to it", at(EXPAND.1));
        assert!(
            probe.evidence.contains(&outer),
            "{arch}: {}",
            probe.evidence
        );
        assert_eq!(lost, [], "{arch}");
    });
}

#[test]
fn where_no_secret_is_seen_to_reach_what_derives_there_is_no_plan() {
    on_both(dissolved, |arch, elf| {
        let why = find(elf, OPENSSL).err().expect("nothing to probe");
        assert!(why.contains("c hs traffic"), "{arch}: {why}");
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
        let why = find(elf, LIBRESSL).err().expect("not certain");
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
