//! On which shard each inbox was read that somebody may be about to drain. Entries are numbered by the shard
//! where the run lies, and anew where it is carried to: so a drain goes to the shard whose numbers it has,
//! also while the run's first home is emptied and the run lies elsewhere already. Numbers that two shards
//! have given alike belong to neither: such a drain goes to the first home, and is read again if it is gone.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::RunId;
use crate::store::contract::{Commit, RunWork};

/// So many are remembered; beyond it all are forgotten, and their drains are tried at their first homes.
const READ: usize = 10_000;

/// A run, its `rev` and the last number of what was read.
type Look = (RunId, u64, u64);

#[derive(Default)]
pub struct Inboxes(Mutex<BTreeMap<Look, Option<u16>>>);

impl Inboxes {
    pub fn read<'a>(&self, work: impl IntoIterator<Item = &'a RunWork>, shard: u16) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for RunWork { record, inbox } in work {
            let Some((last, _)) = inbox.last() else { continue };
            if known.len() >= READ {
                known.clear();
            }
            let seen = known.entry((record.id, record.rev, *last)).or_insert(Some(shard));
            if *seen != Some(shard) {
                *seen = None;
            }
        }
    }

    /// Where what this commit drains was read.
    pub fn shard_of(&self, commit: &Commit) -> Option<u16> {
        let part = commit.run.as_ref()?;
        let advance = part.advance.as_ref()?;
        let look = (part.run, advance.from_rev, advance.drained?);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&look).copied().flatten()
    }
}
