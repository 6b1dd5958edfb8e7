//! What is answered when it does not work: a problem document (RFC 9457) with the code that the
//! commands tell too. The status follows from the code (`api::codes`).

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode, Uri};
use serde::Serialize;

use crate::api::ApiError;
use crate::api::codes::Code;
use crate::api::filter::BadFilter;
use crate::api::runs::StartError;
use crate::api::wanted::BadJob;
use crate::store::StoreError;

/// A failure to be told, boxed because it is rare and answers are not.
#[derive(Debug)]
pub struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The document.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemView<'a> {
    /// Where the code is explained.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: &'a str,
    pub status: u16,
    /// One sentence about this case.
    pub detail: &'a str,
    /// As `goflow explain` takes it.
    pub code: &'static str,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Problem(Box::new(Inner { code, status, detail: detail.into(), headers: Vec::new() }))
    }

    /// Another status than the code's own.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Problem {
        self.0.status = status;
        self
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.0.headers.push((name, value));
        self
    }

    pub fn code(&self) -> Code {
        self.0.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Inner { code, status, detail, headers } = *self.0;
        if status.is_server_error() {
            tracing::warn!(code = code.as_str(), status = status.as_u16(), "{detail}");
        }
        let title = code.title().split_once(": ").map_or(code.title(), |(_, title)| title);
        let kind = format!("/errors/{}", code.as_str());
        let view = ProblemView { kind, title, status: status.as_u16(), detail: &detail, code: code.as_str() };
        let body = serde_json::to_vec(&view).unwrap_or_default();
        let mut response = (status, body).into_response();
        let to = response.headers_mut();
        to.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            to.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        for (name, value) in headers {
            to.insert(name, value);
        }
        response
    }
}

macro_rules! problems {
    ($($error:ty),*) => {
        $(impl From<$error> for Problem {
            fn from(error: $error) -> Problem {
                Problem::new(Code::from(&error), error.to_string())
            }
        })*
    };
}

problems!(ApiError, StoreError, StartError, BadFilter, BadJob);

/// What is no route.
pub(super) async fn no_route(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::NotFound, format!("there is no {method} {}", uri.path()))
}

/// A route that does not know the method; the answer names those that it knows.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}", uri.path());
    Problem::new(Code::Usage, detail).status(StatusCode::METHOD_NOT_ALLOWED)
}

/// The page of a code, in Markdown.
pub(super) async fn page(Path(code): Path<String>) -> Result<Response, Problem> {
    // An address has one form; `gf12` is for those who type.
    let found = Code::parse(&code).filter(|found| found.as_str() == code);
    let found = found.ok_or_else(|| Problem::new(Code::NotFound, format!("there is no code `{code}`")))?;
    Ok(([(CONTENT_TYPE, "text/markdown; charset=utf-8")], found.page()).into_response())
}
