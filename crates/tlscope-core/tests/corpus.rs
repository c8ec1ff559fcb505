//! Every seed of the fuzz corpus through its decoder, cut and damaged too.

mod corpus {
    pub(crate) mod drive;
}

use std::path::Path;

use corpus::drive::TARGETS;

#[test]
fn every_seed_holds_the_invariants() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpus")
            .join(name);
        let mut seeds = 0;
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}")) {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            target(&seed);
            damaged(&seed).for_each(|input| target(&input));
            seeds += 1;
        }
        assert!(seeds > 0, "{folder:?} has no seed");
    }
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
