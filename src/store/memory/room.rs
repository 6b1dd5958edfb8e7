//! Limits in the reference store: room in a queue, concurrency keys, permits.

use std::time::Duration;

use super::*;

impl State {
    /// How many more jobs of a queue may run.
    pub(super) fn room(&self, queue: &Name) -> usize {
        let limit = self.queues.get(queue).and_then(|settings| settings.concurrency);
        limit.map_or(usize::MAX, |limit| (limit as usize).saturating_sub(self.of(queue, Place::Running).count()))
    }

    /// Whether as many jobs of this job's concurrency key run as it allows.
    pub(super) fn key_is_full(&self, id: JobId) -> bool {
        let Some(own) = self.jobs.get(&id).and_then(|kept| kept.job.concurrency.as_ref()) else { return false };
        let runs = |kept: &&Kept| {
            kept.place == Place::Running && kept.job.concurrency.as_ref().is_some_and(|other| other.key == own.key)
        };
        self.jobs.values().filter(runs).count() >= own.limit as usize
    }

    /// Takes a job out of the line until there is room under its key.
    pub(super) fn block(&mut self, id: JobId, now: Ms) {
        // It lives on, and so does its hold on its unique key.
        let unique = self.jobs.get(&id).and_then(|kept| kept.job.unique_key.clone());
        let taken = unique.and_then(|unique| self.unique.remove_entry(&unique));
        if let Some(kept) = self.remove(id, now) {
            let key = self.key(To::Pending, &kept.job, now);
            self.place(kept.job, Place::Blocked, key, now);
        }
        self.unique.extend(taken);
    }

    /// A job left a place by a move: the first one that it blocked may go.
    pub(super) fn left(&mut self, before: &Kept, now: Ms) {
        let Some(own) = &before.job.concurrency else { return };
        if !matches!(before.place, Place::Running | Place::Pending | Place::Suspect) {
            return;
        }
        let blocked = |kept: &&Kept| {
            kept.place == Place::Blocked && kept.job.concurrency.as_ref().is_some_and(|other| other.key == own.key)
        };
        let first = self.jobs.values().filter(blocked).min_by_key(|kept| kept.key).map(|kept| kept.job.id);
        if let Some(first) = first
            && !self.key_is_full(first)
            && let Some(kept) = self.remove(first, now)
        {
            self.put(kept.job, To::Front, now);
        }
    }

    pub(super) fn permits(&mut self, requests: &[PermitRequest], now: Ms) -> Vec<Vec<Duration>> {
        let now = now.0.saturating_mul(1_000);
        let mut give = |request: &PermitRequest| {
            let next = self.buckets.entry(request.bucket.clone()).or_default();
            let mut waits = Vec::new();
            for _ in 0..request.count {
                let (after, wait) = request.rate.reserve(*next, now);
                *next = after;
                waits.push(wait);
            }
            waits
        };
        requests.iter().map(&mut give).collect()
    }
}
