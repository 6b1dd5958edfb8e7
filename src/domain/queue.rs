//! A queue: a named line of jobs, its settings and its counters.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::Name;
use super::rate::Rate;

/// What an operator can set on a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// A paused queue takes new work and gives none out.
    #[serde(rename = "p", default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Its share among the queues of a worker that was not told weights: 1 to 1,000, 1 if unset.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// How many jobs of the queue may start in a time, over all workers.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<Rate>,
    /// How many jobs of the queue may run at once, over all workers; at least 1.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// What is kept of its finished jobs, if not what the others keep.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// What is kept of finished work: what is younger than `age`, and of that no more than `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    #[serde(rename = "a")]
    pub age: Duration,
    /// Finished jobs a queue.
    #[serde(rename = "n")]
    pub count: usize,
}

/// The counters of a queue, as the store keeps them. `pending` includes jobs that wait to be run
/// alone after a crash, jobs parked for a worker that knows their type, and jobs blocked by their
/// concurrency key; `scheduled` includes jobs held until their parents end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

    /// The counters of both: of one queue in two places, or of two queues. `paused` if either is.
    pub fn add(&mut self, other: &QueueStats) {
        self.paused |= other.paused;
        self.scheduled += other.scheduled;
        self.pending += other.pending;
        self.running += other.running;
        self.retrying += other.retrying;
        self.dead += other.dead;
        self.completed += other.completed;
        self.cancelled += other.cancelled;
        self.parked += other.parked;
        self.oldest_pending_ms = self.oldest_pending_ms.max(other.oldest_pending_ms);
    }

    /// Whether a worker that runs until the queue is empty still has something to wait for:
    /// work that waits, runs, or is due to retry. Jobs scheduled for later do not count.
    pub fn is_busy(&self) -> bool {
        self.pending + self.running + self.retrying > 0
    }
}
