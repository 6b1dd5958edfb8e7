//! The tail of the event log, folded into what the overview tells: how many ended in each second, how
//! long they waited and ran. It begins with the seconds that are drawn and reads on from where it was, a
//! bounded part at a time, so that a busy log costs a look no more than a quiet one. What is older tells
//! which jobs were put off and which ticks were missed: it is read beside that, little by little.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::{Client, Cursor, Result};
use crate::domain::{Event, EventKind, JobId, Ms, Name};
use crate::tui::msg::{Percentiles, Rates};

/// Events read at once, and how long one look may read.
const PAGE: usize = 1_000;
const READS_FOR: Duration = Duration::from_millis(200);
const READS_PAST_FOR: Duration = Duration::from_millis(20);
/// So few at once are what came meanwhile: on a busy store there is never nothing.
const END: usize = PAGE / 10;
/// Seconds of which the counts are kept.
const SECONDS: i64 = 240;
/// How far back waits and runs are counted, and how many of them.
const SAMPLED_MS: i64 = 60_000;
const SAMPLES: usize = 10_000;
/// Starts and delays that are remembered. Beyond it all are forgotten: a few samples are missing then.
const KNOWN: usize = 100_000;
/// For how long a missed tick is told of.
const MISSED_MS: i64 = 3_600_000;
/// Seconds over which a queue's rate is told.
const RATE_OVER: i64 = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    done: u32,
    failed: u32,
}

#[derive(Debug, Default)]
pub struct Tail {
    after: Option<Cursor>,
    is_current: bool,
    /// Where the tail began, and how far what is older has been read; none when all of it has.
    begun: Ms,
    past: Option<Cursor>,
    /// By second.
    counts: BTreeMap<i64, Second>,
    /// Completed by queue and second.
    queues: HashMap<Name, BTreeMap<i64, u32>>,
    /// Completed by the shard that the id names, and second.
    shards: HashMap<u16, BTreeMap<i64, u32>>,
    waits: VecDeque<(Ms, u64)>,
    runs: VecDeque<(Ms, u64)>,
    started: HashMap<JobId, Ms>,
    /// Ticks that were missed in the last hour, and of which schedule.
    missed: VecDeque<(Ms, String)>,
    /// Jobs that were put off or tried again: from their birth to their start is no wait.
    delayed: HashSet<JobId>,
}

impl Tail {
    /// Reads on. Events of a part are counted together with its cursor, so that a look that is cut off
    /// counts none twice.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(&mut self, client: &Client) -> Result<()> {
        if self.after.is_none() {
            self.begin(client).await?;
        }
        let until = Instant::now() + READS_FOR;
        loop {
            let (events, next) = client.events_after(self.after.as_ref(), PAGE).await?;
            self.after = Some(next);
            self.is_current = events.len() < END;
            let now = client.clock().now();
            for event in &events {
                self.count(event, now);
            }
            if self.is_current || Instant::now() >= until {
                break;
            }
        }
        self.read_past(client).await?;
        self.forget(client.clock().now());
        Ok(())
    }

    async fn begin(&mut self, client: &Client) -> Result<()> {
        let drawn = Duration::from_secs(SECONDS.unsigned_abs());
        let begun = Ms(client.clock().now().0 - SECONDS * 1_000);
        let (oldest, place) = (client.events_since(None).await?, client.events_since(Some(drawn)).await?);
        self.past = Some(oldest).filter(|oldest| *oldest != place);
        (self.begun, self.after) = (begun, Some(place));
        Ok(())
    }

    /// A little of what is older than the tail, once that is read to its end.
    async fn read_past(&mut self, client: &Client) -> Result<()> {
        let until = Instant::now() + READS_PAST_FOR;
        while let Some(past) = self.past.clone().filter(|_| self.is_current && Instant::now() < until) {
            let (events, next) = client.events_after(Some(&past), PAGE).await?;
            let now = client.clock().now();
            let is_over = events.last().is_none_or(|event| event.at >= self.begun);
            let begun = self.begun;
            for event in events.iter().filter(|event| event.at < begun) {
                self.count(event, now);
            }
            self.past = Some(next).filter(|_| !is_over);
        }
        Ok(())
    }

    fn count(&mut self, event: &Event, now: Ms) {
        let second = event.at.0.div_euclid(1_000);
        let is_recent = second > now.0.div_euclid(1_000) - SECONDS;
        match event.kind {
            EventKind::JobCompleted if is_recent => {
                self.counts.entry(second).or_default().done += 1;
                if let Some(job) = event.job {
                    *self.shards.entry(job.shard().0).or_default().entry(second).or_default() += 1;
                }
                if let Some(queue) = &event.queue {
                    *self.queues.entry(queue.clone()).or_default().entry(second).or_default() += 1;
                }
            }
            EventKind::JobRetried | EventKind::JobDead | EventKind::JobFailed if is_recent => {
                self.counts.entry(second).or_default().failed += 1;
            }
            EventKind::ScheduleMissed if event.at.0 > now.0 - MISSED_MS => {
                // The name and the tick stand in its text.
                self.missed.push_back((event.at, event.data.clone().unwrap_or_default()));
                self.missed.truncate(SAMPLES);
            }
            _ => {}
        }
        let Some(job) = event.job else { return };
        let is_sampled = event.at.0 > now.0 - SAMPLED_MS;
        match event.kind {
            EventKind::JobStarted => {
                // What was put off before anybody read along is known when all has been read.
                let is_known = self.past.is_none() || job.created_at() >= self.begun;
                if is_sampled && is_known && !self.delayed.contains(&job) {
                    let wait = event.at.since(job.created_at()).as_millis();
                    sample(&mut self.waits, event.at, wait);
                }
                if self.started.len() >= KNOWN {
                    self.started.clear();
                }
                self.started.insert(job, event.at);
            }
            EventKind::JobCompleted => {
                if let Some(from) = self.started.remove(&job).filter(|_| is_sampled) {
                    sample(&mut self.runs, event.at, event.at.since(from).as_millis());
                }
                self.delayed.remove(&job);
            }
            EventKind::JobScheduled | EventKind::JobRetried | EventKind::JobReleased | EventKind::JobRequeued => {
                self.started.remove(&job);
                if self.delayed.len() >= KNOWN {
                    self.delayed.clear();
                }
                self.delayed.insert(job);
            }
            EventKind::JobDead | EventKind::JobCancelled | EventKind::JobDeleted => {
                self.started.remove(&job);
                self.delayed.remove(&job);
            }
            _ => {}
        }
    }

    fn forget(&mut self, now: Ms) {
        let oldest = now.0.div_euclid(1_000) - SECONDS;
        self.counts = self.counts.split_off(&oldest);
        forget_before(&mut self.queues, oldest);
        forget_before(&mut self.shards, oldest);
        self.missed.retain(|(at, _)| at.0 > now.0 - MISSED_MS);
        for samples in [&mut self.waits, &mut self.runs] {
            while samples.front().is_some_and(|(at, _)| at.0 < now.0 - SAMPLED_MS) {
                samples.pop_front();
            }
        }
    }

    /// The schedules whose ticks were missed in the last hour: how often, and when last.
    pub fn missed(&self) -> BTreeMap<&str, (u64, Ms)> {
        let mut found = BTreeMap::new();
        for (at, text) in &self.missed {
            let name = text.split_whitespace().next().unwrap_or_default();
            let entry: &mut (u64, Ms) = found.entry(name).or_insert((0, *at));
            *entry = (entry.0 + 1, entry.1.max(*at));
        }
        found
    }

    pub fn rates(&self, now: Ms) -> Rates {
        let last = now.0.div_euclid(1_000);
        let second = |at: i64| self.counts.get(&at).copied().unwrap_or_default();
        Rates {
            is_current: self.is_current,
            done: (last - SECONDS + 1..=last).map(|at| second(at).done).collect(),
            failed: (last - SECONDS + 1..=last).map(|at| second(at).failed).collect(),
            wait: percentiles(&self.waits),
            run: percentiles(&self.runs),
        }
    }

    /// Completed a second on a queue; none as long as the log was not read to its end.
    pub fn rate(&self, queue: &str, now: Ms) -> Option<f64> {
        let seconds = self.queues.iter().find(|(name, _)| name.as_str() == queue).map(|(_, seconds)| seconds);
        self.is_current.then(|| seconds.map_or(0.0, |seconds| per_second(seconds, now)))
    }

    /// The same of the jobs that were born on a shard.
    pub fn shard_rate(&self, shard: u16, now: Ms) -> Option<f64> {
        self.is_current.then(|| self.shards.get(&shard).map_or(0.0, |seconds| per_second(seconds, now)))
    }
}

/// The second that is still going on is left out.
fn per_second(seconds: &BTreeMap<i64, u32>, now: Ms) -> f64 {
    let last = now.0.div_euclid(1_000);
    let done: u32 = seconds.range(last - RATE_OVER..last).map(|(_, done)| *done).sum();
    f64::from(done) / RATE_OVER as f64
}

fn forget_before<K>(counts: &mut HashMap<K, BTreeMap<i64, u32>>, oldest: i64) {
    counts.retain(|_, seconds| {
        *seconds = seconds.split_off(&oldest);
        !seconds.is_empty()
    });
}

fn sample(samples: &mut VecDeque<(Ms, u64)>, at: Ms, ms: u128) {
    if samples.len() >= SAMPLES {
        samples.pop_front();
    }
    samples.push_back((at, u64::try_from(ms).unwrap_or(u64::MAX)));
}

/// Nearest rank.
fn percentiles(samples: &VecDeque<(Ms, u64)>) -> Option<Percentiles> {
    let mut sorted: Vec<u64> = samples.iter().map(|(_, ms)| *ms).collect();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1).min(last)];
    Some(Percentiles { p50: rank(50), p95: rank(95), p99: rank(99) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Shard;

    fn event(kind: EventKind, job: JobId, at: i64) -> Event {
        Event { at: Ms(at), job: Some(job), queue: Some("mail".parse().expect("a name")), ..Event::new(kind) }
    }

    #[test]
    fn what_ended_is_counted_by_its_second_and_by_its_queue() {
        let mut tail = Tail { is_current: true, ..Tail::default() };
        let now = Ms(1_000_000);
        for n in 0..30 {
            let job = JobId::from_parts(Ms(980_000), Shard(0), n);
            tail.count(&event(EventKind::JobStarted, job, 990_000), now);
            tail.count(&event(EventKind::JobCompleted, job, 995_000 + i64::from(n % 2 == 0) * 1_000), now);
        }
        let rates = tail.rates(now);
        assert_eq!(&rates.done[rates.done.len() - 6..], [15, 15, 0, 0, 0, 0]);
        assert_eq!(tail.rate("mail", now), Some(3.0));
        assert_eq!(tail.rate("other", now), Some(0.0));
        assert_eq!((tail.shard_rate(0, now), tail.shard_rate(1, now)), (Some(3.0), Some(0.0)));
        assert_eq!(rates.wait, Some(Percentiles { p50: 10_000, p95: 10_000, p99: 10_000 }));
        assert_eq!(rates.run, Some(Percentiles { p50: 5_000, p95: 6_000, p99: 6_000 }));
    }

    #[test]
    fn a_delay_is_no_wait_and_the_past_is_forgotten() {
        let mut tail = Tail::default();
        let now = Ms(1_000_000);
        let job = JobId::from_parts(Ms(1_000), Shard(0), 1);
        tail.count(&event(EventKind::JobScheduled, job, 1_000), now);
        tail.count(&event(EventKind::JobStarted, job, 999_000), now);
        assert_eq!(tail.rates(now).wait, None);
        assert_eq!(tail.rate("mail", now), None);
        tail.count(&event(EventKind::JobCompleted, job, 999_000), now);
        tail.forget(Ms(9_000_000));
        let later = tail.rates(Ms(9_000_000));
        assert_eq!((later.done.iter().sum::<u32>(), later.run), (0, None));
        assert!(tail.queues.is_empty() && tail.started.is_empty() && tail.delayed.is_empty());
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let of = |n: u64| (1..=n).map(|ms| (Ms(0), ms)).collect::<VecDeque<_>>();
        assert_eq!(percentiles(&of(100)), Some(Percentiles { p50: 50, p95: 95, p99: 99 }));
        assert_eq!(percentiles(&of(1)), Some(Percentiles { p50: 1, p95: 1, p99: 1 }));
        assert_eq!(percentiles(&of(0)), None);
    }
}
