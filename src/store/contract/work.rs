//! New work: jobs, runs, and the effects that one advance of a run has.

use std::time::Duration;

use crate::domain::{Event, Job, JobId, Json, Ms, Name, ProducerId, RunId, RunState, Shard, event::EventKind};

/// What something new has to lie beside: see [`Store::birthplace`](super::Store::birthplace).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Near<'a> {
    /// Anywhere: the strategy decides.
    Nothing,
    /// A partition key, unique key, concurrency key, or the key of a gate.
    Key(&'a str),
    /// A parent, or a run.
    Shard(Shard),
    /// The schedule that starts it.
    Schedule(&'a Name),
}

/// When a new job may first run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Start {
    Now,
    /// So long after the store's now.
    After(Duration),
    /// At this time on the store's clock; a past time means now.
    At(Ms),
}

/// A job to enqueue. One with parents ([`Job::after`]) is held until they have ended, and then
/// starts at once: its `start` is [`Start::Now`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NewJob {
    #[serde(with = "crate::store::wire::job")]
    pub job: Job,
    pub start: Start,
    /// Its unique key stays taken for at least so long, even if the job ends sooner.
    pub unique_for: Option<Duration>,
}

/// A timer of a run: when it is due, `fact` is put into the run's inbox. One timer a (run, key);
/// setting it again replaces it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Timer {
    pub key: String,
    pub delay: Duration,
    pub fact: Vec<u8>,
}

/// A run's header as the store sees it: what indexes need, and a body it never looks into.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunRecord {
    pub id: RunId,
    pub workflow: Name,
    pub state: RunState,
    /// Rises with every advance; a new run has 1.
    pub rev: u64,
    pub body: Vec<u8>,
}

/// Everything that one advance of a run changes, committed as one.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Effects {
    pub record: RunRecord,
    /// Steps to do now, in this order.
    #[serde(with = "crate::store::wire::jobs")]
    pub jobs: Vec<Job>,
    /// Immutable values of the run, by key; a key is written once.
    pub values: Vec<(String, Json)>,
    pub timers: Vec<Timer>,
    /// Keys of timers that are no longer wanted.
    pub drop_timers: Vec<String>,
    /// Appended to the run's own history and to the event log.
    pub events: Vec<Event>,
    /// Jobs that are asked to end, as by [`Store::ask`](super::Store::ask); those that have ended,
    /// or are not known, are passed over.
    pub cancel: Vec<JobId>,
    /// Runs to start on this shard. One whose id is kept already is passed over.
    pub runs: Vec<NewRun>,
    /// Facts for the inboxes of other runs of this shard; those that are gone are passed over.
    pub tell: Vec<(RunId, Vec<u8>)>,
}

/// A run to start.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NewRun {
    /// Its record has `rev` 1.
    pub effects: Effects,
    pub gate: Option<Gate>,
}

/// Lets only so many runs of a key live at once. An admitted run finds `go` in its inbox, and holds
/// its place until its state is terminal; it does not lose it by anything else, and a run that is
/// taken up again after its end does not take it again. The others wait in the order of their coming.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Gate {
    /// At most [`crate::domain::limits::KEY_BYTES`].
    pub key: String,
    /// At least 1.
    pub limit: u32,
    /// The fact that lets the run begin.
    pub go: Vec<u8>,
    /// Not to wait: a run that is not admitted at once is not created ([`Enqueued::Busy`]). A run
    /// that was to start it (by [`Effects::runs`]) is told this fact.
    pub reject: Option<Vec<u8>>,
}

/// A batch of new work. `producer` and `sequence` make it idempotent: a producer numbers its
/// batches upwards and has one in flight; the store remembers the last number and its answer for an
/// hour ([`crate::domain::limits::PRODUCER_MEMORY`]).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Enqueue {
    pub producer: ProducerId,
    pub sequence: u64,
    /// At most [`crate::domain::limits::ENQUEUE_BATCH`] jobs and runs together.
    pub jobs: Vec<NewJob>,
    pub runs: Vec<NewRun>,
}

/// What became of one new job or run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Enqueued {
    Created,
    /// A job or run with this id is already kept: nothing was added.
    Exists,
    /// This job holds the unique key: it lives, or the time of the key is not over.
    Conflict(JobId),
    /// It is to follow a job that is not kept: nothing was added.
    NoParent(JobId),
    /// Its gate is full, and it was not to wait: nothing was added.
    Busy,
}

/// Who holds a unique key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub job: JobId,
    /// For how long it holds the key from now on, even if it ends sooner.
    pub rest: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EnqueueAnswer {
    pub jobs: Vec<Enqueued>,
    pub runs: Vec<Enqueued>,
}

impl NewJob {
    /// A job that starts at once.
    pub fn now(job: Job) -> NewJob {
        NewJob { job, start: Start::Now, unique_for: None }
    }

    /// What the event log keeps of its enqueue.
    pub fn log_entry(&self, start: EventKind) -> Event {
        entry(start, &self.job)
    }
}

impl Effects {
    /// Only the record: nothing else changes.
    pub fn of(record: RunRecord) -> Effects {
        Effects {
            record,
            jobs: Vec::new(),
            values: Vec::new(),
            timers: Vec::new(),
            drop_timers: Vec::new(),
            events: Vec::new(),
            cancel: Vec::new(),
            runs: Vec::new(),
            tell: Vec::new(),
        }
    }
}

impl From<Effects> for NewRun {
    fn from(effects: Effects) -> NewRun {
        NewRun { effects, gate: None }
    }
}

pub(super) fn entry(kind: EventKind, job: &Job) -> Event {
    Event {
        job: Some(job.id),
        run: job.link.as_ref().map(|link| link.run),
        step: job.link.as_ref().map(|link| link.step.clone()),
        queue: Some(job.queue.clone()),
        ..Event::new(kind)
    }
}
