//! The handlers that every worker has: built-ins, commands of steps, and commands that somebody
//! described as a Handler. They turn a job into a piece of work for `exec`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::job::{JobError, Outcome, RetryHint};
use crate::domain::{Job, JobState};
use crate::exec::{self, Action, Builtin, Context, Ended, Work};
use crate::workflow::{self, HandlerDef, RUN_KIND};

use super::handlers::{Ending, Handler, Handlers, Task};

impl Handlers {
    /// Built-ins and the commands of steps, over one context; and, as they are applied, the handlers
    /// that the store describes.
    pub fn standard(context: &Arc<Context>) -> Handlers {
        let mut handlers = Handlers::new();
        let applied = context.clone();
        handlers.describe_with(move |def| Arc::new(DescribedCommand { def, context: applied.clone() }));
        for builtin in Builtin::ALL {
            if let Ok(name) = builtin.as_str().parse() {
                handlers.set(name, Arc::new(BuiltinHandler { builtin, context: context.clone() }));
            }
        }
        if let Ok(name) = RUN_KIND.parse() {
            handlers.set(name, Arc::new(StepCommand { context: context.clone() }));
        }
        handlers
    }

    /// Adds a command for a job type.
    pub fn add(&mut self, def: HandlerDef, context: &Arc<Context>) {
        let handler = DescribedCommand { def, context: context.clone() };
        self.set(handler.def.name.clone(), Arc::new(handler));
    }
}

fn work(job: &Job) -> Work {
    Work {
        job: job.id,
        kind: job.kind.clone(),
        queue: job.queue.clone(),
        attempt: job.attempt(JobState::Running),
        epoch: job.epoch,
        run: job.link.as_ref().map(|link| link.run),
        step_key: job.link.as_ref().map(|link| workflow::step_key(link.run, &link.step)),
        payload: job.payload.clone(),
        timeout: job.timeout_ms.map(Duration::from_millis),
    }
}

async fn perform(action: Action, work: Work, context: Arc<Context>, task: Task) -> Option<Outcome> {
    match exec::perform(&action, &work, &context, &task.stop).await {
        Ended::Outcome(outcome) => Some(outcome),
        Ended::Stopped => None,
    }
}

/// A mistake that another attempt would only repeat.
fn hopeless(class: &str, message: impl AsRef<str>) -> Ending {
    let error = JobError::new(class, message);
    Box::pin(async move { Some(Outcome::Failed { error, retry: RetryHint::Never }) })
}

struct BuiltinHandler {
    builtin: Builtin,
    context: Arc<Context>,
}

impl Handler for BuiltinHandler {
    fn immediate(&self, job: &Job) -> Option<Outcome> {
        match self.builtin {
            // The queue's own speed is measured with this one: it does not even look at the job.
            Builtin::Noop => Some(Outcome::Completed { result: None }),
            builtin => builtin.immediate(&work(job)),
        }
    }

    fn run(&self, task: Task) -> Ending {
        Box::pin(perform(Action::Builtin(self.builtin), work(&task.job), self.context.clone(), task))
    }
}

/// The command of a step. It comes rendered in the payload, and only `advance` writes such a
/// payload: without a link to a run it is not executed.
struct StepCommand {
    context: Arc<Context>,
}

impl Handler for StepCommand {
    fn run(&self, task: Task) -> Ending {
        if task.job.link.is_none() {
            return hopeless("payload", format!("a job of type {RUN_KIND} belongs to a step of a run"));
        }
        match workflow::Command::from_json(&task.job.payload.to_value()) {
            Ok(command) => {
                let action = Action::Command(command_of(command));
                Box::pin(perform(action, work(&task.job), self.context.clone(), task))
            }
            Err(error) => hopeless("payload", error.to_string()),
        }
    }
}

/// A command that a Handler manifest or the configuration describes.
struct DescribedCommand {
    def: HandlerDef,
    context: Arc<Context>,
}

impl Handler for DescribedCommand {
    fn defaults(&self, job: &mut Job) {
        if let Some(retry) = &self.def.retry
            && !job.retry_is_own
        {
            job.retry = retry.clone();
        }
    }

    fn run(&self, task: Task) -> Ending {
        match self.def.render(&task.job) {
            Ok(command) => {
                let mut work = work(&task.job);
                work.timeout = work.timeout.or(self.def.timeout);
                Box::pin(perform(Action::Command(command_of(command)), work, self.context.clone(), task))
            }
            Err(error) => hopeless("expression", error.to_string()),
        }
    }
}

fn command_of(command: workflow::Command) -> exec::Command {
    let program = match command.program {
        workflow::Program::Argv(argv) => exec::Program::Argv(argv),
        workflow::Program::Shell(line) => exec::Program::Shell(line),
    };
    let outputs = match command.outputs {
        None => exec::Outputs::None,
        Some(workflow::Outputs::Text) => exec::Outputs::Text,
        Some(workflow::Outputs::Json) => exec::Outputs::Json,
        Some(workflow::Outputs::Names(names)) => exec::Outputs::Named(names),
    };
    let env: BTreeMap<String, String> = command.env.into_iter().collect();
    exec::Command { env, outputs, ..exec::Command::new(program) }
}
