//! What manifests say, typed, with every default filled in, and their canonical form: JSON that
//! reads back as the same manifest, and whose hash is the version of a definition.
//! Plain data: what it must fulfil is checked where it is read.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::expr::{Expr, Template};
use crate::domain::retry::{Backoff, RetryPolicy};
use crate::domain::{Name, time};

/// A workflow as its manifest describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowSpec {
    pub name: Name,
    /// What a run is given; `None` takes anything.
    pub input: Option<Vec<Field>>,
    /// Limit of a whole run.
    pub timeout: Option<Duration>,
    pub steps: Vec<StepSpec>,
    pub outputs: Vec<(String, Template)>,
}

/// One field of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub kind: FieldType,
    pub required: bool,
    pub default: Option<Json>,
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

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSpec {
    pub id: String,
    pub verb: Verb,
    /// Ids of the steps that must have ended.
    pub needs: Vec<String>,
    pub condition: Option<Expr>,
    pub retry: RetryPolicy,
    /// Limit of one attempt.
    pub timeout: Option<Duration>,
    pub compensate: Option<Compensate>,
    pub queue: Option<Name>,
    pub priority: i8,
    /// Whether the run goes on when this step has failed.
    pub continue_on_error: bool,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// A command of its own.
    Run(CommandSpec),
    /// A job of a type that a handler or a built-in does.
    Job { kind: Name, with: Option<Template>, outputs: Option<Outputs> },
}

/// A command, its environment and how its output is read.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandSpec {
    pub program: ProgramSpec,
    pub env: Vec<(String, Template)>,
    pub outputs: Option<Outputs>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ProgramSpec {
    /// The program and its arguments; no shell sees them.
    Argv(Vec<Template>),
    /// A line for `sh -c`; never holds an expression.
    Shell(String),
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

/// How a step is undone.
#[derive(Clone, Debug, PartialEq)]
pub struct Compensate {
    pub scope: CompensateScope,
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
    /// Every template of the step's own work.
    pub fn templates(&self) -> Vec<&Template> {
        self.verb.templates()
    }
}

impl Verb {
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Verb::Run(command) => command.templates(),
            Verb::Job { with, .. } => with.iter().collect(),
        }
    }

    pub fn outputs(&self) -> Option<&Outputs> {
        match self {
            Verb::Run(command) => command.outputs.as_ref(),
            Verb::Job { outputs, .. } => outputs.as_ref(),
        }
    }

    fn canonical(&self, into: &mut Map<String, Json>) {
        match self {
            Verb::Run(command) => command.canonical(into),
            Verb::Job { kind, with, outputs } => {
                into.insert("job".into(), json!(kind.as_str()));
                put(into, "with", with.as_ref().map(Template::source));
                put(into, "outputs", outputs.as_ref().map(Outputs::to_json));
            }
        }
    }
}

impl CommandSpec {
    pub fn templates(&self) -> Vec<&Template> {
        let argv = match &self.program {
            ProgramSpec::Argv(argv) => argv.as_slice(),
            ProgramSpec::Shell(_) => &[],
        };
        argv.iter().chain(self.env.iter().map(|(_, value)| value)).collect()
    }

    pub(super) fn canonical(&self, into: &mut Map<String, Json>) {
        let run = match &self.program {
            ProgramSpec::Argv(argv) => Json::Array(argv.iter().map(Template::source).collect()),
            ProgramSpec::Shell(line) => json!(line),
        };
        into.insert("run".into(), run);
        if !self.env.is_empty() {
            into.insert("env".into(), templates(&self.env));
        }
        put(into, "outputs", self.outputs.as_ref().map(Outputs::to_json));
    }
}

impl WorkflowSpec {
    /// The manifest again, with defaults resolved and in a fixed order of keys.
    pub fn canonical(&self) -> Json {
        let mut map = Map::new();
        map.insert("apiVersion".into(), json!(super::manifest::API_VERSION));
        map.insert("kind".into(), json!("Workflow"));
        map.insert("name".into(), json!(self.name.as_str()));
        put(&mut map, "input", self.input.as_ref().map(|fields| fields.iter().map(Field::canonical).collect()));
        put(&mut map, "timeout", self.timeout.map(exact));
        map.insert("steps".into(), self.steps.iter().map(StepSpec::canonical).collect());
        if !self.outputs.is_empty() {
            map.insert("outputs".into(), templates(&self.outputs));
        }
        Json::Object(map)
    }
}

impl Field {
    fn canonical(&self) -> (String, Json) {
        let mut map = Map::new();
        map.insert("type".into(), json!(self.kind.as_str()));
        put(&mut map, "required", self.required.then_some(json!(true)));
        put(&mut map, "default", self.default.clone());
        (self.name.clone(), Json::Object(map))
    }
}

impl StepSpec {
    fn canonical(&self) -> Json {
        let mut map = Map::new();
        map.insert("id".into(), json!(self.id));
        if !self.needs.is_empty() {
            map.insert("needs".into(), json!(self.needs));
        }
        put(&mut map, "if", self.condition.as_ref().map(|condition| json!(condition.source())));
        self.verb.canonical(&mut map);
        put(&mut map, "retry", retry(&self.retry, &RetryPolicy::default()));
        put(&mut map, "timeout", self.timeout.map(exact));
        put(&mut map, "compensate", self.compensate.as_ref().map(Compensate::canonical));
        put(&mut map, "queue", self.queue.as_ref().map(|queue| json!(queue.as_str())));
        put(&mut map, "priority", (self.priority != 0).then_some(json!(self.priority)));
        put(&mut map, "continue_on_error", self.continue_on_error.then_some(json!(true)));
        Json::Object(map)
    }
}

impl Compensate {
    fn canonical(&self) -> Json {
        let mut map = Map::new();
        if self.scope == CompensateScope::Attempted {
            map.insert("scope".into(), json!("attempted"));
        }
        self.verb.canonical(&mut map);
        put(&mut map, "retry", retry(&self.retry, &patient()));
        put(&mut map, "timeout", self.timeout.map(exact));
        Json::Object(map)
    }
}

pub(super) fn put(map: &mut Map<String, Json>, key: &str, value: Option<Json>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value);
    }
}

pub(super) fn templates(fields: &[(String, Template)]) -> Json {
    Json::Object(fields.iter().map(|(name, template)| (name.clone(), template.source())).collect())
}

/// A duration in whole milliseconds, so that nothing is rounded.
pub(super) fn exact(duration: Duration) -> Json {
    json!(format!("{}ms", time::millis(duration)))
}

pub(super) fn retry(policy: &RetryPolicy, usual: &RetryPolicy) -> Option<Json> {
    if policy == usual {
        return None;
    }
    let backoff = BACKOFFS.iter().find(|(_, backoff)| *backoff == policy.backoff).map_or("", |(word, _)| word);
    let mut map = Map::new();
    map.insert("max".into(), json!(policy.max));
    map.insert("backoff".into(), json!(backoff));
    map.insert("initial".into(), exact(Duration::from_millis(policy.initial_ms)));
    map.insert("max_delay".into(), exact(Duration::from_millis(policy.max_delay_ms)));
    map.insert("jitter".into(), json!(policy.jitter));
    if !policy.errors.is_empty() {
        map.insert("errors".into(), json!(policy.errors));
    }
    Some(Json::Object(map))
}

pub(super) const BACKOFFS: [(&str, Backoff); 3] =
    [("exponential", Backoff::Exponential), ("linear", Backoff::Linear), ("constant", Backoff::Constant)];
