//! Single moments of a worker's life that chance seldom meets: a hint that comes while a look finds
//! nothing, a claim whose answer is lost just before the stop, an error that ends the worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use goflow::api::Client;
use goflow::domain::job::Outcome;
use goflow::domain::{Clock, Entropy, Job, JobId, Json, Place, ProducerId, Progress, RunState, Shard};
use goflow::engine::{Ending, Handler, Handlers, Summary, Task, Worker, WorkerOptions};
use goflow::store::fault::{FaultStore, Saboteur};
use goflow::store::{Enqueue, MemoryStore, NewJob, Result, Store, StoreError};
use goflow::workflow::{self, Fact, Manifest, What};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::sagas::stored;
use super::world::{PausedClock, Seeded, name};

/// A story of one worker.
struct Scene {
    clock: Arc<PausedClock>,
    store: Arc<dyn Store>,
    dice: Arc<Seeded>,
}

/// Tells when it was begun, and then takes as long as it is let.
struct Patient {
    begun: Arc<AtomicU64>,
    start: Instant,
}

impl Handler for Patient {
    fn run(&self, task: Task) -> Ending {
        self.begun.store(self.start.elapsed().as_millis() as u64, Ordering::SeqCst);
        Box::pin(async move {
            if task.job.kind.as_str() == "short" {
                return Some(Outcome::Completed { result: None });
            }
            task.stop.cancelled().await;
            None
        })
    }
}

impl Scene {
    fn new() -> Scene {
        let clock = PausedClock::new();
        Scene { store: Arc::new(MemoryStore::new(clock.clone())), clock, dice: Seeded::new(7) }
    }

    async fn put(&self, kind: &str) -> JobId {
        let id = JobId::from_parts(self.clock.now(), Shard(0), self.dice.next());
        let job = Job::new(id, name(kind), name("default"), Json::null());
        let producer = ProducerId::from_parts(self.clock.now(), Shard(0), self.dice.next());
        let jobs = vec![NewJob::now(job)];
        self.store.enqueue(&Enqueue { producer, sequence: 1, jobs, runs: vec![] }).await.expect("enqueue");
        id
    }

    fn worker(&self, saboteur: Arc<dyn Saboteur>, options: WorkerOptions, begun: &Arc<AtomicU64>) -> Worker {
        let store = Arc::new(FaultStore::new(self.store.clone(), saboteur));
        let mut handlers = Handlers::new();
        let handler = Arc::new(Patient { begun: begun.clone(), start: Instant::now() });
        for kind in ["short", "long"] {
            handlers.set(name(kind), handler.clone());
        }
        Worker::new(store, options, handlers, self.clock.clone(), Seeded::new(9))
    }

    /// Where the jobs are, and how many crashes each has.
    async fn places(&self, ids: &[JobId]) -> Vec<(Place, usize)> {
        let kept = self.store.get(ids).await.expect("get");
        kept.into_iter().flatten().map(|stored| (stored.place, stored.job.crashes.len())).collect()
    }
}

/// Every request and every answer is on its way for so long.
struct Slow(Duration);

impl Saboteur for Slow {
    fn travel(&self) -> Duration {
        self.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_comes_while_a_look_finds_nothing_is_not_lost() {
    // Every phase of the look: under way, done and not yet answered, answered; for work on a queue that
    // the worker knows, and on the first queue that there ever was.
    let phases = (0..2_000).step_by(40).flat_map(|phase| [(phase, true), (phase, false)]);
    for (phase, named) in phases {
        let scene = Scene::new();
        let begun = Arc::new(AtomicU64::new(0));
        let queues = if named { vec![(name("default"), None)] } else { vec![] };
        let options = WorkerOptions { poll: Duration::from_secs(10), queues, ..WorkerOptions::default() };
        let worker = scene.worker(Arc::new(Slow(Duration::from_millis(200))), options, &begun);
        let born = Instant::now();
        let (stop, never) = (CancellationToken::new(), CancellationToken::new());
        let working = tokio::spawn(worker.run(stop.clone(), never));
        tokio::time::sleep(Duration::from_millis(20_000 + phase)).await;
        scene.put("short").await;
        let put = born.elapsed().as_millis() as u64;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let begun = begun.load(Ordering::SeqCst);
        // The looks that were under way come to their end, and the next ones are answered: not a poll later.
        let story = format!("phase {phase}, named {named}: put at {put} ms, begun at {begun} ms");
        assert!(begun >= put && begun - put <= 1_300, "{story}");
        stop.cancel();
        working.await.expect("no panic").expect("a good end");
    }
}

/// Loses the answer of the first claim that is told to be lost.
#[derive(Default)]
struct LosesAnswers {
    active: AtomicBool,
    lost: AtomicU64,
}

impl Saboteur for LosesAnswers {
    fn after(&self, _: bool) -> Result<()> {
        if !self.active.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.lost.fetch_add(1, Ordering::SeqCst);
        Err(StoreError::Unknown("injected: the answer was lost".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_gives_back_what_a_lost_answer_leased() {
    let scene = Scene::new();
    let saboteur = Arc::new(LosesAnswers::default());
    let options = WorkerOptions { queues: vec![(name("default"), None)], ..WorkerOptions::default() };
    let worker = scene.worker(saboteur.clone(), options, &Arc::default());
    let (stop, never) = (CancellationToken::new(), CancellationToken::new());
    let working = tokio::spawn(worker.run(stop.clone(), never));
    tokio::time::sleep(Duration::from_secs(3)).await;
    saboteur.active.store(true, Ordering::SeqCst);
    let ids = [scene.put("long").await, scene.put("long").await];
    while scene.places(&ids).await.iter().any(|(place, _)| *place != Place::Running) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    tokio::time::sleep(Duration::from_millis(5)).await;
    saboteur.active.store(false, Ordering::SeqCst);
    working.await.expect("no panic").expect("a good end");
    assert!(saboteur.lost.load(Ordering::SeqCst) > 0);
    assert_eq!(scene.places(&ids).await, [(Place::Pending, 0); 2], "nobody's crash");
}

/// Tells how far it has come, twice, a second each.
struct Telling;

impl Handler for Telling {
    fn run(&self, task: Task) -> Ending {
        Box::pin(async move {
            for percent in [40.0, 80.0] {
                task.notes.progress(Progress { percent: Some(percent), message: "so far".into() });
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Some(Outcome::Completed { result: None })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn progress_is_kept_while_a_job_runs_and_when_it_has_ended() {
    let scene = Scene::new();
    let mut handlers = Handlers::new();
    handlers.set(name("telling"), Arc::new(Telling));
    let options = WorkerOptions { until_empty: true, ..WorkerOptions::default() };
    let id = scene.put("telling").await;
    let worker = Worker::new(scene.store.clone(), options, handlers, scene.clock.clone(), Seeded::new(9));
    let never = CancellationToken::new();
    let working = tokio::spawn(worker.run(never.clone(), never));
    let percent = |progress: Option<Progress>| progress.and_then(|progress| progress.percent);
    let mut seen = Vec::new();
    while !working.is_finished() {
        let stored = scene.store.get(&[id]).await.expect("get").remove(0).expect("is kept");
        let now = percent(stored.progress);
        if now.is_some() && seen.last() != Some(&now) {
            seen.push(now);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(seen, [Some(40.0), Some(80.0)]);
    let stored = scene.store.get(&[id]).await.expect("get").remove(0).expect("is kept");
    assert_eq!((stored.place, percent(stored.job.progress)), (Place::Completed, Some(80.0)));
}

/// Refuses one call, for good reasons of its own.
#[derive(Default)]
struct Refuses(AtomicBool);

impl Saboteur for Refuses {
    fn before(&self, is_commit: bool) -> Result<()> {
        match is_commit && self.0.swap(false, Ordering::SeqCst) {
            true => Err(StoreError::Corrupt("injected: nobody can help this".into())),
            false => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_go_on_gives_back_what_it_holds() {
    let scene = Scene::new();
    let refuses = Arc::new(Refuses::default());
    let worker = scene.worker(refuses.clone(), WorkerOptions::default(), &Arc::default());
    let never = CancellationToken::new();
    let working = tokio::spawn(worker.run(never.clone(), never));
    let long = [scene.put("long").await, scene.put("long").await];
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(scene.places(&long).await, [(Place::Running, 0); 2]);
    refuses.0.store(true, Ordering::SeqCst);
    let short = scene.put("short").await;
    let ended: Result<Summary> = working.await.expect("no panic");
    assert!(matches!(ended, Err(StoreError::Corrupt(_))), "{ended:?}");
    assert_eq!(scene.places(&long).await, [(Place::Pending, 0); 2], "given back, nobody's crash");
    assert_eq!(scene.places(&[short]).await, [(Place::Completed, 0)], "what it had done still counts");
}

/// Nobody but a worker hears that a paused run goes on: its step, which has been withheld for long, begins at
/// once all the same.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_resumed_by_its_inbox_alone_goes_on_at_once() {
    let scene = Scene::new();
    let text = "name: one\nsteps: [{id: a, job: short}]\n";
    let Manifest::Workflow(definition) = workflow::parse("one.yaml", text).expect("a manifest").remove(0) else {
        panic!("a workflow was written");
    };
    scene.store.define(&[stored(&definition)]).await.expect("it is kept");
    let client = Client::new(scene.store.clone(), scene.clock.clone(), scene.dice.clone());
    let id = client.start(&definition, Json::null()).await.expect("it begins");
    client.pause_run(id).await.expect("it runs");
    let begun = Arc::default();
    let worker = scene.worker(Arc::new(Slow(Duration::ZERO)), WorkerOptions::default(), &begun);
    let never = CancellationToken::new();
    let working = tokio::spawn(worker.run(never.clone(), never));
    tokio::time::sleep(Duration::from_secs(120)).await;
    let jobs = client.run_header(id).await.expect("it is kept").jobs();
    assert_eq!((begun.load(Ordering::SeqCst), scene.places(&jobs).await), (0, vec![(Place::Scheduled, 0)]));
    let goes_on = Fact::of_run(What::Resume, scene.clock.now()).encode().expect("bytes");
    assert_eq!(scene.store.inform(&[(id, goes_on)]).await.expect("inform"), [true]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(client.run_header(id).await.expect("it is kept").state, RunState::Completed);
    working.abort();
}
