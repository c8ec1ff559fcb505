//! The seeds of the fuzz targets, and damaged copies of them: an answer or an error for each,
//! never a panic, and soon.

#[path = "corpus/around.rs"]
mod around;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tlscope_image::plan::Module;
use tlscope_image::{analyze, might_hold};

/// What one image may take, in a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A fuzz target: the directory of its seeds, and how it makes an image of an input.
type Target = (&'static str, fn(&[u8]) -> Option<Vec<u8>>);

const TARGETS: [Target; 3] = [
    ("image_analyze", |input| Some(input.to_vec())),
    ("image_code", around::code),
    ("image_pclntab", around::tables),
];

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let entries = fs::read_dir(corpus.join(target)).expect("the corpus is part of the crate");
    let read = |entry: fs::DirEntry| {
        let bytes = fs::read(entry.path()).expect("readable");
        (entry.file_name().to_string_lossy().into_owned(), bytes)
    };
    entries
        .map(|entry| read(entry.expect("readable")))
        .collect()
}

fn answers_soon(name: &str, image: &[u8]) {
    let start = Instant::now();
    let _ = analyze(image);
    let _ = might_hold(image, &Module::ALL);
    assert!(start.elapsed() < SOON, "{name}: {:?}", start.elapsed());
}

#[test]
fn every_seed_is_answered() {
    for (target, image_of) in TARGETS {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{target}");
        for (name, seed) in seeds {
            let image = image_of(&seed).expect("a seed makes an image");
            // Around code and tables that are sound there is a library.
            assert!(analyze(&image).is_ok(), "{target}: {name}");
            answers_soon(&name, &image);
        }
    }
}

#[test]
fn every_length_of_a_seed_is_answered() {
    for (target, image_of) in TARGETS {
        for (name, seed) in seeds(target) {
            for length in 0..seed.len() {
                if let Some(image) = image_of(&seed[..length]) {
                    answers_soon(&name, &image);
                }
            }
        }
    }
}

/// Flips bytes, copies stretches over others and writes the extreme numbers of every width: what a
/// fuzzer does first.
#[test]
fn damaged_seeds_are_answered() {
    const ROUNDS: u32 = 400;
    let mut random = XorShift(0x2545_f491);
    for (target, image_of) in TARGETS {
        for (name, seed) in seeds(target) {
            for _ in 0..ROUNDS {
                let mut input = seed.clone();
                for _ in 0..=random.below(8) {
                    damage(&mut input, &mut random);
                }
                let image = image_of(&input).expect("as long as the seed");
                answers_soon(&name, &image);
            }
        }
    }
}

fn damage(image: &mut [u8], random: &mut XorShift) {
    let place = random.below(image.len() - 16);
    match random.below(4) {
        0 => image[place] ^= 1 << random.below(8),
        1 => image[place] = random.next() as u8,
        2 => {
            let width = 1 << random.below(4);
            let extreme = [0, u64::MAX, i64::MAX as u64, 1 << 31, 0x1_1000][random.below(5)];
            image[place..place + width].copy_from_slice(&extreme.to_le_bytes()[..width]);
        }
        _ => {
            let length = random.below(16);
            let from = random.below(image.len() - length);
            image.copy_within(from..from + length, place);
        }
    }
}

struct XorShift(u32);

impl XorShift {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }
}
