//! On which stack the programs run, read from both objects. No root.

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use tlscope_probe::ObjectKind;

const INSTRUCTION: usize = 8;
/// `call 12`, the helper `bpf_tail_call`.
const TAIL_CALL: [u8; 8] = [0x85, 0, 0, 0, 12, 0, 0, 0];

/// `stay_on_own_stack` in maps.h says why: uprobes preempt each other.
#[test]
fn every_uprobe_program_stays_on_the_stack_of_its_thread() {
    for kind in [ObjectKind::Core, ObjectKind::Noncore] {
        let file = object::File::parse(kind.bytes()).expect("an ELF file");
        let mut seen = 0;
        for section in file.sections() {
            let name = section.name().expect("a name");
            if !name.starts_with("uprobe") && !name.starts_with("uretprobe") {
                continue;
            }
            let code = section.data().expect("instructions");
            let own = |symbol: &object::Symbol<'_, '_>| {
                symbol.kind() == SymbolKind::Text && symbol.section_index() == Some(section.index())
            };
            for symbol in file.symbols().filter(own) {
                let program = symbol.name().expect("a name");
                let begin = symbol.address() as usize;
                let code = &code[begin..begin + symbol.size() as usize];
                let mut instructions = code.chunks_exact(INSTRUCTION);
                let may_tail_call = instructions.any(|bytes| bytes == TAIL_CALL);
                assert!(may_tail_call, "{kind}: {program}");
                seen += 1;
            }
        }
        assert!(seen > 20, "{kind}: {seen} programs");
    }
}
