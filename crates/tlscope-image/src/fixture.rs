//! Images made by the tests: a library in miniature, in an ELF file around it.

pub(crate) mod go;
pub(crate) mod schedule;

use crate::elf::Address;
use crate::plan::Arch;

/// Where the code of the miniature is loaded, and where it stands in the file.
pub(crate) const TEXT: u64 = 0x1_1000;
pub(crate) const OFFSET: u64 = 0x1000;

/// A function of the miniature: name, place, size. The same in both architectures.
type Named = (&'static str, u64, u64);

pub(crate) const RANDOM: Named = ("SSL_get_client_random", 0x0, 0x60);
pub(crate) const SINK: Named = ("log_secret", 0x80, 0x80);
pub(crate) const READ_EX: Named = ("SSL_read_ex", 0x1a0, 0x20);
const NAMES: &[Named] = &[
    RANDOM,
    ("inner", 0x60, 0x20),
    SINK,
    ("caller", 0x100, 0x80),
    ("tail", 0x180, 0x20),
    READ_EX,
    ("SSL_read_early_data", 0x1c0, 0x40),
    ("SSL_read", 0x280, 0x10),
    ("SSL_write", 0x290, 0x10),
];
pub(crate) const SLOT: u64 = 0x220;
pub(crate) const EARLY: u64 = 0x228;
pub(crate) const LATE: u64 = 0x244;
pub(crate) const EXPORTER: u64 = 0x25c;

pub(crate) fn at(place: u64) -> Address {
    Address(TEXT + place)
}

/// The miniature with a `.symtab` and a relocation of its PLT slot.
pub(crate) fn library(arch: Arch) -> Vec<u8> {
    let (jump_slot, text): (u64, &[u8]) = match arch {
        Arch::X86_64 => (7, include_bytes!("fixture/mini.x86_64.bin")),
        Arch::Aarch64 => (1026, include_bytes!("fixture/mini.aarch64.bin")),
    };
    let read_ex = 1 + NAMES
        .iter()
        .position(|named| *named == READ_EX)
        .expect("is one of them");
    let relocation = [TEXT + SLOT, ((read_ex as u64) << 32) | jump_slot, 0];
    image(arch, text, NAMES, &[relocation])
}

/// An ELF file of one segment with a `.symtab` and relocations.
fn image(arch: Arch, text: &[u8], names: &[Named], relocations: &[[u64; 3]]) -> Vec<u8> {
    let machine: u16 = match arch {
        Arch::X86_64 => 62,
        Arch::Aarch64 => 183,
    };
    let mut strings = vec![0];
    let mut symbols = vec![0; 24];
    for (name, place, size) in names {
        symbols.extend((strings.len() as u32).to_le_bytes());
        strings.extend(name.bytes().chain([0]));
        // STB_GLOBAL, STT_FUNC, default visibility, any defined section.
        symbols.extend([0x12, 0, 1, 0]);
        symbols.extend((TEXT + place).to_le_bytes());
        symbols.extend(size.to_le_bytes());
    }
    let relocations: Vec<u8> = relocations
        .iter()
        .flatten()
        .flat_map(|word| word.to_le_bytes())
        .collect();

    let mut file = header(machine, text.len() as u64);
    file.resize(OFFSET as usize, 0);
    file.extend(text);
    let mut sections = vec![0; 64];
    sections.extend(section(&mut file, 2, &symbols, 2, 24));
    sections.extend(section(&mut file, 3, &strings, 0, 0));
    sections.extend(section(&mut file, 4, &relocations, 1, 24));
    let table = file.len() as u64;
    file[40..48].copy_from_slice(&table.to_le_bytes());
    file.extend(sections);
    file
}

/// The file header, and one segment that is read and executed.
fn header(machine: u16, text: u64) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(3_u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for word in [0_u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    // Header sizes and counts: 1 segment, 4 sections, no section names.
    for half in [64_u16, 56, 1, 64, 4, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    file.extend(5_u32.to_le_bytes());
    for word in [OFFSET, TEXT, TEXT, text, text, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file
}

/// Appends a section's bytes to the file; gives its header.
fn section(file: &mut Vec<u8>, kind: u32, bytes: &[u8], link: u32, entry: u64) -> Vec<u8> {
    file.resize(file.len().next_multiple_of(8), 0);
    let offset = file.len() as u64;
    file.extend(bytes);
    let mut header = Vec::new();
    header.extend(0_u32.to_le_bytes());
    header.extend(kind.to_le_bytes());
    for word in [0, 0, offset, bytes.len() as u64] {
        header.extend(word.to_le_bytes());
    }
    header.extend(link.to_le_bytes());
    header.extend(0_u32.to_le_bytes());
    for word in [8, entry] {
        header.extend(word.to_le_bytes());
    }
    header
}
