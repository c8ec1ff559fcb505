//! The noncore objects of both architectures against what the verifier of kernel 4.18 takes, read
//! off the objects themselves: no such kernel is at hand. No root.

mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::ops::Range;

use libbpf_rs::btf::types::{MemberAttr, Struct, Union};
use libbpf_rs::btf::{Btf, BtfKind, BtfType};
use libbpf_rs::{AsRawLibbpf, OpenObject, ProgramType};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind};
use objects::{NONCORE, Noncore};

/// `BPF_MAXINSNS` before kernel 5.2.
const INSTRUCTIONS_MAX: usize = 4096;
const INSTRUCTION: usize = 8;

/// `BPF_COMPLEXITY_LIMIT_STACK`: branches that wait while the verifier follows another.
const BRANCHES_MAX: usize = 1024;

const CALL: u8 = 0x85;
const LOAD_IMM64: u8 = 0x18;
const EXIT: u8 = 0x95;
const ALWAYS: u8 = 0x05;
const CLASS_MASK: u8 = 0x07;
const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_ALU: u8 = 0x04;
const CLASS_JMP: u8 = 0x05;
const CLASS_ALU64: u8 = 0x07;
const OPERATION_MASK: u8 = 0xf0;
const FROM_REGISTER: u8 = 0x08;
const ADD: u8 = 0x00;
const MOV: u8 = 0xb0;
const SWAP: u8 = 0xd0;
const MODE_MASK: u8 = 0xe0;
const MODE_MEM: u8 = 0x60;
const XADD: [u8; 2] = [0xc3, 0xdb];
const FRAME_POINTER: u8 = 10;

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
    /// Architecture and section.
    section: String,
    bytes: Vec<u8>,
    /// Where in it each program is.
    programs: Vec<Range<usize>>,
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

/// Of both architectures.
fn programs() -> Vec<Code> {
    NONCORE.iter().flat_map(programs_of).collect()
}

fn programs_of(noncore: &Noncore) -> Vec<Code> {
    let file = noncore.file();
    let text = |section: &object::Section<'_, '_>| {
        section.kind() == object::SectionKind::Text && section.size() > 0
    };
    let code = |section: object::Section<'_, '_>| {
        let own = |symbol: &object::Symbol<'_, '_>| {
            symbol.kind() == SymbolKind::Text && symbol.section_index() == Some(section.index())
        };
        let range = |symbol: object::Symbol<'_, '_>| {
            let start = symbol.address() as usize / INSTRUCTION;
            start..start + symbol.size() as usize / INSTRUCTION
        };
        Code {
            section: format!("{} {}", noncore.arch, section.name().unwrap()),
            bytes: section.data().unwrap().to_vec(),
            programs: file.symbols().filter(own).map(range).collect(),
            relocated: section.relocations().map(|(offset, _)| offset).collect(),
        }
    };
    let programs: Vec<Code> = file.sections().filter(text).map(code).collect();
    assert!(programs.len() >= 3, "uprobe, uretprobe and raw_tp sections");
    programs
}

#[test]
fn programs_are_short_enough() {
    let mut seen = 0;
    for code in programs() {
        for own in &code.programs {
            let place = format!("{} from instruction {}", code.section, own.start);
            let count = own.len();
            assert!(count <= INSTRUCTIONS_MAX, "{place}: {count} instructions");
            let branches = own
                .clone()
                .filter(|index| successors(&code, *index).len() > 1);
            let branches = branches.count();
            assert!(branches <= BRANCHES_MAX, "{place}: {branches} branches");
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen} programs");
}

/// What `check_cfg` refuses before 5.3: an edge to an instruction that the walk is still inside of
/// (a jump back to a shared tail is no loop), an instruction that nothing leads to, and a jump out
/// of the program.
#[test]
fn no_loops_and_no_dead_code() {
    for code in programs() {
        let mut states = vec![State::Unseen; code.bytes.len() / INSTRUCTION];
        for own in &code.programs {
            walk(&code, own, &mut states);
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

/// The instruction set of 4.18, without what tracing programs may not do (packets) and without
/// calls to subprograms, which it refuses beside tail calls.
fn is_of_4_18(instruction: &[u8]) -> bool {
    let [opcode, registers, offset @ ..] = instruction else {
        return false;
    };
    let (class, operation) = (opcode & CLASS_MASK, opcode & OPERATION_MASK);
    let immediate = &offset[2..];
    let source = registers >> 4;
    match class {
        // Moves and loads with sign, signed division and swaps that convert nothing are of 6.6.
        CLASS_ALU => operation <= SWAP && offset[..2] == [0, 0],
        CLASS_ALU64 => operation < SWAP && offset[..2] == [0, 0],
        // Atomics other than an addition without a result are of 5.12.
        CLASS_STX if XADD.contains(opcode) => immediate == [0; 4],
        CLASS_LDX | CLASS_ST | CLASS_STX => opcode & MODE_MASK == MODE_MEM,
        // Calls through registers, to subprograms and into the kernel have other bits set.
        CLASS_JMP if [CALL & OPERATION_MASK, EXIT & OPERATION_MASK].contains(&operation) => {
            [CALL, EXIT].contains(opcode) && source == 0
        }
        CLASS_JMP if operation == ALWAYS & OPERATION_MASK => *opcode == ALWAYS,
        CLASS_JMP => operation <= SWAP,
        // 32-bit jumps are of 5.1.
        _ => *opcode == LOAD_IMM64,
    }
}

#[test]
fn no_subprogram_no_young_instruction() {
    for code in programs() {
        for (index, instruction) in code.instructions() {
            assert!(
                code.is_second_half(index) || is_of_4_18(instruction),
                "{} instruction {index}: {instruction:02x?}",
                code.section
            );
        }
    }
}

/// Before 5.2 a helper takes memory on the stack at constant offsets alone.
#[test]
fn places_on_the_stack_are_constant() {
    let mut seen = 0;
    for code in programs() {
        for own in &code.programs {
            seen += frame_addresses(&code, own);
        }
    }
    assert!(seen > 200, "{seen} places");
}

/// Follows copies of the frame pointer along every branch; gives the number of additions.
fn frame_addresses(code: &Code, own: &Range<usize>) -> usize {
    const NONE: u16 = 1 << FRAME_POINTER;
    let mut entering = vec![0_u16; code.bytes.len() / INSTRUCTION];
    entering[own.start] = NONE;
    let mut waiting = vec![own.start];
    let mut additions = BTreeSet::new();
    while let Some(index) = waiting.pop() {
        let instruction = &code.bytes[index * INSTRUCTION..][..INSTRUCTION];
        let (opcode, to, from) = (instruction[0], instruction[1] & 0xf, instruction[1] >> 4);
        let held = entering[index];
        let holds = |register: u8| held >> register & 1 == 1;
        let of_registers = opcode & FROM_REGISTER != 0;
        let after = match (opcode & CLASS_MASK, opcode & OPERATION_MASK) {
            (CLASS_ALU64, MOV) if of_registers && holds(from) => held | 1 << to,
            (CLASS_ALU64, ADD) if of_registers => {
                let place = format!("{} instruction {index}", code.section);
                assert!(!holds(to) && !holds(from), "{place}: a computed place");
                held
            }
            (CLASS_ALU64, ADD) => {
                if holds(to) {
                    additions.insert(index);
                }
                held
            }
            (CLASS_LD | CLASS_ALU | CLASS_ALU64 | CLASS_LDX, _) => held & !(1 << to),
            // A call leaves nothing in the registers of its arguments.
            (CLASS_JMP, _) if opcode == CALL => held & !0b11_1111,
            _ => held,
        };
        for next in successors(code, index) {
            if entering[next] | after | NONE != entering[next] {
                entering[next] |= after | NONE;
                waiting.push(next);
            }
        }
    }
    additions.len()
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
    for noncore in &*NONCORE {
        let file = noncore.file();
        assert_no_globals(&file);
        assert_relocated_by_maps(&file);
        assert_eq!(core_relocations(&file), 0, "CO-RE relocations need BTF");
    }
}

#[track_caller]
fn assert_no_globals(file: &object::File<'_>) {
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
}

#[track_caller]
fn assert_relocated_by_maps(file: &object::File<'_>) {
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
}

/// `core_relo_len` of the `.BTF.ext` header: absent, or empty.
fn core_relocations(file: &object::File<'_>) -> u32 {
    let data = file
        .section_by_name(".BTF.ext")
        .expect("clang -g writes it")
        .data()
        .unwrap();
    let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
    let header_length = word(4);
    if header_length >= 32 { word(28) } else { 0 }
}

#[test]
fn only_map_types_of_4_18() {
    let mut seen = 0;
    let objects = NONCORE.each_ref().map(Noncore::opened);
    for map in objects.iter().flat_map(OpenObject::maps) {
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
    assert!(seen >= 16, "{seen} maps");
}

/// kprobe is of 4.1, and is what uprobes are too; a raw tracepoint is of 4.17. Neither has an
/// attach type that a kernel of 4.18 would have to know.
#[test]
fn only_program_types_of_4_18() {
    let objects = NONCORE.each_ref().map(Noncore::opened);
    let types: BTreeSet<_> = objects
        .iter()
        .flat_map(OpenObject::progs)
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
