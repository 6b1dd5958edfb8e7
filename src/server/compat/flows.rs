//! `/flow/NAME`: a flow is a workflow; its input is the body as it came.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::{ApiError, Client};
use crate::domain::{Name, RunId};
use crate::server::limits::Raw;
use crate::server::problem::Problem;
use crate::server::v1::{Api, At, definitions, jobs};

/// What a request was accepted as.
#[derive(Debug, Serialize, ToSchema)]
pub struct AcceptedView {
    /// The run's id; `X-Reqid` has it too.
    request_id: String,
}

fn accepted(id: RunId) -> Result<Response, Problem> {
    let mut answer = (StatusCode::ACCEPTED, Json(AcceptedView { request_id: id.to_string() })).into_response();
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        answer.headers_mut().insert(HeaderName::from_static("x-reqid"), value);
    }
    Ok(answer)
}

pub async fn start(Api(client): Api, At(name): At<Name>, Raw(bytes): Raw) -> Result<Response, Problem> {
    accepted(definitions::begin(&client, &name, jobs::free_payload(&bytes)?).await?)
}

/// The run, if it is one of this flow.
async fn of_flow(client: &Client, name: &Name, id: RunId) -> Result<(), Problem> {
    let run = client.run_header(id).await?;
    if run.workflow == *name { Ok(()) } else { Err(ApiError::NotFound { noun: "run", id: id.to_string() }.into()) }
}

pub async fn pause(Api(client): Api, At((name, id)): At<(Name, RunId)>) -> Result<Response, Problem> {
    of_flow(&client, &name, id).await?;
    client.pause_run(id).await?;
    accepted(id)
}

pub async fn resume(Api(client): Api, At((name, id)): At<(Name, RunId)>) -> Result<Response, Problem> {
    of_flow(&client, &name, id).await?;
    client.resume_run(id).await?;
    accepted(id)
}

pub async fn stop(Api(client): Api, At((name, id)): At<(Name, RunId)>) -> Result<Response, Problem> {
    of_flow(&client, &name, id).await?;
    client.cancel_run(id, true).await?;
    accepted(id)
}

/// How far a request has come.
#[derive(Debug, Serialize, ToSchema)]
pub struct StateView {
    request_id: String,
    state: String,
}

pub async fn state(Api(client): Api, At((name, id)): At<(Name, RunId)>) -> Result<Json<StateView>, Problem> {
    of_flow(&client, &name, id).await?;
    let run = client.run_header(id).await?;
    Ok(Json(StateView { request_id: id.to_string(), state: run.state.to_string() }))
}
