//! Every seed of the fuzz targets through its reader, cut and damaged too.

#[path = "corpus/drive.rs"]
mod drive;

use std::fs;
use std::path::Path;

use drive::TARGETS;

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let entries = fs::read_dir(corpus.join(target)).expect("the corpus is part of the crate");
    let read = |entry: fs::DirEntry| {
        let bytes = fs::read(entry.path()).expect("readable");
        (entry.file_name().to_string_lossy().into_owned(), bytes)
    };
    let seeds: Vec<_> = entries
        .map(|entry| read(entry.expect("readable")))
        .collect();
    assert!(!seeds.is_empty(), "{target} has no seed");
    seeds
}

/// A seed that is not read at all shows a fuzzer nothing.
#[test]
fn something_is_found_in_every_seed() {
    for (name, target) in TARGETS {
        for (seed, input) in seeds(name) {
            assert_ne!(target(&input), 0, "{name}/{seed}");
        }
    }
}

#[test]
fn every_damaged_seed_holds_the_invariants() {
    for (name, target) in TARGETS {
        for (_, seed) in seeds(name) {
            for at in 0..seed.len() {
                target(&seed[..at]);
                for bit in 0..8 {
                    let mut changed = seed.clone();
                    changed[at] ^= 1 << bit;
                    target(&changed);
                }
            }
        }
    }
}
