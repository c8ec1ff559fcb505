//! In which file each connection is written, where files take turns.
//!
//! A reader of one file decrypts a connection only from its handshake on: each
//! record's nonce or additional data counts the records before it. So an earlier
//! file stays open for the connections that began in it.

use std::collections::HashSet;
use std::time::Duration;

use super::flow::FlowKey;
use super::{FileNumber, Moment};

/// How often earlier files are looked at for their end.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Homes {
    current: FileNumber,
    /// Oldest first.
    earlier: Vec<Earlier>,
    next_look: Moment,
}

#[derive(Debug)]
struct Earlier {
    file: FileNumber,
    /// Those that lived when it was last looked at.
    living: HashSet<FlowKey>,
}

impl Homes {
    pub(super) fn current(&self) -> FileNumber {
        self.current
    }

    pub(super) fn begin(&mut self, next: FileNumber, living: HashSet<FlowKey>) {
        let file = std::mem::replace(&mut self.current, next);
        self.earlier.push(Earlier { file, living });
        self.next_look = Moment::default();
    }

    pub(super) fn close(&mut self, file: FileNumber) {
        self.earlier.retain(|earlier| earlier.file != file);
    }

    pub(super) fn drained(
        &mut self,
        now: Moment,
        lives: impl Fn(&FlowKey, FileNumber) -> bool,
    ) -> Vec<FileNumber> {
        if self.earlier.is_empty() || now < self.next_look {
            return Vec::new();
        }
        self.next_look = now.after(LOOK);
        for Earlier { file, living } in &mut self.earlier {
            living.retain(|key| lives(key, *file));
        }
        let drained = self.earlier.iter().filter(|e| e.living.is_empty());
        drained.map(|earlier| earlier.file).collect()
    }
}
