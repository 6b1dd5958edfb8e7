//! A store that fails on purpose, in the two ways in which every real one does: it was not done
//! ("unavailable"), or it was done and the answer was lost ("unknown"). For tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::contract::*;
use crate::domain::{Entropy, Event, JobId, Json, Name, QueueSettings, QueueStats, RunId, WorkerId};

/// How often it fails, each 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Not done.
    pub unavailable: f64,
    /// Done, and then the answer is lost.
    pub lost_answer: f64,
}

pub struct FaultStore {
    inner: Arc<dyn Store>,
    entropy: Arc<dyn Entropy>,
    faults: Faults,
    active: AtomicBool,
    fired: AtomicU64,
}

impl FaultStore {
    pub fn new(inner: Arc<dyn Store>, faults: Faults, entropy: Arc<dyn Entropy>) -> Self {
        FaultStore { inner, entropy, faults, active: AtomicBool::new(true), fired: AtomicU64::new(0) }
    }

    /// Faults happen only while it is active.
    pub fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::SeqCst);
    }

    /// How many calls were made to fail.
    pub fn fired(&self) -> u64 {
        self.fired.load(Ordering::SeqCst)
    }

    fn strikes(&self, chance: f64) -> bool {
        let strikes = self.active.load(Ordering::SeqCst) && self.entropy.fraction() < chance;
        if strikes {
            self.fired.fetch_add(1, Ordering::SeqCst);
        }
        strikes
    }

    async fn through<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        if self.strikes(self.faults.unavailable) {
            return Err(StoreError::Unavailable("injected: not done".to_owned()));
        }
        let answer = call.await;
        if self.strikes(self.faults.lost_answer) {
            return Err(StoreError::Unknown("injected: the answer was lost".to_owned()));
        }
        answer
    }
}

macro_rules! delegate {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for FaultStore {
            fn describe(&self) -> String {
                self.inner.describe()
            }

            fn hints(&self) -> watch::Receiver<u64> {
                self.inner.hints()
            }

            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                self.through(self.inner.$name($($argument),*)).await
            })*
        }
    };
}

delegate! {
    enqueue(batch: &Enqueue) -> EnqueueAnswer;
    exchange(exchange: &Exchange) -> Exchanged;
    heartbeat(beat: &Heartbeat) -> Beat;
    farewell(worker: WorkerId) -> ();
    overdue(parked: Duration, limit: usize) -> Overdue;
    tick(limit: usize) -> Ticked;
    take_dirty(limit: usize, hold: Duration) -> Vec<RunWork>;
    trim(retention: Retention, limit: usize) -> Trimmed;
    get(ids: &[JobId]) -> Vec<Option<Stored>>;
    find(part: &str, limit: usize) -> Vec<JobId>;
    list(query: &ListQuery) -> Page<Stored>;
    stats() -> Vec<QueueStats>;
    queues() -> Vec<(Name, QueueSettings)>;
    set_queue(queue: &Name, settings: &QueueSettings) -> ();
    workers() -> Vec<WorkerStatus>;
    run(id: RunId) -> Option<RunRecord>;
    find_runs(part: &str, limit: usize) -> Vec<RunId>;
    runs(query: &RunQuery) -> Page<RunRecord>;
    values(run: RunId, keys: &[String]) -> Vec<Option<Json>>;
    history(run: RunId) -> Vec<Event>;
    define(definitions: &[Definition]) -> ();
    definition(hash: &str) -> Option<Definition>;
    definitions(kind: &str) -> Vec<Definition>;
    events(after: Option<&Cursor>, limit: usize) -> (Vec<Event>, Cursor);
    health() -> Health;
    verify() -> Vec<String>;
}
