//! `/api/workflows`: there a workflow is what goflow calls a run.

use axum::Json;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::api::RunView;
use crate::api::codes::Code;
use crate::domain::{Name, RunState};
use crate::server::limits::Sent;
use crate::server::problem::Problem;
use crate::server::v1::{Api, Asked, definitions, limit};

/// Which.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WorkflowsQuery {
    #[serde(default)]
    #[param(pattern = "^(pending|running|paused|compensating|completed|failed|compensated|cancelled)$")]
    status: Option<String>,
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Runs, live ones first, the latest of each first.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkflowsView {
    workflows: Vec<RunView>,
    count: usize,
}

pub async fn list(Api(client): Api, Asked(query): Asked<WorkflowsQuery>) -> Result<Json<WorkflowsView>, Problem> {
    let read = |text: &str| {
        let unknown = || Problem::new(Code::Usage, format!("`{text}` is not a state of a run"));
        RunState::parse(text).ok_or_else(unknown)
    };
    let state = query.status.as_deref().map(read).transpose()?;
    let found = client.runs(state, None, limit(query.limit)?).await?;
    Ok(Json(WorkflowsView { count: found.runs.len(), workflows: found.runs }))
}

/// What to start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkflowWanted {
    /// The workflow.
    #[serde(alias = "workflow")]
    #[schema(value_type = String, max_length = 128, pattern = "^[A-Za-z0-9](\\.?[A-Za-z0-9_:-])*\\.?$")]
    name: Name,
    #[serde(default)]
    #[schema(value_type = serde_json::Value, required = false)]
    input: Option<Box<RawValue>>,
}

pub async fn start(
    Api(client): Api,
    Sent(wanted): Sent<WorkflowWanted>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let id = definitions::begin(&client, &wanted.name, definitions::input(wanted.input.as_deref())?).await?;
    Ok((StatusCode::CREATED, Json(client.run(id).await?)))
}
