//! Which handler does which job type. A handler is anything that turns a job into an outcome; the
//! engine does not know what it does for it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::domain::job::Outcome;
use crate::domain::{Job, Name};

/// One execution of a job. `job` carries the lease: its epoch is the fence.
#[derive(Clone, Debug)]
pub struct Task {
    pub job: Job,
    /// Cancelled when the job must end now: the lease is lost, or the worker stops.
    pub stop: CancellationToken,
}

/// How an execution ended; `None` when it was stopped before its end.
pub type Ending = Pin<Box<dyn Future<Output = Option<Outcome>> + Send>>;

pub trait Handler: Send + Sync {
    /// The outcome of a job that needs no waiting at all. A job that answers here costs no task.
    fn immediate(&self, _job: &Job) -> Option<Outcome> {
        None
    }

    /// Runs the job to its end. When `task.stop` is cancelled it ends soon, and whatever it started
    /// is over when the future is.
    fn run(&self, task: Task) -> Ending;
}

/// The handlers of a worker, by job type.
#[derive(Clone, Default)]
pub struct Handlers {
    by_type: BTreeMap<Name, Arc<dyn Handler>>,
}

impl Handlers {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the handler of a job type; the latest one counts.
    pub fn set(&mut self, kind: Name, handler: Arc<dyn Handler>) {
        self.by_type.insert(kind, handler);
    }

    pub fn get(&self, kind: &Name) -> Option<&Arc<dyn Handler>> {
        self.by_type.get(kind)
    }

    pub fn types(&self) -> Vec<Name> {
        self.by_type.keys().cloned().collect()
    }
}
