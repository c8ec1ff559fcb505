//! The questions, asked of the same miniature library on both architectures.

use super::*;
use crate::elf::Elf;
use crate::fixture::{self, EARLY, EXPORTER, LATE, RANDOM, READ_EX, SINK, SLOT, at};

const BOTH: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

/// The client random's offset: 0x190 where pairs of vectors load from multiples of 16 only.
fn random_offset(arch: Arch) -> u32 {
    match arch {
        Arch::X86_64 => 0x188,
        Arch::Aarch64 => 0x190,
    }
}

fn on_both(test: impl Fn(Arch, &Elf<'_>)) {
    for arch in BOTH {
        let file = fixture::library(arch);
        let elf = Elf::parse(&file, &()).expect("the fixture is an ELF file");
        assert_eq!(elf.arch, arch);
        test(arch, &elf);
    }
}

#[test]
fn an_accessor_shows_the_field_on_every_branch() {
    on_both(|arch, elf| {
        let copies = copies_to_argument(elf, at(RANDOM.1), 1);
        let from = |root: fn(&Root) -> bool| {
            let mut copies = copies.iter().filter(|copy| root(&copy.field.root));
            copies.next().and_then(|copy| copy.field.offsets())
        };
        let direct = from(|root| *root == Root::Argument(0));
        let inner = from(|root| matches!(root, Root::Call(_)));
        assert_eq!(direct, Some(vec![random_offset(arch)]), "{arch}");
        assert_eq!(inner, Some(vec![random_offset(arch)]), "{arch}");
    });
}

#[test]
fn labels_reach_their_call_through_the_stack_and_through_a_jump() {
    on_both(|arch, elf| {
        let (calls, references) = calls_with_text(elf, &[at(EARLY), at(LATE), at(EXPORTER)]);
        assert_eq!(references.len(), 3, "{arch}");
        for text in [EARLY, LATE, EXPORTER] {
            let reached = |call: &Call| {
                call.text == at(text) && call.callee == Some(at(SINK.1)) && call.argument == 1
            };
            assert!(calls.iter().any(reached), "{arch}: {text:#x}");
        }
    });
}

#[test]
fn a_sink_shows_what_it_passes_on_and_what_it_tests() {
    on_both(|arch, elf| {
        let passed = random_passed_on(elf, at(SINK.1));
        let offsets: Vec<_> = passed
            .iter()
            .filter_map(|copy| copy.field.offsets())
            .collect();
        assert_eq!(offsets, [vec![random_offset(arch)]], "{arch}");
        assert!(
            tests_pointer_behind(elf, at(SINK.1), 0, 2).is_some(),
            "{arch}"
        );
        assert!(
            tests_pointer_behind(elf, at(SINK.1), 1, 2).is_none(),
            "{arch}"
        );
        assert!(takes_argument(elf, at(SINK.1), 1), "{arch}");
        assert!(!takes_argument(elf, at(SINK.1), 5), "{arch}");
    });
}

#[test]
fn a_call_through_the_plt_is_a_call_of_the_function_behind_it() {
    on_both(|arch, elf| {
        let early = elf
            .symbols
            .get("SSL_read_early_data")
            .expect("named")
            .address;
        assert!(callees(elf, early).contains_key(&at(READ_EX.1)), "{arch}");
    });
}

#[test]
fn code_that_never_ends_ends_the_walk() {
    // `jmp .` and `b .`
    for (arch, code) in [
        (Arch::X86_64, &[0xeb, 0xfe, 0, 0][..]),
        (Arch::Aarch64, &[0, 0, 0, 0x14]),
    ] {
        let mut file = fixture::library(arch);
        let start = fixture::OFFSET as usize;
        file[start..start + code.len()].copy_from_slice(code);
        let elf = Elf::parse(&file, &()).expect("still an ELF file");
        assert!(copies_to_argument(&elf, at(RANDOM.1), 1).is_empty());
    }
}

#[test]
fn a_call_has_the_constants_right_before_it() {
    on_both(|arch, elf| {
        let calls = straight_calls(elf, at(SINK.1));
        let lengths: Vec<_> = calls.iter().map(|call| call.constants[2]).collect();
        assert_eq!(lengths, [Some(0x20)], "{arch}");
    });
}

#[test]
fn what_is_copied_is_a_loaded_value() {
    on_both(|arch, elf| {
        let transfers = transfers_of(elf, at(RANDOM.1));
        let to_start = |t: &&Transfer| t.to == Value::root(Root::Argument(1));
        let fields: Vec<_> = transfers
            .iter()
            .filter(to_start)
            .filter_map(|t| t.value.path()?.loaded_from()?.offsets())
            .collect();
        let random = vec![random_offset(arch)];
        assert!(fields.contains(&random), "{arch}: {fields:x?}");
    });
}

#[test]
fn an_address_out_of_a_slot_is_a_reference() {
    let file = fixture::library(Arch::Aarch64);
    let elf = Elf::parse(&file, &()).expect("the fixture is an ELF file");
    let found = references::references(&elf, &[at(READ_EX.1)]);
    let slots: Vec<_> = found.iter().filter_map(|found| found.slot).collect();
    assert_eq!(slots, [at(SLOT)]);
    assert_eq!(found[0].to, at(READ_EX.1));
}

#[test]
fn the_page_that_a_register_is_given_is_no_reference_to_its_start() {
    let file = fixture::library(Arch::Aarch64);
    let elf = Elf::parse(&file, &()).expect("the fixture is an ELF file");
    // Each adrp in it gives this page.
    assert_eq!(references::references(&elf, &[at(0)]), []);
}

#[test]
fn a_push_reads_its_operand_before_it_moves_the_stack_pointer() {
    // pushq (%rsp)
    let push = x86_64::decode(&[0xff, 0x34, 0x24], Address(0)).expect("decodes");
    assert!(matches!(
        push.effects.first(),
        Some(Effect::Store {
            from: Source::Load(_),
            ..
        })
    ));
}

#[test]
fn a_pair_load_over_its_own_base_reads_both_first() {
    // ldp x0, x1, [x0]
    let pair = aarch64::decode(&0xa940_0400_u32.to_le_bytes(), Address(0)).expect("decodes");
    let written: Vec<Reg> = pair
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Set { to, .. } => Some(*to),
            _ => None,
        })
        .collect();
    assert_eq!(written, [Reg(1), Reg(0)]);
}
