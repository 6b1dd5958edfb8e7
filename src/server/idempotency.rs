//! `Idempotency-Key` (the IETF's draft "The Idempotency-Key HTTP Header Field"): a POST that is sent
//! again is answered as the first time, by whichever server it reaches.
//!
//! What was sent first is kept as a document: a digest of it, a seed, and in the end the answer. Every
//! id that the request makes comes from the seed. So when a server dies between doing and keeping,
//! whoever does it again makes the same ids, which a store takes once (`Enqueued::Exists`): nothing is
//! there twice. Where they are born is kept too: shards may come and go in between, and then it is looked
//! for what was made. What makes no id is told to runs under a name that they remember, and done to those jobs
//! only that have not changed since (`api::Once`). An answer that is too large, that says that the
//! server failed, or that is true for a moment only is not kept: then the same is done again, with the
//! same ids.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::app::App;
use super::auth::Caller;
use super::limits;
use super::problem::Problem;
use super::room::Share;
use crate::api::codes::Code;
use crate::api::{self, Client};
use crate::domain::{Clock, Entropy, Ms, Shard};
use crate::store::{Document, DocumentChange, DocumentSet, StoreError};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-reqid");
/// A key, in bytes.
const KEY_BYTES: usize = 255;
/// How long keys are remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// A request that is worked on for longer is taken for lost with its server.
const PATIENCE: Duration = Duration::from_secs(120);
/// An answer that is kept, in bytes.
const ANSWER_BYTES: usize = 256 << 10;
/// How often a document that others change is read again.
const TRIES: usize = 8;
/// Answers that hold a secret are never kept. Sent again, these find their own name taken.
const SECRET: [&str; 1] = ["/api/v1/tokens"];
/// Answers about a slot of a lock end with its time. Asked again the store says what holds now: to the
/// same holder, since that is one of the ids.
const MOMENTARY: (&str, [&str; 2]) = ("/api/v1/locks/", ["/acquire", "/extend"]);

/// What is kept of a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    /// Of its method, path and body.
    digest: String,
    seed: u64,
    /// When it first came.
    at: i64,
    /// Where its work lies that may lie anywhere; not kept by older servers.
    #[serde(default)]
    birthplace: Option<Shard>,
    /// When somebody last began to work on it; 0: nobody does.
    begun: i64,
    answer: Option<Answer>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Answer {
    status: u16,
    kind: Option<String>,
    request_id: Option<String>,
    body: String,
}

/// A client whose ids are those of the first time.
#[derive(Clone)]
pub struct Once(pub Client);

/// The same numbers for the same seed (splitmix64).
struct Seeded(AtomicU64);

impl Entropy for Seeded {
    fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Ids begin with a time, which must be that of the first time too.
struct Stopped(Ms);

impl Clock for Stopped {
    fn now(&self) -> Ms {
        self.0
    }
}

enum Begun {
    /// It is to be done, and its document has this `rev`; whether it came before.
    Here {
        kept: Kept,
        rev: u64,
        again: bool,
    },
    Before(Answer),
}

pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(key) = request.headers().get(KEY) else { return next.run(request).await };
    let key = key.as_bytes().to_owned();
    if key.is_empty() || key.len() > KEY_BYTES {
        let detail = format!("Idempotency-Key has 1 to {KEY_BYTES} bytes");
        return Problem::new(Code::Usage, detail).into_response();
    }
    if SECRET.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    once(&app, &key, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn once(app: &App, key: &[u8], request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let caller = parts.extensions.get::<Caller>().map_or("", |caller| caller.name.as_str());
    let name = format!("idempotency:{}", hex(&[caller.as_bytes(), key]));
    let bytes = limits::read(&parts, body, limits::BODY_BYTES).await?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let momentary = is_momentary(parts.uri.path());
    let digest = hex(&[parts.method.as_str().as_bytes(), target.as_bytes(), &bytes]);
    let (kept, rev, again) = match begin(app.client(), &name, &digest).await? {
        Begun::Before(answer) => return Ok(replay(answer)),
        Begun::Here { kept, rev, again } => (kept, rev, again),
    };
    let entropy = Arc::new(Seeded(AtomicU64::new(kept.seed)));
    // A name of its own for each request: that two callers use one key means nothing.
    let key = format!("http/{:016x}{:x}", kept.seed, kept.at);
    // Where an older server put what it began, `made_before` finds.
    let birthplace = kept.birthplace.unwrap_or_else(|| app.client().new_birthplace());
    let once = api::Once { key: key.into(), at: Ms(kept.at), birthplace, again };
    let client = app.client().clone().once(once, Arc::new(Stopped(Ms(kept.at))), entropy);
    parts.extensions.insert(Once(client));
    // It is counted, and not once more for whoever reads the same bytes.
    parts.extensions.remove::<Share>();
    let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
    Ok(finish(app.client(), (name, rev), kept, momentary, response).await)
}

fn is_momentary(path: &str) -> bool {
    let (begin, ends) = MOMENTARY;
    path.starts_with(begin) && ends.iter().any(|end| path.ends_with(end))
}

/// Each part with its length before it, so that no two rows of parts look the same.
fn hex(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes the request up, or finds what was answered.
async fn begin(client: &Client, name: &str, digest: &str) -> Result<Begun, Problem> {
    let mut found = client.store().document(name).await?;
    for _ in 0..TRIES {
        let now = client.clock().now();
        let (from_rev, kept) = match &found {
            None => {
                let seed = client.entropy().next();
                let birthplace = Some(client.new_birthplace());
                (0, Kept { digest: digest.to_owned(), seed, at: now.0, birthplace, begun: now.0, answer: None })
            }
            Some(document) => {
                let kept = read(document)?;
                if kept.digest != digest {
                    let detail = "this Idempotency-Key came before with another method, path or body";
                    return Err(Problem::new(Code::KeyReused, detail));
                }
                if let Some(answer) = kept.answer {
                    return Ok(Begun::Before(answer));
                }
                if now.since(Ms(kept.begun)) < PATIENCE {
                    let detail = "the request with this Idempotency-Key is being worked on";
                    return Err(Problem::new(Code::KeyReused, detail)
                        .status(StatusCode::CONFLICT)
                        .header(RETRY_AFTER, HeaderValue::from_static("1")));
                }
                let birthplace = match kept.birthplace {
                    Some(before) => client.birthplace_again(before).await?,
                    None => client.new_birthplace(),
                };
                (document.rev, Kept { birthplace: Some(birthplace), begun: now.0, ..kept })
            }
        };
        match client.store().set_document(&change(name, from_rev, &kept)?).await? {
            DocumentSet::Done(rev) => return Ok(Begun::Here { kept, rev, again: from_rev > 0 }),
            DocumentSet::Changed(other) => found = other,
        }
    }
    let detail = "the request with this Idempotency-Key is sent all the time";
    Err(Problem::new(Code::KeyReused, detail).status(StatusCode::CONFLICT))
}

fn read(document: &Document) -> Result<Kept, Problem> {
    serde_json::from_slice(&document.body)
        .map_err(|_| StoreError::Corrupt(format!("the document {} cannot be read", document.name)).into())
}

fn change(name: &str, from_rev: u64, kept: &Kept) -> Result<DocumentChange, Problem> {
    let body = serde_json::to_vec(kept).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    Ok(DocumentChange { name: name.to_owned(), from_rev, body: Some(body), keep: Some(REMEMBERED) })
}

/// Keeps the answer, if it is one to be given again, and gives it.
async fn finish(
    client: &Client,
    (name, rev): (String, u64),
    kept: Kept,
    momentary: bool,
    response: Response,
) -> Response {
    let (parts, body) = response.into_parts();
    // Made here, in memory: it cannot break off.
    let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let answer = answer(&parts, &bytes).filter(|_| !momentary);
    let kept = Kept { begun: 0, answer, ..kept };
    // Others may have taken it up meanwhile: then theirs is the answer that is kept, to the same ids.
    let told = match change(&name, rev, &kept) {
        Ok(change) => client.store().set_document(&change).await.map(|_| ()),
        Err(_) => Ok(()),
    };
    if let Err(error) = told {
        tracing::warn!("the answer to an Idempotency-Key was not kept: {error}");
    }
    Response::from_parts(parts, Body::from(bytes))
}

fn answer(parts: &http::response::Parts, bytes: &Bytes) -> Option<Answer> {
    if parts.status.is_server_error() || bytes.len() > ANSWER_BYTES {
        return None;
    }
    let text = |name: &HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = std::str::from_utf8(bytes).ok()?.to_owned();
    Some(Answer { status: parts.status.as_u16(), kind: text(&CONTENT_TYPE), request_id: text(&REQUEST_ID), body })
}

fn replay(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    for (name, value) in [(CONTENT_TYPE, answer.kind), (REQUEST_ID, answer.request_id)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_ids_and_no_two_parts_look_the_same() {
        let ids = |seed| (0..3).map(|_| Seeded(AtomicU64::new(seed)).next()).collect::<Vec<_>>();
        assert_eq!(ids(7), ids(7));
        assert_ne!(ids(7), ids(8));
        assert_ne!(hex(&[b"ab", b"c"]), hex(&[b"a", b"bc"]));
    }
}
