//! The handlers of this process: built-ins, `handlers:` of the configuration, and those the store
//! keeps, each done by `exec`. Part of the composition root: it ties the layers together and decides
//! only who wins when two have one name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::codes::Code;
use super::context::Context;
use super::error::{Result, fail};
use super::manifests;
use crate::api::Client;
use crate::domain::job::{JobError, Outcome, RetryHint};
use crate::domain::{Job, JobState, Name, RetryPolicy};
use crate::engine::{Handler, Handlers, Task};
use crate::exec::{self, Action, Builtin, Ended, LogSink, Work};
use crate::workflow::{self, HandlerDef, Manifest, RUN_KIND, step_key};

/// From TERM to KILL for a command that is to end.
const GRACE: Duration = Duration::from_secs(5);

/// The short forms in the configuration.
///
/// # Errors
/// Their mistakes, with the place of the handler.
pub fn configured(context: &Context) -> Result<Vec<HandlerDef>> {
    let mut handlers = Vec::new();
    for raw in &context.config()?.handlers {
        let named = |why: String| fail(Code::Config, format!("{}: handler `{}`: {why}", raw.origin, raw.name));
        let name: Name = raw.name.parse().map_err(|error: crate::domain::name::BadName| named(error.to_string()))?;
        if workflow::is_reserved(&name) {
            return Err(named("names that begin with `goflow:` are reserved".to_owned()));
        }
        let handler = HandlerDef::from_value(name, &raw.fields).map_err(|problems| {
            let whys: Vec<String> = problems.0.iter().map(|problem| problem.message.clone()).collect();
            let told = named(whys.join("; "));
            problems.0.iter().filter_map(|problem| problem.hint.clone()).fold(told, |told, hint| told.hint(hint))
        })?;
        handlers.push(handler);
    }
    Ok(handlers)
}

/// The handlers that the store keeps.
///
/// # Errors
/// The store's; one that this version cannot read.
pub async fn applied(client: &Client) -> Result<Vec<HandlerDef>> {
    let mut handlers = Vec::new();
    for definition in client.store().definitions("handler").await? {
        let name = format!("handler {} in the store", definition.name);
        let found = workflow::parse(&name, &definition.text).map_err(|problems| manifests::wrong(&problems.0))?;
        handlers.extend(found.into_iter().filter_map(|manifest| match manifest {
            Manifest::Handler(handler) => Some(handler),
            Manifest::Workflow(_) => None,
        }));
    }
    Ok(handlers)
}

/// The retry policy that a job of this type gets when its enqueuer names none.
///
/// # Errors
/// As [`configured`] and [`applied`].
pub async fn retry_of(context: &Context, client: &Client, kind: &Name) -> Result<Option<RetryPolicy>> {
    let find = |handlers: Vec<HandlerDef>| handlers.into_iter().find(|handler| handler.name == *kind);
    if let Some(handler) = find(configured(context)?) {
        return Ok(handler.retry);
    }
    Ok(find(applied(client).await?).and_then(|handler| handler.retry))
}

/// Everything that a worker of this process can do. Configuration wins over the store, and both win
/// over built-ins: the nearer a name is written, the more it is meant.
///
/// # Errors
/// As [`configured`] and [`applied`].
pub async fn all(context: &Context, client: &Client, sink: Arc<dyn LogSink>) -> Result<(Handlers, Arc<exec::Context>)> {
    let environment: BTreeMap<OsString, OsString> = exec::KEPT_VARIABLES
        .iter()
        .filter_map(|name| Some((OsString::from(name), OsString::from(context.env.get(name)?))))
        .collect();
    let machine = Arc::new(exec::Context::new(exec::Settings {
        environment,
        grace: GRACE,
        temp: std::env::temp_dir(),
        sink,
        containment: exec::Containment::default(),
        // goflow starts no other children.
        parentage: exec::Parentage::Sole,
    }));
    let mut handlers = Handlers::new();
    let mut set = |name: Name, how: How| handlers.set(name, Arc::new(ExecHandler { how, machine: machine.clone() }));
    for builtin in Builtin::ALL {
        set(name_of(builtin.as_str())?, How::Builtin(builtin));
    }
    set(name_of(RUN_KIND)?, How::Step);
    for handler in applied(client).await?.into_iter().chain(configured(context)?) {
        set(handler.name.clone(), How::Command(Box::new(handler)));
    }
    Ok((handlers, machine))
}

fn name_of(text: &str) -> Result<Name> {
    text.parse().map_err(|error| fail(Code::Bug, format!("{error}")))
}

enum How {
    Builtin(Builtin),
    Command(Box<HandlerDef>),
    /// The command of a step, which comes as the payload.
    Step,
}

struct ExecHandler {
    how: How,
    machine: Arc<exec::Context>,
}

impl Handler for ExecHandler {
    fn immediate(&self, job: &Job) -> Option<Outcome> {
        match &self.how {
            How::Builtin(builtin) => builtin.immediate(&work(job, None)),
            How::Command(_) | How::Step => None,
        }
    }

    fn run(&self, task: Task) -> Pin<Box<dyn Future<Output = Option<Outcome>> + Send>> {
        let (job, machine) = (task.job, self.machine.clone());
        let (action, limit) = match &self.how {
            How::Builtin(builtin) => (Ok(Action::Builtin(*builtin)), None),
            How::Command(handler) => (rendered(handler, &job), handler.timeout),
            How::Step => (step(&job), None),
        };
        Box::pin(async move {
            let action = match action {
                Ok(action) => action,
                // The same payload would fail the same way again.
                Err(error) => return Some(Outcome::Failed { error, retry: RetryHint::Never }),
            };
            match exec::perform(&action, &work(&job, limit), &machine, &task.stop).await {
                Ended::Outcome(outcome) => Some(outcome),
                Ended::Stopped => None,
            }
        })
    }
}

fn rendered(handler: &HandlerDef, job: &Job) -> std::result::Result<Action, JobError> {
    let command = handler.render(job).map_err(|error| JobError::new("payload", error.message))?;
    Ok(Action::Command(command_of(command, None)))
}

fn step(job: &Job) -> std::result::Result<Action, JobError> {
    // Nobody but a run may bring its own command.
    if job.link.is_none() {
        return Err(JobError::new("payload", format!("a job of the type `{RUN_KIND}` that is no step of a run")));
    }
    let command = workflow::Command::from_json(&job.payload.to_value());
    let command = command.map_err(|error| JobError::new("payload", error.to_string()))?;
    Ok(Action::Command(command_of(command, Some(crate::domain::Json::null()))))
}

fn command_of(command: workflow::Command, stdin: Option<crate::domain::Json>) -> exec::Command {
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
    exec::Command { env: command.env.into_iter().collect(), outputs, stdin, ..exec::Command::new(program) }
}

fn work(job: &Job, limit: Option<Duration>) -> Work {
    Work {
        job: job.id,
        kind: job.kind.clone(),
        queue: job.queue.clone(),
        attempt: job.attempt(JobState::Running),
        epoch: job.epoch,
        run: job.link.as_ref().map(|link| link.run),
        step_key: job.link.as_ref().map(|link| step_key(link.run, &link.step)),
        payload: job.payload.clone(),
        timeout: job.timeout_ms.map(Duration::from_millis).or(limit),
    }
}
