//! What images hold, learned once: by content for as long as tlscope runs, and by
//! the identity of the file from one run to the next.

mod memory;

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tlscope_image::plan::{Module, Plan};

pub(super) use memory::{Asked, Held, Identity, stamp_of};

use memory::Memory;

/// Shared by all who open images.
#[derive(Debug, Default)]
pub(crate) struct Known {
    seed: RandomState,
    /// A container brings the same library again, and it may be in a hurry.
    by_content: Mutex<HashMap<(u64, usize), Vec<Plan>>>,
    memory: Option<Memory>,
    looked: AtomicUsize,
    recalled: AtomicUsize,
}

/// How many images were opened, and of how many it was known what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Looks {
    pub(crate) all: usize,
    pub(crate) recalled: usize,
}

impl Known {
    /// More distinct libraries than that are not probed at once.
    const MAX: usize = 1024;
    /// Libraries are smaller; programs are not copied while they run.
    const COPIED_MAX: u64 = 16 << 20;

    /// With what earlier runs left in a directory, where it can be trusted.
    pub(crate) fn remembered(directory: Option<&Path>) -> Self {
        let memory = directory.and_then(|directory| {
            let opened = Memory::open(directory);
            let say = |e: &io::Error| eprintln!("tlscope: {}: not used: {e}", directory.display());
            opened.inspect_err(say).ok()
        });
        Self {
            memory,
            ..Self::default()
        }
    }

    pub(crate) fn looks(&self) -> Looks {
        Looks {
            all: self.looked.load(Ordering::Relaxed),
            recalled: self.recalled.load(Ordering::Relaxed),
        }
    }

    pub(super) fn count_look(&self) {
        self.looked.fetch_add(1, Ordering::Relaxed);
    }

    /// What this file holds, if an earlier run looked at this very file as it is now.
    pub(super) fn recall(&self, file: &File, modules: &[Module]) -> Option<Held> {
        let memory = self.memory.as_ref()?;
        let held = memory.recall(&Identity::of(file).ok()?, modules)?;
        self.recalled.fetch_add(1, Ordering::Relaxed);
        self.expect_copies(file, &held.plans);
        Some(held)
    }

    /// A library that was recalled may come again in another file: read, it is known there too.
    fn expect_copies(&self, file: &File, plans: &[Plan]) {
        let size = file.metadata().map_or(0, |file| file.len());
        if plans.is_empty() || size > Self::COPIED_MAX {
            return;
        }
        let mut bytes = Vec::with_capacity(size as usize);
        // Its owner may make it longer meanwhile, without an end.
        if file.take(size).read_to_end(&mut bytes).is_ok() {
            // It cannot fail: there is nothing to analyse.
            let _ = self.same_content(&bytes, || Ok(plans.to_vec()));
        }
    }

    /// `before` was taken ahead of reading the file.
    pub(super) fn learn(
        &self,
        file: &File,
        before: Option<Identity>,
        modules: &[Module],
        held: &Held,
        asked: Asked,
    ) {
        if let (Some(memory), Some(before)) = (&self.memory, before)
            && Identity::of(file).is_ok_and(|after| after == before)
        {
            memory.learn(before, modules, held, asked);
        }
    }

    /// `None` where nothing is remembered.
    pub(super) fn identity(&self, file: &File) -> Option<Identity> {
        self.memory.as_ref()?;
        Identity::of(file).ok()
    }

    pub(super) fn same_content(
        &self,
        bytes: &[u8],
        analyze: impl FnOnce() -> anyhow::Result<Vec<Plan>>,
    ) -> anyhow::Result<Vec<Plan>> {
        let content = (self.seed.hash_one(bytes), bytes.len());
        if let Some(plans) = self.contents().get(&content) {
            return Ok(plans.clone());
        }
        let plans = analyze()?;
        let mut contents = self.contents();
        if contents.len() < Self::MAX {
            contents.insert(content, plans.clone());
        }
        Ok(plans)
    }

    /// The map is whole between any two statements: a panic spoils nothing.
    fn contents(&self) -> MutexGuard<'_, HashMap<(u64, usize), Vec<Plan>>> {
        self.by_content
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
