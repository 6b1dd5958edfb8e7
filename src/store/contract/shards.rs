//! What an operator may do to the shards of a store that has several.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Result;
use crate::domain::Name;
use crate::store::sharded::Map;

/// A shard, for those who look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    pub id: u16,
    /// With the password hidden.
    pub url: String,
    /// `joining`, `active`, `draining` or `removed`.
    pub state: String,
    /// Where what lies on it has gone, or is going.
    pub moved_to: Option<u16>,
    /// Why it does not answer now.
    pub trouble: Option<String>,
    /// Workers that are registered with it.
    pub workers: u64,
    pub left: Left,
}

/// What lies on a shard. While it is away, as it was last known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Scheduled jobs, and those that wait for their parents.
    pub scheduled: u64,
    pub pending: u64,
    pub running: u64,
    pub retrying: u64,
    pub dead: u64,
    /// Completed and cancelled jobs that are still kept.
    pub finished: u64,
    /// Runs that are under way, as far as one page shows, and groups of runs that are on their way.
    pub runs: u64,
    /// Runs that have ended and are still kept, as far as one page shows.
    pub finished_runs: u64,
    pub schedules: u64,
    /// Locks that are held there, as far as one page shows. They stay until they are released.
    pub locks: u64,
}

impl Left {
    /// What will still be done.
    pub fn work(&self) -> u64 {
        self.scheduled + self.pending + self.running + self.retrying + self.runs
    }

    /// Everything.
    pub fn all(&self) -> u64 {
        self.work() + self.dead + self.finished + self.finished_runs + self.schedules + self.locks
    }
}

/// The shards of a store, and how new work is spread over them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardList {
    /// Rises with every change of the map.
    pub epoch: u64,
    pub strategy: String,
    pub shards: Vec<ShardStatus>,
}

/// All that is said of why a shard is away to those who are not to know where it is.
pub const OUT_OF_REACH: &str = "the server cannot reach it";

impl ShardList {
    /// Without the URLs, and without what a shard's errors tell of them.
    #[must_use]
    pub fn without_places(mut self) -> ShardList {
        for shard in &mut self.shards {
            shard.url.clear();
            shard.trouble = shard.trouble.take().map(|_| OUT_OF_REACH.to_owned());
        }
        self
    }
}

/// What one step of carrying a shard over has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    pub jobs: u64,
    pub schedules: u64,
    #[serde(default)]
    pub runs: u64,
    /// Runs that cannot be carried: they are too large for one step, or cannot be read.
    #[serde(default)]
    pub stuck: u64,
    /// Jobs that wait for others, and stay until none of those they go with runs.
    #[serde(default)]
    pub held: u64,
}

impl Carried {
    /// Nothing has gone over by it.
    pub fn is_nothing(&self) -> bool {
        self.jobs == 0 && self.schedules == 0 && self.runs == 0
    }
}

/// What somebody who makes ids must know of shards that they cannot reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Without the URLs.
    pub map: Map,
    /// Where each schedule lies, as seen last.
    pub schedules: BTreeMap<Name, u16>,
    /// Shards that do not answer; each with a word that does not say where it is.
    pub away: Vec<(u16, String)>,
    /// What waits on each.
    pub depths: BTreeMap<u16, u64>,
    /// With which one to begin where any will do: another for each who asks.
    pub turn: u32,
}

/// One of the verbs, as a message: see [`Shards`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShardVerb {
    List,
    Add(String),
    AddBeside,
    Drain(u16, Option<u16>),
    Left(u16),
    Carry(u16),
    Remove(u16),
}

/// What a verb answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShardAnswer {
    List(ShardList),
    Added(u16),
    Done,
    Left(Left),
    Carried(Carried),
}

impl ShardVerb {
    /// Does it.
    ///
    /// # Errors
    /// The verb's own.
    pub async fn on(&self, shards: &dyn Shards) -> Result<ShardAnswer> {
        Ok(match self {
            ShardVerb::List => ShardAnswer::List(shards.list().await?),
            ShardVerb::Add(url) => ShardAnswer::Added(shards.add(url).await?),
            ShardVerb::AddBeside => ShardAnswer::Added(shards.add_beside().await?),
            ShardVerb::Drain(id, into) => {
                shards.drain(*id, *into).await?;
                ShardAnswer::Done
            }
            ShardVerb::Left(id) => ShardAnswer::Left(shards.left(*id).await?),
            ShardVerb::Carry(id) => ShardAnswer::Carried(shards.carry(*id).await?),
            ShardVerb::Remove(id) => {
                shards.remove(*id).await?;
                ShardAnswer::Done
            }
        })
    }
}

/// The verbs. Each change is a new map that every process follows within seconds; one that is cut in
/// between is said again and goes on.
#[async_trait]
pub trait Shards: Send + Sync {
    async fn list(&self) -> Result<ShardList>;

    /// Shards that do not answer now, each with the reason.
    fn away(&self) -> Vec<(u16, String)>;

    /// Adds an empty store as a shard; its number. Takes some seconds: everybody knows of it before
    /// anything is born on it.
    ///
    /// # Errors
    /// [`StoreError::Refused`](super::StoreError::Refused) for a store that is in use, or when a queue's
    /// limit cannot be divided among so many.
    async fn add(&self, url: &str) -> Result<u16>;

    /// Adds a key space on one of the servers in use, each in turn, as a shard; its number.
    ///
    /// # Errors
    /// As [`Shards::add`]; [`StoreError::Refused`](super::StoreError::Refused) for a PostgreSQL, where each
    /// shard needs a database that somebody has made.
    async fn add_beside(&self) -> Result<u16>;

    /// Lets nothing new be born on a shard. `into`: where its jobs will be carried.
    ///
    /// # Errors
    /// [`StoreError::Refused`](super::StoreError::Refused) for the last active shard, and for one that is
    /// not active.
    async fn drain(&self, id: u16, into: Option<u16>) -> Result<()>;

    /// What is left on a shard.
    async fn left(&self, id: u16) -> Result<Left>;

    /// Carries a batch of what lies on a draining shard to where it goes. Nothing more to carry now:
    /// [`Carried::is_nothing`].
    async fn carry(&self, id: u16) -> Result<Carried>;

    /// Takes an empty shard out of the map.
    ///
    /// # Errors
    /// [`StoreError::Refused`](super::StoreError::Refused) while anything is left on it.
    async fn remove(&self, id: u16) -> Result<()>;
}
