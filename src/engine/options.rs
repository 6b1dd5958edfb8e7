//! What a worker is told, and what it tells at its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::shares::Weighted;
use crate::domain::trace::Spans;
use crate::domain::{Name, QueueSettings, Rate, limits};
use crate::store::Retention;

/// How a worker works. [`WorkerOptions::default`] is what the command line promises.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Jobs run at the same time, at least 1.
    pub concurrency: usize,
    /// Queues served, with their weights (at least 1; none: as the queue is set). Empty: every queue.
    pub queues: Vec<(Name, Option<u32>)>,
    /// Queues are served strictly in the order given; otherwise each by its weight.
    pub strict: bool,
    /// End once nothing waits, runs, or is due to retry.
    pub until_empty: bool,
    /// How long running jobs may go on after a stop, before they are ended and given back.
    pub shutdown_timeout: Duration,
    /// How long the store waits for a sign of life.
    pub lease: Duration,
    /// How often to look for work without a hint.
    pub poll: Duration,
    /// How often to look for lapsed leases. With the lease this bounds recovery: 15 s + 2 s.
    pub reap_every: Duration,
    /// How often to trim finished work.
    pub trim_every: Duration,
    pub retention: Retention,
    /// For people: where this worker is.
    pub host: String,
    pub pid: u32,
    pub version: String,
    /// Takes the spans of what this worker does; none: none are made.
    pub spans: Option<Arc<dyn Spans>>,
}

impl WorkerOptions {
    /// The queues to serve, with their weights, and those of them that have a rate limit. `known` are
    /// the store's.
    pub fn served(&self, known: &[(Name, QueueSettings)]) -> (Vec<Weighted>, BTreeMap<Name, Rate>) {
        let weight =
            |settings: Option<&QueueSettings>| settings.and_then(|settings| settings.weight).unwrap_or(1).max(1);
        let of = |name: &Name| known.iter().find(|(other, _)| other == name).map(|(_, settings)| settings);
        let served: Vec<Weighted> = match self.queues.as_slice() {
            [] => known.iter().map(|(name, settings)| (name.clone(), weight(Some(settings)))).collect(),
            named => named.iter().map(|(name, own)| (name.clone(), own.unwrap_or_else(|| weight(of(name))))).collect(),
        };
        let rate = |name: &Name| of(name).and_then(|settings| settings.rate_limit);
        let rates = served.iter().filter_map(|(name, _)| Some((name.clone(), rate(name)?))).collect();
        let free = served.into_iter().filter(|(name, _)| rate(name).is_none()).collect();
        (free, rates)
    }
}

impl Default for WorkerOptions {
    fn default() -> Self {
        WorkerOptions {
            concurrency: 10,
            queues: Vec::new(),
            strict: false,
            until_empty: false,
            shutdown_timeout: Duration::from_secs(25),
            lease: limits::LEASE,
            poll: Duration::from_secs(1),
            reap_every: Duration::from_secs(2),
            trim_every: Duration::from_secs(60),
            retention: Retention { age: limits::RETENTION, count: limits::RETENTION_COUNT },
            host: String::new(),
            pid: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            spans: None,
        }
    }
}

/// What a worker did in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub completed: u64,
    /// Attempts that failed and will be tried again.
    pub retried: u64,
    /// Jobs that failed for good.
    pub dead: u64,
    /// Jobs whose end somebody asked for.
    pub cancelled: u64,
    /// Jobs given back unfinished.
    pub released: u64,
    /// Results that came too late: the lease was gone.
    pub lost: u64,
}

impl Summary {
    pub fn add(&mut self, more: Summary) {
        self.completed += more.completed;
        self.retried += more.retried;
        self.dead += more.dead;
        self.cancelled += more.cancelled;
        self.released += more.released;
        self.lost += more.lost;
    }
}
