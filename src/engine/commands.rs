//! The handlers that every worker has: built-ins, commands and HTTP calls of steps, and what somebody
//! described as a Handler. They turn a job into a piece of work for `exec`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio_util::sync::CancellationToken;

use crate::domain::job::{JobError, Outcome, RetryHint};
use crate::domain::secret::{self, Secrets};
use crate::domain::{Job, JobState, Progress};
use crate::exec::{self, Action, Builtin, Context, Ended, Pool, Work};
use crate::workflow::{self, Batching, HTTP_KIND, HandlerDef, How, RUN_KIND, Request};

use super::handlers::{Closing, Ending, Endings, Handler, Handlers, Limits, Task};

impl Handlers {
    /// Built-ins, and the commands and calls of steps, over one context; and, as they are applied, the
    /// handlers that the store describes.
    pub fn standard(context: &Arc<Context>) -> Handlers {
        let mut handlers = Handlers::new();
        let applied = context.clone();
        handlers.describe_with(move |def| Arc::new(Described::new(def, &applied)));
        for builtin in Builtin::ALL {
            if let Ok(name) = builtin.as_str().parse() {
                handlers.set(name, Arc::new(BuiltinHandler { builtin, context: context.clone() }));
            }
        }
        let command = |payload: &_| workflow::Command::from_json(payload).map(Action::Command);
        let call = |payload: &_| Request::from_json(payload).map(Action::Http);
        for (kind, read) in [(RUN_KIND, command as Read), (HTTP_KIND, call as Read)] {
            if let Ok(name) = kind.parse() {
                handlers.set(name, Arc::new(StepWork { read, context: context.clone() }));
            }
        }
        handlers
    }

    /// Adds what was described for a job type.
    pub fn add(&mut self, def: HandlerDef, context: &Arc<Context>) {
        self.set(def.name.clone(), Arc::new(Described::new(def, context)));
    }
}

fn work(job: &Job, notes: Arc<dyn exec::Notes>, trace: Option<String>, secrets: &Arc<Secrets>) -> Work {
    let notes = if secrets.is_empty() { notes } else { Arc::new(Discreet { notes, secrets: secrets.clone() }) };
    Work {
        job: job.id,
        kind: job.kind.clone(),
        queue: job.queue.clone(),
        attempt: job.attempt(JobState::Running),
        epoch: job.epoch,
        run: job.link.as_ref().map(|link| link.run),
        step_key: job.link.as_ref().map(|link| workflow::step_key(link.run, &link.step)),
        undo: job.link.as_ref().is_some_and(|link| link.undo),
        payload: job.payload.clone(),
        timeout: job.timeout_ms.map(Duration::from_millis),
        secrets: secrets.clone(),
        notes,
        trace,
    }
}

async fn perform(action: Action, work: Work, context: Arc<Context>, stop: CancellationToken) -> Option<Outcome> {
    outcome(exec::perform(&action, &work, &context, &stop).await, &work.secrets)
}

/// What is kept of an end: no secret that whoever declared the work has named.
fn outcome(ended: Ended, secrets: &Secrets) -> Option<Outcome> {
    match ended {
        Ended::Outcome(outcome) if secrets.is_empty() => Some(outcome),
        Ended::Outcome(Outcome::Completed { result }) => {
            Some(Outcome::Completed { result: result.map(|result| secrets.hide_json(result)) })
        }
        Ended::Outcome(Outcome::Failed { error, retry }) => {
            let error = JobError::new(secrets.hide(&error.class), secrets.hide(&error.message));
            Some(Outcome::Failed { error, retry })
        }
        Ended::Outcome(outcome) => Some(outcome),
        Ended::Stopped => None,
    }
}

/// Tells on what a job tells, without its secrets.
#[derive(Debug)]
struct Discreet {
    notes: Arc<dyn exec::Notes>,
    secrets: Arc<Secrets>,
}

impl exec::Notes for Discreet {
    fn progress(&self, progress: Progress) {
        let message = self.secrets.hide(&progress.message).into_owned();
        self.notes.progress(Progress { message, ..progress });
    }

    /// Whoever gives this gives whole lines: a secret stands in one.
    fn log(&self, text: &[u8]) {
        match std::str::from_utf8(text) {
            Ok(text) => self.notes.log(self.secrets.hide(text).as_bytes()),
            Err(_) => self.notes.log(self.secrets.hide(&String::from_utf8_lossy(text)).as_bytes()),
        }
    }
}

/// A mistake that another attempt would only repeat.
fn hopeless(class: &str, message: impl AsRef<str>) -> Outcome {
    Outcome::Failed { error: JobError::new(class, message), retry: RetryHint::Never }
}

fn at_once(outcome: Outcome) -> Ending {
    Box::pin(async move { Some(outcome) })
}

struct BuiltinHandler {
    builtin: Builtin,
    context: Arc<Context>,
}

fn immediate(builtin: Builtin, job: &Job) -> Option<Outcome> {
    match builtin {
        // The queue's own speed is measured with this one: it does not even look at the job.
        Builtin::Noop => Some(Outcome::Completed { result: None }),
        builtin => builtin.immediate(&work(job, Arc::new(exec::NoNotes), None, &Arc::default())),
    }
}

impl Handler for BuiltinHandler {
    fn immediate(&self, job: &Job) -> Option<Outcome> {
        immediate(self.builtin, job)
    }

    fn run(&self, task: Task) -> Ending {
        let work = work(&task.job, task.notes, task.trace, self.context.secrets());
        Box::pin(perform(Action::Builtin(self.builtin), work, self.context.clone(), task.stop))
    }
}

/// Reads the payload that `advance` made for a step of one verb.
type Read = fn(&serde_json::Value) -> Result<Action, workflow::BadCommand>;

/// A step's own command or HTTP call. It comes rendered in the payload, and only `advance` writes such
/// a payload: without a link to a run it is not executed.
struct StepWork {
    read: Read,
    context: Arc<Context>,
}

impl Handler for StepWork {
    fn run(&self, task: Task) -> Ending {
        if task.job.link.is_none() {
            let why = format!("a job of type {} belongs to a step of a run", task.job.kind);
            return at_once(hopeless("payload", why));
        }
        let payload = task.job.payload.to_value();
        match (self.read)(&payload) {
            Ok(action) => {
                let own = secret::of_manifest(&payload);
                let known = self.context.secrets();
                let secrets = if own.is_empty() { known.clone() } else { Arc::new(known.and(own)) };
                let work = work(&task.job, task.notes, task.trace, &secrets);
                Box::pin(perform(action, work, self.context.clone(), task.stop))
            }
            Err(error) => at_once(hopeless("payload", error.to_string())),
        }
    }
}

/// What a Handler manifest or the configuration describes.
struct Described {
    def: HandlerDef,
    pool: Option<Arc<Pool>>,
    context: Arc<Context>,
    secrets: Arc<Secrets>,
}

impl Described {
    fn new(def: HandlerDef, context: &Arc<Context>) -> Described {
        let pool = match &def.how {
            How::Pool(spec) => Some(Arc::new(Pool::new(def.name.clone(), spec, context))),
            How::Run(_) | How::Http(_) | How::Builtin(_) => None,
        };
        let secrets = Arc::new(context.secrets().and(def.secrets()));
        Described { def, pool, context: context.clone(), secrets }
    }

    fn builtin(&self) -> Option<Builtin> {
        match self.def.how {
            How::Builtin(name) => Builtin::by_name(name),
            _ => None,
        }
    }

    /// What is to be done for a job, or why nothing can be.
    fn action(&self, job: &Job) -> Result<Action, Outcome> {
        let wrong = |error: workflow::expr::ExprError| hopeless("expression", error.with_hint());
        match (&self.def.how, &self.pool) {
            (How::Run(spec), _) => spec.for_job(job).map(Action::Command).map_err(wrong),
            (How::Http(spec), _) => spec.for_job(job).map(Action::Http).map_err(wrong),
            (How::Pool(_), Some(pool)) => Ok(Action::Pool(pool.clone())),
            (How::Pool(_), None) => Err(hopeless("pool", "the pool was not made")),
            (How::Builtin(name), _) => match Builtin::by_name(name) {
                Some(builtin) => Ok(Action::Builtin(builtin)),
                None => Err(hopeless("payload", format!("there is no built-in `{name}`"))),
            },
        }
    }

    fn work(&self, task: &Task) -> Work {
        let mut work = work(&task.job, task.notes.clone(), task.trace.clone(), &self.secrets);
        work.timeout = work.timeout.or(self.def.timeout);
        work
    }
}

impl Handler for Described {
    fn immediate(&self, job: &Job) -> Option<Outcome> {
        immediate(self.builtin()?, job)
    }

    fn defaults(&self, job: &mut Job) {
        if let Some(retry) = &self.def.retry
            && !job.retry_is_own
        {
            job.retry = retry.clone();
        }
    }

    fn limits(&self) -> Limits {
        Limits { rate: self.def.rate_limit }
    }

    fn batch(&self) -> Option<Batching> {
        self.def.batch
    }

    fn run(&self, task: Task) -> Ending {
        match self.action(&task.job) {
            Ok(action) => Box::pin(perform(action, self.work(&task), self.context.clone(), task.stop)),
            Err(outcome) => at_once(outcome),
        }
    }

    fn run_batch(&self, tasks: Vec<Task>) -> Endings {
        let Some(first) = tasks.first() else { return Box::pin(async { Vec::new() }) };
        let action = match self.action(&first.job) {
            Ok(action) => action,
            Err(outcome) => {
                let all = vec![Some(outcome); tasks.len()];
                return Box::pin(async move { all });
            }
        };
        let works: Vec<Work> = tasks.iter().map(|task| self.work(task)).collect();
        let context = self.context.clone();
        Box::pin(async move {
            let stop = CancellationToken::new();
            // It is one piece of work: who is stopped stops all, and the others are given back.
            let stopped = select_all(tasks.iter().map(|task| Box::pin(task.stop.cancelled())));
            let mut ended = pin!(exec::perform_batch(&action, &works, &context, &stop));
            let ended = tokio::select! {
                biased;
                ended = &mut ended => ended,
                _ = stopped => {
                    stop.cancel();
                    ended.await
                }
            };
            ended.into_iter().zip(&works).map(|(ended, work)| outcome(ended, &work.secrets)).collect()
        })
    }

    fn close(&self) -> Closing {
        match self.pool.clone() {
            Some(pool) => Box::pin(async move { pool.close().await }),
            None => Box::pin(std::future::ready(())),
        }
    }
}
