//! The features of a queue under faults: what is cancelled ends, dependents follow their parents or go
//! with them, keys and queues keep their limits, rates hold, deadlines end retries. Workers die, calls
//! fail and answers are lost; then the faults end, everything must drain, and the books must balance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use goflow::domain::job::{Concurrency, Outcome};
use goflow::domain::{
    Clock, Entropy, Job, JobId, JobState, Json, Place, ProducerId, QueueSettings, RetryPolicy, Shard,
};
use goflow::engine::{Ending, Handler, Handlers, Limits, Task, Worker, WorkerOptions};
use goflow::store::fault::{FaultStore, RandomFaults};
use goflow::store::{Enqueue, Enqueued, ListQuery, MemoryStore, NewJob, Store, StoreError, Stored};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use goflow::workflow::Batching;

use super::world::{PausedClock, Scripted, Seeded, Witness, name};

/// What happened; sums tell whether there was anything to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    pub faults: u64,
    pub kills: usize,
    pub cancelled: usize,
    pub orphaned: usize,
    pub followed: usize,
    pub blocked: usize,
    pub limited: usize,
    pub snoozed: usize,
    pub late: usize,
    pub batches: usize,
}

impl Report {
    fn add(&mut self, other: Report) {
        self.faults += other.faults;
        self.kills += other.kills;
        self.cancelled += other.cancelled;
        self.orphaned += other.orphaned;
        self.followed += other.followed;
        self.blocked += other.blocked;
        self.limited += other.limited;
        self.snoozed += other.snoozed;
        self.late += other.late;
        self.batches += other.batches;
    }

    fn everything_happened(&self) -> bool {
        let Report { faults, kills, cancelled, orphaned, followed, blocked, limited, snoozed, late, batches } = *self;
        let all = [kills, cancelled, orphaned, followed, blocked, limited, snoozed, late, batches];
        faults > 0 && all.iter().all(|n| *n > 0)
    }
}

/// Jobs of this type start at most five times a second.
const RATE: u64 = 5;
/// Jobs of this queue run three at a time at most.
const ROOM: usize = 3;

/// As [`Scripted`], with a rate.
struct Rated(Scripted);

impl Handler for Rated {
    fn limits(&self) -> Limits {
        Limits { rate: format!("{RATE}/s").parse().ok() }
    }

    fn run(&self, task: Task) -> Ending {
        self.0.run(task)
    }
}

/// As [`Scripted`], several at a time.
struct Batched(Scripted);

impl Handler for Batched {
    fn batch(&self) -> Option<Batching> {
        Some(Batching { max: 4, within: Duration::from_millis(500) })
    }

    fn run(&self, task: Task) -> Ending {
        self.0.run(task)
    }
}

/// Puts every job off once.
struct Snoozing(Scripted);

impl Handler for Snoozing {
    fn run(&self, task: Task) -> Ending {
        if task.job.rev == 0 {
            return Box::pin(async { Some(Outcome::Snoozed { delay: Duration::from_secs(3) }) });
        }
        self.0.run(task)
    }
}

struct Story {
    dice: Arc<Seeded>,
    clock: Arc<PausedClock>,
    real: Arc<dyn Store>,
    store: Arc<FaultStore>,
    faults: Arc<RandomFaults>,
    witness: Arc<Witness>,
    workers: Vec<JoinHandle<()>>,
    jobs: BTreeMap<JobId, Job>,
    asked: BTreeSet<JobId>,
    begun: Instant,
    report: Report,
}

async fn play(seed: u64) -> Report {
    let clock = PausedClock::new();
    let real: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
    let faults = Arc::new(RandomFaults::new(0.05, 0.05, Seeded::new(seed ^ 0xfa17)));
    let mut story = Story {
        dice: Seeded::new(seed),
        store: Arc::new(FaultStore::new(real.clone(), faults.clone())),
        clock,
        real,
        faults,
        witness: Witness::new(),
        workers: Vec::new(),
        jobs: BTreeMap::new(),
        asked: BTreeSet::new(),
        begun: Instant::now(),
        report: Report::default(),
    };
    story.with_faults().await;
    story.drain().await;
    story.check().await;
    story.report.faults = story.faults.fired();
    story.report
}

impl Story {
    fn hire(&mut self) {
        let scripted = || Scripted { witness: self.witness.clone() };
        let mut handlers = Handlers::new();
        handlers.set(name("work"), Arc::new(scripted()));
        handlers.set(name("rated"), Arc::new(Rated(scripted())));
        handlers.set(name("batched"), Arc::new(Batched(scripted())));
        handlers.set(name("snoozing"), Arc::new(Snoozing(scripted())));
        let concurrency = 2 + self.dice.below(5) as usize;
        let options = WorkerOptions { concurrency, ..WorkerOptions::default() };
        let seed = self.dice.next();
        let worker = Worker::new(self.store.clone(), options, handlers, self.clock.clone(), Seeded::new(seed));
        self.workers.push(tokio::spawn(async move {
            let never = CancellationToken::new();
            worker.run(never.clone(), never).await.expect("a worker outlives every transient fault");
        }));
    }

    fn random_job(&self) -> Job {
        let dice = &self.dice;
        let id = JobId::from_parts(self.clock.now(), Shard(0), dice.next());
        let fail = [0, 0, 0, 1, 9][dice.below(5) as usize];
        let ms = if dice.chance(6) { dice.below(20_000) } else { dice.below(400) };
        let script = serde_json::json!({ "ms": ms, "fail": fail });
        let kind = ["work", "work", "work", "rated", "batched", "snoozing"][dice.below(6) as usize];
        let queue = ["free", "narrow", "slow"][dice.below(3) as usize];
        let mut job = Job::new(id, name(kind), name(queue), Json::from_value(&script));
        job.retry = RetryPolicy { max: dice.below(3) as u32, initial_ms: 500, ..RetryPolicy::default() };
        if dice.chance(4) {
            let key = format!("key-{}", dice.below(2));
            job.concurrency = Some(Concurrency { key, limit: 1 + dice.below(2) as u32 });
        }
        if dice.chance(4) {
            for _ in 0..1 + dice.below(2) {
                let nth = dice.below(self.jobs.len().max(1) as u64) as usize;
                let parent = self.jobs.keys().nth(nth).copied();
                job.after.extend(parent.filter(|parent| !job.after.contains(parent)));
            }
        }
        if dice.chance(8) {
            job.deadline_ms = Some(500 + dice.below(5_000));
        }
        job
    }

    async fn insist<T>(&self, mut call: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(error) if error.is_transient() => tokio::time::sleep(self.dice.millis(1, 100)).await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn with_faults(&mut self) {
        let set = |concurrency, rate: Option<&str>| QueueSettings {
            concurrency,
            rate_limit: rate.map(|rate| rate.parse().expect("a rate")),
            ..QueueSettings::default()
        };
        self.real.set_queue(&name("narrow"), &set(Some(ROOM as u32), None)).await.expect("set");
        self.real.set_queue(&name("slow"), &set(None, Some("10/s"))).await.expect("set");
        for _ in 0..1 + self.dice.below(3) {
            self.hire();
        }
        let producer = ProducerId::from_parts(self.clock.now(), Shard(0), 99);
        for sequence in 1..=4 + self.dice.below(5) {
            let mut jobs = Vec::new();
            for _ in 0..1 + self.dice.below(9) {
                let job = self.random_job();
                self.jobs.insert(job.id, job.clone());
                jobs.push(NewJob::now(job));
            }
            let batch = Enqueue { producer, sequence, jobs, runs: vec![] };
            let answer = self.insist(async || self.store.enqueue(&batch).await).await;
            assert!(answer.jobs.iter().all(|one| *one == Enqueued::Created), "{answer:?}");
            for _ in 0..self.dice.below(3) {
                let nth = self.dice.below(self.jobs.len() as u64) as usize;
                let id = *self.jobs.keys().nth(nth).expect("a job");
                self.asked.insert(id);
                self.insist(async || self.store.ask(&[id]).await).await;
            }
            self.watch(self.dice.millis(100, 6_000)).await;
            match self.dice.below(4) {
                0 if !self.workers.is_empty() => {
                    let victim = self.dice.below(self.workers.len() as u64) as usize;
                    self.workers.swap_remove(victim).abort();
                    self.report.kills += 1;
                }
                1 if self.workers.len() < 4 => self.hire(),
                _ => {}
            }
        }
    }

    /// Time passes, and the limits are looked at all the while.
    async fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(97)).await;
            let mut keys: BTreeMap<String, usize> = BTreeMap::new();
            let running = self.list(Place::Running).await;
            assert!(running.iter().filter(|one| one.job.queue.as_str() == "narrow").count() <= ROOM, "{running:#?}");
            for key in running.iter().filter_map(|one| one.job.concurrency.as_ref()) {
                *keys.entry(key.key.clone()).or_default() += 1;
            }
            assert!(keys.values().all(|n| *n <= 2), "{keys:?}");
            self.report.blocked += self.list(Place::Blocked).await.len();
        }
    }

    async fn list(&self, place: Place) -> Vec<Stored> {
        let query = ListQuery { place, queue: None, after: None, budget: 1_000 };
        self.real.list(&query).await.expect("list").items
    }

    async fn drain(&mut self) {
        self.faults.set_active(false);
        self.hire();
        for _ in 0..3_600 {
            self.watch(Duration::from_secs(1)).await;
            let stats = self.real.stats().await.expect("stats");
            if stats.iter().all(|queue| !queue.is_busy() && queue.scheduled == 0) {
                return;
            }
        }
        panic!("not drained an hour after the last fault: {:#?}", self.real.stats().await);
    }

    async fn check(&mut self) {
        assert!(self.workers.iter().all(|worker| !worker.is_finished()), "a worker ended by itself");
        assert_eq!(self.real.verify().await.expect("verify"), Vec::<String>::new());
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        let kept: BTreeMap<JobId, Stored> = self
            .real
            .get(&ids)
            .await
            .expect("get")
            .into_iter()
            .map(|stored| stored.expect("an acknowledged job is kept"))
            .map(|stored| (stored.job.id, stored))
            .collect();
        for stored in kept.values() {
            self.check_one(stored, &kept);
        }
        let rated: Vec<_> = self.jobs.values().filter(|job| job.kind.as_str() == "rated").collect();
        let starts: usize = rated.iter().map(|job| self.witness.of(job.id).len()).sum();
        // Each worker may hold one permit, and the first of a burst is free.
        let most = self.begun.elapsed().as_secs() * RATE + 8;
        assert!(starts as u64 <= most, "{starts} starts");
        let (events, _) = self.real.events(None, usize::MAX).await.expect("events");
        let put_off = events.iter().filter(|event| event.kind.as_str() == "job.scheduled" && event.worker.is_some());
        for event in put_off {
            let kind = event.job.and_then(|id| self.jobs.get(&id)).map(|job| job.kind.as_str());
            self.report.limited += usize::from(kind == Some("rated"));
            self.report.snoozed += usize::from(kind == Some("snoozing"));
        }
    }

    fn check_one(&mut self, stored: &Stored, all: &BTreeMap<JobId, Stored>) {
        let job = &stored.job;
        let own = &self.jobs[&job.id];
        let executions = self.witness.of(job.id);
        let context = || format!("{stored:#?}\n{executions:#?}");
        let class = job.error.as_ref().map(|error| error.class.as_str());
        self.report.batches += usize::from(own.kind.as_str() == "batched" && executions.len() > 1);
        // A dependent never starts before its parents have completed.
        if let Some(first) = executions.first() {
            for parent in &own.after {
                let parent = &all[parent];
                assert_eq!(parent.place, Place::Completed, "{}\nits parent: {parent:#?}", context());
                let ended = self.witness.of(parent.job.id).iter().filter_map(|one| one.ended).min();
                assert!(ended.is_some_and(|ended| ended <= first.begun), "{}", context());
                self.report.followed += 1;
            }
        }
        match (stored.place.state(), class) {
            (JobState::Completed, _) => {
                assert!(own.after.iter().all(|parent| all[parent].place == Place::Completed), "{}", context());
            }
            (JobState::Cancelled, Some("cancelled")) => {
                assert!(self.asked.contains(&job.id), "nobody asked: {}", context());
                self.report.cancelled += 1;
            }
            (JobState::Cancelled, Some("parent")) => {
                assert!(executions.is_empty(), "{}", context());
                assert!(own.after.iter().any(|parent| all[parent].place != Place::Completed), "{}", context());
                self.report.orphaned += 1;
            }
            (JobState::Dead, Some("deadline")) => {
                assert!(own.deadline_ms.is_some(), "{}", context());
                self.report.late += 1;
            }
            (JobState::Dead, Some("exit:1")) => {
                assert!(job.failures == job.retry.max + 1, "{}", context());
            }
            (JobState::Dead, Some("poison")) => assert_eq!(job.crashes.len(), 3, "{}", context()),
            other => panic!("{other:?}: {}", context()),
        }
    }
}

fn run(seed: u64) -> Report {
    let builder = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = builder().expect("a runtime starts");
    let limit = Duration::from_secs(24 * 3600);
    runtime.block_on(async { tokio::time::timeout(limit, play(seed)).await.expect("the story ends") })
}

fn half(half: u64) {
    let mut total = Report::default();
    let seeds: Vec<u64> = match super::number("GOFLOW_SEED") {
        Some(seed) if half == 0 => vec![seed],
        Some(_) => vec![],
        None => (0..super::number("GOFLOW_SEEDS").unwrap_or(300)).filter(|seed| seed % 2 == half).collect(),
    };
    for seed in &seeds {
        let played = std::panic::catch_unwind(|| run(*seed));
        total.add(played.unwrap_or_else(|_| panic!("failed: replay with GOFLOW_SEED={seed}")));
    }
    println!("{} seeds: {total:?}", seeds.len());
    if seeds.len() > 20 {
        assert!(total.everything_happened(), "a story without features proves nothing: {total:?}");
    }
}

#[test]
fn features_hold_under_faults_for_even_seeds() {
    half(0);
}

#[test]
fn features_hold_under_faults_for_odd_seeds() {
    half(1);
}

#[test]
fn a_story_of_features_replays_exactly() {
    assert_eq!(run(11), run(11));
}
