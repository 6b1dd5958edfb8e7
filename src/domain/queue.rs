//! A queue: a named line of jobs, its settings and its counters.

use serde::{Deserialize, Serialize};

use super::name::Name;

/// What an operator can set on a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// A paused queue takes new work and gives none out.
    #[serde(rename = "p", default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// The counters of a queue, as the store keeps them. `pending` includes jobs that wait to be run
/// alone after a crash and jobs parked for a worker that knows their type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStats {
    pub name: Name,
    pub paused: bool,
    pub scheduled: u64,
    pub pending: u64,
    pub running: u64,
    pub retrying: u64,
    pub dead: u64,
    /// Completed jobs still kept.
    pub completed: u64,
    /// Cancelled jobs still kept.
    pub cancelled: u64,
    /// Of `pending`: parked until a worker that knows the type comes.
    pub parked: u64,
    /// How long the job at the head of the line has existed, in milliseconds; `None` when the line is empty.
    pub oldest_pending_ms: Option<i64>,
}

impl QueueStats {
    pub fn empty(name: Name) -> Self {
        QueueStats {
            name,
            paused: false,
            scheduled: 0,
            pending: 0,
            running: 0,
            retrying: 0,
            dead: 0,
            completed: 0,
            cancelled: 0,
            parked: 0,
            oldest_pending_ms: None,
        }
    }

    /// Whether a worker that runs until the queue is empty still has something to wait for:
    /// work that waits, runs, or is due to retry. Jobs scheduled for later do not count.
    pub fn is_busy(&self) -> bool {
        self.pending + self.running + self.retrying > 0
    }
}
