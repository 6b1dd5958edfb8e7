//! Shards, as every face shows them, and the verbs on them. What moves is decided in the store; here it is
//! gone on with until nothing is left.

use std::time::Duration;

use serde::Serialize;

use super::filter::{Field, Kind};
use super::queues::number;
use super::{ApiError, Client, Result};
use crate::store::{Carried, Left, ShardList, ShardStatus, Shards};

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardView {
    /// Its number, as text.
    pub id: String,
    pub url: String,
    /// `joining`, `active`, `draining` or `removed`.
    pub state: String,
    /// Where what lay on it has gone, or is going.
    pub moved_to: Option<u16>,
    /// Why it does not answer now.
    pub trouble: Option<String>,
    pub workers: u64,
    pub scheduled: u64,
    pub pending: u64,
    pub running: u64,
    pub retrying: u64,
    pub dead: u64,
    pub finished: u64,
    /// Up to 2,000 are counted.
    pub runs: u64,
    pub finished_runs: u64,
    pub schedules: u64,
    /// Held locks and semaphores.
    pub locks: u64,
}

impl From<ShardStatus> for ShardView {
    fn from(status: ShardStatus) -> ShardView {
        let Left { scheduled, pending, running, retrying, dead, finished, runs, finished_runs, schedules, locks } =
            status.left;
        ShardView {
            id: status.id.to_string(),
            url: status.url,
            state: status.state,
            moved_to: status.moved_to,
            trouble: status.trouble,
            workers: status.workers,
            scheduled,
            pending,
            running,
            retrying,
            dead,
            finished,
            runs,
            finished_runs,
            schedules,
            locks,
        }
    }
}

impl ShardView {
    /// Jobs that wait there for a worker.
    pub fn waits(&self) -> u64 {
        self.pending + self.retrying
    }

    /// Jobs wait there, and no worker is registered with it.
    pub fn is_unclaimed(&self) -> bool {
        self.trouble.is_none() && self.workers == 0 && self.waits() > 0
    }

    /// What a drain has to wait for or to carry: all that is kept, or only what will still be done.
    pub fn left(&self, carries: bool) -> u64 {
        let work = self.scheduled + self.pending + self.running + self.retrying + self.runs;
        if carries { work + self.dead + self.finished + self.finished_runs + self.schedules } else { work }
    }
}

type F = Field<ShardView>;

fn state_word(word: &str) -> Option<&'static str> {
    ["joining", "active", "draining", "removed"].into_iter().find(|state| *state == word)
}

/// What can be asked of a shard.
pub const SHARD_FIELDS: &[Field<ShardView>] = &[
    F::new("shard", Kind::Text, |shard, _, _| shard.id.as_str().into()),
    F::new(
        "state",
        Kind::Choice(state_word, "state of a shard", "joining, active, draining, removed"),
        |shard, _, _| shard.state.as_str().into(),
    ),
    F::new("url", Kind::Text, |shard, _, _| shard.url.as_str().into()),
    F::new("trouble", Kind::Text, |shard, _, _| shard.trouble.as_deref().into()),
    F::new("workers", Kind::Number, |shard, _, _| number(shard.workers)),
    F::new("pending", Kind::Number, |shard, _, _| number(shard.pending)),
    F::new("running", Kind::Number, |shard, _, _| number(shard.running)),
    F::new("retrying", Kind::Number, |shard, _, _| number(shard.retrying)),
    F::new("scheduled", Kind::Number, |shard, _, _| number(shard.scheduled)),
    F::new("dead", Kind::Number, |shard, _, _| number(shard.dead)),
    F::new("runs", Kind::Number, |shard, _, _| number(shard.runs)),
];

/// Where what lies on one of these shards is carried to, if there is any other.
pub fn carried_to(list: &ShardList, id: u16) -> Option<u16> {
    let begun = list.shards.iter().find(|shard| shard.id == id).and_then(|shard| shard.moved_to);
    let fit = |shard: &&ShardStatus| shard.id != id && shard.state == "active" && shard.trouble.is_none();
    let least = list.shards.iter().filter(fit).min_by_key(|shard| shard.left.work());
    begun.or(least.map(|shard| shard.id))
}

/// How far a drain has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    pub carried: Carried,
    pub left: Left,
}

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(500);

impl Client {
    /// The shards and their verbs.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] for a store that has none.
    pub fn shard_verbs(&self) -> Result<&dyn Shards> {
        let none = || ApiError::Conflict(format!("{} is one store, without shards", self.store().describe()));
        self.store().shards().ok_or_else(none)
    }

    /// # Errors
    /// [`ApiError::Conflict`] for a store that has none; the store's.
    pub async fn shards(&self) -> Result<ShardList> {
        Ok(self.shard_verbs()?.list().await?)
    }

    /// Where what lies on a shard is carried to: where that was begun, else where the least waits.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] where no other shard is active; the store's.
    pub async fn shard_to_carry_to(&self, id: u16) -> Result<u16> {
        let none = || ApiError::Conflict(format!("there is no other active shard for what lies on shard {id}"));
        carried_to(&self.shards().await?, id).ok_or_else(none)
    }

    /// Lets a shard run empty: what will still be done is waited for, and with `into` what can be carried is
    /// carried there. `told` hears how far it has come.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] for a store that has none; the store's, when it stays away.
    pub async fn drain_shard(&self, id: u16, into: Option<u16>, mut told: impl FnMut(&Drained)) -> Result<Drained> {
        let shards = self.shard_verbs()?;
        self.patiently(|| shards.drain(id, into)).await?;
        let mut drained = Drained::default();
        loop {
            let mut step = Carried::default();
            if into.is_some() {
                step = self.patiently(|| shards.carry(id)).await?;
                drained.carried.jobs += step.jobs;
                drained.carried.schedules += step.schedules;
                drained.carried.runs += step.runs;
                (drained.carried.stuck, drained.carried.held) = (step.stuck, step.held);
            }
            drained.left = self.patiently(|| shards.left(id)).await?;
            told(&drained);
            let is_over = match into {
                // Locks stay until they are released, and runs that are too large until they are trimmed.
                Some(_) => {
                    let Left { finished_runs, locks, .. } = drained.left;
                    drained.left.all() == finished_runs + locks && finished_runs <= step.stuck
                }
                None => drained.left.work() == 0,
            };
            if step.is_nothing() {
                if is_over {
                    return Ok(drained);
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}
