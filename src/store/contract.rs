//! The store contract: what the engine and the operator's verbs may ask of any database, and what
//! they may rely on. It knows records, places, leases and inboxes; it does not know what a workflow
//! is or when a job deserves a retry: that is decided in `domain` and `workflow` and arrives here as
//! moves to carry out.
//!
//! # What every backend keeps
//!
//! 1. **Durable.** A call that answers `Ok` has happened as durably as [`Health::durability`] says.
//! 2. **Fenced.** A claim gives a job an epoch that is higher than every earlier one on the shard.
//!    Membership in the one running structure (id → worker, epoch, expiry) is the lease. A move that
//!    names another epoch changes nothing and is answered [`Moved::Stale`].
//! 3. **Idempotent.** Sending an [`Enqueue`] again with the same producer and sequence answers as the
//!    first time and adds nothing. Sending an exchange again finds its moves stale; claims whose
//!    answer was lost are found by the next [`Beat::held`].
//! 4. **Atomic.** Each [`Commit`], each new job and each new run happens whole or not at all. The
//!    items of one call are independent of each other and are carried out in order.
//! 5. **The store's clock** judges leases, due times and timers. Callers send delays.
//! 6. **Nothing is proportional to what waits**, except [`Store::verify`] and [`Store::find`].
//!
//! # The line of a queue
//!
//! A claim takes, from each queue in the order given and until it has enough: higher priority first,
//! within a priority first come first served. [`To::Front`] puts a job before all others of its
//! priority (the last one put there is the first one out). A job becomes pending when it is enqueued
//! without a delay, when its delay is over (in the order of due time), or by a move. Suspects, that
//! is jobs whose worker died, are given only to a claim that says `alone`, one at a time and before
//! anything else; then nothing else comes with it.
//!
//! # Costs
//!
//! | call | memory | SQLite | Redis | PostgreSQL |
//! |---|---|---|---|---|
//! | `enqueue(n)` | O(n log w) | a share of one commit | 1 script per 64 items | 1 transaction |
//! | `exchange(m commits, n claims)` | O((m+n) log w) | a share of one commit | 1 script | 1 transaction |
//! | `heartbeat` | O(r) | a share of one commit | 1 script, O(r) | 1 transaction |
//! | `overdue` | O(r) | 1 read, O(r) | 1 script, O(r) | 1 read, O(r) |
//! | `tick`, `take_dirty` | O(log w) | a share of one commit | 1 script | 1 transaction |
//! | `get`, `run`, `values` | O(1) | 1 read | 1 command | 1 read |
//! | `list` | O(budget) | 1 indexed read | 2 commands | 1 indexed read |
//! | `stats` | O(queues) | 1 read of counters | O(queues + r) | 1 read of counters |
//!
//! w = what waits, r = what runs (bounded by workers × (concurrency + what they lease ahead)).

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::{
    Epoch, Event, Job, JobId, Json, Ms, Name, Place, ProducerId, QueueSettings, QueueStats, RunId, RunState, To,
    WorkerId, event::EventKind,
};

/// Why a call failed, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Did not happen. Trying again later is right: the server is away, loading, or busy.
    #[error("{0}")]
    Unavailable(String),
    /// May or may not have happened: a time-out or a cut connection. Trying again is safe, because
    /// every call is idempotent.
    #[error("{0}")]
    Unknown(String),
    /// No room: new work is refused, settles still go through.
    #[error("{0}")]
    Full(String),
    /// Will not work until somebody changes something: credentials, permissions, an evicting policy.
    #[error("{0}")]
    Refused(String),
    /// The store was written by a newer goflow.
    #[error("the store has schema {found}, this goflow knows up to {known}: use a newer goflow")]
    TooNew { found: u32, known: u32 },
    /// The store's data cannot be read as what it must be. Nothing was changed.
    #[error("{0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether the same call may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::Full(_))
    }
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// When a new job may first run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Now,
    /// So long after the store's now.
    After(Duration),
    /// At this time on the store's clock; a past time means now.
    At(Ms),
}

/// A job to enqueue.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    pub job: Job,
    pub start: Start,
}

/// A timer of a run: when it is due, `fact` is put into the run's inbox. One timer a (run, key);
/// setting it again replaces it.
#[derive(Clone, Debug, PartialEq)]
pub struct Timer {
    pub key: String,
    pub delay: Duration,
    pub fact: Vec<u8>,
}

/// A run's header as the store sees it: what indexes need, and a body it never looks into.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    pub id: RunId,
    pub workflow: Name,
    pub state: RunState,
    /// Rises with every advance; a new run has 1.
    pub rev: u64,
    pub body: Vec<u8>,
}

/// Everything that one advance of a run changes, committed as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Effects {
    pub record: RunRecord,
    /// Steps to do now, in this order.
    pub jobs: Vec<Job>,
    /// Immutable values of the run, by key; a key is written once.
    pub values: Vec<(String, Json)>,
    pub timers: Vec<Timer>,
    /// Keys of timers that are no longer wanted.
    pub drop_timers: Vec<String>,
    /// Appended to the run's own history and to the event log.
    pub events: Vec<Event>,
}

/// A batch of new work. `producer` and `sequence` make it idempotent: a producer numbers its
/// batches upwards and has one in flight; the store remembers the last number and its answer for an
/// hour ([`crate::domain::limits::PRODUCER_MEMORY`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Enqueue {
    pub producer: ProducerId,
    pub sequence: u64,
    /// At most [`crate::domain::limits::ENQUEUE_BATCH`] jobs and runs together.
    pub jobs: Vec<NewJob>,
    /// Each run's record has `rev` 1 and brings its first effects.
    pub runs: Vec<Effects>,
}

/// What became of one new job or run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    Created,
    /// A job or run with this id is already kept: nothing was added.
    Exists,
    /// A live job holds the unique key.
    Conflict(JobId),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnqueueAnswer {
    pub jobs: Vec<Enqueued>,
    pub runs: Vec<Enqueued>,
}

/// By what right a move is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The mover holds the lease with this epoch. Good until somebody takes the lease away.
    Lease(Epoch),
    /// The lease with this epoch has lapsed: its worker was silent for too long, or the job ran past
    /// its own expiry.
    Lapsed(Epoch),
    /// Nobody runs it: it is still in this place, with this `rev`.
    Idle(Place, u32),
}

/// One job's way from where it is to where it goes. The store writes the record as given, moves the
/// job, frees or takes its unique key, and logs the event.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    pub expect: Expect,
    pub to: To,
    /// The record from now on; its `queue` is the one the job is in.
    pub job: Job,
    pub event: EventKind,
}

impl NewJob {
    /// What the event log keeps of its enqueue.
    pub fn log_entry(&self, start: EventKind) -> Event {
        entry(start, &self.job)
    }
}

impl Move {
    /// What the event log keeps of it when it is applied.
    pub fn log_entry(&self) -> Event {
        let attempt = match self.to.place() {
            Some(place) => self.job.attempt(place.state()),
            None => self.job.failures,
        };
        let data = match self.event {
            EventKind::JobRetried | EventKind::JobDead => self.job.error.as_ref().map(|error| error.class.clone()),
            _ => None,
        };
        Event { worker: self.job.worker, attempt: Some(attempt), data, ..entry(self.event, &self.job) }
    }
}

fn entry(kind: EventKind, job: &Job) -> Event {
    Event {
        job: Some(job.id),
        run: job.link.as_ref().map(|link| link.run),
        step: job.link.as_ref().map(|link| link.step.clone()),
        queue: Some(job.queue.clone()),
        ..Event::new(kind)
    }
}

/// What became of one move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    Applied,
    /// The right did not hold (any more): nothing was changed.
    Stale,
    /// The job was to live again, but a live job holds its unique key: nothing was changed.
    Conflict(JobId),
}

/// The run's part of a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCommit {
    pub run: RunId,
    /// For each move of the commit, in order, what the run is to learn if the move is applied.
    pub facts: Vec<Vec<u8>>,
    /// The advance that the caller computed from the run it knows and from `facts`.
    pub advance: Option<Advance>,
}

/// An advance rides on a commit if the run still is what the caller took it for.
#[derive(Clone, Debug, PartialEq)]
pub struct Advance {
    /// The run's `rev` from which the effects were computed.
    pub from_rev: u64,
    /// Inbox entries up to and with this one were taken into account, and leave the inbox.
    pub drained: Option<u64>,
    pub effects: Effects,
}

/// One atomic item of an exchange.
///
/// If every move applies, and the run still has `from_rev`, then moves and effects are committed
/// together ([`RunAnswer::Advanced`]; what else waits in the inbox waits on, and the run stays dirty
/// for it). Otherwise the moves that apply are
/// committed, their facts go to the run's inbox, and the run is marked dirty
/// ([`RunAnswer::Inboxed`]); without any such fact nothing happens ([`RunAnswer::Contended`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    pub moves: Vec<Move>,
    pub run: Option<RunCommit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAnswer {
    /// The commit had no part for a run.
    None,
    Advanced {
        /// The inbox still holds facts that were not drained: the run is dirty, and may be taken at once.
        more: bool,
    },
    Inboxed,
    /// The run has moved on and no fact was to be kept: read it again.
    Contended,
    /// There is no such run (any more); the moves were applied, the facts dropped.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// One answer a move, in order.
    pub moves: Vec<Moved>,
    pub run: RunAnswer,
}

/// A wish for work.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub worker: WorkerId,
    /// In order of preference. Paused and unknown queues give nothing.
    pub queues: Vec<Name>,
    /// At most [`crate::domain::limits::CLAIM_BATCH`].
    pub want: usize,
    /// The worker holds no lease at all, and so may be given a suspect.
    pub alone: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchange {
    pub commits: Vec<Commit>,
    pub claim: Option<Claim>,
}

/// A leased job. `job` is the record as it was when it waited; the worker notes the lease in its copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    pub job: Job,
    pub epoch: Epoch,
    /// The run the job is a step of, as it is at this moment.
    pub run: Option<RunRecord>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchanged {
    /// The store's clock.
    pub now: Ms,
    pub commits: Vec<Committed>,
    pub claimed: Vec<Claimed>,
    /// Suspects wait in the queues asked for, and were not given because the claim was not `alone`.
    pub suspects: bool,
    /// Runs wait for [`Store::take_dirty`].
    pub dirty: bool,
    /// When the next scheduled or retrying job of the queues asked for, or the next timer of any
    /// run, is due.
    pub next_due: Option<Ms>,
}

/// What a worker tells about itself.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct WorkerInfo {
    pub id: WorkerId,
    pub host: String,
    pub pid: u32,
    pub version: String,
    pub concurrency: u32,
    /// Empty means every queue.
    pub queues: Vec<Name>,
    /// The job types it handles: parked jobs of these types come back to the head of their lines.
    pub types: Vec<Name>,
    pub started_at: Ms,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    pub info: WorkerInfo,
    /// The worker's leases hold for this long from the store's now.
    pub lease: Duration,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beat {
    pub now: Ms,
    /// Every lease of this worker. What the worker does not know of, it gives back; what it runs and
    /// is not here, it has lost.
    pub held: Vec<(JobId, Epoch)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStatus {
    pub info: WorkerInfo,
    pub expires_at: Ms,
    /// How many jobs it holds leases on.
    pub running: u64,
}

/// A lease, for those who look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub worker: WorkerId,
    pub epoch: Epoch,
    /// When it was claimed, by the store's clock.
    pub since: Ms,
}

/// A job as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub job: Job,
    pub place: Place,
    /// Scheduled, retrying: when it is due. Otherwise when it came to this place (0 where the
    /// backend does not keep that, as in the line of pending jobs).
    pub at: Ms,
    /// Only while running.
    pub lease: Option<Lease>,
}

/// What reapers must look after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overdue {
    pub now: Ms,
    /// Running, with a lapsed lease.
    pub lapsed: Vec<Stored>,
    /// Parked for longer than asked.
    pub unhandled: Vec<Stored>,
}

/// A dirty run with what waits in its inbox, oldest first, at most
/// [`crate::domain::limits::DRAIN_BATCH`] entries.
#[derive(Clone, Debug, PartialEq)]
pub struct RunWork {
    pub record: RunRecord,
    pub inbox: Vec<(u64, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Timers that fired into inboxes.
    pub fired: usize,
    /// When the next timer is due.
    pub next_due: Option<Ms>,
}

/// What is kept of finished work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub age: Duration,
    /// Finished jobs a queue.
    pub count: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    pub jobs: usize,
    pub runs: usize,
}

/// One page of one place of one queue, or of all queues.
#[derive(Clone, Debug, PartialEq)]
pub struct ListQuery {
    pub place: Place,
    pub queue: Option<Name>,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// Records to look at, at most [`crate::domain::limits::LIST_BUDGET`].
    pub budget: usize,
}

/// An opaque place in a list or in the event log, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// Without a queue, the queues follow each other by name. Order in a queue: pending, suspect and parked as they would be claimed; scheduled and retrying by due time;
/// running by epoch; dead, completed and cancelled latest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// `None` at the end.
    pub next: Option<Cursor>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RunQuery {
    /// Live runs, or finished ones; latest first.
    pub finished: bool,
    pub after: Option<Cursor>,
    pub budget: usize,
}

/// A definition of `goflow apply`, kept by content hash for as long as a run needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// `workflow` or `handler`.
    pub kind: String,
    pub name: Name,
    pub hash: String,
    pub text: String,
}

/// What `doctor` tells of a store.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Health {
    /// `SQLite 3.51.3`, `Redis 7.0.15` …
    pub server: String,
    /// What an acknowledged write survives, in one sentence.
    pub durability: String,
    pub schema: u32,
    /// What an operator should mend.
    pub warnings: Vec<String>,
    /// What goflow's data takes up now, in bytes, of memory or disk; none if the store does not tell.
    /// On a server shared with others it is all the server's data.
    pub bytes: Option<u64>,
}

#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The URL, with the password hidden: for people.
    fn describe(&self) -> String;

    /// Adds new work. Items are answered in order.
    async fn enqueue(&self, batch: &Enqueue) -> Result<EnqueueAnswer>;

    /// The core verb: settles what has finished, promotes what is due in the queues asked for, and
    /// claims the next work, in one round trip and in this order.
    async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged>;

    /// Registers the worker, or prolongs all its leases; brings parked jobs of its types back.
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Beat>;

    /// Strikes a worker off. Leases that it still holds lapse at once.
    async fn farewell(&self, worker: WorkerId) -> Result<()>;

    /// Jobs with lapsed leases, and jobs parked for longer than `parked`; at most `limit` of each.
    async fn overdue(&self, parked: Duration, limit: usize) -> Result<Overdue>;

    /// Fires timers that are due, at most `limit`.
    async fn tick(&self, limit: usize) -> Result<Ticked>;

    /// Takes up to `limit` dirty runs and hides them from other takers for `hold`.
    async fn take_dirty(&self, limit: usize, hold: Duration) -> Result<Vec<RunWork>>;

    /// Removes finished work beyond the retention, at most `limit` records; every trim of a queue is
    /// an event. Also forgets producers and event records beyond their limits.
    async fn trim(&self, retention: Retention, limit: usize) -> Result<Trimmed>;

    async fn get(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>>;

    /// Ids of jobs whose hexadecimal text (without hyphens) contains `part`, at most `limit`. Looks
    /// at everything kept.
    async fn find(&self, part: &str, limit: usize) -> Result<Vec<JobId>>;

    async fn list(&self, query: &ListQuery) -> Result<Page<Stored>>;

    /// Every queue that was ever used, by name, with its counters; perhaps also queues that only a
    /// commit has named which was not carried out.
    async fn stats(&self) -> Result<Vec<QueueStats>>;

    /// Names and settings of all queues.
    async fn queues(&self) -> Result<Vec<(Name, QueueSettings)>>;

    async fn set_queue(&self, queue: &Name, settings: &QueueSettings) -> Result<()>;

    async fn workers(&self) -> Result<Vec<WorkerStatus>>;

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>>;

    async fn find_runs(&self, part: &str, limit: usize) -> Result<Vec<RunId>>;

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>>;

    /// Values of a run, in the order of `keys`.
    async fn values(&self, run: RunId, keys: &[String]) -> Result<Vec<Option<Json>>>;

    /// The run's own history, in order.
    async fn history(&self, run: RunId) -> Result<Vec<Event>>;

    /// Keeps definitions and makes each the current one of its kind and name. All or none.
    async fn define(&self, definitions: &[Definition]) -> Result<()>;

    async fn definition(&self, hash: &str) -> Result<Option<Definition>>;

    /// The current definitions of a kind, by name.
    async fn definitions(&self, kind: &str) -> Result<Vec<Definition>>;

    /// Events after the cursor (`None`: from the oldest kept), oldest first; a cursor that is older
    /// than what is kept continues with the oldest kept. Nothing that commits later can come before
    /// the returned cursor.
    async fn events(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)>;

    /// Rises when new work may be there, in this process or another. A hint: it may come too often,
    /// and may be lost, so poll each second beside it.
    fn hints(&self) -> watch::Receiver<u64>;

    async fn health(&self) -> Result<Health>;

    /// Recounts everything and compares indexes with records: each difference in a sentence.
    /// Proportional to what is kept.
    async fn verify(&self) -> Result<Vec<String>>;
}
