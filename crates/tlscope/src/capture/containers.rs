//! The containers of processes. A process that lives for milliseconds has ended by the
//! time its first record is decoded, so its control group is read while it begins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tlscope_core::item::Container;

/// Processes remembered. Of one that is forgotten the container is known while it runs.
const MAX: usize = 16_384;

/// Shared by who sees processes begin and who shows their events.
#[derive(Debug, Clone, Default)]
pub(super) struct Containers(Arc<Mutex<HashMap<u32, Container>>>);

impl Containers {
    /// A process loads code.
    pub(super) fn meet(&self, pid: u32) {
        let met = container(pid);
        let mut known = self.known();
        match met {
            Some(container) => {
                if known.len() >= MAX {
                    known.clear();
                }
                known.insert(pid, container);
            }
            // The number may have been that of another process before.
            None => drop(known.remove(&pid)),
        }
    }

    pub(super) fn of(&self, pid: u32) -> Option<Container> {
        container(pid).or_else(|| self.known().get(&pid).cloned())
    }

    /// The map is whole between any two statements: a panic spoils nothing.
    fn known(&self) -> MutexGuard<'_, HashMap<u32, Container>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a process that runs.
fn container(pid: u32) -> Option<Container> {
    let found = tlscope_targets::container(pid)?;
    Some(Container {
        id: found.id,
        pod: found.pod,
    })
}
