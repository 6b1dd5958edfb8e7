//! Three schedulers under the paused clock, with a store that fails and schedulers that are killed:
//! each tick starts one job, soon, whoever lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use goflow::api::Client;
use goflow::domain::schedule::{Catchup, Overlap};
use goflow::domain::{Clock, EventKind, Ms, Place};
use goflow::engine::{Handlers, Scheduler, Worker, WorkerOptions};
use goflow::store::fault::{FaultStore, RandomFaults};
use goflow::store::{ListQuery, MemoryStore, Store, Stored};
use goflow::workflow::spec::{ScheduleRule, ScheduleSpec, ScheduleTarget};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::world::{PausedClock, Scripted, Seeded, Witness, name};

struct World {
    dice: Arc<Seeded>,
    clock: Arc<PausedClock>,
    real: Arc<dyn Store>,
    store: Arc<FaultStore>,
    faults: Arc<RandomFaults>,
}

impl World {
    fn new(seed: u64) -> World {
        let (dice, clock) = (Seeded::new(seed), PausedClock::new());
        let real: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        let faults = Arc::new(RandomFaults::new(0.05, 0.05, Seeded::new(seed ^ 0xfa17)));
        let store = Arc::new(FaultStore::new(real.clone(), faults.clone()));
        World { dice, clock, real, store, faults }
    }

    fn client(&self) -> Client {
        Client::new(self.real.clone(), self.clock.clone(), self.dice.clone())
    }

    fn scheduler(&self) -> JoinHandle<()> {
        let scheduler = Scheduler::new(self.store.clone(), self.dice.clone());
        tokio::spawn(async move {
            let served = scheduler.run(CancellationToken::new()).await;
            panic!("a scheduler ends only when it is told to: {served:?}");
        })
    }

    async fn everything(&self) -> Vec<Stored> {
        let mut jobs = Vec::new();
        for place in [Place::Pending, Place::Running, Place::Completed] {
            let mut after = None;
            loop {
                let query = ListQuery { place, queue: None, after, budget: 1_000 };
                let page = self.real.list(&query).await.expect("a page");
                jobs.extend(page.items);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        jobs
    }

    async fn told(&self, kind: EventKind) -> usize {
        let (mut count, mut cursor) = (0, None);
        loop {
            let (events, next) = self.real.events(cursor.as_ref(), 1_000).await.expect("events");
            if events.is_empty() {
                return count;
            }
            count += events.iter().filter(|event| event.kind == kind).count();
            cursor = Some(next);
        }
    }
}

fn spec(rule: ScheduleRule, overlap: Overlap, input: serde_json::Value) -> ScheduleSpec {
    ScheduleSpec {
        name: name("tick"),
        rule,
        timezone: "UTC".to_owned(),
        target: ScheduleTarget::Job { kind: name("work"), queue: None },
        input,
        overlap,
        catchup: Catchup::None,
    }
}

fn every(seconds: u64) -> ScheduleRule {
    ScheduleRule::Every(Duration::from_secs(seconds))
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let limit = Duration::from_secs(3 * 24 * 3600);
    runtime
        .expect("a runtime starts")
        .block_on(async { tokio::time::timeout(limit, test).await.expect("the simulation ends") });
}

/// 120 ticks with a kill every few seconds; answers how many there were, and the faults.
async fn a_hundred_and_twenty_ticks(seed: u64) -> (usize, u64) {
    let world = World::new(seed);
    world.client().set_schedule(&spec(every(1), Overlap::Allow, serde_json::Value::Null)).await.expect("it is set");
    let mut schedulers: Vec<JoinHandle<()>> = (0..3).map(|_| world.scheduler()).collect();
    let (start, mut kills) = (world.clock.now(), 0);
    let end = start.after(Duration::from_millis(120_500));
    while world.clock.now() < end {
        tokio::time::sleep(world.dice.millis(500, 3_000).min(end.since(world.clock.now()))).await;
        let victim = world.dice.below(3) as usize;
        schedulers[victim].abort();
        kills += 1;
        if world.dice.chance(3) {
            // For a while there are two; or, with bad luck, fewer.
            tokio::time::sleep(world.dice.millis(100, 2_000).min(end.since(world.clock.now()))).await;
        }
        schedulers[victim] = world.scheduler();
    }
    // Whoever lives now does what is owed, and the ticks of these seconds are not counted.
    tokio::time::sleep(Duration::from_secs(10)).await;
    schedulers.iter().for_each(JoinHandle::abort);

    let mut ticks: BTreeMap<String, Ms> = BTreeMap::new();
    for stored in world.everything().await {
        let tick = stored.job.metadata.get("tick").expect("it says for which tick it is").clone();
        assert!(ticks.insert(tick.clone(), stored.job.id.created_at()).is_none(), "seed {seed}: {tick} twice");
    }
    let due = |n: i64| Ms(start.0 + n * 1_000);
    for n in 1..=120 {
        let came = ticks.get(&due(n).rfc3339()).unwrap_or_else(|| panic!("seed {seed}: tick {n} never came"));
        let delay = came.since(due(n));
        assert!(delay <= Duration::from_secs(5), "seed {seed}: tick {n} came {delay:?} late");
    }
    assert_eq!(world.told(EventKind::ScheduleTicked).await, ticks.len());
    assert_eq!(world.told(EventKind::ScheduleMissed).await, 0);
    (kills, world.faults.fired())
}

#[test]
fn each_tick_starts_one_job_whoever_is_killed() {
    let (mut kills, mut faults) = (0, 0);
    for seed in 0..40 {
        run(async {
            let (killed, failed) = a_hundred_and_twenty_ticks(seed).await;
            (kills, faults) = (kills + killed, faults + failed);
        });
    }
    assert!(kills > 1_500 && faults > 500, "{kills} kills and {faults} faults prove nothing");
}

#[test]
fn ticks_that_nobody_was_there_for_are_missed_and_told() {
    run(async {
        let world = World::new(1);
        let minutes = ScheduleRule::Cron("* * * * *".to_owned());
        world.client().set_schedule(&spec(minutes, Overlap::Allow, serde_json::Value::Null)).await.expect("it is set");
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        let scheduler = Scheduler::new(world.real.clone(), world.dice.clone());
        let stop = CancellationToken::new();
        let served = tokio::spawn(scheduler.run(stop.clone()));
        tokio::time::sleep(Duration::from_secs(130)).await;
        stop.cancel();
        let done = served.await.expect("no panic").expect("it served");
        let shown = world.client().schedules().await.expect("schedules").remove(0);
        assert_eq!((done.missed, done.started), (58, 4));
        assert_eq!((shown.missed, shown.ticked), (58, 4));
        assert_eq!(world.told(EventKind::ScheduleMissed).await, 1);
    });
}

#[test]
fn a_queue_of_ticks_never_runs_two_at_once_and_skipping_leaves_out() {
    for (overlap, executions) in [(Overlap::Queue, 6), (Overlap::Skip, 6), (Overlap::Allow, 20)] {
        run(async {
            let world = World::new(2);
            let script = serde_json::json!({"ms": 2_500, "fail": 0});
            world.client().set_schedule(&spec(every(1), overlap, script)).await.expect("it is set");
            let stop = CancellationToken::new();
            let scheduler = Scheduler::new(world.real.clone(), world.dice.clone());
            let served = tokio::spawn(scheduler.run(stop.clone()));
            let witness = Witness::new();
            let mut handlers = Handlers::new();
            handlers.set(name("work"), Arc::new(Scripted { witness: witness.clone() }));
            let (real, clock, dice) = (world.real.clone(), world.clock.clone(), world.dice.clone());
            let worker = Worker::new(real, WorkerOptions::default(), handlers, clock, dice);
            let working = tokio::spawn(worker.run(stop.clone(), CancellationToken::new()));
            tokio::time::sleep(Duration::from_millis(20_600)).await;
            stop.cancel();
            served.await.expect("no panic").expect("it served");
            working.await.expect("no panic").expect("it worked");
            let mut spans: Vec<_> = Vec::new();
            for stored in world.everything().await {
                spans.extend(witness.of(stored.job.id).into_iter().map(|execution| (execution.begun, execution.ended)));
            }
            spans.sort();
            let overlaps = spans.windows(2).filter(|pair| pair[0].1.is_none_or(|ended| ended > pair[1].0)).count();
            let shown = world.client().schedules().await.expect("schedules").remove(0);
            assert_eq!(overlaps == 0, overlap != Overlap::Allow, "{overlap}: {spans:?}");
            assert!(spans.len().abs_diff(executions) <= 1, "{overlap}: {} executions", spans.len());
            match overlap {
                Overlap::Queue => assert!(shown.waiting.len() >= 12 && shown.skipped == 0, "{shown:?}"),
                Overlap::Skip => assert!(shown.waiting.is_empty() && shown.skipped >= 12, "{shown:?}"),
                _ => assert_eq!((shown.waiting.len(), shown.skipped), (0, 0)),
            }
        });
    }
}

#[test]
fn triggering_pausing_changing_and_deleting() {
    run(async {
        let world = World::new(3);
        let client = world.client();
        let hourly = spec(ScheduleRule::Cron("0 * * * *".to_owned()), Overlap::Skip, serde_json::Value::Null);
        let outcome = |change: &goflow::api::apply::Change| change.as_str();
        assert_eq!(outcome(&client.set_schedule(&hourly).await.expect("set")), "created");
        assert_eq!(outcome(&client.set_schedule(&hourly).await.expect("set")), "unchanged");
        let triggered = client.trigger(&name("tick")).await.expect("triggered");
        let shown = client.schedules().await.expect("schedules").remove(0);
        assert_eq!(shown.last_job_id, triggered.job_id);
        assert!(triggered.job_id.is_some() && shown.last_tick.is_none());

        assert!(client.pause_schedule(&name("tick"), true).await.expect("paused"));
        assert!(!client.pause_schedule(&name("tick"), true).await.expect("paused"));
        let scheduler = world.scheduler();
        tokio::time::sleep(Duration::from_secs(7_200)).await;
        assert_eq!(world.everything().await.len(), 1, "it was paused");
        assert!(client.pause_schedule(&name("tick"), false).await.expect("resumed"));
        let minutely = spec(ScheduleRule::Cron("* * * * *".to_owned()), Overlap::Allow, serde_json::Value::Null);
        assert_eq!(outcome(&client.set_schedule(&minutely).await.expect("set")), "changed");
        tokio::time::sleep(Duration::from_secs(125)).await;
        let jobs = world.everything().await.len();
        assert!((3..=4).contains(&jobs), "{jobs} jobs");
        let shown = client.schedules().await.expect("schedules").remove(0);
        assert_eq!((shown.missed, shown.ticked as usize), (0, jobs - 1));

        assert!(client.delete_schedule(&name("tick")).await.expect("deleted"));
        assert!(!client.delete_schedule(&name("tick")).await.expect("gone"));
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(world.everything().await.len(), jobs);
        assert!(client.trigger(&name("tick")).await.is_err());
        scheduler.abort();
    });
}

#[test]
fn a_tick_whose_workflow_is_gone_is_skipped_and_told() {
    run(async {
        let world = World::new(4);
        let target = ScheduleTarget::Workflow(name("nobody"));
        let spec = ScheduleSpec { target, ..spec(every(1), Overlap::Skip, serde_json::json!({})) };
        world.client().set_schedule(&spec).await.expect("it is set");
        let scheduler = Scheduler::new(world.real.clone(), world.dice.clone());
        let stop = CancellationToken::new();
        let served = tokio::spawn(scheduler.run(stop.clone()));
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        stop.cancel();
        assert_eq!(served.await.expect("no panic").expect("it served").skipped, 3);
        let shown = world.client().schedules().await.expect("schedules").remove(0);
        assert!(shown.skipped == 3 && shown.ticked == 0, "{shown:?}");
        assert_eq!(world.told(EventKind::ScheduleSkipped).await as u64, shown.skipped);
        let refused = world.client().trigger(&name("tick")).await.expect_err("there is no such workflow");
        assert_eq!(refused.to_string(), "schedule tick: there is no workflow nobody");
    });
}
