//! Which leases this process knows of, and on which shard each lies: so that a settle goes to the shard
//! that gave the lease, wherever the job was born, and a shard that is away loses nobody its lease. And
//! which shards know which worker: one that is not registered has no lease there.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{Epoch, JobId, WorkerId};
use crate::store::contract::{Claimed, Commit, Committed, Expect, Heartbeat, Moved, Stored};

#[derive(Default)]
pub struct Leases {
    workers: Mutex<BTreeMap<WorkerId, Known>>,
    /// Leases of others that were seen lately, by whoever looks after all.
    seen: Mutex<BTreeMap<(JobId, Epoch), u16>>,
}

/// So many are remembered: more than one look gives.
const SEEN: usize = 10_000;

struct Known {
    beat: Heartbeat,
    shards: BTreeMap<u16, Registered>,
}

struct Registered {
    /// Until when the registration surely holds.
    until: Instant,
    /// Leases, and when each was first known.
    held: BTreeMap<(JobId, Epoch), Instant>,
}

impl Leases {
    fn workers(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Known>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker of this process says that it lives.
    pub fn beats(&self, beat: &Heartbeat) {
        let mut workers = self.workers();
        match workers.get_mut(&beat.info.id) {
            Some(known) => known.beat = beat.clone(),
            None => {
                workers.insert(beat.info.id, Known { beat: beat.clone(), shards: BTreeMap::new() });
            }
        }
    }

    /// A shard has answered a heartbeat that was sent at `asked`.
    pub fn beaten(&self, worker: WorkerId, shard: u16, asked: Instant, lease: Duration, held: &[(JobId, Epoch)]) {
        let mut workers = self.workers();
        let Some(known) = workers.get_mut(&worker) else { return };
        let until = asked + lease * 2 / 3;
        let here = known.shards.entry(shard).or_insert_with(|| Registered { until, held: BTreeMap::new() });
        here.until = here.until.max(until);
        // What was claimed since may be missing in the answer.
        here.held.retain(|lease, since| *since >= asked || held.contains(lease));
        for lease in held {
            here.held.entry(*lease).or_insert(asked);
        }
    }

    /// What a shard that is away was last known to hold for a worker.
    pub fn held_on(&self, worker: WorkerId, shard: u16) -> Vec<(JobId, Epoch)> {
        let workers = self.workers();
        let here = workers.get(&worker).and_then(|known| known.shards.get(&shard));
        here.map(|here| here.held.keys().copied().collect()).unwrap_or_default()
    }

    /// Whether a shard knows a worker; a worker that has never said that it lives is not our business.
    pub fn knows(&self, worker: WorkerId, shard: u16) -> bool {
        let workers = self.workers();
        let Some(known) = workers.get(&worker) else { return true };
        known.shards.get(&shard).is_some_and(|here| here.until > Instant::now())
    }

    /// What to say to a shard that does not know a worker yet.
    pub fn beat_of(&self, worker: WorkerId) -> Option<Heartbeat> {
        self.workers().get(&worker).map(|known| known.beat.clone())
    }

    pub fn claimed(&self, worker: WorkerId, shard: u16, claimed: &[Claimed]) {
        let mut workers = self.workers();
        if let Some(here) = workers.get_mut(&worker).and_then(|known| known.shards.get_mut(&shard)) {
            let now = Instant::now();
            here.held.extend(claimed.iter().map(|one| ((one.job.id, one.epoch), now)));
        }
    }

    /// Leases that these commits have ended are nobody's any more.
    pub fn settled(&self, commits: &[Commit], answers: &[Committed]) {
        let mut workers = self.workers();
        for (commit, answer) in commits.iter().zip(answers) {
            for (step, moved) in commit.moves.iter().zip(&answer.moves) {
                let (Expect::Lease(epoch) | Expect::Lapsed(epoch)) = step.expect else { continue };
                if *moved == Moved::Applied || matches!(step.expect, Expect::Lease(_)) {
                    let lease = (step.job.id, epoch);
                    let shards = workers.values_mut().flat_map(|known| known.shards.values_mut());
                    for here in shards {
                        here.held.remove(&lease);
                    }
                }
            }
        }
    }

    /// A shard has told of these leases: a job may lie elsewhere than where it was born.
    pub fn saw<'a>(&self, shard: u16, jobs: impl IntoIterator<Item = &'a Stored>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() > SEEN {
            seen.clear();
        }
        let leases = jobs.into_iter().filter_map(|stored| Some((stored.job.id, stored.lease.as_ref()?.epoch)));
        seen.extend(leases.map(|lease| (lease, shard)));
    }

    /// The shard that gave a lease of this process, or told of it.
    pub fn shard_of(&self, id: JobId, epoch: Epoch) -> Option<u16> {
        let lease = (id, epoch);
        let workers = self.workers();
        let mut shards = workers.values().flat_map(|known| &known.shards);
        let own = shards.find(|(_, here)| here.held.contains_key(&lease)).map(|(shard, _)| *shard);
        own.or_else(|| self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&lease).copied())
    }

    pub fn forget(&self, worker: WorkerId) {
        self.workers().remove(&worker);
    }
}
