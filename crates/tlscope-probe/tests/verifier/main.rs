//! Whether the verifier of kernel 4.19 takes the noncore objects. No such kernel is at hand, and
//! those that are forgive what it does not: this is its rules, and it has to refuse what broke them.

mod machine;
mod number;
#[path = "../objects/mod.rs"]
mod objects;
mod opcode;
mod state;

use std::collections::BTreeMap;

use machine::{Instruction, Machine, Map};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind};
use objects::{NONCORE, Noncore};

const INSTRUCTION: usize = 8;
/// What a program may read of a raw tracepoint: its twelve arguments.
const ARGUMENTS: i64 = 96;

/// Of the object: sizes by name, in an order of their own.
fn maps(noncore: &Noncore) -> (Vec<String>, Vec<Map>) {
    let object = noncore.opened();
    let maps = object.maps().map(|map| {
        let (key, value) = (map.key_size(), map.value_size());
        (
            map.name().to_string_lossy().into_owned(),
            Map { key, value },
        )
    });
    maps.unzip()
}

#[test]
fn the_verifier_of_4_19_takes_every_program() {
    NONCORE.iter().for_each(assert_taken);
}

#[track_caller]
fn assert_taken(noncore: &Noncore) {
    let (names, maps) = maps(noncore);
    let (file, arch) = (noncore.file(), noncore.arch);
    let (mut seen, mut most) = (0, 0);
    for section in file
        .sections()
        .filter(|s| s.kind() == object::SectionKind::Text)
    {
        let code = section.data().expect("instructions");
        let code: Vec<_> = code.chunks(INSTRUCTION).map(Instruction::parse).collect();
        let loaded = section.relocations().map(|(offset, relocation)| {
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                panic!("a relocation without a symbol");
            };
            let symbol = file.symbol_by_index(symbol).expect("a symbol");
            let name = symbol.name().expect("a name");
            let map = names.iter().position(|known| known == name);
            (offset as usize / INSTRUCTION, map.expect("a map"))
        });
        let loaded: BTreeMap<usize, usize> = loaded.collect();
        let context = if section.name().is_ok_and(|name| name.starts_with("raw")) {
            ARGUMENTS
        } else {
            noncore.registers
        };
        let programs = file.symbols().filter(|symbol| {
            symbol.kind() == SymbolKind::Text && symbol.section_index() == Some(section.index())
        });
        for program in programs {
            let start = program.address() as usize / INSTRUCTION;
            let end = start + program.size() as usize / INSTRUCTION;
            let own = loaded.range(start..end);
            let own = own.map(|(at, map)| (at - start, *map)).collect();
            let verified = Machine::new(&code[start..end], &maps, &own, context).verify();
            let name = program.name().expect("a name");
            let looked_at = verified.unwrap_or_else(|why| panic!("{arch} {name}: {why}"));
            most = most.max(looked_at);
            seen += 1;
        }
    }
    assert!(seen > 50, "{arch}: {seen} programs");
    println!("{arch}: {seen} programs, at most {most} of 131072 instructions looked at");
}

/// One map, of four frames of 72 bytes behind a head of 8.
const MAPS: [Map; 1] = [Map { key: 4, value: 296 }];

fn verify(code: &[(u8, u8, u8, i16, i32)]) -> Result<usize, String> {
    let code: Vec<_> = code
        .iter()
        .map(|&(opcode, to, from, offset, immediate)| Instruction {
            opcode,
            to,
            from,
            offset,
            immediate,
        })
        .collect();
    let loads = code
        .iter()
        .enumerate()
        .filter(|(_, one)| one.opcode == 0x18);
    let loaded = loads.map(|(at, _)| (at, 0)).collect();
    Machine::new(&code, &MAPS, &loaded, NONCORE[0].registers).verify()
}

type Code = Vec<(u8, u8, u8, i16, i32)>;

/// `r6` is a value of the map, or the program ends.
fn with_value(rest: &[(u8, u8, u8, i16, i32)]) -> Code {
    let look_up = [
        (0x62, 10, 0, -4, 0), // *(u32 *)(r10 - 4) = 0
        (0xbf, 2, 10, 0, 0),  // r2 = r10
        (0x07, 2, 0, 0, -4),  // r2 += -4
        (0x18, 1, 0, 0, 0),   // r1 = the map
        (0x00, 0, 0, 0, 0),
        (0x85, 0, 0, 0, 1), // call map_lookup_elem
        (0x55, 0, 0, 1, 0), // if r0 != 0 goto +1
        (0x95, 0, 0, 0, 0), // exit
        (0xbf, 6, 0, 0, 0), // r6 = r0
        (0xb7, 0, 0, 0, 0), // r0 = 0
    ];
    [&look_up[..], rest, &[(0x95, 0, 0, 0, 0)]].concat()
}

/// `r6[r9 * 72]`, of eight bytes.
const INDEXED: [(u8, u8, u8, i16, i32); 3] = [
    (0x27, 9, 0, 0, 72), // r9 *= 72
    (0x0f, 6, 9, 0, 0),  // r6 += r9
    (0x7a, 6, 0, 8, 0),  // *(u64 *)(r6 + 8) = 0
];

#[test]
fn what_it_knows_of_an_index_is_enough() {
    let bounded = [(0x79, 9, 6, 0, 0), (0xb5, 9, 0, 1, 3), (0x95, 0, 0, 0, 0)];
    let masked = [(0x79, 9, 6, 0, 0), (0x57, 9, 0, 0, 3)];
    for index in [&bounded[..], &masked] {
        let code = with_value(&[index, &INDEXED].concat());
        assert!(verify(&code).is_ok(), "{:?}", verify(&code));
    }
}

#[track_caller]
fn assert_refused(code: &Code, words: &str) {
    let refused = verify(code).expect_err("it is refused");
    assert!(refused.contains(words), "{refused}");
}

/// Each was, or would be, taken by the oldest kernel that is at hand, 5.10.
#[test]
fn what_only_younger_verifiers_understand_is_refused() {
    // r9 = 4; r1 = 4; if r1 > r9: it knows both, and goes there all the same (5.3).
    let compared = [
        (0xb7, 9, 0, 0, 4),
        (0xb7, 1, 0, 0, 4),
        (0x2d, 1, 9, 1, 0),
        (0x95, 0, 0, 0, 0),
    ];
    assert_refused(&with_value(&[&compared[..], &INDEXED].concat()), "of 296");
    // r1 = r9; if r9 > 3 exit: what is known of r9 is not known of r1 (5.10).
    let copied = [
        (0x79, 1, 6, 0, 0),
        (0xbf, 9, 1, 0, 0),
        (0xb5, 1, 0, 1, 3),
        (0x95, 0, 0, 0, 0),
    ];
    assert_refused(&with_value(&[&copied[..], &INDEXED].concat()), "of 296");
    // A constant goes to the stack and comes back as anything (5.3).
    let spilled = [
        (0xb7, 9, 0, 0, 3),
        (0x7b, 10, 9, -16, 0),
        (0x79, 9, 10, -16, 0),
    ];
    assert_refused(&with_value(&[&spilled[..], &INDEXED].concat()), "of 296");
    // A helper is given a computed place on the stack (5.2).
    let place = [
        (0x7a, 10, 0, -8, 0),
        (0x7a, 10, 0, -16, 0),
        (0x79, 9, 6, 0, 0),
        (0x57, 9, 0, 0, 7),
        (0xbf, 2, 10, 0, 0),
        (0x07, 2, 0, 0, -16),
        (0x0f, 2, 9, 0, 0),
        (0x18, 1, 0, 0, 0),
        (0x00, 0, 0, 0, 0),
        (0x85, 0, 0, 0, 1),
    ];
    assert_refused(&with_value(&place), "computed place");
}

#[test]
fn what_no_verifier_takes_is_refused() {
    let unset = [(0xbf, 0, 7, 0, 0), (0x95, 0, 0, 0, 0)];
    assert_refused(&unset.to_vec(), "not set");
    let beyond = [(0x79, 0, 6, 296, 0)];
    assert_refused(&with_value(&beyond), "of 296");
    let never_set = [(0x79, 0, 10, -24, 0)];
    assert_refused(&with_value(&never_set), "not set");
    let mut unchecked = with_value(&[]);
    unchecked[6] = (0x79, 0, 0, 0, 0);
    assert_refused(&unchecked, "no memory");
}
