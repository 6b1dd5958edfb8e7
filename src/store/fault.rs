//! A store that fails on purpose, in the ways in which every real one does: a call was not done
//! ("unavailable"), or it was done and the answer was lost ("unknown"), or the caller died before or
//! after it. For tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::contract::*;
use crate::domain::{
    Entropy, Event, HolderId, JobId, Json, Ms, Name, QueueSettings, QueueStats, RunId, Shard, WorkerId,
};

/// What goes wrong around a call.
pub trait Saboteur: Send + Sync + 'static {
    /// # Errors
    /// The call is not done.
    fn before(&self, _is_commit: bool) -> Result<()> {
        Ok(())
    }

    /// # Errors
    /// The call was done, and its answer is lost.
    fn after(&self, _is_commit: bool) -> Result<()> {
        Ok(())
    }

    /// How long a request, or its answer, is on its way: so that calls overtake each other.
    fn travel(&self) -> Duration {
        Duration::ZERO
    }
}

/// Calls fail at random.
pub struct RandomFaults {
    entropy: Arc<dyn Entropy>,
    /// Chance of "not done", 0 to 1.
    unavailable: f64,
    /// Chance of "done, and then the answer is lost".
    lost_answer: f64,
    active: AtomicBool,
    fired: AtomicU64,
}

impl RandomFaults {
    pub fn new(unavailable: f64, lost_answer: f64, entropy: Arc<dyn Entropy>) -> Self {
        RandomFaults { entropy, unavailable, lost_answer, active: AtomicBool::new(true), fired: AtomicU64::new(0) }
    }

    /// Faults happen only while they are active.
    pub fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::SeqCst);
    }

    /// How many calls were made to fail.
    pub fn fired(&self) -> u64 {
        self.fired.load(Ordering::SeqCst)
    }

    fn is_active(&self) -> bool {
        self.active.load(Ordering::SeqCst)
    }

    fn strikes(&self, chance: f64) -> bool {
        let strikes = self.is_active() && self.entropy.fraction() < chance;
        if strikes {
            self.fired.fetch_add(1, Ordering::SeqCst);
        }
        strikes
    }
}

impl Saboteur for RandomFaults {
    fn before(&self, _: bool) -> Result<()> {
        match self.strikes(self.unavailable) {
            true => Err(StoreError::Unavailable("injected: not done".to_owned())),
            false => Ok(()),
        }
    }

    fn after(&self, _: bool) -> Result<()> {
        match self.strikes(self.lost_answer) {
            true => Err(StoreError::Unknown("injected: the answer was lost".to_owned())),
            false => Ok(()),
        }
    }

    /// Mostly a few milliseconds, now and then seconds.
    fn travel(&self) -> Duration {
        let most = if self.is_active() && self.entropy.fraction() < 0.05 { 3_000.0 } else { 10.0 };
        Duration::from_millis((self.entropy.fraction() * most) as u64)
    }
}

/// The process dies at its n-th commit: before it is sent, or when it has been answered.
pub struct Death {
    commits: AtomicU64,
    nth: u64,
    after: bool,
    /// Does not come back.
    die: Box<dyn Fn() + Send + Sync>,
}

impl Death {
    /// Reads `kill-before:3` or `kill-after:3`.
    pub fn parse(text: &str, die: impl Fn() + Send + Sync + 'static) -> Option<Death> {
        let (when, nth) = text.split_once(':')?;
        let after = match when {
            "kill-before" => false,
            "kill-after" => true,
            _ => return None,
        };
        Some(Death { commits: AtomicU64::new(0), nth: nth.parse().ok()?, after, die: Box::new(die) })
    }
}

impl Saboteur for Death {
    fn before(&self, is_commit: bool) -> Result<()> {
        if is_commit && self.commits.fetch_add(1, Ordering::SeqCst) + 1 == self.nth && !self.after {
            (self.die)();
        }
        Ok(())
    }

    fn after(&self, is_commit: bool) -> Result<()> {
        if is_commit && self.after && self.commits.load(Ordering::SeqCst) >= self.nth {
            (self.die)();
        }
        Ok(())
    }
}

pub struct FaultStore {
    inner: Arc<dyn Store>,
    saboteur: Arc<dyn Saboteur>,
}

impl FaultStore {
    pub fn new(inner: Arc<dyn Store>, saboteur: Arc<dyn Saboteur>) -> Self {
        FaultStore { inner, saboteur }
    }

    async fn travel(&self) {
        let time = self.saboteur.travel();
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
    }

    async fn through<T>(&self, is_commit: bool, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.saboteur.before(is_commit)?;
        self.travel().await;
        let answer = call.await;
        self.travel().await;
        self.saboteur.after(is_commit)?;
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

            fn claim_batch(&self) -> usize {
                self.inner.claim_batch()
            }

            fn hints(&self) -> watch::Receiver<u64> {
                self.inner.hints()
            }

            fn birthplace(&self, near: Near<'_>) -> Shard {
                self.inner.birthplace(near)
            }

            fn shards(&self) -> Option<&dyn Shards> {
                self.inner.shards()
            }

            async fn enqueue(&self, batch: &Enqueue) -> Result<EnqueueAnswer> {
                self.through(true, self.inner.enqueue(batch)).await
            }

            fn stands_by(&self) -> bool {
                self.inner.stands_by()
            }

            async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged> {
                self.through(!exchange.commits.is_empty(), self.inner.exchange(exchange)).await
            }

            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                self.through(false, self.inner.$name($($argument),*)).await
            })*
        }
    };
}

delegate! {
    stand_by(claim: &Claim, since: Ms, at_most: Duration) -> Option<Exchanged>;
    heartbeat(beat: &Heartbeat) -> Beat;
    farewell(worker: WorkerId) -> ();
    overdue(parked: Duration, limit: usize) -> Overdue;
    tick(limit: usize) -> Ticked;
    take_dirty(limit: usize, hold: Duration) -> Vec<RunWork>;
    trim(retention: Retention, limit: usize) -> Trimmed;
    ask(ids: &[JobId]) -> Vec<bool>;
    asked(worker: WorkerId, limit: usize) -> Vec<Stored>;
    note(notes: &[Note]) -> Vec<bool>;
    log(id: JobId, after: u64) -> JobLog;
    freed(limit: usize) -> Vec<Freed>;
    permits(requests: &[PermitRequest]) -> Vec<Vec<Duration>>;
    inform(facts: &[(RunId, Vec<u8>)]) -> Vec<bool>;
    schedules() -> (Ms, Vec<ScheduleRecord>);
    set_schedule(commit: &ScheduleCommit) -> Option<EnqueueAnswer>;
    drain(worker: WorkerId) -> bool;
    undefine(kind: &str, name: &Name) -> bool;
    document(name: &str) -> Option<Document>;
    set_document(change: &DocumentChange) -> DocumentSet;
    documents(prefix: &str, after: Option<&str>, limit: usize) -> Vec<Document>;
    acquire(request: &LockRequest) -> Acquired;
    extend(name: &Name, holder: HolderId, ttl: Duration) -> Option<Grant>;
    release(name: &Name, holder: HolderId) -> bool;
    locks(after: Option<&Name>, limit: usize) -> (Ms, Vec<LockRecord>);
    break_lock(name: &Name, holder: Option<HolderId>) -> Vec<LockHolder>;
    get(ids: &[JobId]) -> Vec<Option<Stored>>;
    holders(keys: &[String]) -> Vec<Option<Holder>>;
    whole_run(id: RunId) -> Option<WholeRun>;
    take_runs(take: &TakeRuns) -> bool;
    put_runs(put: &PutRuns) -> bool;
    keep_log(id: JobId, rev: u32, log: &JobLog) -> bool;
    find(part: &str, limit: usize) -> Vec<JobId>;
    newest(before: Option<JobId>, limit: usize) -> Newest;
    list(query: &ListQuery) -> Page<Stored>;
    stats() -> Vec<QueueStats>;
    queues() -> Vec<(Name, QueueSettings)>;
    set_queue(queue: &Name, settings: &QueueSettings) -> ();
    workers() -> Vec<WorkerStatus>;
    run(id: RunId) -> Option<RunRecord>;
    run_work(id: RunId) -> Option<RunWork>;
    find_runs(part: &str, limit: usize) -> Vec<RunId>;
    runs(query: &RunQuery) -> Page<RunRecord>;
    values(run: RunId, keys: &[String]) -> Vec<Option<Json>>;
    history(run: RunId, after: Option<&Cursor>, limit: usize) -> (Vec<Event>, Cursor);
    define(definitions: &[Definition]) -> ();
    definition(hash: &str) -> Option<Definition>;
    definitions(kind: &str) -> Vec<Definition>;
    events(after: Option<&Cursor>, limit: usize) -> (Vec<Event>, Cursor);
    since(at: Ms) -> Cursor;
    tail(records: usize) -> Option<Cursor>;
    news(after: &Cursor, limit: usize, wait: Duration) -> (Vec<Event>, Cursor);
    placement() -> Option<Placement>;
    health() -> Health;
    verify() -> Vec<String>;
}
