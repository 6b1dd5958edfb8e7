//! How many workers would clear the backlog in a given time: from what waits, how fast more comes, and how
//! long a job takes. A model, told with what it was made from.

use std::time::Duration;

use serde::Serialize;

use super::{Client, Result};
use crate::domain::{Name, Place, QueueStats};
use crate::store::ListQuery;

/// Finished jobs from which the time of one is told.
const SAMPLE: usize = 500;
/// Slots of a worker when none is registered: the default of `goflow worker`.
const USUAL: u64 = 10;

/// What was seen, and what follows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// Jobs that wait, run or are due to retry.
    pub depth: u64,
    /// New jobs a second while it was looked.
    pub arrival_rate: f64,
    /// How long a job took, in the mean of the latest; none if no finished job is kept.
    pub service_ms: Option<u64>,
    pub jobs_sampled: u64,
    /// Jobs that run at once now: workers and their slots.
    pub workers: u64,
    pub slots: u64,
    /// The time in which the backlog is to be gone.
    pub within_ms: u64,
    /// How many slots and workers that takes, with as many slots a worker as they have now. None without a
    /// service time.
    pub slots_needed: Option<u64>,
    pub workers_needed: Option<u64>,
}

/// Slots that keep up with what comes and clear `depth` in `within` (Little's law: each slot does one job in
/// `service`).
pub fn slots_needed(depth: u64, arrival_rate: f64, service: Duration, within: Duration) -> u64 {
    let rate = depth as f64 / within.as_secs_f64().max(0.001) + arrival_rate.max(0.0);
    (rate * service.as_secs_f64()).ceil() as u64
}

impl Client {
    /// Looks for a while and advises. `queue`: of one queue only.
    ///
    /// # Errors
    /// The store's.
    pub async fn advise(&self, queue: Option<&Name>, look: Duration, within: Duration) -> Result<Advice> {
        let ours = |stats: Vec<QueueStats>| -> Vec<QueueStats> {
            stats.into_iter().filter(|one| queue.is_none_or(|queue| one.name == *queue)).collect()
        };
        let total = |stats: &[QueueStats]| -> u64 {
            let of = |one: &QueueStats| {
                one.scheduled + one.pending + one.running + one.retrying + one.dead + one.completed + one.cancelled
            };
            stats.iter().map(of).sum()
        };
        let before = ours(self.store().stats().await?);
        let begun = tokio::time::Instant::now();
        tokio::time::sleep(look).await;
        let after = ours(self.store().stats().await?);
        let arrived = total(&after).saturating_sub(total(&before));
        let arrival_rate = arrived as f64 / begun.elapsed().as_secs_f64().max(0.001);
        let depth = after.iter().map(|one| one.pending + one.running + one.retrying).sum();
        let query = ListQuery { place: Place::Completed, queue: queue.cloned(), after: None, budget: SAMPLE };
        let finished = self.store().list(&query).await?.items;
        let took = finished
            .iter()
            .filter_map(|stored| Some(stored.job.finished_at?.since(stored.job.started_at?).as_millis() as u64));
        let took: Vec<u64> = took.collect();
        let service_ms = (!took.is_empty()).then(|| took.iter().sum::<u64>() / took.len() as u64);
        let serves = |queues: &[Name]| queue.is_none_or(|queue| queues.is_empty() || queues.contains(queue));
        let mut workers = self.store().workers().await?;
        workers.retain(|worker| !worker.draining && serves(&worker.info.queues));
        let slots: u64 = workers.iter().map(|worker| u64::from(worker.info.concurrency)).sum();
        let each = slots.checked_div(workers.len() as u64).unwrap_or(USUAL).max(1);
        // What takes less than a millisecond still takes one of the store's.
        let service = service_ms.map(|ms| Duration::from_millis(ms.max(1)));
        let needed = service.map(|service| slots_needed(depth, arrival_rate, service, within));
        Ok(Advice {
            depth,
            arrival_rate,
            service_ms,
            jobs_sampled: took.len() as u64,
            workers: workers.len() as u64,
            slots,
            within_ms: within.as_millis() as u64,
            slots_needed: needed,
            workers_needed: needed.map(|slots| slots.div_ceil(each)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_keep_up_and_clear_what_waits() {
        let (service, minute) = (Duration::from_millis(500), Duration::from_secs(60));
        assert_eq!(slots_needed(0, 10.0, service, minute), 5, "10 a second for half a second each");
        assert_eq!(slots_needed(1_200, 0.0, service, minute), 10, "20 a second");
        assert_eq!(slots_needed(1_200, 10.0, service, minute), 15);
        assert_eq!(slots_needed(0, 0.0, service, minute), 0);
    }
}
