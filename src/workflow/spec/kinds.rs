//! The kinds beside Workflow and Handler: Schedule, Webhook, Queue. Plain data; who serves them
//! gives them their meaning.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::canonical::{exact, put, word};
pub use crate::domain::schedule::{Catchup, Overlap};
pub use crate::domain::signature::Scheme as WebhookScheme;
use crate::domain::signature::TOLERANCE;
use crate::domain::{Name, Rate};
use crate::workflow::expr::Template;
use crate::workflow::manifest::API_VERSION;

/// `kind: Schedule`: when something is started by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleSpec {
    pub name: Name,
    pub rule: ScheduleRule,
    /// An IANA zone; `UTC` where nothing is said.
    pub timezone: String,
    pub target: ScheduleTarget,
    /// The input of the run, or the payload of the job.
    pub input: Json,
    pub overlap: Overlap,
    pub catchup: Catchup,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleRule {
    /// As a crontab means it, or `@hourly` and its like.
    Cron(String),
    /// Counted from the creation of the schedule.
    Every(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleTarget {
    Workflow(Name),
    Job { kind: Name, queue: Option<Name> },
}

/// `kind: Webhook`: what an HTTP request under `/webhooks/` does.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSpec {
    pub name: Name,
    /// What follows `/webhooks/`.
    pub path: String,
    pub scheme: WebhookScheme,
    /// Where the secrets are found: `env:NAME` or `file:PATH`; several during a rotation. None means the one
    /// of the configuration.
    pub secrets: Vec<String>,
    /// How far the time that a sender signed may be from ours.
    pub tolerance: Duration,
    pub target: WebhookTarget,
    /// Makes the input out of `payload` and `headers`; where nothing is said the payload is the input.
    pub transform: Option<Template>,
    pub enabled: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WebhookTarget {
    Job {
        kind: Name,
        queue: Option<Name>,
    },
    Workflow(Name),
    /// `signal: {name, run}`: to the run whose id the template gives.
    Signal {
        name: Name,
        run: Template,
    },
}

/// `kind: Queue`: the settings of one queue. What is left out stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    pub name: Name,
    /// Its share beside other queues, 1 to 1,000.
    pub weight: Option<u32>,
    /// Starts in a time, over all workers.
    pub rate_limit: Option<Rate>,
    /// Jobs under way at a time over all workers.
    pub concurrency: Option<u32>,
    pub paused: Option<bool>,
}

fn head(kind: &str, name: &Name) -> Map<String, Json> {
    let mut map = Map::new();
    map.insert("apiVersion".into(), json!(API_VERSION));
    map.insert("kind".into(), json!(kind));
    map.insert("name".into(), json!(name.as_str()));
    map
}

fn put_job(map: &mut Map<String, Json>, kind: &Name, queue: Option<&Name>) {
    map.insert("job".into(), json!(kind.as_str()));
    put(map, "queue", queue.map(|queue| json!(queue.as_str())));
}

impl ScheduleSpec {
    /// The manifest again, in a fixed order of keys.
    pub fn canonical(&self) -> Json {
        let mut map = head("Schedule", &self.name);
        match &self.rule {
            ScheduleRule::Cron(rule) => {
                map.insert("cron".into(), json!(rule));
                map.insert("timezone".into(), json!(self.timezone));
            }
            ScheduleRule::Every(every) => put(&mut map, "every", Some(exact(*every))),
        }
        match &self.target {
            ScheduleTarget::Workflow(name) => put(&mut map, "workflow", Some(json!(name.as_str()))),
            ScheduleTarget::Job { kind, queue } => put_job(&mut map, kind, queue.as_ref()),
        }
        put(&mut map, "input", (!self.input.is_null()).then(|| self.input.clone()));
        map.insert("overlap".into(), word(&Overlap::WORDS, self.overlap));
        map.insert("catchup".into(), word(&Catchup::WORDS, self.catchup));
        Json::Object(map)
    }
}

impl WebhookSpec {
    /// The manifest again, in a fixed order of keys.
    pub fn canonical(&self) -> Json {
        let mut map = head("Webhook", &self.name);
        map.insert("path".into(), json!(self.path));
        map.insert("scheme".into(), word(&WebhookScheme::WORDS, self.scheme));
        put(&mut map, "secret", (!self.secrets.is_empty()).then(|| json!(self.secrets)));
        put(&mut map, "tolerance", (self.tolerance != TOLERANCE).then(|| exact(self.tolerance)));
        match &self.target {
            WebhookTarget::Job { kind, queue } => put_job(&mut map, kind, queue.as_ref()),
            WebhookTarget::Workflow(name) => put(&mut map, "workflow", Some(json!(name.as_str()))),
            WebhookTarget::Signal { name, run } => {
                put(&mut map, "signal", Some(json!({"name": name.as_str(), "run": run.source()})));
            }
        }
        put(&mut map, "transform", self.transform.as_ref().map(Template::source));
        put(&mut map, "enabled", (!self.enabled).then_some(json!(false)));
        Json::Object(map)
    }
}

impl QueueSpec {
    /// The manifest again, in a fixed order of keys.
    pub fn canonical(&self) -> Json {
        let mut map = head("Queue", &self.name);
        put(&mut map, "weight", self.weight.map(|weight| json!(weight)));
        put(&mut map, "rate_limit", self.rate_limit.map(|rate| json!(rate.to_string())));
        put(&mut map, "concurrency", self.concurrency.map(|most| json!(most)));
        put(&mut map, "paused", self.paused.map(|paused| json!(paused)));
        Json::Object(map)
    }
}
