//! Alerts: told once however many watch, to a local server, a command and a function; and a target
//! that fails harms nobody.

mod listener;
mod outside;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use goflow::api::Client;
use goflow::domain::alert::On;
use goflow::domain::job::JobError;
use goflow::domain::schedule::{Catchup, Overlap};
use goflow::domain::{Clock, Job, Json, Place, To};
use goflow::engine::{AlertRule, AlertTarget, Alerts, Scheduler};
use goflow::exec;
use goflow::store::{Commit, Enqueue, Exchange, Expect, MemoryStore, Move, NewJob, Store};
use goflow::sys::clock::SystemClock;
use goflow::workflow::spec::{ScheduleRule, ScheduleSpec, ScheduleTarget};
use tokio_util::sync::CancellationToken;

use crate::simulation::world::{PausedClock, Seeded, name};

/// A store under the paused clock, and those who watch it.
struct World {
    clock: Arc<dyn Clock>,
    dice: Arc<Seeded>,
    store: Arc<dyn Store>,
    stop: CancellationToken,
}

impl World {
    fn new() -> World {
        World::by(PausedClock::new())
    }

    fn by(clock: Arc<dyn Clock>) -> World {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        World { clock, dice: Seeded::new(1), store, stop: CancellationToken::new() }
    }

    fn client(&self) -> Client {
        Client::new(self.store.clone(), self.clock.clone(), self.dice.clone())
    }

    fn watch(&self, rules: Vec<AlertRule>) {
        let machine = Arc::new(exec::Context::new(exec::Settings {
            environment: std::env::vars_os().collect(),
            grace: Duration::from_secs(1),
            temp: std::env::temp_dir(),
            sink: Arc::new(exec::NoLog),
            containment: exec::Containment::Walk,
            parentage: exec::Parentage::Shared,
            clock: self.clock.clone(),
            processors: 1,
            secrets: Arc::default(),
        }));
        let alerts = Alerts::new(self.store.clone(), machine, rules);
        tokio::spawn(alerts.run(self.stop.clone()));
    }

    /// Buries so many jobs of a type.
    async fn bury(&self, kind: &str, count: usize) {
        let client = self.client();
        for _ in 0..count {
            let job = Job::new(client.job_id(), name(kind), name("default"), Json::null());
            let jobs = vec![NewJob::now(job.clone())];
            let batch = Enqueue { producer: client.producer_id(), sequence: 1, jobs, runs: vec![] };
            self.store.enqueue(&batch).await.expect("enqueued");
            let rev = self.store.get(&[job.id]).await.expect("a look")[0].as_ref().expect("it is kept").job.rev;
            let dead = Job {
                error: Some(JobError::new("exit:1", "no such host")),
                finished_at: Some(self.clock.now()),
                ..job
            };
            let event = goflow::domain::EventKind::JobDead;
            let step = Move { expect: Expect::Idle(Place::Pending, rev), to: To::Dead, job: dead, event };
            let commit = Commit { moves: vec![step], run: None };
            let exchange = Exchange { commits: vec![commit], claim: None };
            let answer = self.store.exchange(&exchange).await.expect("exchanged");
            assert_eq!(answer.commits[0].moves, [goflow::store::Moved::Applied]);
        }
    }
}

/// A function that remembers what it was told.
fn listener() -> (AlertTarget, Arc<Mutex<Vec<String>>>) {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = told.clone();
    let target = AlertTarget::Callback(Arc::new(move |alert| {
        kept.lock().expect("no panic holds it").push(format!("{} {alert}", alert.subject));
    }));
    (target, told)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime starts").block_on(test);
}

#[test]
fn three_who_watch_tell_once_and_then_how_many_more() {
    run(async {
        let world = World::new();
        let (target, told) = listener();
        for _ in 0..3 {
            world.watch(vec![AlertRule { on: On::JobDead, targets: vec![target.clone()] }]);
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.bury("mail", 1).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.bury("mail", 7).await;
        world.bury("image", 2).await;
        tokio::time::sleep(Duration::from_secs(200)).await;
        let lines = told.lock().expect("no panic holds it").clone();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("mail job ") && lines[0].ends_with("died: exit:1: no such host"), "{lines:?}");
        assert!(lines[1].starts_with("image job ") && lines[1].ends_with("(and 1 more)"), "{lines:?}");
        tokio::time::sleep(Duration::from_secs(200)).await;
        let lines = told.lock().expect("no panic holds it").clone();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[2].starts_with("mail job ") && lines[2].ends_with("(and 6 more)"), "{lines:?}");
    });
}

#[test]
fn what_lay_there_before_is_no_news_and_a_panic_ends_nothing() {
    run(async {
        let world = World::new();
        world.bury("mail", 5).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let (target, told) = listener();
        let panics = AlertTarget::Callback(Arc::new(|_| panic!("the user's own")));
        world.watch(vec![AlertRule { on: On::JobDead, targets: vec![panics, target] }]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(told.lock().expect("no panic holds it").len(), 0);
        world.bury("mail", 1).await;
        world.bury("image", 1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(told.lock().expect("no panic holds it").len(), 2);
    });
}

#[test]
fn more_deaths_than_a_page_holds_are_all_counted() {
    run(async {
        let world = World::new();
        let (target, told) = listener();
        world.watch(vec![AlertRule { on: On::JobDead, targets: vec![target] }]);
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.bury("mail", 1_700).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let lines = told.lock().expect("no panic holds it").clone();
        assert!(lines.len() == 1 && lines[0].ends_with("(and 1,699 more)"), "{lines:?}");
    });
}

#[test]
fn missed_ticks_and_long_queues_are_told() {
    run(async {
        let world = World::new();
        let spec = ScheduleSpec {
            name: name("minutely"),
            rule: ScheduleRule::Cron("* * * * *".to_owned()),
            timezone: "UTC".to_owned(),
            target: ScheduleTarget::Job { kind: name("work"), queue: Some(name("reports")) },
            input: serde_json::Value::Null,
            overlap: Overlap::Allow,
            catchup: Catchup::All,
        };
        world.client().set_schedule(&ScheduleSpec { catchup: Catchup::None, ..spec.clone() }).await.expect("set");
        let (target, told) = listener();
        let depth = On::QueueDepth { above: 3 };
        world.watch(vec![
            AlertRule { on: On::ScheduleMissed, targets: vec![target.clone()] },
            AlertRule { on: depth, targets: vec![target] },
        ]);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        let scheduler = Scheduler::new(world.store.clone(), world.dice.clone());
        let served = tokio::spawn(scheduler.run(world.stop.clone()));
        tokio::time::sleep(Duration::from_secs(20)).await;
        let lines = told.lock().expect("no panic holds it").clone();
        assert_eq!(lines, ["minutely schedule minutely missed 58 ticks"]);
        tokio::time::sleep(Duration::from_secs(300)).await;
        let lines = told.lock().expect("no panic holds it").clone();
        assert_eq!(lines[1..], ["reports 4 jobs wait in queue reports, more than 3"]);
        // The board is no schedule.
        assert_eq!(world.client().schedules().await.expect("schedules").len(), 1);
        world.stop.cancel();
        served.await.expect("no panic").expect("it served");
    });
}

#[test]
fn a_webhook_a_command_and_slack_are_told_and_one_that_fails_is_tried_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let server = listener::Listener::start(&[500, 200, 200]).await;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("told");
        let script = format!("cat > {0}.tmp; env | grep GOFLOW_ALERT_ON >> {0}.tmp; mv {0}.tmp {0}", file.display());
        let command = ["sh", "-c", &script].map(str::to_owned).to_vec();
        let world = World::by(Arc::new(SystemClock));
        let (target, told) = listener();
        let hook = format!("{}/hook?key=s3cret", server.url());
        let nobody = "http://127.0.0.1:1/nobody".to_owned();
        let targets = vec![
            AlertTarget::Webhook { url: hook },
            AlertTarget::Command(command),
            AlertTarget::Webhook { url: nobody },
            target,
        ];
        let slack = AlertTarget::Slack { url: format!("{}/slack", server.url()), channel: Some("#ops".to_owned()) };
        world.watch(vec![
            AlertRule { on: On::JobDead, targets },
            AlertRule { on: On::QueueDepth { above: 0 }, targets: vec![slack] },
        ]);
        until("the first look", || async {
            let (_, records) = world.store.schedules().await.expect("records");
            !records.is_empty()
        })
        .await;
        world.bury("mail", 1).await;
        until("the callback", || async { !told.lock().expect("no panic holds it").is_empty() }).await;
        until("the command", || async { file.exists() }).await;
        until("the webhook", || async { server.bodies().len() >= 2 }).await;
        let job = Job::new(world.client().job_id(), name("work"), name("long"), Json::null());
        world.client().enqueue(NewJob::now(job)).await.expect("enqueued");
        until("slack", || async { server.bodies().iter().any(|(path, _)| path == "/slack") }).await;
        assert_eq!(told.lock().expect("no panic holds it").len(), 1);
        let hooks: Vec<_> = server.bodies().into_iter().filter(|(path, _)| path == "/hook?key=s3cret").collect();
        assert_eq!(hooks.len(), 2, "one that failed and one that did not: {hooks:?}");
        let alert: serde_json::Value = serde_json::from_str(&hooks[1].1).expect("JSON");
        assert_eq!((alert["on"].as_str(), alert["subject"].as_str()), (Some("job.dead"), Some("mail")));
        assert_eq!(alert["more"], 0);
        let text = std::fs::read_to_string(&file).expect("the command's file");
        assert!(text.contains("\"subject\":\"mail\"") && text.contains("GOFLOW_ALERT_ON=job.dead"), "{text}");
        let slack = server.bodies().into_iter().find(|(path, _)| path == "/slack").expect("slack was told").1;
        let slack: serde_json::Value = serde_json::from_str(&slack).expect("JSON");
        assert_eq!(slack["channel"], "#ops");
        assert_eq!(slack["text"], "goflow: 1 job waits in queue long, more than 0");
    });
}

async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
