//! The store contract as routes, for a goflow that has a server instead of a store (`--server`). The
//! table of calls is the store's (`store::wire`), and from it the rows of `scopes` are made: what each
//! needs stands there, beside its name.

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::app::App;
use super::auth::Caller;
use super::limits;
use super::problem::Problem;
use crate::api::codes::Code;
use crate::api::tokens::Scope;
use crate::store::StoreError;
use crate::store::wire::{self, Call, HintWish, Refusal, Right};

/// Says that a goflow is here, and which.
pub(super) async fn greet(State(app): State<App>, headers: HeaderMap) -> Response {
    match (same_protocol(&headers), is_one(&app)) {
        (Err(problem), _) => ours(problem.into_response()),
        (_, Err(error)) => message(status(&error), wire::encode(&error).unwrap_or_default()),
        _ => message(StatusCode::OK, wire::encode(wire::VERSION).unwrap_or_default()),
    }
}

/// Where a new job is to lie is known to those who see the shards. A caller here does not, and would put
/// one unique key on two of them.
fn is_one(app: &App) -> Result<(), StoreError> {
    match app.client().store().shards() {
        None => Ok(()),
        Some(_) => Err(StoreError::Refused(
            "the server's store has shards: use it by --store, or this server by its API".to_owned(),
        )),
    }
}

pub(super) async fn call(State(app): State<App>, Extension(caller): Extension<Caller>, request: Request) -> Response {
    match answered(&app, &caller, request).await {
        Ok(answer) => message(StatusCode::OK, answer),
        Err(Unanswered::Store(error)) => {
            let status = status(&error);
            match wire::encode(&error) {
                Ok(body) => message(status, body),
                Err(error) => ours(Problem::from(error).into_response()),
            }
        }
        Err(Unanswered::Problem(problem)) => ours(problem.into_response()),
    }
}

enum Unanswered {
    Store(StoreError),
    Problem(Problem),
}

impl From<Problem> for Unanswered {
    fn from(problem: Problem) -> Unanswered {
        Unanswered::Problem(problem)
    }
}

async fn answered(app: &App, caller: &Caller, request: Request) -> Result<Vec<u8>, Unanswered> {
    let (parts, body) = request.into_parts();
    same_protocol(&parts.headers)?;
    is_one(app).map_err(Unanswered::Store)?;
    let name = parts.uri.path().rsplit('/').next().unwrap_or_default();
    let call = Call::parse(name);
    let unknown = || Unanswered::Problem(Problem::new(Code::NotFound, format!("there is no call `{name}`")));
    let call = call.ok_or_else(unknown)?;
    let body = limits::read(&parts, body, wire::MESSAGE_BYTES).await?;
    match app.client().serve(call, &body, right(caller)).await {
        Ok(answer) => Ok(answer),
        Err(Refusal::Store(error)) => Err(Unanswered::Store(error)),
        Err(Refusal::Malformed(why)) => Err(Problem::new(Code::Usage, why).into()),
        Err(Refusal::Forbidden(why)) => Err(Problem::new(Code::Forbidden, why).into()),
    }
}

/// The most that somebody may do.
fn right(caller: &Caller) -> Right {
    let rights = [(Scope::Admin, Right::Admin), (Scope::Operate, Right::Operate), (Scope::Enqueue, Right::Enqueue)];
    rights.into_iter().find(|(scope, _)| caller.may(*scope)).map_or(Right::Read, |(_, right)| right)
}

/// Waits for new work.
pub(super) async fn hints(State(app): State<App>, request: Request) -> Response {
    match hinted(&app, request).await {
        Ok(number) => message(StatusCode::OK, number),
        Err(problem) => ours(problem.into_response()),
    }
}

async fn hinted(app: &App, request: Request) -> Result<Vec<u8>, Problem> {
    let (parts, body) = request.into_parts();
    same_protocol(&parts.headers)?;
    let body = limits::read(&parts, body, limits::BODY_BYTES).await?;
    let wish: HintWish = wire::decode(&body).map_err(|why| Problem::new(Code::Usage, why))?;
    let number = tokio::select! {
        biased;
        // Whoever waits asks another server.
        () = app.stop().cancelled() => wish.seen.unwrap_or_default(),
        number = app.client().next_hint(wish) => number,
    };
    Ok(wire::encode(&number)?)
}

fn same_protocol(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    wire::same_protocol(text(wire::PROTOCOL_HEADER), text(wire::VERSION_HEADER)).map_err(|foreign| {
        Problem::new(
            Code::Usage,
            format!("whoever asks cannot be talked to: {foreign}; use goflow {} there", wire::VERSION),
        )
    })
}

/// How a store's error looks to those between: proxies, and who reads logs.
fn status(error: &StoreError) -> StatusCode {
    match error {
        StoreError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        StoreError::Unknown(_) => StatusCode::GATEWAY_TIMEOUT,
        StoreError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
        StoreError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
        StoreError::TooNew { .. } | StoreError::Corrupt(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn message(status: StatusCode, body: Vec<u8>) -> Response {
    ours((status, [(CONTENT_TYPE, HeaderValue::from_static(wire::CONTENT_TYPE))], body).into_response())
}

/// Marks an answer as one of this protocol.
fn ours(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(wire::PROTOCOL_HEADER), HeaderValue::from(wire::PROTOCOL));
    headers.insert(HeaderName::from_static(wire::VERSION_HEADER), HeaderValue::from_static(wire::VERSION));
    response
}
