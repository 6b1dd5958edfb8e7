//! What manifests say, typed, with every default filled in, and their canonical form: JSON that
//! reads back as the same manifest, and whose hash is the version of a definition.
//! Plain data: what it must fulfil is checked where it is read.

mod canonical;
mod http;
mod kinds;
mod verbs;

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::expr::{Expr, Template};
use crate::domain::Name;
use crate::domain::retry::{Backoff, RetryPolicy};

pub(super) use canonical::{exact, put, retry};
pub use http::{HttpBody, HttpSpec};
pub use kinds::*;
pub use verbs::*;

/// A workflow as its manifest describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowSpec {
    pub name: Name,
    /// What a run is given; `None` takes anything.
    pub input: Option<Vec<Field>>,
    /// How many runs with the same key there may be at a time.
    pub concurrency: Option<Concurrency>,
    /// Limit of a whole run.
    pub timeout: Option<Duration>,
    pub steps: Vec<StepSpec>,
    /// What is done at the end of every run, however it ended. These steps see `steps` and `run.state`.
    pub finally: Vec<StepSpec>,
    pub outputs: Vec<(String, Template)>,
}

/// `concurrency: {key, limit, on_conflict}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Concurrency {
    /// Sees `input` alone; rendered as text when the run starts.
    pub key: Template,
    /// At least 1.
    pub limit: u32,
    pub on_conflict: OnConflict,
}

/// What becomes of a run whose key is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// It is refused and nothing is stored.
    #[default]
    Reject,
    /// It waits, `pending`, for its turn.
    Queue,
}

impl OnConflict {
    pub const WORDS: [(&str, OnConflict); 2] = [("reject", OnConflict::Reject), ("queue", OnConflict::Queue)];
}

/// One field of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub kind: FieldType,
    pub required: bool,
    pub default: Option<Json>,
    pub bounds: Bounds,
}

/// What a value of the right type must keep to, in the words of JSON Schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// `enum`; empty lets everything be.
    pub allowed: Vec<Json>,
    pub minimum: Option<serde_json::Number>,
    pub maximum: Option<serde_json::Number>,
    /// The type of each item of an array.
    pub items: Option<FieldType>,
}

impl Bounds {
    /// How a value breaks them, as what follows its name: `is 7, more than 5`.
    pub fn broken_by(&self, value: &Json) -> Option<String> {
        if !self.allowed.is_empty() && !self.allowed.contains(value) {
            let allowed: Vec<String> = self.allowed.iter().map(Json::to_string).collect();
            return Some(format!("is {value}, not one of {}", allowed.join(", ")));
        }
        let beyond = |bound: &Option<serde_json::Number>, beyond: fn(f64, f64) -> bool| {
            let (bound, real) = (bound.as_ref()?, value.as_f64()?);
            beyond(real, bound.as_f64()?).then(|| bound.to_string())
        };
        if let Some(least) = beyond(&self.minimum, |real, bound| real < bound) {
            return Some(format!("is {value}, less than {least}"));
        }
        if let Some(most) = beyond(&self.maximum, |real, bound| real > bound) {
            return Some(format!("is {value}, more than {most}"));
        }
        let (items, kind) = (value.as_array()?, self.items?);
        let wrong = items.iter().position(|item| !kind.fits(item))?;
        Some(format!("holds at [{wrong}] what is not of type {}", kind.as_str()))
    }
}

/// The types of JSON Schema that the input may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    String,
    Number,
    Integer,
    Boolean,
    Array,
    Object,
}

impl FieldType {
    pub const WORDS: [(&str, FieldType); 6] = [
        ("string", FieldType::String),
        ("number", FieldType::Number),
        ("integer", FieldType::Integer),
        ("boolean", FieldType::Boolean),
        ("array", FieldType::Array),
        ("object", FieldType::Object),
    ];

    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    /// Whether a value is of this type. As in JSON Schema, 3.0 is an integer.
    pub fn fits(self, value: &Json) -> bool {
        match self {
            FieldType::String => value.is_string(),
            FieldType::Number => value.is_number(),
            FieldType::Integer => {
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|real| real.fract() == 0.0)
            }
            FieldType::Boolean => value.is_boolean(),
            FieldType::Array => value.is_array(),
            FieldType::Object => value.is_object(),
        }
    }
}

/// How the output of a command becomes a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Standard output as text, without one final newline.
    Text,
    /// Standard output as one JSON value.
    Json,
    /// These names, written as `NAME=value` lines to the file `$GOFLOW_OUTPUT`.
    Names(Vec<String>),
}

impl Outputs {
    pub fn to_json(&self) -> Json {
        match self {
            Outputs::Text => json!("text"),
            Outputs::Json => json!("json"),
            Outputs::Names(names) => json!(names),
        }
    }

    pub fn from_json(json: &Json) -> Option<Outputs> {
        match json {
            Json::String(word) if word == "text" => Some(Outputs::Text),
            Json::String(word) if word == "json" => Some(Outputs::Json),
            Json::Array(names) => {
                let names = names.iter().map(|name| name.as_str().map(str::to_owned));
                names.collect::<Option<Vec<_>>>().map(Outputs::Names)
            }
            _ => None,
        }
    }
}

/// One step: a verb and its modifiers.
///
/// The order in which modifiers hold: `needs` and `join` say when; then `if` is looked at, once
/// (it does not see `item`); then `foreach` makes items; each item repeats by `while`; each round is
/// tried again by `retry`, an attempt being limited by `timeout`.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSpec {
    pub id: String,
    pub verb: Verb,
    /// Ids of the steps beside this one that must have ended.
    pub needs: Vec<String>,
    /// How many of `needs` must have gone well.
    pub join: Quorum,
    /// What becomes of the needs that `join` did not wait for.
    pub rest: Rest,
    pub condition: Option<Expr>,
    pub foreach: Option<Foreach>,
    pub repeat: Option<While>,
    /// Where nothing is said: [`Verb::usual_retry`].
    pub retry: RetryPolicy,
    /// Limit of one attempt. A `wait` and an `approval` have their own instead.
    pub timeout: Option<Duration>,
    /// Limit of all attempts of the step (of one item's, with `foreach`) together.
    pub deadline: Option<Duration>,
    pub compensate: Option<Compensate>,
    pub queue: Option<Name>,
    pub priority: i8,
    /// Whether the run goes on when this step has failed.
    pub continue_on_error: bool,
}

/// How many of several must have gone well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quorum {
    #[default]
    All,
    Any,
    /// At least 1.
    Count(u32),
}

/// What becomes of those that nobody waits for any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rest {
    /// They are cancelled.
    #[default]
    Cancel,
    /// They go on; the run waits for them before it ends, and a failure among them is no failure of it.
    Ignore,
}

impl Rest {
    pub const WORDS: [(&str, Rest); 2] = [("cancel", Rest::Cancel), ("ignore", Rest::Ignore)];
}

/// `foreach`: the step is done once for each item of a list or a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreach {
    /// Gives a list or a map. A bare text is one expression; a list or mapping is taken as it stands.
    pub items: Template,
    /// The name under which expressions see the item; `item` where nothing is said. Of a map it has
    /// `key` and `value`. `loop` has `index` (from 0) and `key`.
    pub name: String,
    /// What tells the item from others in lists of items, in `loop.key` and in `step.key`; sees the item.
    /// Where nothing is said: the index, and of a map the key.
    pub key: Option<Expr>,
    /// How many items are under way at a time: 1 to [`Foreach::MOST_PARALLEL`].
    pub max_parallel: u32,
    pub on_error: OnError,
    /// How many items must have gone well for the step to end; the others are then cancelled or, with
    /// `rest: ignore`, those under way go on to their end.
    pub wait: Quorum,
    pub rest: Rest,
}

impl Foreach {
    pub const USUAL_NAME: &str = "item";
    pub const USUAL_PARALLEL: u32 = 16;
    /// Bounds what of a run must be kept at hand.
    pub const MOST_PARALLEL: u32 = 500;
}

/// What the failure of one item means for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// No further item starts and the step fails.
    #[default]
    FailFast,
    /// The others are done; the output of a failed item is null.
    Continue,
}

impl OnError {
    pub const WORDS: [(&str, OnError); 2] = [("fail_fast", OnError::FailFast), ("continue", OnError::Continue)];
}

/// `while: {condition, max}`: looked at before each round. Beside the usual names it sees
/// `loop.index` (rounds done) and `steps.ID.outputs` of the step itself: of the last round, null before
/// the first. A condition that still holds after `max` rounds fails the step.
#[derive(Clone, Debug, PartialEq)]
pub struct While {
    pub condition: Expr,
    /// At least 1.
    pub max: u32,
}

/// How a step is undone.
#[derive(Clone, Debug, PartialEq)]
pub struct Compensate {
    pub scope: CompensateScope,
    /// `run`, `http` or `job`. Rendered when the step has ended, with its outputs in
    /// `steps.ID.outputs`, and with the item for the step of an item.
    pub verb: Verb,
    pub retry: RetryPolicy,
    pub timeout: Option<Duration>,
}

/// Which ends of a step are undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompensateScope {
    /// Only a step that completed.
    Completed,
    /// Also a step that was started and did not complete: what it did is unknown.
    Attempted,
}

impl CompensateScope {
    pub const WORDS: [(&str, CompensateScope); 2] =
        [("completed", CompensateScope::Completed), ("attempted", CompensateScope::Attempted)];
}

/// Undoing is patient: what is not undone is owed.
pub fn patient() -> RetryPolicy {
    RetryPolicy { max: 10, ..RetryPolicy::default() }
}

impl StepSpec {
    /// Every template of the step's own work; not those of steps inside it.
    pub fn templates(&self) -> Vec<&Template> {
        self.verb.templates()
    }
}

impl WorkflowSpec {
    /// Every step at any depth, those of `finally` last.
    pub fn all_steps(&self) -> Vec<&StepSpec> {
        let mut found = Vec::new();
        let mut next: Vec<&StepSpec> = self.steps.iter().chain(&self.finally).rev().collect();
        while let Some(step) = next.pop() {
            found.push(step);
            let inner = step.verb.inner();
            next.extend(inner.into_iter().flat_map(|scope| scope.steps).collect::<Vec<_>>().into_iter().rev());
        }
        found
    }
}

pub(in crate::workflow) const BACKOFFS: [(&str, Backoff); 3] =
    [("exponential", Backoff::Exponential), ("linear", Backoff::Linear), ("constant", Backoff::Constant)];
