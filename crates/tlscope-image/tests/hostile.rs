//! Images made to cost more than they are worth: counts beyond all bounds, segments one over the
//! other, a table of nothing but symbols, code that runs in circles. Time and memory stay in
//! proportion to the file.

#[path = "corpus/around.rs"]
mod around;

use std::time::{Duration, Instant};

use tlscope_image::{ImageError, analyze};

/// In a debug build on a busy machine. A release build needs a second for the worst of them.
const SOON: Duration = Duration::from_secs(60);

const LIBRARY: &[u8] = include_bytes!("corpus/image_analyze/mini.x86_64.elf");
const PROGRAM: &[u8] = include_bytes!("corpus/image_analyze/go1.18.x86_64.elf");

const EXTREMES: [u64; 6] = [
    u64::MAX,
    i64::MAX as u64,
    u32::MAX as u64,
    1 << 31,
    0xffff,
    0,
];

/// What the analysis says, which takes neither long nor much memory.
#[track_caller]
fn answer(what: &str, image: &[u8]) -> Result<(), ImageError> {
    // Symbols, relocations and call frames are indexed: some words for each entry of the file.
    const PER_BYTE: u64 = 16;
    // And a walk through code keeps its states, of which there are only so many.
    const AT_LEAST: u64 = 64 << 20;
    let start = Instant::now();
    let mut said = Ok(());
    let used = allocation_counter::measure(|| said = analyze(image).map(|_| ()));
    assert!(start.elapsed() < SOON, "{what}: {:?}", start.elapsed());
    let bound = AT_LEAST + PER_BYTE * image.len() as u64;
    assert!(used.bytes_max < bound, "{what}: {} bytes", used.bytes_max);
    said
}

fn put(image: &mut [u8], at: usize, value: u64, width: usize) {
    image[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
}

/// Where the section headers of an image stand.
fn sections(image: &[u8]) -> usize {
    let word = image[0x28..0x30].try_into().expect("eight bytes");
    usize::try_from(u64::from_le_bytes(word)).expect("a place in the file")
}

#[test]
fn every_number_of_the_headers_may_be_extreme() {
    for (name, image) in [("library", LIBRARY), ("program", PROGRAM)] {
        let headers = 16..64 + 2 * 56;
        let tables = sections(image)..image.len();
        for at in headers.chain(tables) {
            // As they are aligned.
            for width in [2, 4, 8].into_iter().filter(|width| at % width == 0) {
                for extreme in EXTREMES.into_iter().filter(|_| at + width <= image.len()) {
                    let mut image = image.to_vec();
                    put(&mut image, at, extreme, width);
                    let what = format!("{name}: {extreme:#x} at {at:#x}");
                    let _ = answer(&what, &image);
                }
            }
        }
    }
}

#[test]
fn every_number_of_the_tables_of_go_may_be_extreme() {
    let seed = include_bytes!("corpus/image_pclntab/go1.18.x86_64");
    for at in (1..seed.len() - 8).step_by(4) {
        for extreme in EXTREMES {
            let mut input = seed.to_vec();
            put(&mut input, at, extreme, 4);
            let image = around::tables(&input).expect("an image");
            let _ = answer(&format!("{extreme:#x} at {at:#x}"), &image);
        }
    }
}

/// Debian's libssl3, which the tests install: the miniatures tell the loader nothing.
const LIBSSL: &str = "/usr/lib/x86_64-linux-gnu/libssl.so.3";

/// Without sections, names and relocations are read as the loader reads them.
#[test]
fn every_number_that_the_loader_is_told_may_be_extreme() {
    const GNU_HASH: u64 = 0x6fff_fef5;
    // DT_PLTRELSZ, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_JMPREL: what is read.
    const READ: [u64; 8] = [2, 4, 5, 6, 7, 8, 23, GNU_HASH];
    let mut image = std::fs::read(LIBSSL).unwrap_or_else(|error| panic!("{LIBSSL}: {error}"));
    put(&mut image, 0x28, 0, 8);
    put(&mut image, 0x3a, 0, 6);
    let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().expect("eight bytes"));
    let headers = (64..64 + 56 * 16).step_by(56);
    let mut dynamic = headers.filter(|at| word(*at) & 0xffff_ffff == 2);
    let at = word(dynamic.next().expect("a dynamic segment") + 8) as usize;
    let values: Vec<usize> = (at..)
        .step_by(16)
        .take_while(|at| word(*at) != 0)
        .filter(|at| READ.contains(&word(*at)))
        .map(|at| at + 8)
        .collect();
    let hash = values.iter().find(|at| word(**at - 8) == GNU_HASH);
    // It is in the first segment, whose offsets are its addresses, and begins with four numbers.
    let hash = word(*hash.expect("a hash table")) as usize;
    let numbers = (hash..hash + 16).step_by(4).map(|at| (at, 4));
    for (at, width) in values.iter().map(|at| (*at, 8)).chain(numbers) {
        // Each takes as long as a whole library.
        for extreme in [u64::MAX, 1 << 31, 0] {
            let mut image = image.clone();
            put(&mut image, at, extreme, width);
            let _ = answer(&format!("{extreme:#x} at {at:#x}"), &image);
        }
    }
}

/// As many segments as a header can count, all of the whole file.
#[test]
fn segments_one_over_the_other_are_refused() {
    // One more would stand for a count elsewhere.
    const COUNT: usize = 0xfffe;
    let table = LIBRARY.len();
    let mut image = LIBRARY.to_vec();
    let length = (table + COUNT * 56) as u64;
    for _ in 0..COUNT {
        let mut header = LIBRARY[64..64 + 56].to_vec();
        for (field, value) in [(8, 0), (32, length), (40, length)] {
            put(&mut header, field, value, 8);
        }
        image.extend(header);
    }
    put(&mut image, 0x20, table as u64, 8);
    put(&mut image, 0x38, COUNT as u64, 2);
    let refused = answer("segments", &image).expect_err("overlap");
    assert!(refused.to_string().contains("overlap"), "{refused}");
}

/// A million symbols of one name, and the same with a million names that are one text.
#[test]
fn a_file_of_symbols_costs_what_it_weighs() {
    const COUNT: u64 = 1 << 20;
    for same_name in [true, false] {
        let mut image = LIBRARY.to_vec();
        let table = image.len() as u64;
        for index in 0..COUNT {
            let name = if same_name { 1 } else { index as u32 % 64 };
            image.extend(name.to_le_bytes());
            image.extend([0x12, 0, 1, 0]);
            image.extend((0x1_1000 + index % 0x2a0).to_le_bytes());
            image.extend(u64::MAX.to_le_bytes());
        }
        let symtab = sections(&image) + 64;
        put(&mut image, symtab + 24, table, 8);
        put(&mut image, symtab + 32, COUNT * 24, 8);
        let _ = answer("symbols", &image);
    }
}

/// A million relocations of symbols, whose table is what the loader is told last of 4,000 things.
#[test]
fn what_the_loader_is_told_is_not_looked_for_each_time() {
    const ENTRIES: u64 = 4_000;
    const COUNT: u64 = 1 << 20;
    let mut image = LIBRARY.to_vec();
    image.resize(image.len().next_multiple_of(8), 0);
    let headers = image.len() as u64;
    let dynamic = headers + 2 * 56;
    let symbols = dynamic + (ENTRIES + 5) * 16;
    let relocations = symbols + 2 * 24;
    let length = relocations + COUNT * 24;
    for (kind, at, size) in [(1, 0, length), (2, dynamic, symbols - dynamic)] {
        for word in [kind, at, at, at, size, size, 8] {
            image.extend(word.to_le_bytes());
        }
    }
    // DT_DEBUG, then DT_RELA, DT_RELASZ, DT_STRTAB, DT_SYMTAB.
    let debug = (0..ENTRIES).map(|_| (21, 0));
    let told = [
        (7, relocations),
        (8, COUNT * 24),
        (5, symbols),
        (6, symbols),
        (0, 0),
    ];
    for (tag, value) in debug.chain(told) {
        image.extend(u64::to_le_bytes(tag));
        image.extend(u64::to_le_bytes(value));
    }
    image.resize(relocations as usize, 0);
    for index in 0..COUNT {
        // R_X86_64_64, of the second symbol.
        for word in [index * 8, 1 << 32 | 1, 0] {
            image.extend(word.to_le_bytes());
        }
    }
    put(&mut image, 0x20, headers, 8);
    put(&mut image, 0x28, 0, 8);
    put(&mut image, 0x38, 2, 2);
    put(&mut image, 0x3a, 0, 6);
    let _ = answer("relocations", &image);
}

/// Functions of the miniatures, at the same places in both.
const FUNCTIONS: [usize; 5] = [0, 0x1a0, 0x1c0, 0x280, 0x290];
/// Their code ends here.
const END: usize = 0x2a0;

/// Functions that do nothing but branch: each instruction has two ways on, or calls another.
#[test]
fn code_that_runs_in_circles_is_left() {
    let mut random = XorShift(0x2545_f491);
    let seed = include_bytes!("corpus/image_code/mini.x86_64");
    let circles = circles(seed, || {
        let near = (random.next() % 0x8000).wrapping_sub(0x4000).to_le_bytes();
        match random.next() % 3 {
            // je, call
            0 => [&[0x0f, 0x84], near.as_slice()].concat(),
            1 => [&[0xe8], near.as_slice()].concat(),
            // test rdi,rdi; cmovne rsi,rdi
            _ => vec![0x48, 0x85, 0xff, 0x48, 0x0f, 0x45, 0xf7],
        }
    });
    let circles = entered(circles, |function| {
        let distance = (END - function - 5) as u32;
        [&[0xe9], distance.to_le_bytes().as_slice()].concat()
    });
    let _ = answer("x86_64", &around::code(&circles).expect("an image"));
}

#[test]
fn code_that_runs_in_circles_is_left_on_aarch64_too() {
    let mut random = XorShift(0x2545_f491);
    let seed = include_bytes!("corpus/image_code/mini.aarch64");
    let circles = circles(seed, || {
        let near = random.next() % 0x1000;
        let word = match random.next() % 3 {
            // cbz x0
            0 => 0xb400_0000 | near << 5,
            // bl
            1 => 0x9400_0000 | near,
            // csel x1, xn, x0, eq
            _ => 0x9a80_0001 | (random.next() % 31) << 5,
        };
        word.to_le_bytes().to_vec()
    });
    let circles = entered(circles, |function| {
        let words = (END - function) / 4;
        (0x1400_0000 | words as u32).to_le_bytes().to_vec()
    });
    let _ = answer("aarch64", &around::code(&circles).expect("an image"));
}

/// A seed of `image_code`, which has the labels and the functions that symbols name, and a lot of
/// code behind it.
fn circles(seed: &[u8], mut code: impl FnMut() -> Vec<u8>) -> Vec<u8> {
    const SIZE: usize = 1 << 20;
    let mut input = seed.to_vec();
    // The first byte names the architecture.
    input.resize(1 + END, 0);
    while input.len() < SIZE {
        input.extend(code());
    }
    input
}

/// Makes the functions begin with a jump to the code behind them.
fn entered(mut input: Vec<u8>, jump: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    for function in FUNCTIONS {
        let code = jump(function);
        input[1 + function..][..code.len()].copy_from_slice(&code);
    }
    input
}

struct XorShift(u32);

impl XorShift {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }
}
