//! The noncore object against what the verifier of kernel 4.18 takes, read off
//! the object itself: no such kernel is at hand. No root.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::ops::Range;

use libbpf_rs::btf::types::{MemberAttr, Struct, Union};
use libbpf_rs::btf::{Btf, BtfKind, BtfType};
use libbpf_rs::{AsRawLibbpf, ProgramType};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind};
use tlscope_probe::ObjectKind;

/// `BPF_MAXINSNS` before kernel 5.2.
const INSTRUCTIONS_MAX: usize = 4096;
const INSTRUCTION: usize = 8;

const CALL: u8 = 0x85;
const LOAD_IMM64: u8 = 0x18;
const CLASS_MASK: u8 = 0x07;
const CLASS_JMP: u8 = 0x05;
const CLASS_JMP32: u8 = 0x06;
const EXIT: u8 = 0x95;
const XADD: u8 = 0xdb;
const CLASS_ALU: u8 = 0x04;
const CLASS_ALU64: u8 = 0x07;
const OPERATION_MASK: u8 = 0xf0;
const SWAP: u8 = 0xd0;
const CLASS_LDX: u8 = 0x01;
const MODE_MEM: u8 = 0x60;
const CLASS_STX: u8 = 0x03;
const MODE_MASK: u8 = 0xe0;
const MODE_ATOMIC: u8 = 0xc0;

/// Helpers by number, with the kernel that brought each. 112 and 114 are 5.5:
/// libbpf turns them into 4 and 45 where they are missing.
const HELPERS: &[(i32, &str)] = &[
    (1, "map_lookup_elem 3.19"),
    (2, "map_update_elem 3.19"),
    (3, "map_delete_elem 3.19"),
    (5, "ktime_get_ns 4.1"),
    (12, "tail_call 4.2"),
    (14, "get_current_pid_tgid 4.2"),
    (15, "get_current_uid_gid 4.2"),
    (16, "get_current_comm 4.2"),
    (25, "perf_event_output 4.4"),
    (112, "probe_read_user, rewritten to probe_read 4.1"),
    (113, "probe_read_kernel, rewritten to probe_read 4.1"),
    (114, "probe_read_user_str, rewritten to probe_read_str 4.11"),
];

/// Map types by number, with the kernel that brought each.
const MAP_TYPES: &[(u32, &str)] = &[
    (1, "hash 3.19"),
    (2, "array 3.19"),
    (3, "prog_array 4.2"),
    (4, "perf_event_array 4.3"),
    (6, "percpu_array 4.6"),
    (9, "lru_hash 4.10"),
];

struct Code {
    section: String,
    bytes: Vec<u8>,
    /// Offsets of instructions that a relocation completes.
    relocated: BTreeSet<u64>,
}

impl Code {
    /// Of a 64-bit immediate: data, whose first byte is 0.
    fn is_second_half(&self, index: usize) -> bool {
        index > 0 && self.bytes[(index - 1) * INSTRUCTION] == LOAD_IMM64
    }

    fn instructions(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.bytes.chunks(INSTRUCTION).enumerate()
    }
}

fn programs() -> Vec<Code> {
    let file = object::File::parse(ObjectKind::Noncore.bytes()).expect("an ELF file");
    let programs: Vec<Code> = file
        .sections()
        .filter(|section| section.kind() == object::SectionKind::Text && section.size() > 0)
        .map(|section| Code {
            section: section.name().unwrap().to_string(),
            bytes: section.data().unwrap().to_vec(),
            relocated: section.relocations().map(|(offset, _)| offset).collect(),
        })
        .collect();
    assert!(programs.len() >= 3, "uprobe, uretprobe and raw_tp sections");
    programs
}

#[test]
fn programs_are_short_enough() {
    let file = object::File::parse(ObjectKind::Noncore.bytes()).unwrap();
    let mut seen = 0;
    for symbol in file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text)
    {
        let count = symbol.size() as usize / INSTRUCTION;
        let name = symbol.name().unwrap();
        assert!(count <= INSTRUCTIONS_MAX, "{name} has {count} instructions");
        seen += usize::from(count > 0);
    }
    assert!(seen > 10, "{seen} programs");
}

/// What `check_cfg` refuses before 5.3: an edge to an instruction that the walk is still inside of
/// (a jump back to a shared tail is no loop), an instruction that nothing leads to, and a jump out
/// of the program.
#[test]
fn no_loops_and_no_dead_code() {
    let file = object::File::parse(ObjectKind::Noncore.bytes()).unwrap();
    for code in programs() {
        let mut states = vec![State::Unseen; code.bytes.len() / INSTRUCTION];
        let section = file.section_by_name(&code.section).unwrap().index();
        let symbols = file.symbols().filter(|symbol| {
            symbol.kind() == SymbolKind::Text && symbol.section_index() == Some(section)
        });
        for symbol in symbols {
            let start = symbol.address() as usize / INSTRUCTION;
            let own = start..start + symbol.size() as usize / INSTRUCTION;
            walk(&code, &own, &mut states);
        }
        let unseen = |at: &usize| states[*at] == State::Unseen && !code.is_second_half(*at);
        let dead = (0..states.len()).find(unseen);
        assert_eq!(dead, None, "{}: nothing leads to this", code.section);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unseen,
    Inside,
    Done,
}

fn walk(code: &Code, own: &Range<usize>, states: &mut [State]) {
    let mut stack = vec![(own.start, 0)];
    states[own.start] = State::Inside;
    while let Some((index, edge)) = stack.pop() {
        let Some(next) = successors(code, index).get(edge).copied() else {
            states[index] = State::Done;
            continue;
        };
        stack.push((index, edge + 1));
        let section = &code.section;
        assert!(
            own.contains(&next),
            "{section}: {index} leads out to {next}"
        );
        assert!(
            states[next] != State::Inside,
            "{section}: a loop from {index} to {next}"
        );
        if states[next] == State::Unseen {
            states[next] = State::Inside;
            stack.push((next, 0));
        }
    }
}

fn successors(code: &Code, index: usize) -> Vec<usize> {
    const ALWAYS: u8 = 0x05;
    let instruction = &code.bytes[index * INSTRUCTION..][..INSTRUCTION];
    let offset = i16::from_le_bytes([instruction[2], instruction[3]]);
    let target = (index + 1).wrapping_add_signed(offset.into());
    match instruction[0] {
        EXIT => Vec::new(),
        ALWAYS => vec![target],
        LOAD_IMM64 => vec![index + 2],
        opcode if opcode & CLASS_MASK == CLASS_JMP && opcode != CALL => vec![index + 1, target],
        _ => vec![index + 1],
    }
}

#[test]
fn no_subprogram_no_young_instruction() {
    for code in programs() {
        let place = |index: usize| format!("{} instruction {index}", code.section);
        for (index, instruction) in code.instructions() {
            let opcode = instruction[0];
            let class = opcode & CLASS_MASK;
            if (class == CLASS_ALU || class == CLASS_ALU64) && !code.is_second_half(index) {
                // Signed division and moves with sign extension have an offset; byte swaps that are
                // not conversions are of the 64-bit class: all of 6.6.
                let offset = &instruction[2..4];
                let swap = opcode & OPERATION_MASK == SWAP && class == CLASS_ALU64;
                assert!(offset == [0, 0] && !swap, "{}: needs 6.6", place(index));
            }
            if class == CLASS_LDX {
                let mode = opcode & MODE_MASK;
                assert_eq!(mode, MODE_MEM, "{}: loads with sign need 6.6", place(index));
            }
            assert_ne!(
                class,
                CLASS_JMP32,
                "{}: 32-bit jumps need 5.1",
                place(index)
            );
            if opcode == CALL {
                // BPF_PSEUDO_CALL in the source register: 4.18 refuses it beside tail calls.
                assert_eq!(
                    instruction[1] >> 4,
                    0,
                    "{}: a call to a subprogram",
                    place(index)
                );
            }
            if class == CLASS_STX && opcode & MODE_MASK == MODE_ATOMIC {
                let operation = i32::from_le_bytes(instruction[4..8].try_into().unwrap());
                assert_eq!(
                    (opcode, operation),
                    (XADD, 0),
                    "{}: only XADD is old",
                    place(index)
                );
            }
        }
    }
}

#[test]
fn only_helpers_of_4_18() {
    let mut used = BTreeSet::new();
    for code in programs() {
        for (_, instruction) in code.instructions().filter(|(_, bytes)| bytes[0] == CALL) {
            used.insert(i32::from_le_bytes(instruction[4..8].try_into().unwrap()));
        }
    }
    assert!(used.contains(&25), "perf_event_output is how records leave");
    for helper in used {
        let known = HELPERS.iter().any(|(number, _)| *number == helper);
        assert!(known, "helper {helper} is not in the list of what 4.18 has");
    }
}

#[test]
fn no_globals_and_no_kernel_relocations() {
    let file = object::File::parse(ObjectKind::Noncore.bytes()).unwrap();
    for section in file.sections() {
        let name = section.name().unwrap();
        let global = [".data", ".rodata", ".bss", ".kconfig", ".ksyms"]
            .iter()
            .any(|g| name.starts_with(g));
        assert!(
            !global || section.size() == 0,
            "{name}: maps of globals need 5.2"
        );
    }
    // 64-bit immediates are the only thing that is relocated, and all are maps.
    for code in programs() {
        for offset in &code.relocated {
            assert_eq!(
                code.bytes[*offset as usize], LOAD_IMM64,
                "{}+{offset:#x}",
                code.section
            );
        }
    }
    let maps = file
        .section_by_name(".maps")
        .expect("a section of maps")
        .index();
    for section in file
        .sections()
        .filter(|s| s.kind() == object::SectionKind::Text)
    {
        for (_, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                panic!("a relocation without a symbol");
            };
            let symbol = file.symbol_by_index(symbol).unwrap();
            assert_eq!(
                symbol.section_index(),
                Some(maps),
                "{}",
                symbol.name().unwrap()
            );
        }
    }
    assert_eq!(core_relocations(), 0, "CO-RE relocations need BTF");
}

/// `core_relo_len` of the `.BTF.ext` header: absent, or empty.
fn core_relocations() -> u32 {
    let file = object::File::parse(ObjectKind::Noncore.bytes()).unwrap();
    let data = file
        .section_by_name(".BTF.ext")
        .expect("clang -g writes it")
        .data()
        .unwrap();
    let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
    let header_length = word(4);
    if header_length >= 32 { word(28) } else { 0 }
}

fn opened() -> libbpf_rs::OpenObject {
    libbpf_rs::ObjectBuilder::default()
        .open_memory(ObjectKind::Noncore.bytes())
        .expect("opening needs no privilege")
}

#[test]
fn only_map_types_of_4_18() {
    let object = opened();
    let mut seen = 0;
    for map in object.maps() {
        let number = map.map_type() as u32;
        let known = MAP_TYPES.iter().any(|(known, _)| *known == number);
        assert!(known, "map {:?} has type {number}", map.name());
        // SAFETY: the map belongs to an object that is open.
        let flags = unsafe { libbpf_sys::bpf_map__map_flags(map.as_libbpf_object().as_ptr()) };
        // All but this one are younger: mmap 5.5, read-only for programs 5.2, inner maps 5.10.
        assert_eq!(
            flags & !libbpf_sys::BPF_F_NO_PREALLOC,
            0,
            "{:?}",
            map.name()
        );
        seen += 1;
    }
    assert!(seen >= 8, "{seen} maps");
}

/// kprobe is of 4.1, and is what uprobes are too; a raw tracepoint is of 4.17. Neither has an
/// attach type that a kernel of 4.18 would have to know.
#[test]
fn only_program_types_of_4_18() {
    let object = opened();
    let types: BTreeSet<_> = object
        .progs()
        .map(|program| {
            let raw = program.as_libbpf_object().as_ptr();
            // SAFETY: the program belongs to an object that is open.
            let attach_type = unsafe { libbpf_sys::bpf_program__expected_attach_type(raw) };
            (program.prog_type() as u32, attach_type)
        })
        .collect();
    let old = [ProgramType::Kprobe, ProgramType::RawTracepoint].map(|kind| (kind as u32, 0));
    assert_eq!(types, BTreeSet::from(old));
}

/// The layout that `socket_noncore.h` relies on, in the BTF of this kernel.
#[test]
fn the_head_of_sock_common_is_where_it_was() {
    let btf = Btf::from_vmlinux().expect("this kernel has BTF");
    let sock: Struct<'_> = btf.type_by_name("sock_common").expect("struct sock_common");
    let mut found = BTreeMap::new();
    collect_fields(&btf, *sock, 0, &mut found);
    let expected = [
        ("skc_daddr", 0),
        ("skc_rcv_saddr", 4),
        ("skc_dport", 12),
        ("skc_num", 14),
        ("skc_family", 16),
        ("skc_v6_daddr", 56),
        ("skc_v6_rcv_saddr", 72),
    ];
    for (name, offset) in expected {
        assert_eq!(found.get(name), Some(&offset), "{name}");
    }
}

/// Byte offsets of all named members, those of nested anonymous types included.
fn collect_fields(btf: &Btf<'_>, kind: BtfType<'_>, base: u32, found: &mut BTreeMap<String, u32>) {
    let members: Vec<_> = match kind.kind() {
        BtfKind::Struct => {
            let kind = Struct::try_from(kind).unwrap();
            kind.iter()
                .map(|m| (m.name.map(OsStr::to_owned), m.attr, m.ty))
                .collect()
        }
        BtfKind::Union => {
            let kind = Union::try_from(kind).unwrap();
            kind.iter()
                .map(|m| (m.name.map(OsStr::to_owned), m.attr, m.ty))
                .collect()
        }
        _ => return,
    };
    for (name, attr, member) in members {
        let MemberAttr::Normal { offset } = attr else {
            continue;
        };
        let offset = base + offset / 8;
        match name {
            Some(name) => drop(found.insert(name.to_string_lossy().into_owned(), offset)),
            None => collect_fields(btf, btf.type_by_id(member).unwrap(), offset, found),
        }
    }
}
