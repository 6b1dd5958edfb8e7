//! Counters over the whole store, by folding the event log: what has completed, failed, was tried again,
//! how long it took. They are kept as one document beside the log's cursor, and whoever folds a part
//! changes it only if nobody else has (`Store::set_document`): so any number of servers count each event
//! once, agree, and go on where another one left off.
//!
//! Labels are bounded: queues and job types beyond [`MOST`] are counted together. A job's type and times
//! are not in the log, so jobs are looked up; of a fold that is far behind only the first
//! [`LOOKED_UP`] events are, and the rest counts under [`OTHER`], without times.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Client, Result};
use crate::domain::event::EventKind;
use crate::domain::{Event, Job, JobId, Ms};
use crate::store::{Cursor, DocumentChange, DocumentSet, StoreError};

/// Where the counters are kept.
const DOCUMENT: &str = "metrics";
/// Queues, and types, that have labels of their own.
const MOST: usize = 200;
/// The label of all others.
pub const OTHER: &str = "other";
/// The label of types that no worker handles.
const UNHANDLED: &str = "unhandled";
/// Events read at once.
const PAGE: usize = 1_000;
/// Pages of one fold.
const PAGES: usize = 100;
/// Events of one fold whose jobs are looked up.
const LOOKED_UP: usize = 10_000;

/// Upper bounds of a histogram's buckets, in seconds; the last one is open.
pub const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// How often something took how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// How many fell into each bucket, not cumulated; the last one is that of the open end.
    pub counts: Vec<u64>,
    /// In seconds.
    pub sum: f64,
}

impl Histogram {
    fn observe(&mut self, from: Ms, to: Ms) {
        let seconds = to.since(from).as_secs_f64();
        self.counts.resize(BUCKETS.len() + 1, 0);
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
    }
}

/// What is counted of one type in one queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    pub completed: u64,
    /// Buried.
    pub failed: u64,
    pub retried: u64,
    pub cancelled: u64,
    /// Leases that lapsed because a worker died or was silent.
    pub lost: u64,
    /// From the last start to the end, of what completed.
    pub duration: Histogram,
    /// From creation to start, of what completed at its first attempt; a delay that was asked for is
    /// part of it.
    pub wait: Histogram,
}

/// All that is counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    cursor: Option<String>,
    /// By queue, then by type.
    pub rows: BTreeMap<String, BTreeMap<String, Counted>>,
    pub workers_lost: u64,
}

impl Counters {
    fn row(&mut self, queue: &str, kind: &str) -> &mut Counted {
        let queue = if self.rows.contains_key(queue) || self.rows.len() < MOST { queue } else { OTHER };
        let types: BTreeSet<&str> = self.rows.values().flat_map(|row| row.keys().map(String::as_str)).collect();
        let kind = if types.contains(kind) || types.len() < MOST { kind } else { OTHER };
        let (queue, kind) = (queue.to_owned(), kind.to_owned());
        self.rows.entry(queue).or_default().entry(kind).or_default()
    }

    /// Takes an event into account; `job` is what it is about, if it was looked up and is still kept.
    fn count(&mut self, event: &Event, job: Option<&Job>) {
        if event.kind == EventKind::WorkerLost {
            self.workers_lost += 1;
            return;
        }
        let Some(queue) = event.queue.as_ref().filter(|_| is_counted(event.kind)) else { return };
        let is_unhandled = event.data.as_deref() == Some("no_handler");
        let kind = match job {
            Some(_) if is_unhandled => UNHANDLED,
            Some(job) => job.kind.as_str(),
            None => OTHER,
        };
        let crashed = |job: &Job| {
            job.history
                .iter()
                .any(|one| one.error.class == "crash" && one.worker.is_some() && one.worker == event.worker)
        };
        let was_lost = event.data.as_deref() == Some("poison")
            || (event.kind == EventKind::JobReleased && job.is_some_and(crashed));
        if event.kind == EventKind::JobReleased && !was_lost {
            return;
        }
        let row = self.row(queue.as_str(), kind);
        row.lost += u64::from(was_lost);
        match event.kind {
            EventKind::JobCompleted => row.completed += 1,
            EventKind::JobDead => row.failed += 1,
            EventKind::JobRetried => row.retried += 1,
            EventKind::JobCancelled => row.cancelled += 1,
            _ => {}
        }
        let Some(job) = job.filter(|_| event.kind == EventKind::JobCompleted) else { return };
        if let (Some(from), Some(to)) = (job.started_at, job.finished_at) {
            row.duration.observe(from, to);
            if job.failures == 0 {
                row.wait.observe(job.id.created_at(), from);
            }
        }
    }
}

fn is_counted(kind: EventKind) -> bool {
    use EventKind::{JobCancelled, JobCompleted, JobDead, JobReleased, JobRetried};
    matches!(kind, JobCompleted | JobDead | JobRetried | JobCancelled | JobReleased)
}

impl Client {
    /// Counts what has happened since somebody did so last; the counters as they are then, and whether
    /// there is more to count.
    ///
    /// # Errors
    /// The store's.
    pub async fn fold_metrics(&self) -> Result<(Counters, bool)> {
        let (from_rev, mut counters) = self.counters().await?;
        let (before, mut looked_up, mut more) = (counters.cursor.clone(), 0, true);
        for _ in 0..PAGES {
            let after = counters.cursor.clone().map(Cursor);
            let (events, next) = self.store().events(after.as_ref(), PAGE).await?;
            more = !events.is_empty();
            counters.cursor = Some(next.0);
            if !more {
                break;
            }
            let jobs = if looked_up < LOOKED_UP { self.jobs_behind(&events).await? } else { BTreeMap::new() };
            looked_up += events.len();
            for event in &events {
                counters.count(event, event.job.and_then(|id| jobs.get(&id)));
            }
        }
        if counters.cursor == before {
            return Ok((counters, more));
        }
        let body = serde_json::to_vec(&counters).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let change = DocumentChange { name: DOCUMENT.to_owned(), from_rev, body: Some(body), keep: None };
        match self.store().set_document(&change).await? {
            DocumentSet::Done(_) => Ok((counters, more)),
            // Another one was quicker, and has counted the same.
            DocumentSet::Changed(_) => Ok((self.counters().await?.1, true)),
        }
    }

    async fn counters(&self) -> Result<(u64, Counters)> {
        match self.store().document(DOCUMENT).await? {
            None => Ok((0, Counters::default())),
            Some(kept) => {
                let unreadable = |_| StoreError::Corrupt(format!("the document {DOCUMENT} cannot be read"));
                Ok((kept.rev, serde_json::from_slice(&kept.body).map_err(unreadable)?))
            }
        }
    }

    async fn jobs_behind(&self, events: &[Event]) -> Result<BTreeMap<JobId, Job>> {
        let counted = events.iter().filter(|event| is_counted(event.kind));
        let ids: Vec<JobId> = counted.filter_map(|event| event.job).collect::<BTreeSet<_>>().into_iter().collect();
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found = self.store().get(&ids).await?;
        Ok(found.into_iter().flatten().map(|stored| (stored.job.id, stored.job)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Json, Name};

    #[test]
    fn each_event_counts_once_under_bounded_labels() {
        let mut counters = Counters::default();
        let name = |text: String| text.parse::<Name>().expect("a name");
        for n in 0..MOST + 50 {
            let kind = name(format!("type{n}"));
            let id = JobId::from_parts(Ms(1_000), Default::default(), n as u64);
            let mut job = Job::new(id, kind, name(format!("q{n}")), Json::null());
            (job.started_at, job.finished_at) = (Some(Ms(1_004)), Some(Ms(1_404)));
            let event = Event { job: Some(id), queue: Some(job.queue.clone()), ..Event::new(EventKind::JobCompleted) };
            counters.count(&event, Some(&job));
        }
        let all: Vec<&Counted> = counters.rows.values().flat_map(BTreeMap::values).collect();
        assert_eq!(all.iter().map(|row| row.completed).sum::<u64>(), (MOST + 50) as u64);
        assert_eq!(counters.rows.len(), MOST + 1);
        assert_eq!(counters.rows[OTHER][OTHER].completed, 50);
        let one = &counters.rows["q0"]["type0"];
        assert_eq!((one.duration.counts[6], one.wait.counts[0]), (1, 1), "400 ms, and 4 ms");
        assert!((one.duration.sum - 0.4).abs() < 1e-9);
    }
}
