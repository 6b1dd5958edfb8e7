//! `/tasks`: a task is a job by another name. States that it did not know read as those that it did.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::api::wanted::JobWanted;
use crate::api::{Filter, JobView};
use crate::domain::{JobId, JobState, Ms, Name};
use crate::server::app::App;
use crate::server::limits::Sent;
use crate::server::problem::Problem;
use crate::server::v1::{Api, Asked, At, jobs, limit};
use crate::store::Stored;

/// Tasks of a list that does not say how many.
const USUAL: usize = 100;

/// A task to be added.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TaskWanted {
    #[serde(rename = "type")]
    #[schema(value_type = String, max_length = 128, pattern = "^[A-Za-z0-9](\\.?[A-Za-z0-9_:-])*\\.?$")]
    kind: Name,
    #[serde(default)]
    #[schema(value_type = serde_json::Value, required = false)]
    payload: Option<Box<RawValue>>,
}

/// A task. Its times are in whole seconds.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskView {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[schema(value_type = serde_json::Value)]
    pub payload: crate::api::wire::Value,
    /// `pending`, `running`, `done` or `failed`.
    pub status: &'static str,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

impl From<&Stored> for TaskView {
    fn from(stored: &Stored) -> TaskView {
        let job = JobView::from(stored);
        let status = match job.state {
            JobState::Scheduled | JobState::Pending | JobState::Retrying => "pending",
            JobState::Running => "running",
            JobState::Completed => "done",
            JobState::Dead | JobState::Cancelled => "failed",
        };
        TaskView {
            id: job.id,
            kind: job.kind,
            payload: job.payload,
            status,
            created_at: seconds(job.created_at.0),
            updated_at: seconds(job.updated_at.0),
        }
    }
}

/// `2024-02-09T10:30:00Z`
fn seconds(at: Ms) -> String {
    let text = at.rfc3339();
    match text.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => text,
    }
}

pub async fn create(
    State(app): State<App>,
    Api(client): Api,
    Sent(TaskWanted { kind, payload }): Sent<TaskWanted>,
) -> Result<(StatusCode, Json<TaskView>), Problem> {
    let stored = jobs::add(&app, &client, bare(kind, payload)).await?;
    Ok((StatusCode::CREATED, Json(TaskView::from(&stored))))
}

/// A job that says nothing but its type and payload.
pub fn bare(kind: Name, payload: Option<Box<RawValue>>) -> JobWanted {
    JobWanted {
        kind,
        queue: None,
        payload,
        priority: None,
        delay_ms: None,
        run_at: None,
        max_retries: None,
        timeout_ms: None,
        deadline_ms: None,
        partition: None,
        unique_key: None,
        unique_for_ms: None,
        after: None,
        concurrency: None,
        metadata: None,
    }
}

pub async fn get(Api(client): Api, At(id): At<JobId>) -> Result<Json<TaskView>, Problem> {
    Ok(Json(TaskView::from(&jobs::found(&client, id).await?)))
}

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TasksQuery {
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

pub async fn list(Api(client): Api, Asked(query): Asked<TasksQuery>) -> Result<Json<Vec<TaskView>>, Problem> {
    let limit = limit(query.limit.or(Some(USUAL)))?;
    Ok(Json(client.newest(&Filter::default(), limit).await?.iter().map(TaskView::from).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_whole_seconds() {
        assert_eq!(seconds(Ms(1_707_474_600_123)), "2024-02-09T10:30:00Z");
    }
}
