//! Runs: looking at them, and steering them.

use axum::Json;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::definitions::input;
use super::{Api, Asked, At, ListView, WaitQuery, limit};
use crate::api::codes::Code;
use crate::api::{Client, EventView, RunView};
use crate::domain::{Name, RunId, RunState};
use crate::server::limits::{Maybe, Sent};
use crate::server::problem::Problem;

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunsQuery {
    /// Only those in this state.
    #[serde(default)]
    #[param(pattern = "^(pending|running|paused|compensating|completed|failed|compensated|cancelled)$")]
    state: Option<String>,
    /// Only those of this workflow.
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9](\\.?[A-Za-z0-9_:-])*\\.?$", max_length = 128)]
    workflow: Option<Name>,
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// What the page before called `next`.
    #[serde(default)]
    after: Option<String>,
}

pub async fn list(Api(client): Api, Asked(query): Asked<RunsQuery>) -> Result<Json<ListView<RunView>>, Problem> {
    let read = |text: &str| {
        let unknown = || Problem::new(Code::Usage, format!("`{text}` is not a state of a run"));
        RunState::parse(text).ok_or_else(unknown)
    };
    let state = query.state.as_deref().map(read).transpose()?;
    let page = client.runs_page(state, query.workflow.as_ref(), query.after.as_deref(), limit(query.limit)?).await?;
    Ok(Json(ListView::of(page, |run| run)))
}

pub async fn get(Api(client): Api, At(id): At<RunId>) -> Result<Json<RunView>, Problem> {
    Ok(Json(client.run(id).await?))
}

pub async fn history(Api(client): Api, At(id): At<RunId>) -> Result<Json<ListView<EventView>>, Problem> {
    // One without events is none.
    client.run_header(id).await?;
    let events = client.run_events(id).await?;
    Ok(Json(ListView::whole(events.iter().map(EventView::from).collect())))
}

pub async fn wait(
    Api(client): Api,
    At(id): At<RunId>,
    Asked(query): Asked<WaitQuery>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let ended = client.wait_for_run(id, query.timeout()?).await?;
    let status = if ended { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(client.run(id).await?)))
}

/// Was said to a run, which has taken it in; its steps are done by workers.
type Told = Result<(StatusCode, Json<RunView>), Problem>;

async fn told(client: &Client, id: RunId) -> Told {
    Ok((StatusCode::ACCEPTED, Json(client.run(id).await?)))
}

pub async fn pause(Api(client): Api, At(id): At<RunId>) -> Told {
    client.pause_run(id).await?;
    told(&client, id).await
}

pub async fn resume(Api(client): Api, At(id): At<RunId>) -> Told {
    client.resume_run(id).await?;
    told(&client, id).await
}

pub async fn retry(Api(client): Api, At(id): At<RunId>) -> Told {
    client.retry_run(id).await?;
    told(&client, id).await
}

/// How to cancel.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelWanted {
    /// Undo first what was done; true if nothing is said.
    #[serde(default)]
    compensate: Option<bool>,
}

pub async fn cancel(Api(client): Api, At(id): At<RunId>, Maybe(how): Maybe<CancelWanted>) -> Told {
    client.cancel_run(id, how.compensate.unwrap_or(true)).await?;
    told(&client, id).await
}

/// A signal.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalWanted {
    #[schema(value_type = String, max_length = 128, pattern = "^[A-Za-z0-9](\\.?[A-Za-z0-9_:-])*\\.?$")]
    pub name: Name,
    #[serde(default)]
    #[schema(value_type = serde_json::Value, required = false)]
    pub data: Option<Box<RawValue>>,
}

pub async fn signal(Api(client): Api, At(id): At<RunId>, Sent(signal): Sent<SignalWanted>) -> Told {
    client.signal(id, signal.name, input(signal.data.as_deref())?).await?;
    told(&client, id).await
}

/// An answer to an approval.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerWanted {
    /// The step, if several wait.
    #[serde(default)]
    step: Option<String>,
    /// Who answers: a name, and groups as `group:NAME`.
    #[serde(default)]
    by: Option<Vec<String>>,
    #[serde(default)]
    comment: Option<String>,
}

async fn answer(client: &Client, id: RunId, approved: bool, answer: AnswerWanted) -> Told {
    let by = answer.by.unwrap_or_default();
    client.answer(id, answer.step.as_deref(), approved, by, answer.comment).await?;
    told(client, id).await
}

pub async fn approve(Api(client): Api, At(id): At<RunId>, Maybe(how): Maybe<AnswerWanted>) -> Told {
    answer(&client, id, true, how).await
}

pub async fn reject(Api(client): Api, At(id): At<RunId>, Maybe(how): Maybe<AnswerWanted>) -> Told {
    answer(&client, id, false, how).await
}
