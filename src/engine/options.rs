//! What a worker is told, and what it tells at its end.

use std::time::Duration;

use crate::domain::{Entropy, Name, limits};
use crate::store::Retention;

/// How a worker works. [`WorkerOptions::default`] is what the command line promises.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Jobs run at the same time, at least 1.
    pub concurrency: usize,
    /// Queues served, with their weights (at least 1). Empty: every queue, equally.
    pub queues: Vec<(Name, u32)>,
    /// Queues are served strictly in the order given; otherwise by weight, at random.
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
}

impl WorkerOptions {
    /// The order in which to ask queues: strictly as given, or a random one in which a queue of twice the
    /// weight comes first twice as often (Efraimidis and Spirakis, weighted sampling without
    /// replacement).
    pub fn order(&self, queues: &[Name], entropy: &dyn Entropy) -> Vec<Name> {
        if self.strict || queues.len() < 2 {
            return queues.to_vec();
        }
        let weight = |queue: &Name| {
            let known = self.queues.iter().find(|(name, _)| name == queue);
            f64::from(known.map_or(1, |(_, weight)| *weight).max(1))
        };
        let mut order: Vec<(f64, &Name)> =
            queues.iter().map(|queue| (entropy.fraction().powf(1.0 / weight(queue)), queue)).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        order.into_iter().map(|(_, queue)| queue.clone()).collect()
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
        self.released += more.released;
        self.lost += more.lost;
    }
}
