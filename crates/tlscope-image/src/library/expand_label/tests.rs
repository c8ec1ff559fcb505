//! Which function derives, and which shake hands, on both architectures.

use super::*;
use crate::fixture::schedule::{
    ACCEPTS, CONNECTS, DERIVE, EXPAND, INNER, ambiguous, dissolved, passed_by, schedule,
    schedule_and,
};
use crate::fixture::{self, at};
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

/// A label stays on the stack while one call follows the other: it is among the arguments of each.
#[test]
fn calls_that_hold_a_label_by_chance_take_no_memory() {
    const CALLS: usize = 10_000;
    let plain = schedule(Arch::X86_64);
    let plain = Elf::parse(&plain, &()).expect("the fixture is an ELF file");
    let label = plain.find_text(HANDSHAKE, 1)[0];
    let mut code = Vec::new();
    for _ in 0..40 {
        // lea rax, [rip + label]; mov [rsp], rax; then calls of what follows each.
        let behind = fixture::schedule::END + code.len() as u64 + 7;
        let distance = label.0.wrapping_sub(at(behind).0) as u32;
        code.extend([0x48, 0x8d, 0x05]);
        code.extend(distance.to_le_bytes());
        code.extend([0x48, 0x89, 0x04, 0x24]);
        code.extend([0xe8, 0, 0, 0, 0].repeat(CALLS));
        code.push(0xc3);
    }
    let file = schedule_and(Arch::X86_64, &code);
    let elf = Elf::parse(&file, &()).expect("the fixture is an ELF file");
    let used = allocation_counter::measure(|| drop(find(&elf, OPENSSL)));
    assert!(used.bytes_max < 64 << 20, "{} bytes", used.bytes_max);
}
