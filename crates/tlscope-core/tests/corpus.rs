//! Every seed of the fuzz corpus through its decoder, cut and damaged too.

mod corpus {
    pub(crate) mod drive;
}

use std::path::{Path, PathBuf};

use corpus::drive::TARGETS;

/// What each seed shows is in `tests/golden`; set `BLESS` to write it anew.
#[test]
fn every_seed_shows_what_it_showed() {
    for (name, target) in TARGETS {
        for (seed, input) in seeds(name) {
            let golden = root().join("golden").join(format!("{name}-{seed}.txt"));
            let shown = target(&input);
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(&golden, &shown).unwrap();
            }
            let expected =
                std::fs::read(&golden).unwrap_or_else(|e| panic!("{}: {e}", golden.display()));
            let shown = String::from_utf8(shown).unwrap();
            assert_eq!(shown, String::from_utf8(expected).unwrap(), "{name}/{seed}");
        }
    }
}

#[test]
fn every_damaged_seed_holds_the_invariants() {
    for (name, target) in TARGETS {
        for (_, seed) in seeds(name) {
            damaged(&seed).for_each(|input| drop(target(&input)));
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Name and bytes of each seed of a target.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = root().join("corpus").join(target);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut seeds: Vec<_> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    assert!(!seeds.is_empty(), "{} has no seed", folder.display());
    seeds.sort();
    seeds
}

/// Prefixes of the seed, and the seed with single bytes changed.
fn damaged(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let step = seed.len() / 200 + 1;
    (0..seed.len()).step_by(step).flat_map(move |at| {
        let mut changed = seed.to_vec();
        changed[at] ^= 1 << (at % 8);
        [seed[..at].to_vec(), changed]
    })
}
