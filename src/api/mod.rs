//! The operator's verbs and the wire types. A [`Client`] speaks for one store; every face of goflow
//! goes through it, so that what one can do the others can. Decides nothing about states: that is
//! `domain`. Prints nothing.

pub mod advise;
pub mod apply;
pub mod attention;
pub mod codes;
pub mod enqueue;
pub mod events;
pub mod filter;
pub mod gather;
pub mod held_up;
pub mod jobs;
pub mod live;
pub mod locks;
pub mod logs;
pub mod metrics;
mod newest;
mod once;
pub mod pages;
pub mod queues;
pub mod remote;
pub mod run_list;
pub mod runs;
pub mod schedules;
pub mod shards;
pub mod steer;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod told;
mod traces;
pub mod verbs;
pub mod waits;
pub mod wanted;
pub mod webhooks;
pub mod wire;
pub mod workers;

use std::sync::Arc;

use crate::domain::trace::{Spans, Trace};
use crate::domain::{Clock, Entropy, JobId, Name, ProducerId, RunId, Shard};
use crate::runs::Runs;
use crate::store::{Near, Store};

pub use crate::store::{Cursor, NewJob, StoreError, Stored};
pub use events::EventView;
pub use filter::Filter;
pub use once::Once;
pub use runs::RunView;
pub use schedules::{ScheduleView, Triggered};
pub use verbs::Verb;
pub use webhooks::WebhookView;
pub use wire::{JobView, QueueView};
pub use workers::WorkerView;

/// Why a verb did not do what was asked, by what the operator can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing has this id.
    #[error("no {noun} has the id `{id}`")]
    NotFound { noun: &'static str, id: String },
    /// Several ids contain this part; some of them.
    #[error("`{part}` is part of more than one {noun} id: {}", ids.join(", "))]
    Ambiguous { noun: &'static str, part: String, ids: Vec<String> },
    #[error("no queue has the name `{0}`")]
    NoQueue(Name),
    /// No definition of this kind has this name; the nearest that there is.
    #[error("there is no {kind} `{name}`")]
    NoDefinition { kind: &'static str, name: Name, nearest: Option<String> },
    #[error("no schedule has the name `{0}`")]
    NoSchedule(Name),
    /// A live job holds the unique key.
    #[error("the unique key `{key}` is held by job {holder}")]
    KeyHeld { key: String, holder: JobId },
    /// A cursor that this store did not give.
    #[error("`{0}` is not a cursor of this list: leave it out to begin anew")]
    BadCursor(String),
    /// The state does not allow the verb.
    #[error("{0}")]
    Conflict(String),
}

pub type Result<T, E = ApiError> = std::result::Result<T, E>;

/// The operator's verbs over one store.
#[derive(Clone)]
pub struct Client {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// Takes in what it tells them, at the time that it is: `clock` may stand still for a request that comes
    /// again.
    runs: Arc<Runs>,
    now: Arc<dyn Clock>,
    /// Takes the spans of what is enqueued and started.
    spans: Option<Arc<dyn Spans>>,
    /// What it enqueues and starts belongs to this trace, unless it says another.
    trace: Option<Trace>,
    /// It speaks for a request that may come again.
    once: Option<Once>,
}

impl Client {
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Client {
        let runs = Arc::new(Runs::new(store.clone(), None));
        Client { store, now: clock.clone(), clock, entropy, runs, spans: None, trace: None, once: None }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The store's URL, with the password hidden: for people.
    pub fn describe(&self) -> String {
        self.store.describe()
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.entropy
    }

    /// A fresh id for a job without keys and parents: it may lie anywhere.
    pub fn job_id(&self) -> JobId {
        self.job_id_near(Near::Nothing)
    }

    /// A fresh id for a job that is to lie beside something.
    pub fn job_id_near(&self, near: Near<'_>) -> JobId {
        JobId::from_parts(self.clock.now(), self.birthplace(near), self.entropy.next())
    }

    /// A fresh id for a run, beside the others of its key if it has one.
    pub fn run_id(&self, key: Option<&str>) -> RunId {
        let near = key.map_or(Near::Nothing, Near::Key);
        RunId::from_parts(self.clock.now(), self.birthplace(near), self.entropy.next())
    }

    pub fn producer_id(&self) -> ProducerId {
        ProducerId::from_parts(self.clock.now(), Shard::default(), self.entropy.next())
    }
}
