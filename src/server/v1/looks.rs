//! Workers, events, and the whole at a glance.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, Asked, At, ChangedView, ListView, PageQuery};
use crate::api::events::EVENT_FIELDS;
use crate::api::filter::Where;
use crate::api::workers::WORKER_FIELDS;
use crate::api::{ApiError, EventView, WorkerView};
use crate::domain::{Name, QueueStats, WorkerId};
use crate::server::problem::Problem;

pub async fn workers(Api(client): Api, Asked(page): Asked<PageQuery>) -> Result<Json<ListView<WorkerView>>, Problem> {
    let (filter, limit) = (Where::parse(page.filter(), WORKER_FIELDS)?, page.limit()?);
    let now = client.clock().now();
    // In the order of their ids: the last one listed is where the next page begins.
    let after = page.after.as_deref().unwrap_or_default();
    let mut workers: Vec<WorkerView> = client.workers().await?;
    workers.retain(|worker| worker.id.as_str() > after && filter.matches(worker, now));
    let more = workers.len() > limit;
    workers.truncate(limit);
    let next = workers.last().filter(|_| more).map(|worker| worker.id.clone());
    Ok(Json(ListView { items: workers, next }))
}

pub async fn drain(Api(client): Api, At(id): At<WorkerId>) -> Result<Json<ChangedView>, Problem> {
    match client.drain(&id.to_string()).await? {
        true => Ok(Json(ChangedView { changed: true })),
        false => Err(ApiError::NotFound { noun: "worker", id: id.to_string() }.into()),
    }
}

pub async fn events(Api(client): Api, Asked(page): Asked<PageQuery>) -> Result<Json<ListView<EventView>>, Problem> {
    let filter = Where::parse(page.filter(), EVENT_FIELDS)?;
    let found = client.events_page(&filter, page.after.as_deref(), page.limit()?).await?;
    Ok(Json(ListView::of(found, |event| event)))
}

/// Everything in numbers, over all queues.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatsView {
    queues: usize,
    paused: usize,
    scheduled: u64,
    pending: u64,
    running: u64,
    retrying: u64,
    dead: u64,
    /// Still kept.
    completed: u64,
    /// Still kept.
    cancelled: u64,
    /// Of `pending`: waiting for a worker that knows their type.
    parked: u64,
    oldest_pending_ms: Option<i64>,
    workers: usize,
    schedules: usize,
}

pub async fn stats(Api(client): Api) -> Result<Json<StatsView>, Problem> {
    let queues = client.queue_stats().await?;
    let mut sum = QueueStats::empty(Name::literal("all"));
    queues.iter().for_each(|queue| sum.add(queue));
    let all = StatsView {
        queues: queues.len(),
        paused: queues.iter().filter(|queue| queue.paused).count(),
        scheduled: sum.scheduled,
        pending: sum.pending,
        running: sum.running,
        retrying: sum.retrying,
        dead: sum.dead,
        completed: sum.completed,
        cancelled: sum.cancelled,
        parked: sum.parked,
        oldest_pending_ms: sum.oldest_pending_ms,
        workers: client.workers().await?.len(),
        schedules: client.schedules().await?.len(),
    };
    Ok(Json(all))
}
