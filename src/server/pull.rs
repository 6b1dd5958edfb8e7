//! The pull API: work for workers in any language, over plain HTTP and JSON. `docs/workers-http.md`
//! describes it for those who write one. What a call does is the engine's (`engine::pull`); here it is
//! read and written.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::app::App;
use super::limits::Sent;
use super::problem::Problem;
use crate::api::JobView;
use crate::api::codes::Code;
use crate::domain::job::{JobError, Outcome, Progress, RetryHint};
use crate::domain::limits::{CLAIM_BATCH, LEASE, VALUE_BYTES};
use crate::domain::{Epoch, JobId, Json as Text, Name, WorkerId};
use crate::engine::pull::{Alive, Ended, Puller, Unknown};
use crate::store::{Claimed, Lease, Note, Stored};
use crate::workflow::{is_reserved, step_key};

/// The longest that a call for work waits, in milliseconds.
const LONGEST_WAIT_MS: u64 = 30_000;
/// Bounds of a lease, in milliseconds.
const LEASES_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;
/// The longest that a job is put off, in milliseconds.
const LONGEST_DELAY_MS: u64 = 366 * 86_400_000;
/// A piece of a log, in bytes.
const LOG_BYTES: usize = 64 << 10;

/// A job's lease, as it is named in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseId {
    #[schema(value_type = String, format = "uuid")]
    pub id: JobId,
    #[schema(value_type = u64)]
    pub epoch: Epoch,
}

impl From<(JobId, Epoch)> for LeaseId {
    fn from((id, epoch): (JobId, Epoch)) -> LeaseId {
        LeaseId { id, epoch }
    }
}

fn pairs(leases: &[LeaseId]) -> Vec<(JobId, Epoch)> {
    leases.iter().map(|lease| (lease.id, lease.epoch)).collect()
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Usage, detail)
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseBody {
    /// As it was answered the first time; without one, a new worker.
    #[schema(value_type = Option<String>, format = "uuid")]
    worker: Option<WorkerId>,
    name: Option<String>,
    #[schema(value_type = Vec<String>)]
    types: Vec<Name>,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    queues: Vec<Name>,
    max: Option<usize>,
    wait_ms: Option<u64>,
    lease_ms: Option<u64>,
    /// What it holds: leases that it does not name go back to their lines.
    jobs: Option<Vec<LeaseId>>,
}

/// What every sign of life is answered with.
#[derive(Debug, Serialize, ToSchema)]
pub struct AliveView {
    #[schema(value_type = String, format = "uuid")]
    worker: WorkerId,
    /// What it named and does not hold any more.
    lost: Vec<LeaseId>,
    /// What somebody wants to end.
    cancel: Vec<LeaseId>,
    /// It is to take no more work.
    drain: bool,
}

impl AliveView {
    fn new(worker: WorkerId, alive: Alive) -> AliveView {
        let view = |leases: Vec<(JobId, Epoch)>| leases.into_iter().map(LeaseId::from).collect();
        AliveView { worker, lost: view(alive.lost), cancel: view(alive.cancel), drain: alive.drain }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LeasedView {
    #[serde(flatten)]
    job: JobView,
    #[schema(value_type = u64)]
    epoch: Epoch,
    /// How long it may take.
    timeout_ms: Option<u64>,
    /// The same over all attempts: for what must not be done twice.
    step_key: Option<String>,
}

impl From<Claimed> for LeasedView {
    fn from(claimed: Claimed) -> LeasedView {
        let Claimed { job, epoch, .. } = claimed;
        let (timeout_ms, worker, since) = (job.timeout_ms, job.worker, job.started_at);
        let step_key = job.link.as_ref().map(|link| step_key(link.run, &link.step));
        let lease = Lease { worker: worker.unwrap_or_default(), epoch, since: since.unwrap_or_default() };
        LeasedView { job: JobView::from(&Stored::leased(job, lease)), epoch, timeout_ms, step_key }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LeaseView {
    jobs: Vec<LeasedView>,
    #[serde(flatten)]
    alive: AliveView,
}

fn lease_of(ms: Option<u64>) -> Result<Duration, Problem> {
    match ms {
        None => Ok(LEASE),
        Some(ms) if LEASES_MS.contains(&ms) => Ok(Duration::from_millis(ms)),
        Some(ms) => Err(bad(format!("`lease_ms` is {ms}: {} to {} are allowed", LEASES_MS.start(), LEASES_MS.end()))),
    }
}

fn name_of(name: Option<String>) -> Result<String, Problem> {
    match name {
        Some(name) if name.len() > 256 => Err(bad("`name` is longer than 256 bytes")),
        name => Ok(name.unwrap_or_default()),
    }
}

fn types_of(types: Vec<Name>) -> Result<Vec<Name>, Problem> {
    match types.iter().find(|kind| is_reserved(kind)) {
        Some(kind) => Err(Problem::new(Code::ReservedType, format!("the job type `{kind}` is reserved"))),
        None if types.is_empty() => Err(bad("`types` is empty: name the job types that you handle")),
        None if types.len() > 1_000 => Err(bad("more than 1000 types")),
        None => Ok(types),
    }
}

/// `POST /api/v1/lease`: work, as soon as there is some.
pub async fn lease(State(app): State<App>, Sent(body): Sent<LeaseBody>) -> Result<Json<LeaseView>, Problem> {
    let max = body.max.unwrap_or(1);
    if !(1..=CLAIM_BATCH).contains(&max) {
        return Err(bad(format!("`max` is {max}: 1 to {CLAIM_BATCH} jobs are leased at once")));
    }
    let wait = body.wait_ms.unwrap_or(0);
    if wait > LONGEST_WAIT_MS {
        return Err(bad(format!("`wait_ms` is {wait}: at most {LONGEST_WAIT_MS}")));
    }
    if body.queues.len() > 1_000 {
        return Err(bad("more than 1000 queues"));
    }
    let pull = app.pull();
    let who = Puller {
        id: body.worker.unwrap_or_else(|| pull.worker_id()),
        name: name_of(body.name)?,
        types: types_of(body.types)?,
        queues: body.queues,
        lease: lease_of(body.lease_ms)?,
        concurrency: max as u32,
    };
    let holds = body.jobs.as_deref().map(pairs);
    let alive = pull.beat(&who, holds.as_deref()).await?;
    let mut jobs = Vec::new();
    if !alive.drain {
        let wait = Duration::from_millis(wait);
        jobs = tokio::select! {
            biased;
            // Whoever waits asks another server.
            () = app.stop().cancelled() => Vec::new(),
            leased = pull.lease(&who, max, wait, alive.held == 0) => leased?,
        };
    }
    let alive = AliveView::new(who.id, alive);
    Ok(Json(LeaseView { jobs: jobs.into_iter().map(LeasedView::from).collect(), alive }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatBody {
    #[schema(value_type = String, format = "uuid")]
    worker: WorkerId,
    /// All that it holds: leases that it does not name go back to their lines.
    jobs: Vec<LeaseId>,
    lease_ms: Option<u64>,
}

/// `POST /api/v1/heartbeat`: prolongs all leases of a worker.
pub async fn heartbeat(State(app): State<App>, Sent(body): Sent<HeartbeatBody>) -> Result<Json<AliveView>, Problem> {
    let pull = app.pull();
    match pull.known(body.worker, lease_of(body.lease_ms)?).await? {
        Ok(who) => {
            let alive = pull.beat(&who, Some(&pairs(&body.jobs))).await?;
            Ok(Json(AliveView::new(who.id, alive)))
        }
        Err(Unknown) => {
            let detail =
                format!("worker {} is not known, or was silent for too long: its leases are lost", body.worker);
            Err(Problem::new(Code::NotFound, detail))
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FarewellBody {
    #[schema(value_type = String, format = "uuid")]
    worker: WorkerId,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FarewellView {
    #[schema(value_type = String, format = "uuid")]
    worker: WorkerId,
}

/// `POST /api/v1/farewell`: the worker ends; what it still holds goes to others at once.
pub async fn farewell(State(app): State<App>, Sent(body): Sent<FarewellBody>) -> Result<Json<FarewellView>, Problem> {
    app.client().store().farewell(body.worker).await?;
    Ok(Json(FarewellView { worker: body.worker }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressBody {
    #[schema(value_type = String, format = "uuid")]
    id: JobId,
    #[schema(value_type = u64)]
    epoch: Epoch,
    percent: Option<f64>,
    message: Option<String>,
    /// Appended to the job's log.
    log: Option<String>,
}

/// `POST /api/v1/progress`: how far a job has come, and what it prints.
pub async fn progress(State(app): State<App>, Sent(body): Sent<ProgressBody>) -> Result<Json<LeaseId>, Problem> {
    let log = body.log.unwrap_or_default();
    if log.len() > LOG_BYTES {
        return Err(Problem::new(
            Code::PayloadTooLarge,
            format!("`log` is longer than {LOG_BYTES} bytes: send it in pieces"),
        ));
    }
    if body.percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        return Err(bad("`percent` is 0 to 100"));
    }
    let tells = body.percent.is_some() || body.message.is_some();
    let progress = tells.then(|| Progress::new(body.percent, body.message.as_deref().unwrap_or_default()));
    let note = Note { id: body.id, epoch: body.epoch, progress, log };
    match app.pull().note(note).await? {
        true => Ok(Json(LeaseId { id: body.id, epoch: body.epoch })),
        false => Err(stale(body.id, body.epoch)),
    }
}

fn stale(id: JobId, epoch: Epoch) -> Problem {
    Problem::new(
        Code::StateConflict,
        format!("the lease {epoch} of job {id} is not held any more: nothing was changed"),
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeWord {
    Completed,
    Failed,
    /// Given back unfinished, at no cost.
    Released,
    /// To be called again after `delay_ms`; nothing is counted.
    Snoozed,
    /// Somebody wanted its end.
    Cancelled,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ErrorBody {
    Message(String),
    Both {
        #[schema(value_type = Option<String>)]
        class: Option<Name>,
        message: String,
    },
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleBody {
    #[schema(value_type = String, format = "uuid")]
    id: JobId,
    #[schema(value_type = u64)]
    epoch: Epoch,
    outcome: OutcomeWord,
    #[schema(value_type = serde_json::Value)]
    result: Option<Box<RawValue>>,
    error: Option<ErrorBody>,
    /// False: never again, whatever the job's policy says.
    retry: Option<bool>,
    /// Failed: not sooner than this. Snoozed: after this.
    delay_ms: Option<u64>,
    reason: Option<String>,
}

impl SettleBody {
    fn outcome(&self) -> Result<Outcome, Problem> {
        let delay = match self.delay_ms {
            Some(ms) if ms > LONGEST_DELAY_MS => return Err(bad("`delay_ms` is longer than a year")),
            ms => ms.map(Duration::from_millis),
        };
        let word = self.outcome;
        let only = |given: bool, field: &str, of: &[OutcomeWord]| match given && !of.contains(&word) {
            true => Err(bad(format!("`{field}` does not go with this outcome"))),
            false => Ok(()),
        };
        only(self.result.is_some(), "result", &[OutcomeWord::Completed])?;
        only(self.error.is_some() || self.retry.is_some(), "error", &[OutcomeWord::Failed])?;
        only(delay.is_some(), "delay_ms", &[OutcomeWord::Failed, OutcomeWord::Snoozed])?;
        only(self.reason.is_some(), "reason", &[OutcomeWord::Cancelled])?;
        Ok(match word {
            OutcomeWord::Completed => Outcome::Completed { result: self.result.as_deref().map(kept).transpose()? },
            OutcomeWord::Failed => {
                let (class, message) = match &self.error {
                    None => return Err(bad("`error` is missing: a message, or {\"class\", \"message\"}")),
                    Some(ErrorBody::Message(message)) => (None, message),
                    Some(ErrorBody::Both { class, message }) => (class.as_ref(), message),
                };
                let retry = match (self.retry, delay) {
                    (Some(false), _) => RetryHint::Never,
                    (_, Some(delay)) => RetryHint::NotBefore(delay),
                    (_, None) => RetryHint::Policy,
                };
                Outcome::Failed { error: JobError::new(class.map_or("error", Name::as_str), message), retry }
            }
            OutcomeWord::Released => Outcome::Released,
            OutcomeWord::Snoozed => {
                Outcome::Snoozed { delay: delay.ok_or_else(|| bad("`delay_ms` is missing: until when to wait"))? }
            }
            OutcomeWord::Cancelled => {
                Outcome::Cancelled { reason: self.reason.clone().unwrap_or_else(|| "by its worker".to_owned()) }
            }
        })
    }
}

fn kept(result: &RawValue) -> Result<Text, Problem> {
    Text::parse(result.get(), VALUE_BYTES).map_err(|error| {
        Problem::new(Code::PayloadTooLarge, format!("`result`: {error}; store it elsewhere and return its address"))
    })
}

/// `POST /api/v1/settle`: the end of a lease.
pub async fn settle(State(app): State<App>, Sent(body): Sent<SettleBody>) -> Result<Json<JobView>, Problem> {
    let outcome = body.outcome()?;
    match app.pull().settle(body.id, body.epoch, outcome).await? {
        Ended::Done(stored) => Ok(Json(JobView::from(&*stored))),
        Ended::Stale => Err(stale(body.id, body.epoch)),
        Ended::Gone => Err(Problem::new(Code::NotFound, format!("no job has the id {}", body.id))),
    }
}
