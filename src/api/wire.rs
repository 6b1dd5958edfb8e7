//! What others script against: jobs and queues as JSON. Keys are a contract: snake_case, times in
//! RFC 3339 UTC, durations as whole milliseconds under names that end in `_ms`, no key of the contract left out. What few
//! jobs have (a deadline, what it waits for) is there only where there is some.

use std::collections::BTreeMap;

use std::time::Duration;

use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::time::{format_duration, millis};
use crate::domain::{JobState, Json, Ms, Place, QueueSettings, QueueStats};
use crate::store::Stored;
use crate::workflow::shown;

/// A value as real JSON instead of as text.
#[derive(Clone, Debug, PartialEq)]
pub struct Value(pub Json);

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.to_value().serialize(to)
    }
}

/// A moment as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Ms);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

/// What an id looks like, for descriptions.
pub enum Id {}

impl PartialSchema for Id {
    fn schema() -> RefOr<Schema> {
        let format = Some(SchemaFormat::Custom("uuid".to_owned()));
        ObjectBuilder::new().schema_type(Type::String).format(format).into()
    }
}

impl ToSchema for Id {}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        let format = Some(SchemaFormat::KnownFormat(KnownFormat::DateTime));
        ObjectBuilder::new().schema_type(Type::String).format(format).into()
    }
}

impl ToSchema for Time {}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ErrorView {
    /// One word or a path of words: `exit:1`, `timeout`, `poison`.
    pub class: String,
    /// May hold anything a handler printed.
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ProgressView {
    /// 0 to 100, if the handler counts.
    pub percent: Option<f64>,
    /// May hold anything a handler printed.
    pub message: String,
}

/// A job, as every face shows it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct JobView {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub queue: String,
    #[serde(serialize_with = "state_text")]
    #[schema(value_type = String)]
    pub state: JobState,
    pub priority: i8,
    /// The number of the attempt that runs or ran last; 0 before the first.
    pub attempt: u32,
    pub max_retries: u32,
    /// Deaths of its workers that are still counted.
    pub crashes: usize,
    #[schema(value_type = serde_json::Value)]
    pub payload: Value,
    #[schema(value_type = serde_json::Value)]
    pub result: Option<Value>,
    pub error: Option<ErrorView>,
    /// What it told last of how far it has come.
    pub progress: Option<ProgressView>,
    pub metadata: BTreeMap<String, String>,
    pub unique_key: Option<String>,
    pub run_id: Option<String>,
    pub step: Option<String>,
    pub worker: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
    /// When it is due; its birth if it was never delayed.
    pub run_at: Time,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    /// When all its attempts must be over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// What it waits for besides its turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// What a job waits for besides its turn.
fn waits_for(stored: &Stored) -> Option<String> {
    let job = &stored.job;
    match stored.place {
        Place::Parked => Some(format!("a worker that handles the type `{}`", job.kind)),
        Place::Blocked => {
            let key = job.concurrency.as_ref().map_or("", |concurrency| concurrency.key.as_str());
            Some(format!("a place under its concurrency key `{key}`"))
        }
        Place::Held => {
            let parents: Vec<String> = job.after.iter().map(|id| id.to_string()).collect();
            Some(format!("the end of {}", parents.join(", ")))
        }
        Place::Suspect => Some("a worker that does nothing else: one died while it ran this".to_owned()),
        _ => None,
    }
}

fn state_text<S: Serializer>(state: &JobState, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(state.as_str())
}

impl From<&Stored> for JobView {
    fn from(stored: &Stored) -> JobView {
        let job = &stored.job;
        let state = stored.place.state();
        let created_at = job.id.created_at();
        let due = matches!(state, JobState::Scheduled | JobState::Retrying);
        let lease = stored.lease.as_ref();
        JobView {
            id: job.id.to_string(),
            kind: job.kind.to_string(),
            queue: job.queue.to_string(),
            state,
            priority: job.priority,
            attempt: job.attempt(state),
            max_retries: job.retry.max,
            crashes: job.crashes.len(),
            payload: Value(shown::payload(job)),
            result: job.result.clone().map(Value),
            error: job
                .error
                .as_ref()
                .map(|error| ErrorView { class: error.class.clone(), message: error.message.clone() }),
            progress: stored
                .progress
                .as_ref()
                .or(job.progress.as_ref())
                .map(|progress| ProgressView { percent: progress.percent, message: progress.message.clone() }),
            metadata: job.metadata.clone(),
            unique_key: job.unique_key.clone(),
            run_id: job.link.as_ref().map(|link| link.run.to_string()),
            step: job.link.as_ref().map(|link| link.step.clone()),
            worker: lease.map(|lease| lease.worker).or(job.worker).map(|worker| worker.to_string()),
            created_at: Time(created_at),
            updated_at: Time(lease.map(|lease| lease.since).or(job.updated_at).unwrap_or(created_at)),
            run_at: Time(if due { stored.at } else { created_at }),
            started_at: lease.map(|lease| lease.since).or(job.started_at).map(Time),
            finished_at: job.finished_at.map(Time),
            deadline_at: job.deadline().map(Time),
            concurrency_key: job.concurrency.as_ref().map(|concurrency| concurrency.key.clone()),
            waits_for: waits_for(stored),
        }
    }
}

/// A queue's counters, as every face shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueueView {
    pub name: String,
    pub paused: bool,
    pub scheduled: u64,
    pub pending: u64,
    pub running: u64,
    pub retrying: u64,
    pub dead: u64,
    pub completed: u64,
    pub cancelled: u64,
    /// Of `pending`: waiting for a worker that knows their type.
    pub parked: u64,
    pub oldest_pending_ms: Option<i64>,
    /// Its share among the queues of a worker that was not told weights.
    pub weight: Option<u32>,
    /// Starts in a time, over all workers: `100/s`.
    pub rate_limit: Option<String>,
    /// Jobs at once, over all workers.
    pub concurrency: Option<u32>,
    /// How long finished jobs are kept, if not as long as those of others.
    pub retention_ms: Option<u64>,
    /// How many finished jobs are kept, if not as many as of others.
    pub retention_count: Option<usize>,
}

impl QueueView {
    /// What is set, for people.
    pub fn settings_text(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.weight.map(|weight| format!("weight {weight}")));
        parts.extend(self.rate_limit.as_ref().map(|rate| format!("rate limit {rate}")));
        parts.extend(self.concurrency.map(|limit| format!("at most {limit} at once")));
        let kept = self.retention_ms.zip(self.retention_count);
        parts.extend(kept.map(|(ms, count)| {
            format!("keeps finished jobs for {}, at most {count}", format_duration(Duration::from_millis(ms)))
        }));
        if parts.is_empty() { "no limits".to_owned() } else { parts.join(", ") }
    }

    pub fn new(stats: &QueueStats, settings: &QueueSettings) -> QueueView {
        QueueView {
            name: stats.name.to_string(),
            paused: stats.paused,
            scheduled: stats.scheduled,
            pending: stats.pending,
            running: stats.running,
            retrying: stats.retrying,
            dead: stats.dead,
            completed: stats.completed,
            cancelled: stats.cancelled,
            parked: stats.parked,
            oldest_pending_ms: stats.oldest_pending_ms,
            weight: settings.weight,
            rate_limit: settings.rate_limit.map(|rate| rate.to_string()),
            concurrency: settings.concurrency,
            retention_ms: settings.retention.map(|kept| millis(kept.age).unsigned_abs()),
            retention_count: settings.retention.map(|kept| kept.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Job, JobId, Place};

    #[test]
    fn a_jobs_keys_are_the_contract() {
        let name = |text: &str| text.parse().expect("a name");
        let id = JobId::from_parts(Ms(1_770_633_000_000), Default::default(), 7);
        let payload = Json::parse("{\"a\": 1.50}", 100).expect("JSON");
        let job = Job::new(id, name("mail"), name("default"), payload);
        let stored = Stored::idle(job, Place::Scheduled, Ms(1_770_633_300_000));
        let value = serde_json::to_value(JobView::from(&stored)).expect("serialises");
        let object = value.as_object().expect("an object");
        let keys: Vec<&str> = object.keys().map(String::as_str).collect();
        assert_eq!(
            keys.join(" "),
            "id type queue state priority attempt max_retries crashes payload result error progress metadata \
             unique_key run_id step worker created_at updated_at run_at started_at finished_at"
        );
        assert_eq!(object["payload"], serde_json::json!({"a": 1.5}));
        assert_eq!(object["run_at"], "2026-02-09T10:35:00.000Z");
        assert_eq!(object["created_at"], "2026-02-09T10:30:00.000Z");
    }
}
