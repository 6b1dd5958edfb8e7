//! Which handler does which job type. A handler is anything that turns a job into an outcome; the
//! engine does not know what it does for it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::domain::job::Outcome;
use crate::domain::{Job, Name, Rate};
use crate::exec::{NoNotes, Notes};
use crate::store::Definition;
use crate::workflow::{Batching, HandlerDef, Manifest, parse};

/// One execution of a job. `job` carries the lease: its epoch is the fence.
#[derive(Clone, Debug)]
pub struct Task {
    pub job: Job,
    /// Cancelled when the job must end now: the lease is lost, or the worker stops.
    pub stop: CancellationToken,
    /// Takes what the job tells of itself while it runs.
    pub notes: Arc<dyn Notes>,
    /// The trace that what it does belongs to: a W3C traceparent.
    pub trace: Option<String>,
}

impl Task {
    /// A task whose notes nobody keeps.
    pub fn new(job: Job, stop: CancellationToken) -> Task {
        Task { job, stop, notes: Arc::new(NoNotes), trace: None }
    }
}

/// What holds for all jobs of a type together, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Starts in a time.
    pub rate: Option<Rate>,
}

/// How an execution ended; `None` when it was stopped before its end.
pub type Ending = Pin<Box<dyn Future<Output = Option<Outcome>> + Send>>;

/// How the executions of a batch ended, in the order of its jobs.
pub type Endings = Pin<Box<dyn Future<Output = Vec<Option<Outcome>>> + Send>>;

/// Done when a handler has nothing left that lives longer than a job.
pub type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

pub trait Handler: Send + Sync {
    /// The outcome of a job that needs no waiting at all. A job that answers here costs no task.
    fn immediate(&self, _job: &Job) -> Option<Outcome> {
        None
    }

    /// What the handler says where the job says nothing.
    fn defaults(&self, _job: &mut Job) {}

    /// Runs the job to its end. When `task.stop` is cancelled it ends soon, and whatever it started
    /// is over when the future is.
    fn run(&self, task: Task) -> Ending;

    /// What holds for all jobs of the type together.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Whether it takes several jobs at once, and how many.
    fn batch(&self) -> Option<Batching> {
        None
    }

    /// Runs several jobs at once. A handler that takes batches answers for each, in their order; when
    /// the stop of one is cancelled all of them end. Any other one runs them side by side.
    fn run_batch(&self, tasks: Vec<Task>) -> Endings {
        let endings: Vec<Ending> = tasks.into_iter().map(|task| self.run(task)).collect();
        Box::pin(futures_util::future::join_all(endings))
    }

    /// Ends what lives longer than a job, such as a pool's processes. Called once nothing runs.
    fn close(&self) -> Closing {
        Box::pin(std::future::ready(()))
    }
}

/// Makes a handler of its description.
type Describe = Arc<dyn Fn(HandlerDef) -> Arc<dyn Handler> + Send + Sync>;

/// The handlers of a worker, by job type: its own, and those that were applied to the store. Its own
/// ones win.
#[derive(Clone, Default)]
pub struct Handlers {
    own: BTreeMap<Name, Arc<dyn Handler>>,
    applied: BTreeMap<Name, (String, Arc<dyn Handler>)>,
    describe: Option<Describe>,
}

impl Handlers {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the handler of a job type; the latest one counts.
    pub fn set(&mut self, kind: Name, handler: Arc<dyn Handler>) {
        self.own.insert(kind, handler);
    }

    /// How handlers that are applied to the store become handlers here. Without it they are not
    /// looked at.
    pub fn describe_with(&mut self, describe: impl Fn(HandlerDef) -> Arc<dyn Handler> + Send + Sync + 'static) {
        self.describe = Some(Arc::new(describe));
    }

    pub fn follows_store(&self) -> bool {
        self.describe.is_some()
    }

    pub fn get(&self, kind: &Name) -> Option<&Arc<dyn Handler>> {
        self.own.get(kind).or_else(|| self.applied.get(kind).map(|(_, handler)| handler))
    }

    /// Ends what the handlers keep alive between jobs, all at the same time.
    pub async fn close(&self) {
        let handlers = self.own.values().chain(self.applied.values().map(|(_, handler)| handler));
        futures_util::future::join_all(handlers.map(|handler| handler.close())).await;
    }

    pub fn types(&self) -> Vec<Name> {
        self.own.keys().chain(self.applied.keys().filter(|kind| !self.own.contains_key(kind))).cloned().collect()
    }

    /// Takes over what the store describes now; answers whether anything changed. A description that
    /// this version cannot read is left out, and told.
    pub fn follow(&mut self, definitions: Vec<Definition>) -> bool {
        let Some(describe) = self.describe.clone() else { return false };
        let mut applied = BTreeMap::new();
        for definition in definitions {
            if let Some(kept) = self.applied.get(&definition.name).filter(|kept| kept.0 == definition.hash) {
                applied.insert(definition.name, kept.clone());
                continue;
            }
            match read(&definition) {
                Ok(def) => {
                    applied.insert(definition.name, (definition.hash, describe(def)));
                }
                Err(why) => tracing::error!(handler = %definition.name, "an applied handler cannot be read: {why}"),
            }
        }
        let hashes = |handlers: &BTreeMap<Name, (String, Arc<dyn Handler>)>| {
            handlers.iter().map(|(name, (hash, _))| (name.clone(), hash.clone())).collect::<Vec<_>>()
        };
        let changed = hashes(&applied) != hashes(&self.applied);
        self.applied = applied;
        changed
    }
}

fn read(definition: &Definition) -> Result<HandlerDef, String> {
    let manifests = parse(definition.name.as_str(), &definition.text).map_err(|problems| problems.render())?;
    manifests
        .into_iter()
        .find_map(|manifest| match manifest {
            Manifest::Handler(def) => Some(def),
            _ => None,
        })
        .ok_or_else(|| "it is not a handler".to_owned())
}
