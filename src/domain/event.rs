//! Events: immutable facts about jobs, runs, workers and queues, as the event log keeps them.

use serde::{Deserialize, Serialize};

use super::id::{JobId, RunId, WorkerId};
use super::name::Name;
use super::time::Ms;

macro_rules! event_kinds {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        /// What happened. The number is what the log keeps, the text what the outside reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum EventKind { $($name = $code,)* }

        impl EventKind {
            pub const ALL: &[EventKind] = &[$(EventKind::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(EventKind::$name => $text,)* }
            }

            pub fn code(self) -> u8 {
                self as u8
            }

            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(EventKind::$name),)* _ => None }
            }
        }
    };
}

event_kinds! {
    JobCreated = 1, "job.created";
    JobScheduled = 2, "job.scheduled";
    JobStarted = 3, "job.started";
    JobProgress = 4, "job.progress";
    JobCompleted = 5, "job.completed";
    JobFailed = 6, "job.failed";
    JobRetried = 7, "job.retried";
    JobReleased = 8, "job.released";
    JobCancelled = 9, "job.cancelled";
    JobDead = 10, "job.dead";
    JobRequeued = 11, "job.requeued";
    JobDeleted = 12, "job.deleted";
    JobReady = 13, "job.ready";
    JobEdited = 14, "job.edited";
    RunStarted = 20, "run.started";
    RunCompleted = 21, "run.completed";
    RunFailed = 22, "run.failed";
    RunCompensating = 23, "run.compensating";
    RunCompensated = 24, "run.compensated";
    RunCancelled = 25, "run.cancelled";
    RunPaused = 26, "run.paused";
    RunResumed = 27, "run.resumed";
    RunSignalled = 28, "run.signalled";
    RunRetried = 29, "run.retried";
    StepStarted = 30, "step.started";
    StepCompleted = 31, "step.completed";
    StepFailed = 32, "step.failed";
    StepSkipped = 33, "step.skipped";
    StepCancelled = 34, "step.cancelled";
    StepCompensating = 35, "step.compensating";
    StepCompensated = 36, "step.compensated";
    StepUndoFailed = 37, "step.undo_failed";
    StepRetrying = 38, "step.retrying";
    StepWaiting = 39, "step.waiting";
    WorkerStarted = 40, "worker.started";
    WorkerStopped = 41, "worker.stopped";
    WorkerLost = 42, "worker.lost";
    WorkerDraining = 43, "worker.draining";
    QueuePaused = 50, "queue.paused";
    QueueResumed = 51, "queue.resumed";
    QueueTrimmed = 52, "queue.trimmed";
    QueueSet = 53, "queue.set";
    ScheduleSet = 60, "schedule.set";
    ScheduleDeleted = 61, "schedule.deleted";
    SchedulePaused = 62, "schedule.paused";
    ScheduleResumed = 63, "schedule.resumed";
    ScheduleTicked = 64, "schedule.ticked";
    ScheduleSkipped = 65, "schedule.skipped";
    ScheduleMissed = 66, "schedule.missed";
    ScheduleTriggered = 67, "schedule.triggered";
    RunPending = 70, "run.pending";
    RunAnswered = 71, "run.answered";
    StepReset = 72, "step.reset";
    LockBroken = 80, "lock.broken";
    ShardAdded = 85, "shard.added";
    ShardDraining = 86, "shard.draining";
    ShardRemoved = 87, "shard.removed";
    ShardUnclaimed = 88, "shard.unclaimed";
    JobMoved = 89, "job.moved";
}

impl Serialize for EventKind {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(self.code())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let code = u8::deserialize(from)?;
        EventKind::from_code(code).ok_or_else(|| serde::de::Error::custom(format!("unknown event code {code}")))
    }
}

/// One fact. `at` is the store's clock and `position` its place in the shard's log; both are given
/// by the store when the record is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    #[serde(rename = "k")]
    pub kind: EventKind,
    #[serde(skip)]
    pub at: Ms,
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Name>,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// An error, a reason, a count: short text for people.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Event {
    pub fn new(kind: EventKind) -> Self {
        Event {
            kind,
            at: Ms(0),
            job: None,
            run: None,
            step: None,
            queue: None,
            worker: None,
            attempt: None,
            data: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_keeps_its_code_and_its_name() {
        let mut names = std::collections::BTreeSet::new();
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_code(kind.code()), Some(*kind));
            assert!(names.insert(kind.as_str()), "{} twice", kind.as_str());
            assert!(kind.as_str().contains('.'));
        }
        assert_eq!(EventKind::from_code(0), None);
    }
}
