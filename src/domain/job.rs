//! The job: its record, and what becomes of it when something happens to it.
//!
//! A store keeps a job's record in a *place* and moves it when told. What the next record is and
//! where it goes is decided here, by pure functions from the record, what happened and the time;
//! the store only checks that the mover still has the right to move it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::EventKind;
use super::id::{Epoch, JobId, RunId, WorkerId};
use super::json::Json;
use super::limits;
use super::name::Name;
use super::place::{IllegalJobEvent, JobEvent, JobState, Place, To};
use super::retry::RetryPolicy;
use super::text::clip;
use super::time::Ms;

/// The tie between a job and the step of a run that it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    #[serde(rename = "r")]
    pub run: RunId,
    /// The step's path in the run (`charge`).
    #[serde(rename = "s")]
    pub step: String,
    /// Whether it undoes the step instead of doing it.
    #[serde(rename = "u", default, skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
}

/// Why an attempt failed. `class` is one word or a path of words (`exit:1`, `timeout`, `signal:9`,
/// `no_handler`, `poison`), which retry rules match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    #[serde(rename = "c")]
    pub class: String,
    /// At most [`limits::ERROR_BYTES`]; may hold anything a handler printed: show it with `display_safe`.
    #[serde(rename = "m")]
    pub message: String,
}

impl JobError {
    pub fn new(class: impl Into<String>, message: impl AsRef<str>) -> Self {
        JobError { class: class.into(), message: clip(message.as_ref(), limits::ERROR_BYTES).into_owned() }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

/// A key of which only so many jobs may run at once, over all workers of the shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// At most [`limits::KEY_BYTES`].
    #[serde(rename = "k")]
    pub key: String,
    /// At least 1. Where jobs of one key disagree, each is judged by its own.
    #[serde(rename = "n")]
    pub limit: u32,
}

/// How far a handler says that it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 100, if the handler counts.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// At most [`limits::PROGRESS_BYTES`]; may hold anything: show it with `display_safe`.
    #[serde(rename = "m", default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Progress {
    /// Takes what a handler said: a percentage out of range is brought into it, a long message is cut.
    pub fn new(percent: Option<f64>, message: &str) -> Progress {
        Progress {
            percent: percent.filter(|percent| percent.is_finite()).map(|percent| percent.clamp(0.0, 100.0)),
            message: clip(message, limits::PROGRESS_BYTES - CUT_MARK).into_owned(),
        }
    }
}

/// Room for what [`clip`] says about the rest.
const CUT_MARK: usize = 32;

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.percent, self.message.as_str()) {
            (Some(percent), "") => write!(f, "{percent}%"),
            (Some(percent), message) => write!(f, "{percent}% {message}"),
            (None, message) => f.write_str(message),
        }
    }
}

/// One failed, lost or released execution, in the job's own history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    #[serde(rename = "e")]
    pub epoch: Epoch,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Ms>,
    #[serde(rename = "f")]
    pub ended_at: Ms,
    #[serde(rename = "x")]
    pub error: JobError,
}

/// A job's record. The serialised names are the storage format: short, never reused, unknown ones
/// are ignored, absent ones have their default. Times are the maker's view of the store's clock and
/// are for reading; what is judged (leases, run_at) the store keeps itself, by its own clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    #[serde(skip)]
    pub id: JobId,
    #[serde(rename = "t")]
    pub kind: Name,
    #[serde(rename = "q")]
    pub queue: Name,
    #[serde(rename = "p")]
    pub payload: Json,
    /// −100 to 100, higher is sooner.
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    pub priority: i8,
    #[serde(rename = "y", default, skip_serializing_if = "is_default")]
    pub retry: RetryPolicy,
    /// Whether `retry` was asked for with the job; else the handler's own policy, if it has one, counts.
    #[serde(rename = "yo", default, skip_serializing_if = "is_default")]
    pub retry_is_own: bool,
    /// Limit of one attempt, in milliseconds; none means no limit.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    #[serde(rename = "m", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// Parents that have not completed yet: it is held until none is left. At most [`limits::PARENTS`].
    #[serde(rename = "a", default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<JobId>,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Limit of all attempts and the waits between them, from its creation, in milliseconds.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,

    /// Rises with every move; an operator's verb names the one it read.
    #[serde(rename = "v", default, skip_serializing_if = "is_default")]
    pub rev: u32,
    /// Attempts that failed and were counted.
    #[serde(rename = "f", default, skip_serializing_if = "is_default")]
    pub failures: u32,
    /// When its workers died, within [`limits::CRASH_WINDOW`].
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub crashes: Vec<Ms>,
    /// The last lease.
    #[serde(rename = "e", default, skip_serializing_if = "is_default")]
    pub epoch: Epoch,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Ms>,
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Ms>,
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Ms>,
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Attempt>,
    /// How far the last execution had come when it ended.
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// A rate limit has given it its permit: the next claim asks for none.
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    pub permitted: bool,
    /// It came to its turn while its run was paused, and waits for that to end.
    #[serde(rename = "j", default, skip_serializing_if = "is_default")]
    pub withheld: bool,
    /// What a store kept as this job and this goflow cannot read. Then most of the other fields are not
    /// known; see [`Job::unreadable`].
    #[serde(rename = "raw", default, with = "super::raw", skip_serializing_if = "Option::is_none")]
    pub raw: Option<Vec<u8>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What is said of a job whose end somebody asked for.
pub const ASKED: &str = "somebody asked for its end";

/// How an execution ended, as the engine tells it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Completed {
        result: Option<Json>,
    },
    Failed {
        error: JobError,
        retry: RetryHint,
    },
    /// Given back unfinished, at no cost: a worker that stops.
    Released,
    /// The lease lapsed: its worker died or was cut off.
    Crashed,
    /// The worker has no handler for the type.
    Unhandled,
    /// The handler asks to be called again later; nothing is counted.
    Snoozed {
        delay: Duration,
    },
    /// Not started: the rate limit gave a permit for later.
    Limited {
        delay: Duration,
    },
    /// Not started: its run is paused. It is looked at again after this time, or let go before.
    Withheld {
        delay: Duration,
    },
    /// Somebody asked for its end, and it was ended.
    Cancelled {
        reason: String,
    },
}

/// What the handler itself says about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryHint {
    /// By the job's policy.
    Policy,
    /// By the policy, but not sooner than this: `Retry-After`.
    NotBefore(Duration),
    /// Again, without counting: exit code 75, EX_TEMPFAIL of sysexits.h.
    Uncounted,
    /// Again after this long, without counting: the handler asks for time, or what it calls is known to
    /// be away.
    Snooze(Duration),
    /// By the policy if that names the class of the error, else never: what would only be repeated,
    /// unless somebody knows better.
    IfNamed,
    /// Never: exit code 65, EX_DATAERR of sysexits.h.
    Never,
}

impl Job {
    /// A new job with everything at its default.
    pub fn new(id: JobId, kind: Name, queue: Name, payload: Json) -> Job {
        Job {
            id,
            kind,
            queue,
            payload,
            priority: 0,
            retry: RetryPolicy::default(),
            retry_is_own: false,
            timeout_ms: None,
            unique_key: None,
            metadata: BTreeMap::new(),
            link: None,
            rev: 0,
            failures: 0,
            crashes: Vec::new(),
            epoch: Epoch(0),
            worker: None,
            started_at: None,
            finished_at: None,
            updated_at: None,
            error: None,
            result: None,
            history: Vec::new(),
            after: Vec::new(),
            concurrency: None,
            deadline_ms: None,
            progress: None,
            permitted: false,
            withheld: false,
            raw: None,
        }
    }

    /// Whether it may be what killed its workers: then it is leased alone, however it came to wait.
    pub fn is_suspect(&self) -> bool {
        !self.crashes.is_empty()
    }

    /// When all its attempts must have ended.
    pub fn deadline(&self) -> Option<Ms> {
        self.deadline_ms.map(|ms| self.id.created_at().after(Duration::from_millis(ms)))
    }

    /// What stands for a job whose record cannot be read, so that it can be looked at, buried and kept
    /// without bothering any other: `raw` is the record as it was found, `why` what is wrong with it.
    /// A goflow that can read it will do so when it is tried again.
    pub fn unreadable(id: JobId, kind: Name, queue: Name, raw: Vec<u8>, why: impl AsRef<str>) -> Job {
        let error = Some(JobError::new("unreadable", why));
        Job { raw: Some(raw), error, ..Job::new(id, kind, queue, Json::null()) }
    }

    /// The number of the attempt that is under way, or of the last one: 1 is the first. A job that
    /// crashed or was given back runs the same attempt again, under a higher epoch.
    pub fn attempt(&self, state: JobState) -> u32 {
        let last_failed = self.history.last().is_some_and(|last| last.epoch == self.epoch);
        match state {
            JobState::Running | JobState::Completed => self.failures + 1,
            // It was stopped while it ran, or after it was given back.
            JobState::Cancelled if self.started_at.is_some() && !last_failed => self.failures + 1,
            // A failure that was not counted has been an attempt all the same.
            JobState::Cancelled | JobState::Retrying if self.started_at.is_some() => self.failures.max(1),
            _ => self.failures,
        }
    }

    /// Marks the record as leased. Only the worker's copy: the store's fact is the lease itself.
    pub fn claimed(&mut self, worker: WorkerId, epoch: Epoch, now: Ms) {
        self.worker = Some(worker);
        self.epoch = epoch;
        self.started_at = Some(now);
    }

    /// What becomes of a running job when an execution ends: the next record, where it goes, and
    /// what to call it. `random` is uniform in 0..1, for the jitter of a retry's delay.
    pub fn settle(mut self, outcome: Outcome, now: Ms, random: f64) -> Settled {
        self.permitted = matches!(outcome, Outcome::Limited { .. });
        self.withheld = matches!(outcome, Outcome::Withheld { .. });
        self.crashes.retain(|at| now.since(*at) < limits::CRASH_WINDOW);
        match outcome {
            Outcome::Completed { result } => {
                self.result = result.filter(|value| !value.is_null());
                self.error = None;
                self.ended(JobEvent::Complete, To::Completed, EventKind::JobCompleted, now)
            }
            Outcome::Failed { error, retry } => self.failed(error, retry, now, random),
            Outcome::Released => {
                // A suspect that was given back unfinished has proved nothing.
                let to = if self.crashes.is_empty() { To::Front } else { To::Suspect };
                self.ended(JobEvent::Release, to, EventKind::JobReleased, now)
            }
            Outcome::Unhandled => self.ended(JobEvent::Park, To::Parked, EventKind::JobReleased, now),
            Outcome::Crashed => self.crashed(now),
            Outcome::Snoozed { delay } | Outcome::Limited { delay } | Outcome::Withheld { delay } => {
                self.ended(JobEvent::Snooze, To::Scheduled(delay), EventKind::JobScheduled, now)
            }
            Outcome::Cancelled { reason } => {
                self.error = Some(JobError::new("cancelled", reason));
                self.ended(JobEvent::Cancel, To::Cancelled, EventKind::JobCancelled, now)
            }
        }
    }

    fn failed(mut self, error: JobError, hint: RetryHint, now: Ms, random: f64) -> Settled {
        self.remember(error.clone(), now);
        let class = error.class.clone();
        self.error = Some(error);
        let uncounted = match hint {
            RetryHint::Uncounted => Some(self.retry.delay(1, random)),
            RetryHint::Snooze(delay) => Some(delay),
            _ => None,
        };
        if let Some(delay) = uncounted {
            return self.ended(JobEvent::Fail, To::Retrying(delay), EventKind::JobRetried, now);
        }
        self.failures += 1;
        let worthwhile = match hint {
            RetryHint::Never => false,
            RetryHint::IfNamed => !self.retry.errors.is_empty(),
            _ => true,
        };
        let again = worthwhile && self.failures <= self.retry.max && self.retry.covers(&class);
        if !again {
            return self.ended(JobEvent::Exhaust, To::Dead, EventKind::JobDead, now);
        }
        let mut delay = self.retry.delay(self.failures, random);
        if let RetryHint::NotBefore(least) = hint {
            delay = delay.max(least);
        }
        if self.deadline().is_some_and(|deadline| now.after(delay) >= deadline) {
            let message = format!("its deadline leaves no time for another attempt; the last one failed: {class}");
            self.error = Some(JobError::new("deadline", message));
            return self.ended(JobEvent::Exhaust, To::Dead, EventKind::JobDead, now);
        }
        self.ended(JobEvent::Fail, To::Retrying(delay), EventKind::JobRetried, now)
    }

    fn crashed(mut self, now: Ms) -> Settled {
        self.crashes.push(now);
        let nth = self.crashes.len();
        self.remember(JobError::new("crash", "the worker died or was cut off while it ran this job"), now);
        if nth >= limits::CRASHES {
            let message = format!("its worker died {nth} times within 72 hours while running it");
            self.error = Some(JobError::new("poison", message));
            return self.ended(JobEvent::Poison, To::Dead, EventKind::JobDead, now);
        }
        self.ended(JobEvent::Crash, To::Suspect, EventKind::JobReleased, now)
    }

    /// Buries a parked job that nobody came for.
    pub fn bury_unhandled(mut self, now: Ms) -> Settled {
        let message = format!("no worker handled the type `{}` for ten minutes", self.kind);
        self.error = Some(JobError::new("no_handler", message));
        self.left(JobState::Pending, JobEvent::Bury, To::Dead, EventKind::JobDead, now)
    }

    /// Ends a job that nobody runs.
    ///
    /// # Errors
    /// [`IllegalJobEvent`] if it has ended already.
    pub fn cancel(mut self, state: JobState, reason: impl AsRef<str>, now: Ms) -> Result<Settled, IllegalJobEvent> {
        state.next(JobEvent::Cancel)?;
        self.error = Some(JobError::new("cancelled", reason));
        Ok(self.left(state, JobEvent::Cancel, To::Cancelled, EventKind::JobCancelled, now))
    }

    /// What becomes of a held job when one of its parents has ended: `Some` state of the parent, or
    /// `None` if it is no longer kept. `None` if the job does not wait for this parent.
    pub fn parent_ended(mut self, parent: JobId, state: Option<JobState>, now: Ms) -> Option<Settled> {
        let place = self.after.iter().position(|waited| *waited == parent)?;
        if state == Some(JobState::Completed) {
            self.after.remove(place);
            if !self.after.is_empty() {
                self.rev = self.rev.wrapping_add(1);
                return Some(Settled { job: self, to: To::Held, event: EventKind::JobScheduled });
            }
            return Some(self.left(JobState::Scheduled, JobEvent::Due, To::Pending, EventKind::JobReady, now));
        }
        let end = match state {
            Some(state) => format!("is {state}"),
            None => "was deleted".to_owned(),
        };
        self.error = Some(JobError::new("parent", format!("job {parent}, which it was to follow, {end}")));
        Some(self.left(JobState::Scheduled, JobEvent::Cancel, To::Cancelled, EventKind::JobCancelled, now))
    }

    /// The run of a step that was withheld goes on: it goes back to its line. `None` for any other job.
    pub fn let_go(mut self, place: Place, now: Ms) -> Option<Settled> {
        if !std::mem::take(&mut self.withheld) || place != Place::Scheduled {
            return None;
        }
        Some(self.left(JobState::Scheduled, JobEvent::Due, To::Pending, EventKind::JobReady, now))
    }

    /// An operator's retry: a new life, with the old one kept in the history.
    ///
    /// # Errors
    /// [`IllegalJobEvent`] unless the job is dead or cancelled.
    pub fn requeue(mut self, state: JobState, now: Ms) -> Result<Settled, IllegalJobEvent> {
        state.next(JobEvent::Requeue)?;
        self.failures = 0;
        self.crashes.clear();
        self.after.clear();
        (self.permitted, self.withheld) = (false, false);
        self.progress = None;
        (self.started_at, self.finished_at) = (None, None);
        self.error = None;
        self.result = None;
        Ok(self.left(state, JobEvent::Requeue, To::Pending, EventKind::JobRequeued, now))
    }

    fn ended(self, event: JobEvent, to: To, kind: EventKind, now: Ms) -> Settled {
        self.left(JobState::Running, event, to, kind, now)
    }

    fn left(mut self, from: JobState, event: JobEvent, to: To, kind: EventKind, now: Ms) -> Settled {
        debug_assert_eq!(from.next(event).ok(), to.place().map(Place::state), "{from} {event:?} {to:?}");
        self.rev = self.rev.wrapping_add(1);
        self.updated_at = Some(now);
        if to.place().is_some_and(|place| place.state().is_terminal()) {
            self.finished_at = Some(now);
        }
        Settled { job: self, to, event: kind }
    }

    /// Keeps the first and the latest failures.
    fn remember(&mut self, error: JobError, now: Ms) {
        if self.history.len() >= limits::HISTORY {
            self.history.remove(1);
        }
        let (epoch, worker, started_at) = (self.epoch, self.worker, self.started_at);
        self.history.push(Attempt { epoch, worker, started_at, ended_at: now, error });
    }
}

/// The decision about a job that left a state.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    pub job: Job,
    pub to: To,
    pub event: EventKind,
}

#[cfg(test)]
mod tests;
