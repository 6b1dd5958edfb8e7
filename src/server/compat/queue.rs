//! `/api/jobs`, `/api/queue/…`, `/api/dlq` and `/api/events`: jobs as the API gives them, in lists under
//! their plural's name.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::api::codes::Code;
use crate::api::events::EVENT_FIELDS;
use crate::api::filter::Where;
use crate::api::wanted::JobWanted;
use crate::api::{EventView, Filter, JobView, QueueView, Verb};
use crate::domain::{JobId, JobState, Name};
use crate::server::app::App;
use crate::server::limits::Sent;
use crate::server::problem::Problem;
use crate::server::v1::jobs::{self, ActedView};
use crate::server::v1::{Api, Asked, At, limit};

/// A job to be added, in either system's words.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnqueueWanted {
    #[serde(rename = "type")]
    #[schema(value_type = String, max_length = 128, pattern = "^[A-Za-z0-9](\\.?[A-Za-z0-9_:-])*\\.?$")]
    kind: Name,
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 128, pattern = "^[A-Za-z0-9](\\.?[A-Za-z0-9_:-])*\\.?$")]
    queue: Option<Name>,
    #[serde(default)]
    #[schema(value_type = serde_json::Value, required = false)]
    payload: Option<Box<RawValue>>,
    /// Higher is sooner.
    #[serde(default)]
    #[schema(minimum = -100, maximum = 100)]
    priority: Option<i8>,
    #[serde(default)]
    #[schema(minimum = 0, maximum = 10000)]
    max_retries: Option<u32>,
    #[serde(default)]
    metadata: Option<std::collections::BTreeMap<String, String>>,
    /// Not before so long from now, as in `5m`.
    #[serde(default)]
    delay: Option<String>,
    /// Not before this time, RFC 3339.
    #[serde(default)]
    #[schema(format = DateTime)]
    run_at: Option<String>,
}

impl EnqueueWanted {
    fn wanted(self) -> Result<JobWanted, Problem> {
        let read = |text: String| {
            let read = crate::domain::time::parse_duration(&text);
            read.map_err(|error| Problem::new(Code::Usage, format!("`delay`: {error}")))
        };
        let delay = self.delay.map(read).transpose()?;
        Ok(JobWanted {
            queue: self.queue,
            priority: self.priority,
            delay_ms: delay.map(|delay| crate::domain::time::millis(delay).unsigned_abs()),
            run_at: self.run_at,
            max_retries: self.max_retries,
            metadata: self.metadata,
            ..super::tasks::bare(self.kind, self.payload)
        })
    }
}

pub async fn enqueue(
    State(app): State<App>,
    Api(client): Api,
    Sent(wanted): Sent<EnqueueWanted>,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    let stored = jobs::add(&app, &client, wanted.wanted()?).await?;
    Ok((StatusCode::CREATED, Json(JobView::from(&stored))))
}

/// Which jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobsQuery {
    /// Only those in this state, by any system's name for it.
    #[serde(default)]
    #[param(
        pattern = "^(scheduled|pending|running|retrying|completed|dead|cancelled|failed|done|active|processing|delayed|retry|queued|waiting)$"
    )]
    status: Option<String>,
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9](\\.?[A-Za-z0-9_:-])*\\.?$", max_length = 128)]
    queue: Option<Name>,
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Jobs, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobsView {
    jobs: Vec<JobView>,
    /// Of those listed.
    count: usize,
}

pub async fn list(Api(client): Api, Asked(query): Asked<JobsQuery>) -> Result<Json<JobsView>, Problem> {
    let states: Vec<String> = query.status.into_iter().collect();
    if let Some(wrong) = states.iter().find(|word| word.chars().any(char::is_uppercase)) {
        return Err(Problem::new(Code::Usage, format!("`{wrong}` is not a state: states are in lower case")));
    }
    let filter = Filter::default().only_states_named(&states)?;
    let filter = match &query.queue {
        Some(queue) => filter.only_queue(queue),
        None => filter,
    };
    let found = client.newest(&filter, limit(query.limit)?).await?;
    Ok(Json(JobsView { count: found.len(), jobs: found.iter().map(JobView::from).collect() }))
}

/// Which dead jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeadQuery {
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9](\\.?[A-Za-z0-9_:-])*\\.?$", max_length = 128)]
    queue: Option<Name>,
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

pub async fn dead(Api(client): Api, Asked(query): Asked<DeadQuery>) -> Result<Json<JobsView>, Problem> {
    let DeadQuery { queue, limit } = query;
    let query = JobsQuery { status: Some(JobState::Dead.as_str().to_owned()), queue, limit };
    list(Api(client), Asked(query)).await
}

/// The counters of every queue, and their sums.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueStatsView {
    queues: Vec<QueueView>,
    pending: u64,
    scheduled: u64,
    running: u64,
    retrying: u64,
    completed: u64,
    dead: u64,
    cancelled: u64,
}

pub async fn stats(Api(client): Api) -> Result<Json<QueueStatsView>, Problem> {
    let queues = client.queue_views().await?;
    let sum = |of: fn(&QueueView) -> u64| queues.iter().map(of).sum();
    let (pending, scheduled) = (sum(|queue| queue.pending), sum(|queue| queue.scheduled));
    let (running, retrying) = (sum(|queue| queue.running), sum(|queue| queue.retrying));
    let (completed, dead) = (sum(|queue| queue.completed), sum(|queue| queue.dead));
    let cancelled = sum(|queue| queue.cancelled);
    Ok(Json(QueueStatsView { pending, scheduled, running, retrying, completed, dead, cancelled, queues }))
}

/// Tries one dead job again.
pub async fn retry_dead(Api(client): Api, At(id): At<JobId>) -> Result<Response, Problem> {
    jobs::act(&client, Verb::Retry, id).await
}

fn all_dead() -> jobs::Which {
    jobs::Which { ids: None, filter: Some(String::new()), dry_run: None }
}

pub async fn retry_all_dead(Api(client): Api) -> Result<Json<ActedView>, Problem> {
    jobs::act_on(&client, Verb::Retry, all_dead(), Filter::default().only_states(&[JobState::Dead])).await
}

pub async fn purge_dead(Api(client): Api) -> Result<Json<ActedView>, Problem> {
    jobs::act_on(&client, Verb::Delete, all_dead(), Filter::default().only_states(&[JobState::Dead])).await
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only those of this job.
    #[serde(default)]
    #[param(value_type = Option<crate::api::wire::Id>)]
    job_id: Option<JobId>,
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// The latest events, the oldest of them first.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventsView {
    events: Vec<EventView>,
    count: usize,
}

pub async fn events(Api(client): Api, Asked(query): Asked<EventsQuery>) -> Result<Json<EventsView>, Problem> {
    let text = query.job_id.map(|id| format!("job:{id}")).unwrap_or_default();
    let page = client.latest_events(&Where::parse(&text, EVENT_FIELDS)?, limit(query.limit)?).await?;
    Ok(Json(EventsView { count: page.events.len(), events: page.events }))
}
