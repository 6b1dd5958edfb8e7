//! A job as a function sees it: its payload, what it is called by, and how to tell of its progress.

use std::collections::BTreeMap;

use crate::domain::{self, JobId, JobState, Progress, RunId};
use crate::engine::Task;
use crate::workflow;

/// One execution of a job.
#[derive(Debug)]
pub struct Job<P> {
    pub payload: P,
    task: Task,
}

impl<P> Job<P> {
    pub(super) fn new(payload: P, task: Task) -> Job<P> {
        Job { payload, task }
    }

    pub fn id(&self) -> JobId {
        self.task.job.id
    }

    /// The job type.
    pub fn kind(&self) -> &str {
        self.task.job.kind.as_str()
    }

    pub fn queue(&self) -> &str {
        self.task.job.queue.as_str()
    }

    /// 1 is the first.
    pub fn attempt(&self) -> u32 {
        self.task.job.attempt(JobState::Running)
    }

    /// The number of the lease, which rises each time the job is given to a worker: what a target that
    /// must be written once is fenced with.
    pub fn epoch(&self) -> u64 {
        self.task.job.epoch.0
    }

    /// The trace that what it does belongs to, as a W3C traceparent: to be passed on.
    pub fn trace(&self) -> Option<&str> {
        self.task.trace.as_deref()
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.task.job.metadata
    }

    /// The run it is a step of.
    pub fn run(&self) -> Option<RunId> {
        self.task.job.link.as_ref().map(|link| link.run)
    }

    /// The same over all attempts: the key of its step, or its id. For what must not be done twice.
    pub fn idempotency_key(&self) -> String {
        match &self.task.job.link {
            Some(link) => workflow::step_key(link.run, &link.step),
            None => self.task.job.id.to_string(),
        }
    }

    /// Tells how far it has come: 0 to 100, and a word about it.
    pub fn progress(&self, percent: f64, message: &str) {
        self.task.notes.progress(Progress::new(Some(percent), message));
    }

    /// Done when the job must end now: its lease is lost, it is cancelled, or the worker stops. A function
    /// is dropped at its next `await` then; one that has given work to others stops them here.
    pub async fn stopped(&self) {
        self.task.stop.cancelled().await;
    }

    /// The whole record.
    pub fn record(&self) -> &domain::Job {
        &self.task.job
    }
}
