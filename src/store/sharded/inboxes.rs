//! On which shard each inbox was read that somebody may be about to drain. Entries are numbered by the shard
//! where the run lies, and anew where it is carried to: so a drain goes to the shard whose numbers it has,
//! also while the run's first home is emptied and the run lies elsewhere already.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::RunId;
use crate::store::contract::{Commit, RunWork};

/// So many are remembered; beyond it all are forgotten, and their drains are tried at their first homes.
const READ: usize = 10_000;

#[derive(Default)]
pub struct Inboxes(Mutex<BTreeMap<RunId, u16>>);

impl Inboxes {
    pub fn read<'a>(&self, work: impl IntoIterator<Item = &'a RunWork>, shard: u16) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in work {
            if known.len() >= READ {
                known.clear();
            }
            known.insert(one.record.id, shard);
        }
    }

    /// Where what this commit drains was read.
    pub fn shard_of(&self, commit: &Commit) -> Option<u16> {
        let part = commit.run.as_ref()?;
        part.advance.as_ref()?.drained?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&part.run).copied()
    }
}
