//! Workers, as every face shows them.

use serde::Serialize;
use utoipa::ToSchema;

use super::filter::{Field, Found, Kind, yes_or_no};
use super::wire::Time;
use super::{ApiError, Client, Result};
use crate::domain::{Name, WorkerId};
use crate::store::WorkerStatus;

/// A worker that is registered.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct WorkerView {
    pub id: String,
    pub host: String,
    pub pid: u32,
    pub version: String,
    /// Jobs at the same time.
    pub concurrency: u32,
    /// Jobs it holds leases on: what it runs, and what it leased ahead.
    pub running: u64,
    /// It was told to take no more work.
    pub draining: bool,
    /// Empty means every queue.
    pub queues: Vec<String>,
    /// The job types it handles.
    pub types: Vec<String>,
    pub started_at: Time,
    /// When it counts as lost, unless it tells before that it lives.
    pub expires_at: Time,
}

impl From<&WorkerStatus> for WorkerView {
    fn from(status: &WorkerStatus) -> WorkerView {
        let info = &status.info;
        let texts = |names: &[Name]| names.iter().map(ToString::to_string).collect();
        WorkerView {
            id: info.id.to_string(),
            host: info.host.clone(),
            pid: info.pid,
            version: info.version.clone(),
            concurrency: info.concurrency,
            running: status.running,
            draining: status.draining,
            queues: texts(&info.queues),
            types: texts(&info.types),
            started_at: Time(info.started_at),
            expires_at: Time(status.expires_at),
        }
    }
}

type F = Field<WorkerView>;

/// What can be asked of a worker.
pub const WORKER_FIELDS: &[Field<WorkerView>] = &[
    F::new("id", Kind::Id, |worker, _, _| worker.id.as_str().into()),
    F::new("host", Kind::Text, |worker, _, _| worker.host.as_str().into()),
    F::new("queue", Kind::Text, |worker, _, _| Found::Any(&worker.queues)),
    F::new("type", Kind::Text, |worker, _, _| Found::Any(&worker.types)),
    F::new("draining", Kind::Choice(yes_or_no, "value of draining", "yes, no"), |worker, _, _| {
        if worker.draining { "yes" } else { "no" }.into()
    }),
    F::new("version", Kind::Text, |worker, _, _| worker.version.as_str().into()),
    F::new("pid", Kind::Number, |worker, _, _| Found::Number(worker.pid.into())),
    F::new("concurrency", Kind::Number, |worker, _, _| Found::Number(worker.concurrency.into())),
    F::new("running", Kind::Number, |worker, _, _| Found::Number(i64::try_from(worker.running).unwrap_or(i64::MAX))),
    F::new("age", Kind::Age, |worker, _, now| Found::Age(now.since(worker.started_at.0))),
];

impl Client {
    /// Every registered worker, in the order of their birth.
    ///
    /// # Errors
    /// The store's.
    pub async fn workers(&self) -> Result<Vec<WorkerView>> {
        let mut workers = self.store().workers().await?;
        workers.sort_by_key(|worker| worker.info.id);
        Ok(workers.iter().map(WorkerView::from).collect())
    }

    /// Those of `workers` that are named by any unique parts of their ids.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::Ambiguous`].
    pub fn named_workers(&self, workers: &[WorkerView], parts: &[String]) -> Result<Vec<WorkerView>> {
        let mut named: Vec<WorkerView> = Vec::new();
        for part in parts {
            let digits = super::jobs::hex_part(part);
            let has = |worker: &&WorkerView| {
                digits.as_ref().is_some_and(|digits| worker.id.replace('-', "").contains(digits.as_str()))
            };
            match workers.iter().filter(has).collect::<Vec<_>>().as_slice() {
                [] => return Err(ApiError::NotFound { noun: "worker", id: part.clone() }),
                [one] if named.iter().any(|worker| worker.id == one.id) => {}
                [one] => named.push((*one).clone()),
                several => {
                    let ids = several.iter().take(5).map(|worker| worker.id.clone()).collect();
                    return Err(ApiError::Ambiguous { noun: "worker", part: part.clone(), ids });
                }
            }
        }
        Ok(named)
    }

    /// Tells a worker to take no more work and to end; whether it was there to be told.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for what is no id; the store's.
    pub async fn drain(&self, id: &str) -> Result<bool> {
        let worker: WorkerId = id.parse().map_err(|_| ApiError::NotFound { noun: "worker", id: id.to_owned() })?;
        self.patiently(|| self.store().drain(worker)).await
    }
}
