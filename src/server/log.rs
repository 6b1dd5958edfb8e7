//! The access log: one record a request, handed to whoever writes it; and the last net under a route
//! that panics. Query strings are not told: a token may stand there.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::Method;

use super::problem::Problem;
use crate::api::codes::Code;

/// One request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub method: Method,
    pub path: String,
    pub status: u16,
    /// Until the head of the answer was ready.
    pub duration: Duration,
}

/// Takes what was answered; must not block.
pub type AccessLog = Arc<dyn Fn(Answered) + Send + Sync>;

pub(super) async fn tell(log: AccessLog, request: Request, next: Next) -> Response {
    let began = tokio::time::Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // What a route was doing is the store's to keep whole; the panic itself stands in the log.
    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response =
        response.unwrap_or_else(|_| Problem::new(Code::Bug, "goflow broke: its log tells more").into_response());
    log(Answered { method, path, status: response.status().as_u16(), duration: began.elapsed() });
    response
}
