//! What `advance` makes out of data: a step's condition, its job, the job that undoes it, and the
//! output of the run.

use std::sync::LazyLock;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::end::too_large;
use super::{Addr, Advance, NeedValues};
use crate::domain::job::{JobError, Link};
use crate::domain::limits::{PAYLOAD_BYTES, VALUE_BYTES};
use crate::domain::text::size;
use crate::domain::time::millis;
use crate::domain::{Job, JobId, Json, Name, RetryPolicy, RunId};
use crate::workflow::definition::Definition;
use crate::workflow::expr::{ExprError, Scope};
use crate::workflow::graph::ROOT;
use crate::workflow::input::InputError;
use crate::workflow::request::Request;
use crate::workflow::run::UndoEntry;
use crate::workflow::spec::{StepSpec, Verb};
use crate::workflow::{HTTP_KIND, RUN_KIND};

/// Failing on account of data is the step's failure; missing values are the caller's to load.
type Rendered<T> = Result<Result<T, JobError>, NeedValues>;

static COMMAND: LazyLock<Name> = LazyLock::new(|| Name::literal(RUN_KIND));
static REQUEST: LazyLock<Name> = LazyLock::new(|| Name::literal(HTTP_KIND));
static DEFAULT_QUEUE: LazyLock<Name> = LazyLock::new(|| Name::literal("default"));

impl Advance<'_> {
    /// Whether the condition of a step holds; a step without one runs.
    pub(super) fn condition(&self, addr: &Addr) -> Rendered<bool> {
        let node = self.node(addr);
        let Some(condition) = node.spec.condition.as_ref().filter(|_| node.outer) else { return Ok(Ok(true)) };
        let scope = self.scope(&node.condition, &addr.hops, Some(addr))?;
        Ok(condition.eval_bool(&scope).map_err(|error| expression("if", &error)))
    }

    /// The job that does a step.
    pub(super) fn job(&self, addr: &Addr) -> Rendered<Job> {
        let node = self.node(addr);
        let scope = self.scope(&node.work, &addr.hops, Some(addr))?;
        let payload = match payload(&node.spec.verb, &scope) {
            Ok(payload) => payload,
            Err(error) => return Ok(Err(error)),
        };
        let run = self.out.run.id;
        let step = self.path(addr);
        let number = job_number(run, &step, false, u64::from(self.out.run.life));
        let mut job = self.job_of(&node.spec, &node.spec.verb, number, payload);
        job.retry = node.spec.retry.clone();
        job.retry_is_own = job.retry != RetryPolicy::default();
        job.timeout_ms = node.spec.timeout.map(|limit| millis(limit) as u64);
        job.link = Some(Link { run, step, undo: false });
        Ok(Ok(job))
    }

    fn job_of(&self, spec: &StepSpec, verb: &Verb, number: u64, payload: Json) -> Job {
        let id = JobId::from_parts(self.now, self.out.run.id.shard(), number);
        let queue = spec.queue.as_ref().or(self.out.run.queue.as_ref()).unwrap_or(&DEFAULT_QUEUE).clone();
        let mut job = Job::new(id, kind(verb), queue, payload);
        job.priority = spec.priority;
        job
    }

    /// What a step's undo will be given, as things are now.
    pub(super) fn undo_payload(&self, addr: &Addr) -> Rendered<Json> {
        let node = self.node(addr);
        let Some(compensate) = &node.spec.compensate else { return Ok(Ok(Json::null())) };
        let scope = self.scope(&node.undo, &addr.hops, Some(addr))?;
        Ok(payload(&compensate.verb, &scope))
    }

    /// The job that undoes a step.
    pub(super) fn undo_job(&self, entry: &UndoEntry, payload: Json) -> Option<Job> {
        let node = self.spec_of(&entry.step)?;
        let compensate = node.compensate.as_ref()?;
        let run = self.out.run.id;
        let number = job_number(run, &entry.step, true, u64::from(self.out.run.life) << 32 | u64::from(entry.order));
        let mut job = self.job_of(&node, &compensate.verb, number, payload);
        job.retry = compensate.retry.clone();
        job.retry_is_own = job.retry != RetryPolicy::default();
        job.timeout_ms = compensate.timeout.map(|limit| millis(limit) as u64);
        job.link = Some(Link { run, step: entry.step.clone(), undo: true });
        Some(job)
    }

    /// What the definition says of a step, whatever attempt its path is of.
    fn spec_of(&self, path: &str) -> Option<std::sync::Arc<StepSpec>> {
        let graph = self.def.graph();
        let (mut scope, mut found) = (ROOT, None);
        let mut segments = path.split('/');
        while let Some(segment) = segments.next() {
            let id = segment.split(['[', '#', '~']).next()?;
            let mut node = graph.at(scope, *graph.scopes[scope].by_id.get(id)?);
            while node.layer != crate::workflow::graph::Layer::Verb {
                node = graph.at(*node.inner.first()?, 0);
            }
            found = Some(node.spec.clone());
            let Some(first) = node.inner.first() else { continue };
            scope = match &node.spec.verb {
                Verb::Switch { .. } | Verb::Parallel { .. } => {
                    let Some(name) = segments.next() else { break };
                    *node.inner.iter().find(|inner| graph.scopes[**inner].branch.as_deref() == Some(name))?
                }
                _ => *first,
            };
        }
        found
    }

    /// The output of the whole run, if the workflow declares one.
    pub(super) fn output(&self) -> Rendered<Option<Json>> {
        let outputs = &self.def.spec().outputs;
        if outputs.is_empty() {
            return Ok(Ok(None));
        }
        let scope = self.scope(&self.def.graph().outputs, &[], None)?;
        let fields = outputs.iter().map(|(name, template)| Ok((name.clone(), template.render(&scope)?)));
        let output = match fields.collect::<Result<Map<String, Value>, ExprError>>() {
            Ok(fields) => Json::from_value(&Value::Object(fields)),
            Err(error) => return Ok(Err(expression("outputs", &error))),
        };
        if output.as_str().len() > VALUE_BYTES {
            return Ok(Err(too_large(output.as_str().len())));
        }
        Ok(Ok(Some(output)))
    }
}

/// The job type that does a verb.
fn kind(verb: &Verb) -> Name {
    match verb {
        Verb::Job { kind, .. } => kind.clone(),
        Verb::Http(_) => REQUEST.clone(),
        _ => COMMAND.clone(),
    }
}

/// The payload of the job that does a verb.
fn payload(verb: &Verb, scope: &Scope) -> Result<Json, JobError> {
    let payload = match verb {
        Verb::Run(command) => command.render(scope).map(|command| command.to_json()).map_err(|e| expression("run", &e)),
        Verb::Http(http) => Request::render(http, scope).map(|http| http.to_json()).map_err(|e| expression("http", &e)),
        Verb::Job { with, .. } => {
            let payload = with.as_ref().map(|with| with.render(scope)).transpose();
            payload.map(Option::unwrap_or_default).map_err(|error| expression("with", &error))
        }
        _ => Err(JobError::new("verb", "this verb is not done as a job")),
    };
    let payload = Json::from_value(&payload?);
    if payload.as_str().len() > PAYLOAD_BYTES {
        let (is, may) = (size(payload.as_str().len() as u64), size(PAYLOAD_BYTES as u64));
        return Err(JobError::new("payload", format!("a payload of {is} is larger than {may}")));
    }
    Ok(payload)
}

pub(super) fn expression(field: &str, error: &ExprError) -> JobError {
    JobError::new("expression", format!("`{field}`: {}", error.with_hint()))
}

pub(super) fn json(value: &Value) -> Json {
    Json::from_value(value)
}

/// The key under which a run is counted, if its workflow has one.
pub(super) fn concurrency_key(def: &Definition, input: &Json) -> Result<Option<String>, InputError> {
    let Some(concurrency) = &def.spec().concurrency else { return Ok(None) };
    let scope = Scope::new(vec![("input", input.to_value())]);
    let key = concurrency.key.render_text(&scope);
    key.map(Some).map_err(|error| InputError(vec![format!("the concurrency key: {}", error.with_hint())]))
}

/// 62 bits that tell this job from every other of its run. An advance that is worked out again gives
/// the same id, so that it cannot enqueue a second job.
pub(super) fn job_number(run: RunId, step: &str, undo: bool, more: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(run.as_bytes());
    hash.update([u8::from(undo)]);
    hash.update(more.to_be_bytes());
    hash.update(step.as_bytes());
    let digest = hash.finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(bytes)
}
