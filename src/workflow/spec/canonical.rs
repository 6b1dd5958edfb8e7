//! The canonical form of a workflow: its manifest again, as JSON, with defaults resolved and in a
//! fixed order of keys.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::*;
use crate::domain::time;
use crate::workflow::manifest::API_VERSION;

impl WorkflowSpec {
    /// The manifest again, with defaults resolved and in a fixed order of keys.
    pub fn canonical(&self) -> Json {
        let mut map = Map::new();
        map.insert("apiVersion".into(), json!(API_VERSION));
        map.insert("kind".into(), json!("Workflow"));
        map.insert("name".into(), json!(self.name.as_str()));
        put(&mut map, "input", self.input.as_ref().map(|fields| fields.iter().map(Field::canonical).collect()));
        put(&mut map, "concurrency", self.concurrency.as_ref().map(Concurrency::canonical));
        put(&mut map, "timeout", self.timeout.map(exact));
        map.insert("steps".into(), steps(&self.steps));
        if !self.finally.is_empty() {
            map.insert("finally".into(), steps(&self.finally));
        }
        if !self.outputs.is_empty() {
            map.insert("outputs".into(), templates(&self.outputs));
        }
        Json::Object(map)
    }
}

impl Concurrency {
    fn canonical(&self) -> Json {
        json!({
            "key": self.key.source(),
            "limit": self.limit,
            "on_conflict": word(&OnConflict::WORDS, self.on_conflict),
        })
    }
}

impl Field {
    fn canonical(&self) -> (String, Json) {
        let mut map = Map::new();
        map.insert("type".into(), json!(self.kind.as_str()));
        put(&mut map, "required", self.required.then_some(json!(true)));
        put(&mut map, "default", self.default.clone());
        let Bounds { allowed, minimum, maximum, items } = &self.bounds;
        put(&mut map, "enum", (!allowed.is_empty()).then(|| json!(allowed)));
        put(&mut map, "minimum", minimum.clone().map(Json::Number));
        put(&mut map, "maximum", maximum.clone().map(Json::Number));
        put(&mut map, "items", items.map(|kind| json!({"type": kind.as_str()})));
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
        put(&mut map, "join", quorum(self.join));
        put(&mut map, "rest", rest(self.rest));
        put(&mut map, "if", self.condition.as_ref().map(|condition| json!(condition.source())));
        put(&mut map, "foreach", self.foreach.as_ref().map(Foreach::canonical));
        put(&mut map, "while", self.repeat.as_ref().map(While::canonical));
        self.verb.canonical(&mut map);
        put(&mut map, "retry", retry(&self.retry, &self.verb.usual_retry()));
        put(&mut map, "timeout", self.timeout.map(exact));
        put(&mut map, "deadline", self.deadline.map(exact));
        put(&mut map, "compensate", self.compensate.as_ref().map(Compensate::canonical));
        put(&mut map, "queue", self.queue.as_ref().map(|queue| json!(queue.as_str())));
        put(&mut map, "priority", (self.priority != 0).then_some(json!(self.priority)));
        put(&mut map, "continue_on_error", self.continue_on_error.then_some(json!(true)));
        Json::Object(map)
    }
}

impl Foreach {
    fn canonical(&self) -> Json {
        let mut map = Map::new();
        map.insert("items".into(), bare(&self.items));
        put(&mut map, "as", (self.name != Foreach::USUAL_NAME).then(|| json!(self.name)));
        put(&mut map, "key", self.key.as_ref().map(|key| json!(key.source())));
        map.insert("max_parallel".into(), json!(self.max_parallel));
        map.insert("on_error".into(), word(&OnError::WORDS, self.on_error));
        put(&mut map, "wait", quorum(self.wait));
        put(&mut map, "rest", rest(self.rest));
        Json::Object(map)
    }
}

impl While {
    fn canonical(&self) -> Json {
        json!({"condition": self.condition.source(), "max": self.max})
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

impl Verb {
    fn canonical(&self, into: &mut Map<String, Json>) {
        match self {
            Verb::Run(command) => command.canonical(into),
            Verb::Http(http) => http.canonical(into),
            Verb::Job { kind, with, outputs } => {
                into.insert("job".into(), json!(kind.as_str()));
                put(into, "with", with.as_ref().map(Template::source));
                put(into, "outputs", outputs.as_ref().map(Outputs::to_json));
            }
            Verb::Call { workflow, with } => {
                into.insert("call".into(), json!(workflow.as_str()));
                put(into, "with", with.as_ref().map(Template::source));
            }
            Verb::Steps { steps: inner, outputs } => {
                into.insert("steps".into(), steps(inner));
                put(into, "outputs", (!outputs.is_empty()).then(|| templates(outputs)));
            }
            Verb::Switch { mode, cases, otherwise } => {
                let mut map = Map::new();
                map.insert("mode".into(), word(&SwitchMode::WORDS, *mode));
                let case =
                    |case: &Case| json!({"name": case.name, "when": case.when.source(), "steps": steps(&case.steps)});
                map.insert("cases".into(), cases.iter().map(case).collect());
                map.insert("else".into(), steps(otherwise));
                into.insert("switch".into(), Json::Object(map));
            }
            Verb::Parallel { branches, wait, rest: others } => {
                let mut map = Map::new();
                let branch = |branch: &Branch| json!({"name": branch.name, "steps": steps(&branch.steps)});
                map.insert("branches".into(), branches.iter().map(branch).collect());
                put(&mut map, "wait", quorum(*wait));
                put(&mut map, "rest", rest(*others));
                into.insert("parallel".into(), Json::Object(map));
            }
            Verb::Wait(wait) => {
                let mut map = Map::new();
                map.insert("signal".into(), json!(wait.signal.as_str()));
                put(&mut map, "match", wait.matching.as_ref().map(|expr| json!(expr.source())));
                put(&mut map, "timeout", wait.timeout.map(exact));
                put(&mut map, "on_timeout", on_timeout(&wait.on_timeout));
                into.insert("wait".into(), Json::Object(map));
            }
            Verb::Approval(approval) => {
                let mut map = Map::new();
                let approvers = (!approval.approvers.is_empty()).then_some(&approval.approvers);
                put(&mut map, "approvers", approvers.map(|all| all.iter().map(Template::source).collect()));
                put(&mut map, "timeout", approval.timeout.map(exact));
                put(&mut map, "on_timeout", on_timeout(&approval.on_timeout));
                into.insert("approval".into(), Json::Object(map));
            }
            Verb::Sleep(length) => put(into, "sleep", Some(length.source())),
            Verb::Set(values) => put(into, "set", Some(templates(values))),
            Verb::End(end) => {
                let mut map = Map::new();
                map.insert("state".into(), word(&EndState::WORDS, end.state));
                put(&mut map, "message", end.message.as_ref().map(Template::source));
                into.insert("end".into(), Json::Object(map));
            }
        }
    }
}

impl CommandSpec {
    pub(in crate::workflow) fn canonical(&self, into: &mut Map<String, Json>) {
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

fn steps(steps: &[StepSpec]) -> Json {
    steps.iter().map(StepSpec::canonical).collect()
}

fn on_timeout(what: &OnTimeout) -> Option<Json> {
    Some(match what {
        OnTimeout::Fail => return None,
        OnTimeout::Continue => json!("continue"),
        OnTimeout::Approve => json!("approve"),
        OnTimeout::Reject => json!("reject"),
        OnTimeout::Steps(inner) => json!({"steps": steps(inner)}),
    })
}

fn quorum(quorum: Quorum) -> Option<Json> {
    match quorum {
        Quorum::All => None,
        Quorum::Any => Some(json!("any")),
        Quorum::Count(count) => Some(json!(count)),
    }
}

fn rest(rest: Rest) -> Option<Json> {
    (rest != Rest::default()).then(|| word(&Rest::WORDS, rest))
}

/// What a field that is always an expression says: the expression without its braces.
fn bare(template: &Template) -> Json {
    match template {
        Template::Whole(expr) => json!(expr.source()),
        other => other.source(),
    }
}

/// The word that stands for a value.
pub(super) fn word<T: Copy + PartialEq>(words: &[(&str, T)], value: T) -> Json {
    words.iter().find(|(_, one)| *one == value).map_or(Json::Null, |(word, _)| json!(word))
}

pub(in crate::workflow) fn put(map: &mut Map<String, Json>, key: &str, value: Option<Json>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value);
    }
}

pub(in crate::workflow) fn templates(fields: &[(String, Template)]) -> Json {
    Json::Object(fields.iter().map(|(name, template)| (name.clone(), template.source())).collect())
}

/// A duration in whole milliseconds, so that nothing is rounded.
pub(in crate::workflow) fn exact(duration: Duration) -> Json {
    json!(format!("{}ms", time::millis(duration)))
}

pub(in crate::workflow) fn retry(policy: &RetryPolicy, usual: &RetryPolicy) -> Option<Json> {
    if policy == usual {
        return None;
    }
    let mut map = Map::new();
    map.insert("max".into(), json!(policy.max));
    map.insert("backoff".into(), word(&BACKOFFS, policy.backoff));
    map.insert("initial".into(), exact(Duration::from_millis(policy.initial_ms)));
    map.insert("max_delay".into(), exact(Duration::from_millis(policy.max_delay_ms)));
    map.insert("jitter".into(), json!(policy.jitter));
    if !policy.errors.is_empty() {
        map.insert("errors".into(), json!(policy.errors));
    }
    Some(Json::Object(map))
}
