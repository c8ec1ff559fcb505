//! The core object against what kernel 5.8 has, read off the object itself: the oldest kernel that
//! could be had is 5.10. No root.

use std::collections::{BTreeMap, BTreeSet};

use libbpf_rs::{AsRawLibbpf, ProgramType};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use tlscope_probe::ObjectKind;

const INSTRUCTION: usize = 8;
const CALL: u8 = 0x85;

/// Helpers by number, with the kernel that brought each.
const HELPERS: &[(i32, &str)] = &[
    (1, "map_lookup_elem 3.19"),
    (2, "map_update_elem 3.19"),
    (3, "map_delete_elem 3.19"),
    (5, "ktime_get_ns 4.1"),
    (12, "tail_call 4.2"),
    (14, "get_current_pid_tgid 4.2"),
    (15, "get_current_uid_gid 4.2"),
    (16, "get_current_comm 4.2"),
    (35, "get_current_task 4.8"),
    (112, "probe_read_user 5.5"),
    (113, "probe_read_kernel 5.5"),
    (114, "probe_read_user_str 5.5"),
    (130, "ringbuf_output 5.8"),
    (131, "ringbuf_reserve 5.8"),
    (132, "ringbuf_submit 5.8"),
    (133, "ringbuf_discard 5.8"),
    (134, "ringbuf_query 5.8"),
];

/// Younger, and called where CO-RE finds that the kernel has them: the verifier of one that has
/// not sees that the call is never reached. 5.10 has none of them.
const ASKED_FOR: &[(i32, &str)] = &[
    (158, "get_current_task_btf 5.11"),
    (174, "get_attach_cookie 5.15"),
    (175, "task_pt_regs 5.15"),
];

/// Map types by number, with the kernel that brought each.
const MAP_TYPES: &[(u32, &str)] = &[
    (1, "hash 3.19"),
    (2, "array 3.19"),
    (6, "percpu_array 4.6"),
    (9, "lru_hash 4.10"),
    (12, "array_of_maps 4.12"),
    (27, "ringbuf 5.8"),
];

/// Helper numbers by program. A call to a subprogram or into the kernel has a source register.
fn helpers() -> BTreeMap<String, BTreeSet<i32>> {
    let file = object::File::parse(ObjectKind::Core.bytes()).expect("an ELF file");
    let mut all = BTreeMap::new();
    for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text) {
        let Some(section) = symbol.section_index() else {
            continue;
        };
        let section = file.section_by_index(section).expect("its section");
        let code = section.data().expect("instructions");
        let own = &code[symbol.address() as usize..][..symbol.size() as usize];
        let calls = own
            .chunks_exact(INSTRUCTION)
            .filter(|bytes| bytes[0] == CALL && bytes[1] >> 4 == 0)
            .map(|bytes| i32::from_le_bytes(bytes[4..].try_into().expect("four bytes")));
        let name = symbol.name().expect("a name").to_owned();
        all.insert(name, calls.collect());
    }
    all
}

#[test]
fn only_helpers_of_5_8_and_those_that_it_asks_for() {
    let all = helpers();
    assert!(all.len() > 50, "{} programs", all.len());
    let has = |list: &[(i32, &str)], helper: i32| list.iter().any(|(known, _)| *known == helper);
    let mut asked_for = BTreeSet::new();
    for (program, helpers) in all {
        for helper in helpers {
            let is_asked_for = has(ASKED_FOR, helper);
            assert!(is_asked_for || has(HELPERS, helper), "{program}: {helper}");
            if is_asked_for {
                asked_for.insert(helper);
            }
        }
    }
    assert_eq!(asked_for.len(), ASKED_FOR.len(), "{asked_for:?}");
}

#[test]
fn only_maps_of_5_8() {
    let object = libbpf_rs::ObjectBuilder::default()
        .open_memory(ObjectKind::Core.bytes())
        .expect("opening needs no privilege");
    let mut seen = 0;
    for map in object.maps() {
        let number = map.map_type() as u32;
        let known = MAP_TYPES.iter().any(|(known, _)| *known == number);
        assert!(known, "{:?}: type {number}", map.name());
        seen += 1;
    }
    assert!(seen >= 8, "{seen} maps");
}

/// Neither has an attach type that a kernel would have to know; those of the younger ways to
/// attach are set where the kernel has them.
#[test]
fn only_program_types_of_5_8_but_for_sessions() {
    let object = libbpf_rs::ObjectBuilder::default()
        .open_memory(ObjectKind::Core.bytes())
        .expect("opening needs no privilege");
    for program in object.progs() {
        let name = program.name().to_string_lossy().into_owned();
        let raw = program.as_libbpf_object().as_ptr();
        // SAFETY: the program belongs to an object that is open.
        let attach_type = unsafe { libbpf_sys::bpf_program__expected_attach_type(raw) };
        let expected = if name.ends_with("_session") {
            libbpf_sys::BPF_TRACE_UPROBE_SESSION
        } else {
            0
        };
        assert_eq!(attach_type, expected, "{name}");
        let old = [ProgramType::Kprobe, ProgramType::RawTracepoint];
        assert!(old.contains(&program.prog_type()), "{name}");
    }
}
