//! Webhooks over HTTP: `/webhooks/…`, where others deliver, guarded by their signatures; and the routes
//! that manage them. What a delivery leads to is `api::webhooks`, who may deliver `domain::signature`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::app::App;
use super::limits::{self, Raw};
use super::problem::Problem;
use super::v1::ListView;
use crate::api::WebhookView;
use crate::api::apply::Change;
use crate::api::codes::Code;
use crate::api::webhooks::{Delivery, DeliveryError, with_event};
use crate::domain::json::{BadJson, Json as Checked};
use crate::domain::limits::PAYLOAD_BYTES;
use crate::domain::signature::{Request, verify};
use crate::domain::trace::{TRACEPARENT, Trace};
use crate::domain::{Ms, Name};
use crate::workflow::manifest::Kind;
use crate::workflow::spec::{WebhookSpec, WebhookTarget};
use crate::workflow::{Manifest, parse};

/// Headers that no expression sees: they open doors.
const HIDDEN: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];

/// Takes a delivery: 202 once what it leads to is stored. Of a body that no webhook wants nothing is read.
pub async fn deliver(
    State(app): State<App>,
    Path(path): Path<String>,
    request: HttpRequest,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    // What is left of the body would be taken for the next request.
    let unread = |problem: Problem| problem.header(CONNECTION, HeaderValue::from_static("close"));
    let hook = wanted(&app, &path).await.map_err(unread)?;
    let body = limits::read(&parts, body, limits::BODY_BYTES).await?;
    let headers = &parts.headers;
    let id = believe(&app, &hook, headers, &body)?;
    let delivery = Delivery {
        id,
        payload: payload(headers, &body)?,
        headers: shown(&hook, headers),
        queue: app.options().queue.clone(),
    };
    let delivered = app.client().clone().within(trace(headers)).deliver(&hook, delivery).await.map_err(unfit)?;
    Ok((StatusCode::ACCEPTED, Json(delivered)).into_response())
}

/// The webhook of a path, if it is switched on.
async fn wanted(app: &App, path: &str) -> Result<WebhookSpec, Problem> {
    let hooks = app.client().webhooks().await?;
    let none = || Problem::new(Code::NotFound, format!("there is no webhook at /webhooks/{path}"));
    let hook = hooks.into_iter().find(|hook| hook.path == path).ok_or_else(none)?;
    match hook.enabled {
        true => Ok(hook),
        false => Err(Problem::new(Code::WebhookOff, format!("the webhook {} is switched off", hook.name))),
    }
}

/// What the sender calls the delivery, if it is one that may be believed.
fn believe(app: &App, hook: &WebhookSpec, headers: &HeaderMap, body: &[u8]) -> Result<String, Problem> {
    let (secrets, missing) = app.options().secrets.find(&hook.secrets);
    for reference in &missing {
        tracing::warn!(webhook = %hook.name, "a secret is missing: {reference}");
    }
    // Of two headers of one name nobody knows which one counts.
    let header = |name: &str| {
        let mut all = headers.get_all(name).iter();
        all.next().filter(|_| all.next().is_none()).and_then(|value| value.to_str().ok())
    };
    let now: Ms = app.client().clock().now();
    let judged = verify(hook.scheme, &secrets, &Request { header: &header, body }, now, hook.tolerance);
    judged.map(|verified| verified.delivery).map_err(|refused| {
        if refused.is_ours() {
            tracing::error!(webhook = %hook.name, "it can believe nobody: {refused}");
            return Problem::new(Code::WebhookOff, format!("the webhook {} is not set up: {refused}", hook.name));
        }
        Problem::new(Code::Signature, format!("the delivery is not believed: {refused}"))
    })
}

/// A body that is not JSON is a string.
fn payload(headers: &HeaderMap, body: &[u8]) -> Result<Value, Problem> {
    let text = std::str::from_utf8(body);
    let text = text.map_err(|error| Problem::new(Code::PayloadNotJson, format!("the body is not UTF-8: {error}")))?;
    let mut payload = match Checked::parse(text, PAYLOAD_BYTES) {
        Ok(json) => json.to_value(),
        Err(error @ BadJson::TooLarge { .. }) => return Err(Problem::new(Code::PayloadTooLarge, error.to_string())),
        // Deeper than anything that is kept: as text it would only hide that.
        Err(error @ BadJson::TooDeep { .. }) => {
            return Err(Problem::new(Code::PayloadNotJson, format!("the body is {error}")));
        }
        Err(_) => Value::String(text.to_owned()),
    };
    with_event(&mut payload, headers.get("x-github-event").and_then(|event| event.to_str().ok()));
    Ok(payload)
}

/// What `headers` is in expressions: text, several of one name joined as HTTP joins them.
fn shown(hook: &WebhookSpec, headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let name = name.as_str();
        if HIDDEN.contains(&name) || hook.scheme.headers().contains(&name) {
            continue;
        }
        let Ok(value) = value.to_str() else { continue };
        shown
            .entry(name.to_owned())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
    shown
}

/// The trace that a request belongs to, if it names one.
pub fn trace(headers: &HeaderMap) -> Option<Trace> {
    headers.get(TRACEPARENT)?.to_str().ok()?.trim().parse().ok()
}

fn unfit(error: DeliveryError) -> Problem {
    match error {
        DeliveryError::Api(error) => error.into(),
        DeliveryError::Input(_) => Problem::new(Code::RunInput, format!("the input does not fit: {error}")),
        DeliveryError::Payload { why: BadJson::TooLarge { .. }, .. } => {
            Problem::new(Code::PayloadTooLarge, error.to_string())
        }
        DeliveryError::Expression { .. } | DeliveryError::Payload { .. } => {
            Problem::new(Code::Delivery, error.to_string())
        }
    }
}

/// Lists webhooks, by name.
pub async fn list(State(app): State<App>) -> Result<Json<ListView<WebhookView>>, Problem> {
    let hooks = app.client().webhooks().await?;
    Ok(Json(ListView { items: hooks.iter().map(WebhookView::from).collect(), next: None }))
}

/// Shows one webhook.
pub async fn show(State(app): State<App>, Path(name): Path<String>) -> Result<Json<WebhookView>, Problem> {
    let hook = app.client().webhook(&named(&name)?).await?;
    Ok(Json(WebhookView::from(&hook)))
}

/// Applies one webhook: its manifest, as JSON or YAML; `kind: Webhook` may be left out.
pub async fn apply(State(app): State<App>, Raw(body): Raw) -> Result<Response, Problem> {
    let text = std::str::from_utf8(&body)
        .map_err(|error| Problem::new(Code::Manifest, format!("the manifest is not UTF-8: {error}")))?;
    let wrong = |why: String| Problem::new(Code::Manifest, why);
    // What says no kind would be read as a workflow.
    let text = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(mut fields)) => {
            fields.entry("kind").or_insert_with(|| "Webhook".into());
            Value::Object(fields).to_string()
        }
        _ => text.to_owned(),
    };
    let manifests = parse("the body", &text).map_err(|problems| wrong(problems.render()))?;
    let hook = match manifests.as_slice() {
        [Manifest::Webhook(hook)] => hook.clone(),
        _ => return Err(wrong("it is not one manifest of kind Webhook".to_owned())),
    };
    let client = app.client();
    if let WebhookTarget::Workflow(name) = &hook.target {
        client.definition(Kind::Workflow, name).await?;
    }
    let plan = client.plan(manifests).await?;
    let is_new = plan.iter().any(|planned| planned.change == Change::Created);
    client.apply(&plan).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(WebhookView::from(&hook))).into_response())
}

/// Switches a webhook on.
pub async fn enable(State(app): State<App>, Path(name): Path<String>) -> Result<Json<WebhookView>, Problem> {
    switch(&app, &name, true).await
}

/// Switches a webhook off: it answers 503.
pub async fn disable(State(app): State<App>, Path(name): Path<String>) -> Result<Json<WebhookView>, Problem> {
    switch(&app, &name, false).await
}

async fn switch(app: &App, name: &str, enabled: bool) -> Result<Json<WebhookView>, Problem> {
    let name = named(name)?;
    app.client().enable_webhook(&name, enabled).await?;
    Ok(Json(WebhookView::from(&app.client().webhook(&name).await?)))
}

/// Removes a webhook. What it has started goes on.
pub async fn remove(State(app): State<App>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let name = named(&name)?;
    // Tells what there is if there is none of this name.
    app.client().webhook(&name).await?;
    app.client().undefine(&[(Kind::Webhook, name)]).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn named(text: &str) -> Result<Name, Problem> {
    text.parse().map_err(|_| Problem::new(Code::NotFound, format!("there is no webhook `{text}`")))
}
