//! What `advance` makes out of data: the scope that a step's expressions see, its condition, its
//! job, and the output of the run. Looks only at what the expressions name, so that a step whose
//! templates hold none costs nothing here.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Advance, NeedValues};
use crate::domain::job::{JobError, Link};
use crate::domain::limits::{PAYLOAD_BYTES, VALUE_BYTES};
use crate::domain::text::size;
use crate::domain::time::millis;
use crate::domain::{Job, JobId, Json, Name, RetryPolicy, RunId};
use crate::workflow::definition::Uses;
use crate::workflow::expr::{ExprError, Scope};
use crate::workflow::run::Slot;
use crate::workflow::spec::Verb;
use crate::workflow::{RUN_KIND, step_key};

/// Failing on account of data is the step's failure; missing values are the caller's to load.
type Rendered<T> = Result<Result<T, JobError>, NeedValues>;

static COMMAND: LazyLock<Name> = LazyLock::new(|| Name::literal(RUN_KIND));
static DEFAULT_QUEUE: LazyLock<Name> = LazyLock::new(|| Name::literal("default"));

impl Advance<'_> {
    /// Whether the condition of a step holds; a step without one runs.
    pub(super) fn condition(&self, at: usize) -> Rendered<bool> {
        let (spec, step) = self.def.step(at);
        let Some(condition) = &spec.condition else { return Ok(Ok(true)) };
        let scope = self.scope(&step.condition, Some(at))?;
        Ok(condition.eval_bool(&scope).map_err(|error| expression("if", &error)))
    }

    /// The job that does a step, or undoes it.
    pub(super) fn job(&self, at: usize, undo: bool) -> Rendered<Job> {
        let (spec, step) = self.def.step(at);
        let (verb, uses, retry, timeout) = match (&spec.compensate, undo) {
            (Some(undo), true) => (&undo.verb, &step.undo, &undo.retry, undo.timeout),
            _ => (&spec.verb, &step.work, &spec.retry, spec.timeout),
        };
        let scope = self.scope(uses, Some(at))?;
        let (kind, payload) = match verb {
            Verb::Run(command) => match command.render(&scope) {
                Ok(command) => (&*COMMAND, command.to_json()),
                Err(error) => return Ok(Err(expression("run", &error))),
            },
            Verb::Job { kind, with, .. } => match with.as_ref().map(|with| with.render(&scope)).transpose() {
                Ok(payload) => (kind, payload.unwrap_or(Value::Null)),
                Err(error) => return Ok(Err(expression("with", &error))),
            },
        };
        let payload = Json::from_value(&payload);
        if payload.as_str().len() > PAYLOAD_BYTES {
            let (is, may) = (size(payload.as_str().len() as u64), size(PAYLOAD_BYTES as u64));
            return Ok(Err(JobError::new("payload", format!("a payload of {is} is larger than {may}"))));
        }
        let run = self.out.run.id;
        let id = JobId::from_parts(self.now, run.shard(), job_number(run, &spec.id, undo));
        let own = spec.queue.as_ref().or(self.out.run.queue.as_ref());
        let queue = own.unwrap_or(&DEFAULT_QUEUE).clone();
        let mut job = Job::new(id, kind.clone(), queue, payload);
        job.priority = spec.priority;
        job.retry = retry.clone();
        job.retry_is_own = job.retry != RetryPolicy::default();
        job.timeout_ms = timeout.map(|limit| millis(limit) as u64);
        job.link = Some(Link { run, step: spec.id.clone(), undo });
        Ok(Ok(job))
    }

    /// The output of the whole run, if the workflow declares one.
    pub(super) fn output(&self) -> Rendered<Option<Json>> {
        let outputs = &self.def.spec().outputs;
        if outputs.is_empty() {
            return Ok(Ok(None));
        }
        let scope = self.scope(self.def.outputs(), None)?;
        let fields = outputs.iter().map(|(name, template)| Ok((name.clone(), template.render(&scope)?)));
        let output = match fields.collect::<Result<Map<String, Value>, ExprError>>() {
            Ok(fields) => Json::from_value(&Value::Object(fields)),
            Err(error) => return Ok(Err(expression("outputs", &error))),
        };
        if output.as_str().len() > VALUE_BYTES {
            let (is, may) = (size(output.as_str().len() as u64), size(VALUE_BYTES as u64));
            return Ok(Err(JobError::new("output", format!("an output of {is} is larger than {may}"))));
        }
        Ok(Ok(Some(output)))
    }

    /// The names that some templates use, with their values.
    fn scope(&self, uses: &Uses, own: Option<usize>) -> Result<Scope, NeedValues> {
        if !uses.any {
            return Ok(Scope::new(Vec::new()));
        }
        let run = &self.out.run;
        let mut missing = Vec::new();
        let mut roots = Vec::with_capacity(5);
        if uses.input {
            roots.push(("input", self.value(Some(&run.input), &mut missing)));
        }
        let mut steps = Map::new();
        for (at, outputs) in &uses.steps {
            let record = &run.steps[*at];
            let output = record.output.as_ref().filter(|_| *outputs);
            let error = record.error.as_ref().map(|error| json!({"class": error.class, "message": error.message}));
            let mut fields = Map::new();
            fields.insert("outputs".into(), self.value(output, &mut missing));
            fields.insert("state".into(), record.state.as_str().into());
            fields.insert("error".into(), error.unwrap_or(Value::Null));
            fields.insert("attempt".into(), record.attempt.into());
            steps.insert(record.id.clone(), Value::Object(fields));
        }
        if !missing.is_empty() {
            return Err(NeedValues(missing));
        }
        if let (true, Some(at)) = (uses.needs, own) {
            let needs = &self.def.step(at).0.needs;
            let needs = needs.iter().filter_map(|id| Some((id.clone(), steps.get(id)?.clone())));
            roots.push(("needs", Value::Object(needs.collect())));
        }
        roots.push(("steps", Value::Object(steps)));
        if uses.run {
            let about = json!({
                "id": run.id.to_string(),
                "workflow": run.workflow.as_str(),
                "state": run.state.as_str(),
                "started_at": run.started_at.map(|at| at.rfc3339()),
            });
            roots.push(("run", about));
        }
        if let (true, Some(at)) = (uses.step, own) {
            let key = step_key(run.id, &run.steps[at].id);
            // A command is rendered once, before its first attempt; the number of the attempt under
            // way is in its environment.
            roots.push(("step", json!({"key": key, "attempt": 1})));
        }
        Ok(Scope::new(roots))
    }

    fn value(&self, slot: Option<&Slot>, missing: &mut Vec<String>) -> Value {
        match slot {
            None => Value::Null,
            Some(Slot::Inline(value)) => value.to_value(),
            Some(Slot::Stored { key, .. }) => {
                let fresh = self.out.values.iter().find(|(kept, _)| kept == key).map(|(_, value)| value.clone());
                match fresh.or_else(|| (self.values)(key)) {
                    Some(value) => value.to_value(),
                    None => {
                        missing.push(key.clone());
                        Value::Null
                    }
                }
            }
        }
    }
}

fn expression(field: &str, error: &ExprError) -> JobError {
    JobError::new("expression", format!("`{field}`: {}", error.with_hint()))
}

/// 62 bits that tell this job from every other of its run. An advance that is worked out again gives
/// the same id, so that it cannot enqueue a second job.
fn job_number(run: RunId, step: &str, undo: bool) -> u64 {
    let mut hash = Sha256::new();
    hash.update(run.as_bytes());
    hash.update([u8::from(undo)]);
    hash.update(step.as_bytes());
    let digest = hash.finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(bytes)
}
