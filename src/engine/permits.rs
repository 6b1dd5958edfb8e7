//! Permits for what is limited in its rate. A job type's permits are asked for when its jobs have been
//! claimed, a queue's before: its jobs keep their line. They are leased in small batches, so that most
//! jobs find one here, and a worker that dies takes few along. Pure bookkeeping; the store gives.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::limits::CLAIM_BATCH;
use crate::domain::{Name, Rate};
use crate::store::PermitRequest;

/// Permits are leased for so much time ahead. The store forgives a caller that asks late no more than a
/// rate's tolerance, so the next ones are asked for while half of these are left: a call may take as long.
const AHEAD: Duration = Duration::from_millis(200);
/// A permit that nobody used for so long, or for one interval of its rate if that is longer, is
/// dropped: what is not used is not saved up.
const STALE: Duration = Duration::from_secs(1);

/// The name of a type's bucket.
pub fn of_type(kind: &Name) -> String {
    format!("type:{kind}")
}

/// The name of a queue's bucket.
pub fn of_queue(queue: &Name) -> String {
    format!("queue:{queue}")
}

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// When each permit becomes good, soonest first.
    ready: VecDeque<Instant>,
    /// Permits that are missing.
    wanted: usize,
}

/// The permits a worker holds.
#[derive(Debug, Default)]
pub struct Permits {
    buckets: BTreeMap<String, Bucket>,
    pub asking: bool,
}

/// How many permits to lease at a time.
pub fn batch(rate: Rate) -> usize {
    let ahead = AHEAD.as_micros() as i64 / rate.interval_us();
    ahead.clamp(1, CLAIM_BATCH as i64) as usize
}

impl Permits {
    fn bucket(&mut self, name: String, rate: Rate) -> &mut Bucket {
        let new = || Bucket { rate, ready: VecDeque::new(), wanted: 0 };
        let bucket = self.buckets.entry(name).or_insert_with(new);
        if bucket.rate != rate {
            *bucket = new();
        }
        bucket
    }

    /// The next permit of a bucket, with the moment from which it is good; without one it is noted
    /// that one is wanted.
    pub fn take(&mut self, name: String, rate: Rate, now: Instant) -> Option<Instant> {
        let bucket = self.bucket(name, rate);
        bucket.drop_stale(now);
        let taken = bucket.ready.pop_front();
        if taken.is_none() {
            bucket.wanted += 1;
        }
        taken
    }

    /// How many permits of a bucket are good now.
    pub fn usable(&mut self, name: String, rate: Rate, now: Instant) -> usize {
        let bucket = self.bucket(name, rate);
        bucket.drop_stale(now);
        bucket.ready.partition_point(|at| *at <= now)
    }

    /// Whether so few permits of a bucket are left that more should be on their way.
    pub fn is_low(&self, name: &str, rate: Rate) -> bool {
        let left = self.buckets.get(name).map_or(0, |bucket| bucket.ready.len());
        left * 2 < batch(rate)
    }

    /// When the next permit of a bucket becomes good.
    pub fn next(&self, name: &str) -> Option<Instant> {
        self.buckets.get(name)?.ready.front().copied()
    }

    /// Takes permits that are good now; those not used come back by [`Permits::put_back`].
    pub fn draw(&mut self, name: String, rate: Rate, count: usize) -> Vec<Instant> {
        let bucket = self.bucket(name, rate);
        let count = count.min(bucket.ready.len());
        bucket.ready.drain(..count).collect()
    }

    pub fn put_back(&mut self, name: String, rate: Rate, permits: impl IntoIterator<Item = Instant>) {
        let bucket = self.bucket(name, rate);
        bucket.ready.extend(permits);
        bucket.ready.make_contiguous().sort();
    }

    /// What to ask the store for, if permits are wanted and nobody asks already.
    pub fn request(&mut self) -> Option<Vec<PermitRequest>> {
        if self.asking {
            return None;
        }
        let wanted = self.buckets.iter_mut().filter(|(_, bucket)| bucket.wanted > 0);
        let request = |(name, bucket): (&String, &mut Bucket)| {
            let count = std::mem::take(&mut bucket.wanted).max(batch(bucket.rate)).min(CLAIM_BATCH);
            PermitRequest { bucket: name.clone(), rate: bucket.rate, count: count as u32 }
        };
        let requests: Vec<PermitRequest> = wanted.map(request).collect();
        self.asking = !requests.is_empty();
        self.asking.then_some(requests)
    }

    /// The store has answered, at this moment.
    pub fn granted(&mut self, requests: &[PermitRequest], waits: Vec<Vec<Duration>>, at: Instant) {
        self.asking = false;
        for (request, waits) in requests.iter().zip(waits) {
            self.put_back(request.bucket.clone(), request.rate, waits.into_iter().map(|wait| at + wait));
        }
    }
}

impl Bucket {
    fn drop_stale(&mut self, now: Instant) {
        let age = STALE.max(Duration::from_micros(self.rate.interval_us().unsigned_abs()));
        while self.ready.front().is_some_and(|at| *at + age < now) {
            self.ready.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    #[tokio::test]
    async fn permits_are_leased_in_small_batches_and_used_once() {
        let mut permits = Permits::default();
        let now = Instant::now();
        let name = || "type:mail".to_owned();
        assert_eq!(permits.take(name(), rate("100/s"), now), None);
        let request = permits.request().expect("one is wanted");
        assert_eq!((request.len(), request[0].count), (1, 20), "200 ms of it");
        assert_eq!(permits.request(), None, "it is being asked for");
        let waits = (0..20).map(|nth| Duration::from_millis(10 * nth)).collect();
        permits.granted(&request, vec![waits], now);
        for nth in 0..20 {
            assert_eq!(permits.is_low("type:mail", rate("100/s")), nth >= 11, "{nth} are used");
            let moment = permits.take(name(), rate("100/s"), now);
            assert_eq!(moment, Some(now + Duration::from_millis(10 * nth)));
        }
        assert_eq!(permits.take(name(), rate("100/s"), now), None);
        assert_eq!(batch(rate("5/h")), 1);
        assert_eq!(batch(rate("1000000/s")), CLAIM_BATCH);
    }

    #[tokio::test]
    async fn what_is_not_used_is_not_saved_up() {
        let mut permits = Permits::default();
        let now = Instant::now();
        permits.put_back("q".into(), rate("100/s"), vec![now, now + Duration::from_millis(1_500)]);
        let later = now + Duration::from_secs(2);
        assert_eq!(permits.usable("q".into(), rate("100/s"), later), 1);
        assert_eq!(permits.usable("q".into(), rate("50/s"), later), 0, "another rate, another bucket");
    }
}
