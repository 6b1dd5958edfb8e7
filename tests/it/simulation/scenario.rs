//! One simulated story: work arrives, workers live, die and hang, the store fails; then the faults
//! end, everything must drain, and the books must balance.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use goflow::api::Client;
use goflow::domain::{Clock, JobState, Place, RunId, RunState};
use goflow::domain::{Entropy, Job, JobId, Json, Ms, ProducerId, RetryPolicy, Shard};
use goflow::engine::{Handlers, Worker, WorkerOptions};
use goflow::store::fault::{FaultStore, RandomFaults};
use goflow::store::{Enqueue, Enqueued, MemoryStore, NewJob, Start, Store, StoreError, Stored};
use goflow::workflow;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::sagas;
use super::steering::Steering;
use super::world::{Execution, PausedClock, Script, Scripted, Seeded, Witness, name};

/// What happened in a story; sums tell whether the faults were worth their name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub jobs: usize,
    pub executions: usize,
    pub kills: usize,
    pub faults: u64,
    pub completed: usize,
    pub dead: usize,
    pub crashes: usize,
    pub doubles: usize,
    pub runs: usize,
    pub compensated: usize,
    pub failed_runs: usize,
    /// Runs that somebody cancelled, or paused, and that had taken it in when the answer came.
    pub cancelled_runs: usize,
    pub paused_runs: usize,
    /// The whole story as the event log tells it, so that a replay can be compared.
    pub story: u64,
}

impl Report {
    pub fn add(&mut self, other: &Report) {
        self.jobs += other.jobs;
        self.executions += other.executions;
        self.kills += other.kills;
        self.faults += other.faults;
        self.completed += other.completed;
        self.dead += other.dead;
        self.crashes += other.crashes;
        self.doubles += other.doubles;
        self.runs += other.runs;
        self.compensated += other.compensated;
        self.failed_runs += other.failed_runs;
        self.cancelled_runs += other.cancelled_runs;
        self.paused_runs += other.paused_runs;
    }

    pub fn everything_happened(&self) -> bool {
        let jobs = [self.kills, self.faults as usize, self.completed, self.dead, self.crashes, self.doubles];
        let runs = [self.runs, self.compensated, self.failed_runs, self.cancelled_runs, self.paused_runs];
        jobs.iter().chain(&runs).all(|n| *n > 0)
    }
}

struct Process {
    task: JoinHandle<()>,
}

struct Story {
    dice: Arc<Seeded>,
    clock: Arc<PausedClock>,
    store: Arc<FaultStore>,
    faults: Arc<RandomFaults>,
    real: Arc<dyn Store>,
    witness: Arc<Witness>,
    processes: Vec<Process>,
    expected: BTreeMap<JobId, Job>,
    definitions: Vec<workflow::Definition>,
    runs: Vec<(RunId, usize)>,
    steering: Steering,
    report: Report,
}

/// Plays one seed and checks everything that can be checked.
pub async fn play(seed: u64) -> Report {
    let dice = Seeded::new(seed);
    let clock = PausedClock::new();
    let real: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
    let faults = Arc::new(RandomFaults::new(0.05, 0.05, Seeded::new(seed ^ 0xfa17)));
    let store = Arc::new(FaultStore::new(real.clone(), faults.clone()));
    let mut story = Story {
        dice,
        clock,
        store,
        faults,
        real,
        witness: Witness::new(),
        processes: Vec::new(),
        expected: BTreeMap::new(),
        definitions: Vec::new(),
        runs: Vec::new(),
        steering: Steering::default(),
        report: Report::default(),
    };
    story.with_faults().await;
    story.without_faults().await;
    story.check().await;
    story.report
}

impl Story {
    fn spawn_worker(&mut self) {
        let mut handlers = Handlers::new();
        let scripted = Arc::new(Scripted { witness: self.witness.clone() });
        for kind in ["work", "other"] {
            handlers.set(name(kind), scripted.clone());
        }
        let concurrency = 1 + self.dice.below(6) as usize;
        let (lease, poll) = (self.dice.millis(3_000, 15_000), self.dice.millis(500, 6_000));
        let options = WorkerOptions { concurrency, lease, poll, ..WorkerOptions::default() };
        let seed = self.dice.next();
        let worker = Worker::new(self.store.clone(), options, handlers, self.clock.clone(), Seeded::new(seed));
        let task = tokio::spawn(async move {
            let never = CancellationToken::new();
            worker.run(never.clone(), never).await.expect("a worker outlives every transient fault");
        });
        self.processes.push(Process { task });
    }

    fn random_job(&self) -> NewJob {
        let dice = &self.dice;
        let id = JobId::from_parts(self.clock.now(), Shard(0), dice.next());
        let fail = [0, 0, 0, 1, 2, 9][dice.below(6) as usize];
        let ms = if dice.chance(8) { dice.below(30_000) } else { dice.below(300) };
        let script = serde_json::json!({ "ms": ms, "fail": fail, "final": dice.chance(10) });
        let kind = name(["work", "other"][dice.below(2) as usize]);
        let queue = name(["a", "b"][dice.below(2) as usize]);
        let mut job = Job::new(id, kind, queue, Json::from_value(&script));
        job.priority = [0, 0, 7, -7][dice.below(4) as usize];
        job.retry =
            RetryPolicy { max: dice.below(4) as u32, initial_ms: 1 + dice.below(2_000), ..RetryPolicy::default() };
        let start = if dice.chance(4) { Start::After(dice.millis(1, 20_000)) } else { Start::Now };
        NewJob { start, ..NewJob::now(job) }
    }

    /// Enqueues as a careful producer does: the same batch under the same sequence until it is
    /// answered.
    async fn enqueue(&mut self, sequence: u64, jobs: Vec<NewJob>) {
        let producer = ProducerId::from_parts(Ms(1), Shard(0), 99);
        let mut runs = Vec::new();
        for _ in 0..self.dice.below(3) {
            let which = self.dice.below(self.definitions.len() as u64) as usize;
            let (id, effects) = sagas::begin(&self.definitions[which], &self.dice, self.clock.now());
            self.runs.push((id, which));
            runs.push(effects.into());
        }
        let batch = Enqueue { producer, sequence, jobs, runs };
        loop {
            match self.store.enqueue(&batch).await {
                Ok(answer) => {
                    assert!(answer.jobs.iter().chain(&answer.runs).all(|one| *one == Enqueued::Created), "{answer:?}");
                    break;
                }
                Err(StoreError::Unavailable(_) | StoreError::Unknown(_)) => {
                    tokio::time::sleep(self.dice.millis(1, 100)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        self.expected.extend(batch.jobs.into_iter().map(|new| (new.job.id, new.job)));
    }

    async fn with_faults(&mut self) {
        self.definitions = (0..3).map(|nth| sagas::random_definition(&self.dice, nth)).collect();
        let stored: Vec<_> = self.definitions.iter().map(sagas::stored).collect();
        self.real.define(&stored).await.expect("define");
        for _ in 0..1 + self.dice.below(3) {
            self.spawn_worker();
        }
        for sequence in 1..=4 + self.dice.below(8) {
            let jobs = (0..self.dice.below(10)).map(|_| self.random_job()).collect();
            self.enqueue(sequence, jobs).await;
            tokio::time::sleep(self.dice.millis(1, 8_000)).await;
            self.steer().await;
            match self.dice.below(4) {
                0 if !self.processes.is_empty() => self.kill_one(),
                1 if self.processes.len() < 4 => self.spawn_worker(),
                _ => {}
            }
        }
    }

    /// Somebody does something to one of the runs.
    async fn steer(&mut self) {
        let client = Client::new(self.store.clone(), self.clock.clone(), self.dice.clone());
        let verb = self.dice.below(5);
        // One of the latest: the others are over.
        let nth = self.runs.len().checked_sub(1 + self.dice.below(3) as usize);
        let Some((run, _)) = nth.and_then(|nth| self.runs.get(nth)).copied() else { return };
        self.steering.act(verb, run, &client, &*self.real, self.clock.now()).await;
    }

    /// As kill -9: nothing of the worker runs on, nothing is said to the store.
    fn kill_one(&mut self) {
        let victim = self.dice.below(self.processes.len() as u64) as usize;
        self.processes.swap_remove(victim).task.abort();
        self.report.kills += 1;
    }

    async fn without_faults(&mut self) {
        self.faults.set_active(false);
        self.spawn_worker();
        let client = Client::new(self.store.clone(), self.clock.clone(), self.dice.clone());
        let runs: Vec<RunId> = self.runs.iter().map(|(run, _)| *run).collect();
        self.steering.resume_all(&runs, &client, &*self.real, self.clock.now()).await;
        // Suspects wait for a worker that is alone: lease, reaping, patience, retries. An hour of
        // virtual time is more than all of these together.
        for _ in 0..3_600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let stats = self.real.stats().await.expect("stats");
            let drained = stats.iter().all(|queue| !queue.is_busy() && queue.scheduled == 0);
            if drained && self.runs_are_over().await {
                return;
            }
        }
        let left = self.real.stats().await.expect("stats");
        panic!("not drained an hour after the last fault: {left:#?}");
    }

    async fn runs_are_over(&self) -> bool {
        for (run, _) in &self.runs {
            if !sagas::is_over(&*self.real, *run).await {
                return false;
            }
        }
        true
    }

    async fn check(&mut self) {
        for process in &self.processes {
            assert!(!process.task.is_finished(), "a worker ended by itself");
        }
        assert_eq!(self.real.verify().await.expect("verify"), Vec::<String>::new());
        let ids: Vec<JobId> = self.expected.keys().copied().collect();
        let kept = self.real.get(&ids).await.expect("get");
        for (id, stored) in ids.iter().zip(kept) {
            let stored = stored.unwrap_or_else(|| panic!("acknowledged job {id} is lost"));
            self.check_job(&stored);
        }
        for (run, which) in &self.runs {
            let state = sagas::check(&*self.real, &self.witness, &self.definitions[*which], *run).await;
            self.report.compensated += usize::from(state == RunState::Compensated);
            self.report.failed_runs += usize::from(state == RunState::Failed);
        }
        self.report.runs = self.runs.len();
        (self.report.cancelled_runs, self.report.paused_runs) = self.steering.check(&self.witness);
        let (events, _) = self.real.events(None, usize::MAX).await.expect("events");
        let mut story = DefaultHasher::new();
        format!("{events:?}").hash(&mut story);
        self.report.story = story.finish();
        self.report.jobs = ids.len();
        self.report.executions = self.witness.total();
        self.report.faults = self.faults.fired();
    }

    fn check_job(&mut self, stored: &Stored) {
        let job = &stored.job;
        // Written only for a failure: most of a simulation's time would go into it.
        let context = || format!("job {}: {stored:#?}\n{:#?}", job.id, self.witness.of(job.id));
        // Q1: exactly one terminal state.
        assert!(stored.place.state().is_terminal(), "{}", context());
        let executions = self.witness.of(job.id);
        // Q2: epochs rise with every lease, and no execution but the last may overlap the end.
        assert!(executions.windows(2).all(|pair| pair[0].epoch < pair[1].epoch), "{}", context());
        // Q4: every execution is explained by what the job's own record says.
        let failed = executions.iter().filter(|execution| execution.failed).count();
        let script: Script = serde_json::from_str(job.payload.as_str()).expect("a script");
        match stored.place.state() {
            JobState::Completed => {
                let result = job.result.as_ref().map(Json::to_value).expect("a result");
                let of = executions.iter().find(|execution| result["epoch"] == execution.epoch.0);
                let Execution { ended, failed, .. } = of.expect("the result is of an execution");
                assert!(ended.is_some() && !failed, "{}", context());
                assert!(job.failures >= script.fail.min(job.retry.max) || script.fail == 0, "{}", context());
                self.report.completed += 1;
            }
            JobState::Dead => {
                // Q5: dead exactly when attempts or crashes are exhausted.
                let class = job.error.as_ref().map(|error| error.class.as_str());
                match class {
                    Some("poison") => assert_eq!(job.crashes.len(), 3, "{}", context()),
                    Some("exit:1") => assert!(script.is_final || job.failures == job.retry.max + 1, "{}", context()),
                    other => panic!("dead of {other:?}: {}", context()),
                }
                self.report.dead += 1;
            }
            other => panic!("{other}: {}", context()),
        }
        assert!(job.failures as usize <= failed, "a failure was counted that never happened: {}", context());
        self.report.crashes += job.crashes.len();
        self.report.doubles += usize::from(executions.len() > 1 + job.failures as usize);
        assert_ne!(stored.place, Place::Running);
    }
}
