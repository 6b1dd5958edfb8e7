//! An HTTP call: one request, redirects followed by hand, and what its answer means for the job. Never
//! shows more of a URL than its origin, and no header at all: both may hold secrets.
//!
//! ```text
//!  circuit of the host? → client (public addresses only, or any) → send → redirect? ─→ again, checked
//!                                                                    └──→ status and body → Outcome
//! ```

mod address;
mod answer;
mod circuit;

use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use reqwest::{Client, Response, Url, redirect};
use tokio_util::sync::CancellationToken;

use self::address::{Guard, NotPublic};
use self::circuit::Circuits;
use super::verdict::{failed, timed_out};
use super::{Context, Ended, Work};
use crate::domain::job::{Outcome, RetryHint};
use crate::domain::time::format_duration;
use crate::workflow::{Request as Wanted, RequestBody};

/// The limit of a call whose job names none: a server that never answers must not hold a worker.
pub const USUAL_TIMEOUT: Duration = Duration::from_secs(30);
/// The part of it that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Redirects that are followed.
const HOPS: usize = 5;
/// Clients that are kept: one for each set of allowed hosts that handlers and steps name.
const CLIENTS: usize = 64;

/// What all calls of a worker share: connections that are kept open, and what is known of hosts.
#[derive(Default)]
pub(super) struct Caller {
    clients: Mutex<Vec<(Kind, Client)>>,
    circuits: Arc<Circuits>,
}

/// What a client may do; connections are shared within one kind only.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    tls: bool,
    /// The hosts that are allowed besides public ones; `None` allows every address.
    guard: Option<Vec<String>>,
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("the URL cannot be used: {0}")]
    Url(String),
    #[error(transparent)]
    NotPublic(#[from] NotPublic),
    #[error("the header `{0}` holds a character that no header can: a line break or another control character")]
    Header(String),
    #[error("{0}")]
    Redirect(String),
    #[error("{origin}: {why}")]
    Connection { origin: String, why: String },
    #[error("no client can be made: {0}; install the system's CA certificates (ca-certificates)")]
    Client(String),
}

impl Unanswered {
    /// What only a change of the manifest or the payload mends is not tried again.
    fn outcome(&self) -> Outcome {
        let (class, hint) = match self {
            Unanswered::Url(_) => ("url", RetryHint::Never),
            Unanswered::NotPublic(_) => ("address", RetryHint::Never),
            Unanswered::Header(_) => ("header", RetryHint::Never),
            Unanswered::Redirect(_) => ("redirect", RetryHint::IfNamed),
            Unanswered::Connection { .. } | Unanswered::Client(_) => ("connection", RetryHint::Policy),
        };
        failed(class, self.to_string(), hint)
    }
}

/// Sends a request for a job; for several at once when `batch` says how many, `work` being the first.
/// `job` writes what is sent for [`RequestBody::Job`].
pub(super) async fn perform(
    http: &Wanted,
    work: &Work,
    job: impl FnOnce() -> String,
    batch: Option<usize>,
    context: &Context,
    stop: &CancellationToken,
) -> Ended {
    let limit = work.timeout.unwrap_or(USUAL_TIMEOUT);
    let request = match Request::new(http, work, job, batch) {
        Ok(request) => request,
        Err(error) => return Ended::Outcome(error.outcome()),
    };
    let host = request.host();
    let pass = match context.caller.circuits.ask(&host) {
        Ok(pass) => pass,
        Err(left) => return Ended::Outcome(open(&host, left)),
    };
    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => return Ended::Stopped,
        outcome = request.send(&context.caller, http, work, context) => outcome,
        () = tokio::time::sleep(limit) => timed_out(limit, None),
    };
    pass.record(&outcome);
    Ended::Outcome(outcome)
}

fn open(host: &str, left: Duration) -> Outcome {
    let message = format!(
        "{host} has failed too often to be called now: its circuit is open, tried again in {}; no attempt is counted",
        format_duration(Duration::from_secs(left.as_secs().max(1)))
    );
    failed("circuit_open", message, RetryHint::Snooze(left))
}

struct Request {
    method: String,
    url: Url,
    /// Sent to the host that the manifest names, and to no other.
    own: HeaderMap,
    /// Sent to whoever a redirect names, too.
    common: HeaderMap,
    body: Option<Vec<u8>>,
    guarded: bool,
    allow: Vec<String>,
}

impl Request {
    fn new(
        http: &Wanted,
        work: &Work,
        job: impl FnOnce() -> String,
        batch: Option<usize>,
    ) -> Result<Request, Unanswered> {
        let url = Url::parse(&http.url).map_err(|error| Unanswered::Url(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(Unanswered::Url("it begins with http:// or https:// and names a host".to_owned()));
        }
        let mut common = HeaderMap::new();
        common.insert(USER_AGENT, HeaderValue::from_static(concat!("goflow/", env!("CARGO_PKG_VERSION"))));
        let (kind, body) = match &http.body {
            RequestBody::None => (None, None),
            RequestBody::Job => (Some("application/json"), Some(job().into_bytes())),
            RequestBody::Json(json) => (Some("application/json"), Some(json.to_string().into_bytes())),
            RequestBody::Text(text) => (Some("text/plain; charset=utf-8"), Some(text.clone().into_bytes())),
            RequestBody::Form(form) => (Some("application/x-www-form-urlencoded"), Some(form.clone().into_bytes())),
        };
        if let Some(kind) = kind {
            common.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let mut own = HeaderMap::new();
        let mut set = |name: &str, value: &str| {
            let bad = || Unanswered::Header(name.to_owned());
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?;
            if key == CONTENT_TYPE {
                common.insert(key, value);
            } else {
                own.insert(key, value);
            }
            Ok::<(), Unanswered>(())
        };
        for (name, value) in about(work, batch) {
            set(name, &value)?;
        }
        // The manifest's own are stronger.
        for (name, value) in &http.headers {
            set(name, value)?;
        }
        let (guarded, allow) = (http.public_only, http.allow_hosts.clone());
        Ok(Request { method: http.method.clone(), url, own, common, body, guarded, allow })
    }

    /// The host and port, by which circuits are kept.
    fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    async fn send(mut self, caller: &Caller, http: &Wanted, work: &Work, context: &Context) -> Outcome {
        match self.hops(caller).await {
            Ok(response) => answer::outcome(response, &origin(&self.url), http, work, &context.settings).await,
            Err(error) => error.outcome(),
        }
    }

    /// Sends it, and sends it on to where redirects point.
    async fn hops(&mut self, caller: &Caller) -> Result<Response, Unanswered> {
        for _ in 0..=HOPS {
            let response = self.once(caller).await?;
            let Some(next) = self.redirected(&response)? else { return Ok(response) };
            if next.origin() != self.url.origin() {
                // Whoever answered chose this address: it gets no secret, and leads to no private host.
                self.own.clear();
                self.guarded = true;
            }
            self.url = next;
        }
        Err(Unanswered::Redirect(format!("{} redirects more than {HOPS} times", origin(&self.url))))
    }

    async fn once(&self, caller: &Caller) -> Result<Response, Unanswered> {
        let guard = Guard::new(&self.allow);
        if self.guarded {
            // A host that is an address already is not resolved, so it is checked here.
            guard.check_host(&self.url)?;
        }
        let kind = Kind { tls: self.url.scheme() == "https", guard: self.guarded.then(|| self.allow.clone()) };
        let client = caller.client(kind)?;
        let method =
            reqwest::Method::from_bytes(self.method.as_bytes()).map_err(|error| Unanswered::Url(error.to_string()))?;
        let mut request =
            client.request(method, self.url.clone()).headers(self.common.clone()).headers(self.own.clone());
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        request.send().await.map_err(|error| unanswered(&self.url, &error))
    }

    /// Where an answer sends us, if that is followed: with the same method and body for 307 and 308; for
    /// the older ones only what asks for nothing but an answer, since others would turn a POST into a
    /// GET and take its answer for success.
    fn redirected(&self, response: &Response) -> Result<Option<Url>, Unanswered> {
        let follows = match response.status().as_u16() {
            307 | 308 => true,
            301..=303 => matches!(self.method.as_str(), "GET" | "HEAD"),
            _ => false,
        };
        let location = response.headers().get(LOCATION).filter(|_| follows).and_then(|to| to.to_str().ok());
        let Some(location) = location else { return Ok(None) };
        let here = origin(&self.url);
        let next = self.url.join(location);
        let next = next.map_err(|_| Unanswered::Redirect(format!("{here} redirects to what is no URL")))?;
        match (self.url.scheme(), next.scheme()) {
            (_, "https") | ("http", "http") => Ok(Some(next)),
            ("https", "http") => Err(Unanswered::Redirect(format!("{here} redirects to http, which anybody can read"))),
            _ => Err(Unanswered::Redirect(format!("{here} redirects to another protocol than HTTP"))),
        }
    }
}

/// What the other side is told about the job.
fn about(work: &Work, batch: Option<usize>) -> Vec<(&'static str, String)> {
    let mut headers = vec![("Goflow-Job-Type", work.kind.to_string()), ("Goflow-Queue", work.queue.to_string())];
    if let Some(size) = batch {
        headers.push(("Goflow-Batch", size.to_string()));
        return headers;
    }
    let id = work.job.to_string();
    // The same over all attempts, and another one for the undoing of a step.
    let key = match (&work.step_key, work.undo) {
        (Some(key), false) => key.clone(),
        (Some(key), true) => format!("{key}:undo"),
        (None, _) => id.clone(),
    };
    headers.extend(work.trace.clone().map(|trace| ("traceparent", trace)));
    headers.push(("Goflow-Job-Id", id));
    headers.push(("Goflow-Attempt", work.attempt.to_string()));
    headers.push(("Goflow-Epoch", work.epoch.to_string()));
    headers.extend(work.run.map(|run| ("Goflow-Run-Id", run.to_string())));
    headers.extend(work.step_key.clone().map(|key| ("Goflow-Step-Key", key)));
    headers.push(("Idempotency-Key", key));
    headers
}

/// All of a URL that is shown.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The reason at the bottom of an error, without the URL that the top repeats.
fn unanswered(url: &Url, error: &reqwest::Error) -> Unanswered {
    let mut source = error.source();
    let mut last = None;
    while let Some(error) = source {
        if let Some(refused) = error.downcast_ref::<NotPublic>() {
            return refused.clone().into();
        }
        last = Some(error.to_string());
        source = error.source();
    }
    let why = last.unwrap_or_else(|| error.to_string());
    let what = match (error.is_connect(), error.is_timeout()) {
        (true, _) => "no connection",
        (false, true) => "no answer in time",
        _ => "the connection broke",
    };
    Unanswered::Connection { origin: origin(url), why: format!("{what}: {why}") }
}

impl Caller {
    fn client(&self, kind: Kind) -> Result<Client, Unanswered> {
        crate::sys::tls::install();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == kind) {
            return Ok(client.clone());
        }
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            // A proxy would resolve the name again, and the check would be of another address.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        if !kind.tls {
            // Works on a machine without certificates, too.
            builder = builder.tls_certs_only([]);
        }
        if let Some(allow) = &kind.guard {
            builder = builder.dns_resolver(Arc::new(Guard::new(allow)));
        }
        let client = builder.build().map_err(|error| Unanswered::Client(error.to_string()))?;
        if clients.len() >= CLIENTS {
            clients.remove(0);
        }
        clients.push((kind, client.clone()));
        Ok(client)
    }
}
