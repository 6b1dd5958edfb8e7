//! How much of a body is taken, and how long it is waited for. What is larger, deeper or slower is
//! refused before anything is stored.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::request::Parts;
use http_body_util::{LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::problem::Problem;
use super::room::{Share, collect};
use crate::api::codes::Code;
use crate::api::wanted::Object;
use crate::domain::json::{BadJson, Json};
use crate::domain::limits::PAYLOAD_BYTES;

/// A body, in bytes.
pub const BODY_BYTES: usize = PAYLOAD_BYTES;
/// A whole body must have come in this time.
pub const BODY_WITHIN: Duration = Duration::from_secs(20);
/// So must the head of a request, and the next request on a connection that is kept open.
pub const HEAD_WITHIN: Duration = Duration::from_secs(20);
/// Whoever takes nothing of what is sent for so long is cut off.
pub const TAKE_WITHIN: Duration = Duration::from_secs(20);
/// Connections at once.
pub const CONNECTIONS: usize = 10_000;

/// The whole body, if it is not larger than `limit`, comes in time, and finds room.
///
/// # Errors
/// 413, 408, 503; 400 for one that breaks off.
pub async fn read(parts: &Parts, body: Body, limit: usize) -> Result<Bytes, Problem> {
    // What is left of the body would be taken for the next request.
    let close = |problem: Problem| problem.header(CONNECTION, HeaderValue::from_static("close"));
    let too_large = || {
        let detail = format!("the body is larger than the {limit} bytes allowed");
        close(Problem::new(Code::PayloadTooLarge, detail))
    };
    let share = parts.extensions.get::<Share>();
    let told = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    match (told, share) {
        (Some(told), _) if told > limit => return Err(too_large()),
        (Some(told), Some(share)) => share.fits(told).map_err(close)?,
        _ => {}
    }
    match tokio::time::timeout(BODY_WITHIN, collect(Limited::new(body, limit), share)).await {
        Ok(Ok(whole)) => whole.map_err(close),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(_)) => Err(close(Problem::new(Code::Unreadable, "the body broke off"))),
        Err(_) => Err(close(Problem::new(Code::TooSlow, "the body did not come in time"))),
    }
}

/// The body as it came.
pub struct Raw(pub Bytes);

impl<S: Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Raw, Problem> {
        let (parts, body) = request.into_parts();
        read(&parts, body, BODY_BYTES).await.map(Raw)
    }
}

/// The body as JSON of this shape; unknown keys are the shape's own to refuse. The type that the
/// request gives itself does not matter: who writes with curl forgets it.
pub struct Sent<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Sent<T>, Problem> {
        let Raw(bytes) = Raw::from_request(request, state).await?;
        parse(&bytes).map(Sent)
    }
}

/// The same where nothing need be sent.
pub struct Maybe<T>(pub T);

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for Maybe<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Maybe<T>, Problem> {
        let Raw(bytes) = Raw::from_request(request, state).await?;
        if bytes.is_empty() { Ok(Maybe(T::default())) } else { parse(&bytes).map(Maybe) }
    }
}

/// Reads a JSON object of this shape.
///
/// # Errors
/// 400 with the place of the mistake.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let wrong = |detail: String| Problem::new(Code::PayloadNotJson, detail);
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(format!("the body is not UTF-8: {error}")))?;
    if text.trim().is_empty() {
        return Err(wrong("the body is empty, and must be JSON".to_owned()));
    }
    Json::parse(text, BODY_BYTES).map_err(|error| match error {
        BadJson::TooLarge { .. } => Problem::new(Code::PayloadTooLarge, error.to_string()),
        _ => wrong(format!("the body is {error}")),
    })?;
    serde_json::from_str(text)
        .map(|Object(sent)| sent)
        .map_err(|error| Problem::new(Code::Usage, format!("the body does not fit: {error}")))
}
