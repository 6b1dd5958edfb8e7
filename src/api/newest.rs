//! Jobs in the order of their birth, the newest first: what the replaced systems list. Stores keep jobs
//! in the order in which they are worked off; who is newest their ids tell, by an index or by the event log.

use std::collections::{BTreeMap, BTreeSet};

use super::{Client, Filter, Result};
use crate::domain::{JobId, Ms, Name, QueueStats, limits};
use crate::store::{ListQuery, Newest, Stored};

/// Ids looked at for one list.
const LOOKED: usize = 20_000;
/// Ids asked for at once.
const PAGE: usize = 500;

impl Client {
    /// The newest jobs that match, newest first, at most `limit`. Looks at 20,000 jobs at most: where what is
    /// wanted is rarer than that, fewer are listed than there are.
    ///
    /// # Errors
    /// The store's.
    pub async fn newest(&self, filter: &Filter, limit: usize) -> Result<Vec<Stored>> {
        let now = self.clock().now();
        // Those that have ended lie in the order of their ends: where nothing else is wanted, that is nearer.
        if filter.places().iter().all(|place| place.state().is_terminal()) {
            return self.latest_ended(filter, limit, now).await;
        }
        let (mut found, mut seen, mut before) = (Vec::new(), BTreeSet::new(), None);
        let mut meant = 0;
        while found.len() < limit && seen.len() < LOOKED {
            // Where the first few do not do, most do not match: and a store may read its log from the end each time.
            let page = if before.is_none() { PAGE.min(limit.max(20)) } else { PAGE };
            let Newest { ids, whole } = self.store().newest(before, page).await?;
            let Some(last) = ids.last().copied() else {
                if whole {
                    break;
                }
                if self.has_older(meant, filter).await? {
                    self.older(filter, &seen, limit, now, &mut found).await?;
                }
                break;
            };
            before = Some(last);
            let kept = self.store().get(&ids).await?.into_iter().flatten();
            let kept: Vec<Stored> = kept.collect();
            seen.extend(kept.iter().map(|stored| stored.job.id));
            meant += kept.iter().filter(|stored| is_meant(&stored.job.queue, filter)).count() as u64;
            found.extend(kept.into_iter().filter(|stored| filter.matches(stored, now)));
            if whole {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Whether more is kept in the queues that are meant than what the store has told of them.
    async fn has_older(&self, seen: u64, filter: &Filter) -> Result<bool> {
        let of = |queue: &QueueStats| {
            let waits = queue.scheduled + queue.pending + queue.running + queue.retrying;
            waits + queue.completed + queue.dead + queue.cancelled
        };
        let queues = self.store().stats().await?;
        let meant = queues.iter().filter(|queue| is_meant(&queue.name, filter));
        Ok(meant.map(of).sum::<u64>() > seen)
    }

    /// Adds those that the store does not tell of any more, of the places of the filter: older ones.
    async fn older(
        &self,
        filter: &Filter,
        seen: &BTreeSet<JobId>,
        limit: usize,
        now: Ms,
        found: &mut Vec<Stored>,
    ) -> Result<()> {
        let (mut rest, mut looked) = (BTreeMap::new(), 0);
        for place in filter.places() {
            let mut after = None;
            while looked < LOOKED {
                let queue = filter.queue().cloned();
                let query = ListQuery { place, queue, after: after.take(), budget: limits::LIST_BUDGET };
                let page = self.store().list(&query).await?;
                looked += page.items.len();
                for stored in page.items.into_iter().filter(|stored| filter.matches(stored, now)) {
                    if !seen.contains(&stored.job.id) {
                        rest.insert(stored.job.id, stored);
                    }
                    if rest.len() > limit {
                        rest.pop_first();
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        found.extend(rest.into_values());
        found.sort_by_key(|stored| std::cmp::Reverse(stored.job.id));
        Ok(())
    }

    /// Jobs that have ended, by their birth. A queue is read from its latest end back to where no job that
    /// was born late enough can have ended any more.
    async fn latest_ended(&self, filter: &Filter, limit: usize, now: Ms) -> Result<Vec<Stored>> {
        let mut kept: BTreeMap<JobId, Stored> = BTreeMap::new();
        let queues = match filter.queue() {
            Some(queue) => vec![queue.clone()],
            None => self.store().queues().await?.into_iter().map(|(name, _)| name).collect(),
        };
        for (queue, place) in queues.iter().flat_map(|queue| filter.places().into_iter().map(move |at| (queue, at))) {
            let (mut after, mut looked) = (None, 0);
            loop {
                let budget = limit.clamp(20, limits::LIST_BUDGET);
                let query = ListQuery { place, queue: Some(queue.clone()), after: after.take(), budget };
                let page = self.store().list(&query).await?;
                looked += page.items.len();
                let earliest = page.items.iter().map(|stored| stored.at).min();
                for stored in page.items.into_iter().filter(|stored| filter.matches(stored, now)) {
                    kept.insert(stored.job.id, stored);
                    if kept.len() > limit {
                        kept.pop_first();
                    }
                }
                let oldest = kept.first_key_value().filter(|_| kept.len() == limit).map(|(id, _)| id.created_at());
                // Whatever ended before was born before.
                let enough = oldest.zip(earliest).is_some_and(|(oldest, earliest)| earliest < oldest);
                after = page.next;
                if after.is_none() || enough || looked >= LOOKED {
                    break;
                }
            }
        }
        Ok(kept.into_values().rev().collect())
    }
}

fn is_meant(queue: &Name, filter: &Filter) -> bool {
    filter.queue().is_none_or(|only| only == queue)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::testing::Seed;
    use super::*;
    use crate::domain::{Job, Json};
    use crate::store::fault::{FaultStore, Saboteur};
    use crate::store::{MemoryStore, NewJob, Result as StoreResult};
    use crate::sys::clock::SystemClock;

    #[derive(Default)]
    struct Calls(AtomicU64);

    impl Saboteur for Calls {
        fn before(&self, _: bool) -> StoreResult<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_rare_is_looked_for_in_large_steps() {
        let (clock, calls) = (Arc::new(SystemClock), Arc::new(Calls::default()));
        let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new(clock.clone())), calls.clone()));
        let client = Client::new(store, clock, Arc::new(Seed::new(1)));
        let name = |text: &str| -> Name { text.parse().expect("a name") };
        let mut producer = client.producer(crate::api::enqueue::Patience::default());
        for queue in std::iter::once("rare").chain(std::iter::repeat_n("common", 4)) {
            let jobs = (0..if queue == "rare" { 1 } else { 250 })
                .map(|_| NewJob::now(Job::new(client.job_id(), name("noop"), name(queue), Json::null())));
            producer.send(jobs.collect()).await.expect("they are added");
        }
        let filter = Filter::parse("queue:rare").expect("a filter");
        let before = calls.0.load(Ordering::SeqCst);
        assert_eq!(client.newest(&filter, 1).await.expect("it is found").len(), 1);
        let asked = calls.0.load(Ordering::SeqCst) - before;
        assert!(asked <= 8, "the store was asked {asked} times for one of 1,001");
    }
}
