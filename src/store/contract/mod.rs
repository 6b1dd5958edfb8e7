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
//! within a priority first come first served; of two claims at the same moment the second may pass by a
//! batch that the first has its hands on. [`To::Front`] puts a job before all others of its
//! priority (the last one put there is the first one out). A job becomes pending when it is enqueued
//! without a delay, when its delay is over (in the order of due time), or by a move. Suspects, that
//! is jobs whose worker died ([`Job::is_suspect`]), wait in a line of their own: whatever would put
//! one into the ordinary line puts it at the end of that one. They are given only to a claim that says
//! `alone`, one at a time and before anything else; then nothing else comes with it.
//!
//! # Limits
//!
//! A queue with a concurrency limit gives out no more than it has room for. A job with a concurrency
//! key whose limit is reached is not given out: the claim that meets it moves it to
//! [`Place::Blocked`], where the jobs of a key wait as in a line. Whenever a job of the key leaves
//! [`Place::Running`], or leaves the line otherwise than by a claim, the first blocked one that there
//! is room for goes to the front of its queue ([`To::Front`]). Rates are judged by the caller, who
//! asks for [`Store::permits`].
//!
//! # Parents
//!
//! A job with parents ([`Job::after`]) is held. The store ties it to each of them for as long as it is
//! in [`Place::Held`], and tells by [`Store::freed`] which ties lead to a parent that is terminal or
//! not kept any more; what becomes of the children is the caller's decision, by an ordinary move.
//!
//! # Asking for an end
//!
//! A job that runs can only be ended by its worker. [`Store::ask`] marks it, [`Store::asked`] tells
//! those who can end it. The mark goes when the job becomes terminal, however that comes, or is
//! deleted.
//!
//! # Documents
//!
//! A small thing under a name, changed only by who saw its last change. What its time is over for is as
//! if it were not there, and is removed by [`Store::trim`].
//!
//! # Locks
//!
//! A grant is a time-limited right with a fencing number. The number rises strictly over all grants of a
//! name, also after a release, a break, the end of a grant's time, a trim and a restart; the store's clock
//! judges. Somebody whose grant has ended may not know it yet: what must be safe even then compares
//! fences. Ending a grant gives a hint, as new work does.
//!
//! # Costs
//!
//! | call | memory | SQLite | Redis | PostgreSQL |
//! |---|---|---|---|---|
//! | `enqueue(n)` | O(n log w) | a share of one commit | 1 script per 64 items | 1 transaction |
//! | `exchange(m commits, n claims)` | O((m+n) log w) | a share of one commit | 1 script | 1 transaction |
//! | `stand_by(n claims)` | as `exchange` | - | 1 command, 1 script | - |
//! | `heartbeat` | O(r) | a share of one commit | 1 script, O(r) | 1 transaction |
//! | `overdue` | O(r) | 1 read, O(r) | 1 script, O(r) | 1 read, O(r) |
//! | `ask`, `note`, `inform`, `permits`, `set_schedule` | O(n log w) | a share of one commit | 1 script | 1 transaction |
//! | `asked`, `freed`, `schedules` | O(answer) | 1 indexed read | 1 script | 1 indexed read |
//! | `tick`, `take_dirty` | O(log w) | a share of one commit | 1 script | 1 transaction |
//! | `get`, `run`, `values`, `log` | O(1) | 1 read | 1 command | 1 read |
//! | `run_work` | O(answer) | 2 reads | 2 commands | 1 read |
//! | `list` | O(budget) | 1 indexed read | 2 commands | 1 indexed read |
//! | `newest` | O(n) | 1 indexed read | 1 command in 200 records of the log | 1 indexed read |
//! | `since` | O(log, from its end) | O(log of the log) reads | 1 command | O(log of the log) reads |
//! | `document`, `documents` | O(answer) | 1 indexed read | 2 commands | 1 indexed read |
//! | `set_document`, `acquire`, `extend`, `release`, `break_lock` | O(slots) | a share of one commit | 1 script | 1 transaction |
//! | `locks` | O(answer) | 1 indexed read | O(held locks) | 1 indexed read |
//! | `whole_run` | O(answer) | 1 indexed read | 8 commands, more for long histories | 1 transaction |
//! | `take_runs`, `put_runs`, `keep_log` | O(what is kept of them) | a share of one commit | 1 script | 1 transaction |
//! | `news` | | as `events`, ten times a second | | |
//! | `stats` | O(queues) | 1 read of counters | O(queues + r) | 1 read of counters |
//!
//! w = what waits, r = what runs (bounded by workers × (concurrency + what they lease ahead)).

mod carry;
mod error;
mod looks;
mod moves;
mod shards;
mod shared;
mod work;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

pub use self::carry::*;
pub use self::error::{Result, StoreError};
pub use self::looks::*;
pub use self::moves::*;
pub use self::shards::*;
pub use self::shared::*;
pub use self::work::*;
pub use crate::domain::Retention;
use crate::domain::{
    Event, HolderId, JobId, Json, Ms, Name, QueueSettings, QueueStats, RunId, Shard, WorkerId, limits,
};
#[cfg(doc)]
use crate::domain::{Job, Place, To};

/// Between two looks at an event log that has nothing new.
const LOOK: Duration = Duration::from_millis(100);

#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The URL, with the password hidden: for people.
    fn describe(&self) -> String;

    /// How many jobs a claim gives at most: as many as make a claim's own cost small beside theirs.
    fn claim_batch(&self) -> usize {
        limits::CLAIM_BATCH
    }

    /// The shard on which something new is to be born: whoever makes an id asks. A store that is one
    /// atomic key space is shard 0.
    fn birthplace(&self, near: Near<'_>) -> Shard {
        match near {
            Near::Nothing | Near::Key(_) | Near::Shard(_) | Near::Schedule(_) => Shard::default(),
        }
    }

    /// The shards, of a store that has several.
    fn shards(&self) -> Option<&dyn Shards> {
        None
    }

    /// What somebody must know who makes ids for this store from afar; `None` for one without shards.
    async fn placement(&self) -> Result<Option<Placement>> {
        Ok(None)
    }

    /// A verb on the shards.
    ///
    /// # Errors
    /// The verb's own; [`StoreError::Refused`] for a store without shards.
    async fn reshard(&self, verb: &ShardVerb) -> Result<ShardAnswer> {
        match self.shards() {
            Some(shards) => verb.on(shards).await,
            None => Err(StoreError::Refused(format!("{} is one store, without shards", self.describe()))),
        }
    }

    /// Who holds each of these unique keys now: a live job, or one whose time for the key is not over.
    /// Only a store that can be a shard of several has to know.
    ///
    /// # Errors
    /// [`StoreError::Refused`] from one that cannot.
    async fn holders(&self, keys: &[String]) -> Result<Vec<Option<Holder>>> {
        Err(StoreError::Refused(format!("{} cannot tell who holds {} keys", self.describe(), keys.len())))
    }

    /// All that is kept of a run. What changes meanwhile is seen by [`WholeRun::seen`]: then it is not as it
    /// was seen any more. This and the next three, only a store that can be a shard of several has to know.
    ///
    /// # Errors
    /// [`StoreError::Refused`] from one that cannot, and for a run that it cannot give in full.
    async fn whole_run(&self, id: RunId) -> Result<Option<WholeRun>> {
        Err(StoreError::Refused(format!("{} cannot give run {id} away", self.describe())))
    }

    /// Takes runs out, with all that is kept of them but their jobs, and writes a document, if each run is
    /// as it was seen, nobody else stands at the gates of theirs that wait or were let in, and the document has
    /// the revision that was seen: else nothing is changed, and the answer is false.
    ///
    /// # Errors
    /// [`StoreError::Refused`] from a store that cannot, and for what [`DocumentChange::check`] refuses.
    async fn take_runs(&self, take: &TakeRuns) -> Result<bool> {
        Err(StoreError::Refused(format!("{} cannot give {} runs away", self.describe(), take.runs.len())))
    }

    /// Puts runs in as they were, and deletes a document, if it has this revision and none of the runs is
    /// kept: else nothing is changed, and the answer is false. Numbers of inboxes and turns at gates are
    /// given anew, in the same order, behind those who are there; whoever then has room is let in.
    ///
    /// Leases that are given afterwards have epochs above those that the runs know from where they were: at
    /// least [`Epoch::above_others`](crate::domain::Epoch::above_others).
    ///
    /// # Errors
    /// [`StoreError::Refused`] from a store that cannot.
    async fn put_runs(&self, put: &PutRuns) -> Result<bool> {
        Err(StoreError::Refused(format!("{} cannot take {} runs", self.describe(), put.runs.len())))
    }

    /// Keeps a log for a job in place of its own, if it is scheduled and has this revision; whether it is and
    /// has. As much of it is kept as of any log.
    ///
    /// # Errors
    /// [`StoreError::Refused`] from a store that cannot.
    async fn keep_log(&self, id: JobId, rev: u32, log: &JobLog) -> Result<bool> {
        let chunks = log.chunks.len();
        Err(StoreError::Refused(format!(
            "{} cannot take {chunks} chunks for job {id} of revision {rev}",
            self.describe()
        )))
    }

    /// Adds new work. Items are answered in order.
    async fn enqueue(&self, batch: &Enqueue) -> Result<EnqueueAnswer>;

    /// The core verb: settles what has finished, promotes what is due in the queues asked for, and
    /// claims the next work, in one round trip and in this order.
    async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged>;

    /// Whether [`Store::stand_by`] is worth calling.
    fn stands_by(&self) -> bool {
        false
    }

    /// As an [`Store::exchange`] of this claim alone, but no sooner than something is written that may bring work, or
    /// than `at_most` has passed: the store goes from the one to the other by itself, and so leases a job one
    /// trip sooner than a hint and a claim would. What is written into the event log after `since` counts, which
    /// an earlier look answered as its `now`. A worker that is no longer registered is given nothing. `None`: it
    /// cannot wait now, and has given nothing. A future that is dropped may leave leases behind, as a lost answer does.
    async fn stand_by(&self, _claim: &Claim, _since: Ms, _at_most: Duration) -> Result<Option<Exchanged>> {
        Ok(None)
    }

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

    /// Removes finished work beyond the retention (of the queue's own where it has one), at most `limit` records; every trim of a queue is
    /// an event. Also forgets producers and event records beyond their limits, and documents and grants
    /// whose time is over.
    async fn trim(&self, retention: Retention, limit: usize) -> Result<Trimmed>;

    /// Asks jobs to end. For each: whether it is kept and had not ended; asking twice is asking once.
    async fn ask(&self, ids: &[JobId]) -> Result<Vec<bool>>;

    /// Jobs that were asked to end and that `worker` can end: leased by it, or by nobody, or with a
    /// lapsed lease. At most `limit`.
    async fn asked(&self, worker: WorkerId, limit: usize) -> Result<Vec<Stored>>;

    /// Keeps what running jobs tell; for each note whether its lease still held. Progress is an event.
    /// Sent again, a log's text is there twice.
    async fn note(&self, notes: &[Note]) -> Result<Vec<bool>>;

    /// What a job has printed, after the chunk `after` (0: all that is kept). Empty for an unknown job.
    async fn log(&self, id: JobId, after: u64) -> Result<JobLog>;

    /// Parents that have ended while jobs are still held for them; at most `limit` children in all.
    async fn freed(&self, limit: usize) -> Result<Vec<Freed>>;

    /// Gives out permits, each with how long from now it becomes good, soonest first: see
    /// [`Rate::reserve`](crate::domain::Rate::reserve). What is not used is lost.
    async fn permits(&self, requests: &[PermitRequest]) -> Result<Vec<Vec<Duration>>>;

    /// Puts facts into the inboxes of runs, finished ones too; for each whether there is such a run.
    /// Sent again, a fact is there twice.
    async fn inform(&self, facts: &[(RunId, Vec<u8>)]) -> Result<Vec<bool>>;

    /// The store's now, and every schedule, by name.
    async fn schedules(&self) -> Result<(Ms, Vec<ScheduleRecord>)>;

    /// Changes a schedule and starts what it starts, if it still has `from_rev`; else `None`, and
    /// nothing is changed. Items are answered as by `enqueue`; one that was refused does not keep the
    /// others from being done.
    async fn set_schedule(&self, commit: &ScheduleCommit) -> Result<Option<EnqueueAnswer>>;

    /// Tells a worker to take no more work: its next [`Beat`] says so. False if it is not registered.
    async fn drain(&self, worker: WorkerId) -> Result<bool>;

    async fn document(&self, name: &str) -> Result<Option<Document>>;

    /// Changes a document if it still has `from_rev`. Sent again after a lost answer it finds its own
    /// change; who must know compares what is there.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for what [`DocumentChange::check`] refuses.
    async fn set_document(&self, change: &DocumentChange) -> Result<DocumentSet>;

    /// Documents whose names begin with `prefix` and come after `after`, by the bytes of their names, at
    /// most `limit`; fewer mean that there are no more.
    async fn documents(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Document>>;

    /// Takes a slot of a lock, if one is free.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for what [`LockRequest::check`] refuses.
    async fn acquire(&self, request: &LockRequest) -> Result<Acquired>;

    /// Lets a grant hold for `ttl` from now, also if it would have held for longer: whoever asks for it again
    /// by [`Store::acquire`] never shortens it. `None`: it has ended, or was broken or released; it does not
    /// come back by this.
    async fn extend(&self, name: &Name, holder: HolderId, ttl: Duration) -> Result<Option<Grant>>;

    /// Ends a grant. Whether there was one.
    async fn release(&self, name: &Name, holder: HolderId) -> Result<bool>;

    /// The store's now, and locks that are held, by the bytes of their names, after `after`; at most
    /// `limit`, fewer mean that there are no more.
    async fn locks(&self, after: Option<&Name>, limit: usize) -> Result<(Ms, Vec<LockRecord>)>;

    /// Takes a lock from all its holders, or from one: those who lost it. An event, if there were any.
    async fn break_lock(&self, name: &Name, holder: Option<HolderId>) -> Result<Vec<LockHolder>>;

    async fn get(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>>;

    /// Ids of jobs whose hexadecimal text (without hyphens) contains `part`, at most `limit`. Looks
    /// at everything kept.
    async fn find(&self, part: &str, limit: usize) -> Result<Vec<JobId>>;

    /// Ids of the newest jobs, at most `limit`; with `before`, of those only that were born before it. A store
    /// without an index by birth (Redis) knows those that its event log still tells of, and says so.
    async fn newest(&self, before: Option<JobId>, limit: usize) -> Result<Newest>;

    async fn list(&self, query: &ListQuery) -> Result<Page<Stored>>;

    /// Every queue that was ever used, by name, with its counters; perhaps also queues that only a
    /// commit has named which was not carried out.
    async fn stats(&self) -> Result<Vec<QueueStats>>;

    /// Names and settings of all queues.
    async fn queues(&self) -> Result<Vec<(Name, QueueSettings)>>;

    async fn set_queue(&self, queue: &Name, settings: &QueueSettings) -> Result<()>;

    async fn workers(&self) -> Result<Vec<WorkerStatus>>;

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>>;

    /// A run with the head of its inbox, as [`Store::take_dirty`] would give it, but hidden from nobody. The
    /// record is not newer than the inbox: an advance from it by what had left the inbox is contended.
    async fn run_work(&self, id: RunId) -> Result<Option<RunWork>>;

    async fn find_runs(&self, part: &str, limit: usize) -> Result<Vec<RunId>>;

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>>;

    /// Values of a run, in the order of `keys`.
    async fn values(&self, run: RunId, keys: &[String]) -> Result<Vec<Option<Json>>>;

    /// What the run's own history says after the cursor (`None`: from its beginning), in order, and where that ends:
    /// at least `limit` events (at least 1; what was written as one may come whole). Fewer are all that there are by
    /// now. Costs what it answers. The cursor goes along when its run is carried to another shard.
    ///
    /// # Errors
    /// [`StoreError::Refused`]: the cursor is of another kind of store.
    async fn history(&self, run: RunId, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)>;

    /// Keeps definitions and makes each the current one of its kind and name. All or none.
    async fn define(&self, definitions: &[Definition]) -> Result<()>;

    /// Takes back what is current of a kind and name; what runs need of it stays. False if there was none.
    async fn undefine(&self, kind: &str, name: &Name) -> Result<bool>;

    async fn definition(&self, hash: &str) -> Result<Option<Definition>>;

    /// The current definitions of a kind, by name.
    async fn definitions(&self, kind: &str) -> Result<Vec<Definition>>;

    /// Events after the cursor (`None`: from the oldest kept), oldest first; a cursor that is older
    /// than what is kept continues with the oldest kept. Nothing that commits later can come before
    /// the returned cursor.
    async fn events(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)>;

    /// The place in the event log behind what was written before `at`, in the order of the log; its end, if
    /// nothing came since. A clock that was set back may leave some events before `at` behind that place, or
    /// some after it before.
    async fn since(&self, at: Ms) -> Result<Cursor>;

    /// A place in the log that at most so many of its records follow, each the events of one commit; `None`
    /// if no more than those are kept.
    async fn tail(&self, records: usize) -> Result<Option<Cursor>>;

    /// As [`Store::events`], but waits for some, for so long at most. The log gives no sign of its own.
    async fn news(&self, after: &Cursor, limit: usize, wait: Duration) -> Result<(Vec<Event>, Cursor)> {
        let until = Instant::now() + wait;
        loop {
            let (events, next) = self.events(Some(after), limit).await?;
            let now = Instant::now();
            if !events.is_empty() || now >= until {
                return Ok((events, next));
            }
            tokio::time::sleep_until(until.min(now + LOOK)).await;
        }
    }

    /// Rises when work may be there that nobody was given, in this process or another: what an exchange brings
    /// and its own claim takes at once wakes nobody. A hint: it may come too often, and may be lost, so poll each
    /// second beside it.
    fn hints(&self) -> watch::Receiver<u64>;

    async fn health(&self) -> Result<Health>;

    /// Recounts everything and compares indexes with records: each difference in a sentence.
    /// Proportional to what is kept.
    async fn verify(&self) -> Result<Vec<String>>;
}
