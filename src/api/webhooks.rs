//! Webhooks: listing and switching them, and carrying out a delivery that was believed: a job, a run
//! or a signal, once for each delivery however often it comes and over however many servers. Who may
//! deliver is judged before (`domain::signature`); HTTP is somebody else's.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value as JsonValue, json};
use sha2::{Digest, Sha256};

use super::apply::definition;
use super::enqueue::Patience;
use super::runs::{Beginning, StartError};
use super::{ApiError, Client, Result};
use crate::domain::json::BadJson;
use crate::domain::{Job, JobId, Json, Name, RunId, limits};
use crate::store::{Enqueued, Near, NewJob};
use crate::workflow::expr::Scope;
use crate::workflow::manifest::Kind;
use crate::workflow::spec::{WebhookSpec, WebhookTarget};
use crate::workflow::{Definition, Fact, Manifest};

/// How long a delivery is remembered, at least.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// A webhook, as every face shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct WebhookView {
    pub name: String,
    /// Where it is called: `/webhooks/…`.
    pub path: String,
    pub scheme: String,
    pub enabled: bool,
    pub job: Option<String>,
    pub queue: Option<String>,
    pub workflow: Option<String>,
    pub signal: Option<String>,
    /// Where its secrets lie; empty: `webhooks.secret` of the server's configuration holds.
    pub secret: Vec<String>,
    pub tolerance_ms: i64,
}

impl From<&WebhookSpec> for WebhookView {
    fn from(spec: &WebhookSpec) -> WebhookView {
        let mut view = WebhookView {
            name: spec.name.to_string(),
            path: format!("/webhooks/{}", spec.path),
            scheme: spec.scheme.as_str().to_owned(),
            enabled: spec.enabled,
            job: None,
            queue: None,
            workflow: None,
            signal: None,
            secret: spec.secrets.clone(),
            tolerance_ms: crate::domain::time::millis(spec.tolerance),
        };
        match &spec.target {
            WebhookTarget::Job { kind, queue } => {
                (view.job, view.queue) = (Some(kind.to_string()), queue.as_ref().map(Name::to_string));
            }
            WebhookTarget::Workflow(name) => view.workflow = Some(name.to_string()),
            WebhookTarget::Signal { name, .. } => view.signal = Some(name.to_string()),
        }
        view
    }
}

/// A request that was believed.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The same each time it is sent.
    pub id: String,
    pub payload: JsonValue,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Where jobs wait whose webhook names no queue.
    pub queue: Name,
}

/// What a delivery has led to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Delivered {
    pub webhook: String,
    pub job_id: Option<String>,
    pub run_id: Option<String>,
    /// It had come before, and nothing was done. Of a signal nobody can tell here: its run does.
    pub duplicate: bool,
}

/// Why a delivery that was believed led to nothing.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// An expression of the manifest does not fit what came.
    #[error("{field} of the webhook {name}: {message}")]
    Expression { name: Name, field: &'static str, message: String },
    #[error("the webhook {name} makes a payload that cannot be kept: {why}")]
    Payload { name: Name, why: BadJson },
    /// The workflow does not take it; one line a mistake.
    #[error("{0}")]
    Input(String),
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl From<StartError> for DeliveryError {
    fn from(error: StartError) -> DeliveryError {
        match error {
            StartError::Input(message) => DeliveryError::Input(message),
            StartError::Api(error) => DeliveryError::Api(error),
        }
    }
}

/// `event` is what GitHub puts into a header: it is added to a body that has none of its own.
pub fn with_event(payload: &mut JsonValue, event: Option<&str>) {
    if let (JsonValue::Object(fields), Some(event)) = (payload, event) {
        fields.entry("event").or_insert_with(|| json!(event));
    }
}

impl Client {
    /// Every webhook, by name. One that this version cannot read is left out: it cannot be called either.
    ///
    /// # Errors
    /// The store's.
    pub async fn webhooks(&self) -> Result<Vec<WebhookSpec>> {
        let kept = self.definitions(Kind::Webhook).await?;
        let specs = kept.iter().filter_map(|kept| match Manifest::load(&kept.text) {
            Ok(Manifest::Webhook(spec)) => Some(spec),
            _ => None,
        });
        Ok(specs.collect())
    }

    /// # Errors
    /// [`ApiError::NoDefinition`].
    pub async fn webhook(&self, name: &Name) -> Result<WebhookSpec> {
        let kept = self.definition(Kind::Webhook, name).await?;
        match Manifest::load(&kept.text) {
            Ok(Manifest::Webhook(spec)) => Ok(spec),
            _ => Err(ApiError::Conflict(format!("the webhook `{name}` cannot be read by this version"))),
        }
    }

    /// Switches a webhook on or off, as its manifest's `enabled` does; whether that changed anything.
    ///
    /// # Errors
    /// [`ApiError::NoDefinition`].
    pub async fn enable_webhook(&self, name: &Name, enabled: bool) -> Result<bool> {
        let mut spec = self.webhook(name).await?;
        if spec.enabled == enabled {
            return Ok(false);
        }
        spec.enabled = enabled;
        self.store().define(&[definition(&Manifest::Webhook(spec))]).await?;
        Ok(true)
    }

    /// Does what a webhook is for. Sent again with the same id, a delivery leads to what it led to the
    /// first time: a job by its unique key, a run by its id, a signal by a key that its run remembers.
    ///
    /// # Errors
    /// [`DeliveryError`]; after one of the store's it is right to deliver again.
    pub async fn deliver(&self, hook: &WebhookSpec, delivery: Delivery) -> Result<Delivered, DeliveryError> {
        let scope = Scope::new(vec![("payload", delivery.payload.clone()), ("headers", json!(delivery.headers))]);
        let wrong = |field, message| DeliveryError::Expression { name: hook.name.clone(), field, message };
        let input = match &hook.transform {
            Some(transform) => transform.render(&scope).map_err(|error| wrong("transform", error.with_hint()))?,
            None => delivery.payload.clone(),
        };
        let input = Json::parse(&input.to_string(), limits::PAYLOAD_BYTES)
            .map_err(|why| DeliveryError::Payload { name: hook.name.clone(), why })?;
        let once = Once::new(&hook.name, &delivery.id);
        let mut delivered = Delivered { webhook: hook.name.to_string(), ..Delivered::default() };
        match &hook.target {
            WebhookTarget::Job { kind, queue } => {
                let queue = queue.as_ref().unwrap_or(&delivery.queue).clone();
                let id = self.job_id_near(Near::Key(&once.key));
                let mut job = Job::new(id, kind.clone(), queue, input);
                job.metadata.insert("webhook".to_owned(), hook.name.to_string());
                let (id, duplicate) = self.enqueue_once(job, &once).await?;
                (delivered.job_id, delivered.duplicate) = (Some(id.to_string()), duplicate);
            }
            WebhookTarget::Workflow(name) => {
                let (run, duplicate) = self.start_once(name, input, &once).await?;
                (delivered.run_id, delivered.duplicate) = (Some(run.to_string()), duplicate);
            }
            WebhookTarget::Signal { name, run } => {
                let id = run.render_text(&scope).map_err(|error| wrong("signal.run", error.with_hint()))?;
                let unknown = |_| ApiError::NotFound { noun: "run", id: id.clone() };
                let run: RunId = id.parse().map_err(unknown)?;
                let fact = Fact::signal_once(name.clone(), input, once.short(), self.clock().now());
                self.inform(run, fact).await?;
                delivered.run_id = Some(run.to_string());
            }
        }
        Ok(delivered)
    }

    async fn enqueue_once(&self, mut job: Job, once: &Once) -> Result<(JobId, bool)> {
        let id = job.id;
        job.unique_key = Some(once.key.clone());
        let job = NewJob { unique_for: Some(REMEMBERED), ..NewJob::now(job) };
        match self.producer(Patience::default()).send(vec![job]).await?.first() {
            Some(Enqueued::Conflict(first)) => Ok((*first, true)),
            _ => Ok((id, false)),
        }
    }

    async fn start_once(&self, name: &Name, input: Json, once: &Once) -> Result<(RunId, bool), DeliveryError> {
        let kept = self.definition(Kind::Workflow, name).await?;
        let wrong = |_| ApiError::Conflict(format!("the workflow `{name}` cannot be read by this version"));
        let workflow = Definition::kept(&kept.text, &kept.hash).map_err(wrong)?;
        let beginning = Beginning { queue: None, once: Some((once.key.clone(), REMEMBERED)) };
        let begun = self.begin(&workflow, input, beginning).await?;
        Ok((begun.id, begun.again))
    }
}

/// The names under which a delivery is remembered. They follow from it alone, so that every server finds
/// them, and one that was killed half-way is taken up by the next.
struct Once {
    key: String,
    hash: [u8; 32],
}

impl Once {
    fn new(hook: &Name, delivery: &str) -> Once {
        let hash: [u8; 32] = Sha256::digest(format!("{hook}\n{delivery}").as_bytes()).into();
        let is_short = delivery.len() <= 64 && delivery.bytes().all(|byte| byte.is_ascii_graphic());
        let id = if is_short { delivery.to_owned() } else { hash.iter().map(|byte| format!("{byte:02x}")).collect() };
        Once { key: format!("webhook/{hook}/{id}"), hash }
    }

    fn number(&self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|at| self.hash[at]))
    }

    fn short(&self) -> String {
        format!("{:016x}", self.number())
    }
}
