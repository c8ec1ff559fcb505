//! Images around what a fuzzer makes up: sound, but for their code or for Go's tables in them. So
//! it need not find out how an ELF file is made before it comes to what reads these.

type Image = &'static [u8];

const LIBRARIES: [Image; 2] = [
    include_bytes!("image_analyze/mini.x86_64.elf"),
    include_bytes!("image_analyze/mini.aarch64.elf"),
];

const PROGRAMS: [Image; 4] = [
    include_bytes!("image_analyze/go1.2.x86_64.elf"),
    include_bytes!("image_analyze/go1.16.aarch64.elf"),
    include_bytes!("image_analyze/go1.18.x86_64.elf"),
    include_bytes!("image_analyze/go1.26.aarch64.elf"),
];

/// A library with this code; the first byte says of which architecture.
pub(crate) fn code(input: &[u8]) -> Option<Vec<u8>> {
    let (choice, code) = input.split_first()?;
    let library = LIBRARIES[usize::from(*choice) % LIBRARIES.len()];
    Some(with_segment(library, 0, code))
}

/// A Go program with this data: its function table, types and module data; the first byte says of
/// which release.
pub(crate) fn tables(input: &[u8]) -> Option<Vec<u8>> {
    let (choice, data) = input.split_first()?;
    let program = PROGRAMS[usize::from(*choice) % PROGRAMS.len()];
    Some(with_segment(program, 1, data))
}

/// Puts bytes behind the file, and the segment of this number there.
fn with_segment(image: Image, number: usize, bytes: &[u8]) -> Vec<u8> {
    const HEADERS: usize = 64;
    const HEADER: usize = 56;
    let mut made = image.to_vec();
    made.extend(bytes);
    let (offset, length) = (image.len() as u64, bytes.len() as u64);
    // p_offset, p_filesz, p_memsz.
    for (field, value) in [(8, offset), (32, length), (40, length)] {
        let at = HEADERS + number * HEADER + field;
        made[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    made
}
