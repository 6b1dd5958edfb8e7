//! What stands around the exchange: workers and their leases, what running jobs tell, what has to be
//! looked after, schedules, and what those see who look.

use super::error::{Result, StoreError};
use super::work::{NewJob, NewRun, RunRecord};
use crate::domain::{Epoch, Event, Job, JobId, JobState, Ms, Name, Place, Progress, Rate, RunId, WorkerId};
use std::collections::BTreeMap;
use std::time::Duration;

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

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Heartbeat {
    pub info: WorkerInfo,
    /// The worker's leases hold for this long from the store's now.
    pub lease: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Beat {
    pub now: Ms,
    /// Every lease of this worker. What the worker does not know of, it gives back; what it runs and
    /// is not here, it has lost.
    pub held: Vec<(JobId, Epoch)>,
    /// Somebody told it to take no more work and to end: see [`Store::drain`](super::Store::drain).
    pub drain: bool,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct WorkerStatus {
    pub info: WorkerInfo,
    pub expires_at: Ms,
    /// How many jobs it holds leases on.
    pub running: u64,
    /// It was told to take no more work.
    pub draining: bool,
}

/// A lease, for those who look.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lease {
    pub worker: WorkerId,
    pub epoch: Epoch,
    /// When it was claimed, by the store's clock.
    pub since: Ms,
}

/// A job as it is kept.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Stored {
    #[serde(with = "crate::store::wire::job")]
    pub job: Job,
    pub place: Place,
    /// Scheduled, retrying: when it is due. Otherwise when it came to this place (0 where the
    /// backend does not keep that, as in the line of pending jobs).
    pub at: Ms,
    /// Only while running.
    pub lease: Option<Lease>,
    /// Only while running: the last note of its progress under this lease.
    pub progress: Option<Progress>,
    /// It was asked to end.
    pub asked: bool,
}

impl Stored {
    /// A job that nobody runs.
    pub fn idle(job: Job, place: Place, at: Ms) -> Stored {
        Stored { job, place, at, lease: None, progress: None, asked: false }
    }

    /// A job under a lease.
    pub fn leased(job: Job, lease: Lease) -> Stored {
        Stored { job, place: Place::Running, at: lease.since, lease: Some(lease), progress: None, asked: false }
    }
}

/// What reapers must look after.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Overdue {
    pub now: Ms,
    /// Running, with a lapsed lease.
    pub lapsed: Vec<Stored>,
    /// Parked for longer than asked.
    pub unhandled: Vec<Stored>,
}

/// What a running job tells on the way, by the right of its lease.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Note {
    pub id: JobId,
    pub epoch: Epoch,
    pub progress: Option<Progress>,
    /// Appended to the job's log; may be empty. At most 64 KiB.
    pub log: String,
}

/// What a job has printed, over all its attempts.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct JobLog {
    pub chunks: Vec<LogChunk>,
    /// The beginning was dropped, because the log is bounded
    /// ([`crate::domain::limits::LOG_BYTES`], less on Redis).
    pub truncated: bool,
}

impl JobLog {
    /// Its end, as far as it fits into so many bytes. If something has been dropped before that, its first number
    /// says so too, for stores that keep nothing else of it.
    #[must_use]
    pub fn bounded(&self, most: usize) -> JobLog {
        let mut bytes = 0;
        let fits = |chunk: &&LogChunk| {
            bytes += chunk.text.len();
            bytes <= most
        };
        let first = self.chunks.len() - self.chunks.iter().rev().take_while(fits).count();
        let mut log = JobLog { chunks: self.chunks[first..].to_vec(), truncated: self.truncated || first > 0 };
        if log.truncated && log.chunks.first().is_some_and(|chunk| chunk.seq <= 1) {
            log.chunks.iter_mut().for_each(|chunk| chunk.seq += 1);
        }
        log
    }
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LogChunk {
    /// Rises within a job.
    pub seq: u64,
    pub at: Ms,
    pub epoch: Epoch,
    pub text: String,
}

/// A parent that has ended, and jobs that were held for it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Freed {
    pub parent: JobId,
    /// The state it ended in; `None` if it is not kept any more.
    pub state: Option<JobState>,
    pub children: Vec<Stored>,
}

/// A wish for permits of one bucket (a queue, or a job type).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PermitRequest {
    /// At most [`crate::domain::limits::KEY_BYTES`].
    pub bucket: String,
    pub rate: Rate,
    /// At most [`crate::domain::limits::CLAIM_BATCH`].
    pub count: u32,
}

/// A schedule as the store sees it: when it is due, and a body it never looks into.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ScheduleRecord {
    pub name: Name,
    /// Rises with every change; a new one has 1.
    pub rev: u64,
    /// `None` while it is paused or has no further time.
    pub due: Option<Ms>,
    pub body: Vec<u8>,
}

/// One change of a schedule, with what it starts: all or nothing.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ScheduleCommit {
    pub name: Name,
    /// The `rev` from which this was computed; 0: there must be none of this name.
    pub from_rev: u64,
    /// When it is due next, and its body; `None` deletes it.
    pub next: Option<(Option<Ms>, Vec<u8>)>,
    pub jobs: Vec<NewJob>,
    pub runs: Vec<NewRun>,
    /// Jobs that are asked to end.
    pub cancel: Vec<JobId>,
    /// Facts for the inboxes of runs.
    pub tell: Vec<(RunId, Vec<u8>)>,
    pub events: Vec<Event>,
}

/// A run with what waits in its inbox, oldest first, at most
/// [`crate::domain::limits::DRAIN_BATCH`] entries.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunWork {
    pub record: RunRecord,
    pub inbox: Vec<(u64, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ticked {
    /// Timers that fired into inboxes.
    pub fired: usize,
    /// When the next timer is due.
    pub next_due: Option<Ms>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Trimmed {
    pub jobs: usize,
    pub runs: usize,
}

/// Ids of jobs in the order of their birth, the newest first. Some of the jobs may be gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Newest {
    pub ids: Vec<JobId>,
    /// No job that was born before is kept. Where this is not said, there may be more, also if fewer are
    /// told of than were asked for: then the store does not know them by their birth.
    pub whole: bool,
}

impl Newest {
    /// Of a store that has an index by birth.
    pub fn of_all(ids: Vec<JobId>, limit: usize) -> Newest {
        let whole = ids.len() < limit;
        Newest { ids, whole }
    }
}

/// One page of one place of one queue, or of all queues.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ListQuery {
    pub place: Place,
    pub queue: Option<Name>,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// Records to look at, at most [`crate::domain::limits::LIST_BUDGET`].
    pub budget: usize,
}

/// An opaque place in a list or in the event log, as text.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cursor(pub String);

impl Cursor {
    /// The number that a store made it of.
    ///
    /// # Errors
    /// [`StoreError::Refused`]: this store did not make it.
    pub fn number(&self) -> Result<i64> {
        let Cursor(text) = self;
        text.parse().map_err(|_| StoreError::Refused(format!("`{text}` is not a cursor of this store")))
    }
}

/// Without a queue, the queues follow each other by name. Order in a queue: pending, suspect and
/// parked as they would be claimed; scheduled and retrying by due time; running by epoch; held and
/// blocked by the time of their coming; dead, completed and cancelled latest first.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// `None` at the end.
    pub next: Option<Cursor>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunQuery {
    /// Live runs, or finished ones; latest first.
    pub finished: bool,
    pub after: Option<Cursor>,
    pub budget: usize,
}

/// A definition of `goflow apply`, kept by content hash for as long as a run needs it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Definition {
    /// `workflow`, `handler`, `schedule`, `queue` or `webhook`.
    pub kind: String,
    pub name: Name,
    pub hash: String,
    pub text: String,
}

/// What `doctor` tells of a store.
#[derive(Clone, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
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
    /// What the promise rests on, by name: `persistence`, `eviction`, `replication`, `pooler` …
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}
