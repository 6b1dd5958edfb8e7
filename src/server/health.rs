//! For load balancers: whether the process lives, and whether it can do its work.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::ACCEPT;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::problem::Problem;
use crate::api::codes::Code;

/// A store that takes longer to say a word is not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// That the process lives.
#[derive(Serialize, ToSchema)]
pub struct HealthView {
    pub status: &'static str,
    /// What `ENV` says.
    pub env: String,
}

/// That the store can be reached.
#[derive(Serialize, ToSchema)]
pub struct ReadyView {
    pub status: &'static str,
}

pub(super) async fn health(State(app): State<App>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.trim_start().starts_with("text/plain") {
        return "OK".into_response();
    }
    Json(HealthView { status: "ok", env: app.options().env.clone() }).into_response()
}

pub(super) async fn ready(State(app): State<App>) -> Result<Json<ReadyView>, Problem> {
    match tokio::time::timeout(READY_WITHIN, app.client().store().queues()).await {
        Ok(answer) => answer?,
        Err(_) => return Err(Problem::new(Code::StoreUnreachable, "the store does not answer")),
    };
    Ok(Json(ReadyView { status: "ready" }))
}
