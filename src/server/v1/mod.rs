//! The API, version 1: what the commands do, over HTTP. Each route reads what was sent, calls one verb
//! of `api` and answers its view; nothing is decided here.

pub mod definitions;
pub mod dlq;
pub mod jobs;
pub mod locks;
pub mod looks;
pub mod queues;
pub mod runs;
pub mod schedules;
pub mod tokens;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::app::App;
use super::idempotency::Once;
use super::problem::Problem;
use super::webhooks::trace;
use crate::api::Client;
use crate::api::codes::Code;
use crate::api::pages::Slice;

/// Items of a page that does not say how many.
const USUAL: usize = 20;
/// Items of a page at most.
const MOST: usize = 1_000;

/// A list, and where it goes on.
#[derive(Debug, Serialize)]
pub struct ListView<T> {
    pub items: Vec<T>,
    /// To be sent as `after` for what follows; null at the end.
    pub next: Option<String>,
}

impl<T> ListView<T> {
    /// All there is.
    pub fn whole(items: Vec<T>) -> ListView<T> {
        ListView { items, next: None }
    }

    pub fn of<S>(slice: Slice<S>, view: impl FnMut(S) -> T) -> ListView<T> {
        ListView { items: slice.items.into_iter().map(view).collect(), next: slice.next }
    }
}

/// The client that a route uses, within the request's trace: of a request that was sent again, the one
/// that makes the same ids.
pub struct Api(pub Client);

impl FromRequestParts<App> for Api {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Api, Self::Rejection> {
        let once = parts.extensions.get::<Once>().map(|once| once.0.clone());
        let client = once.unwrap_or_else(|| app.client().clone());
        Ok(Api(client.within(trace(&parts.headers))))
    }
}

/// The places of a path, with our words for what does not fit.
pub struct At<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<At<T>, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(at)) => Ok(At(at)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                Err(Problem::new(Code::Usage, format!("the path does not fit: {}", error.body_text())))
            }
            Err(error) => Err(Problem::new(Code::Bug, error.to_string())),
        }
    }
}

/// The query, with our words for what does not fit.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked<T>, Problem> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        let read = read.map_err(|error: QueryRejection| {
            Problem::new(Code::Usage, format!("the query does not fit: {}", error.body_text()))
        });
        read.map(|Query(asked)| Asked(asked))
    }
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Only those that match, in the language of `--where`.
    #[serde(rename = "where", default)]
    pub filter: Option<String>,
    /// At most so many; a page may hold fewer and not be the last.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// What the page before called `next`.
    #[serde(default)]
    pub after: Option<String>,
}

impl PageQuery {
    /// # Errors
    /// A number out of range.
    pub fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit)
    }

    pub fn filter(&self) -> &str {
        self.filter.as_deref().unwrap_or_default()
    }
}

/// # Errors
/// A number out of range.
pub fn limit(wanted: Option<usize>) -> Result<usize, Problem> {
    match wanted {
        None => Ok(USUAL),
        Some(limit) if (1..=MOST).contains(&limit) => Ok(limit),
        Some(limit) => Err(Problem::new(Code::Usage, format!("`limit`: {limit} is out of range: 1 to {MOST}"))),
    }
}

/// Longest that a request waits for an end, in milliseconds.
const LONGEST_WAIT_MS: u64 = 30_000;

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Then it is answered as it is, with 202.
    #[serde(default)]
    #[param(minimum = 0, maximum = 30000)]
    pub timeout_ms: Option<u64>,
}

impl WaitQuery {
    /// # Errors
    /// A number out of range.
    pub fn timeout(&self) -> Result<std::time::Duration, Problem> {
        match self.timeout_ms.unwrap_or(LONGEST_WAIT_MS) {
            ms @ 0..=LONGEST_WAIT_MS => Ok(std::time::Duration::from_millis(ms)),
            ms => {
                let detail = format!("`timeout_ms`: {ms} is out of range: 0 to {LONGEST_WAIT_MS}");
                Err(Problem::new(Code::Usage, detail))
            }
        }
    }
}

/// Something that was done, if it changed anything.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ChangedView {
    pub changed: bool,
}
