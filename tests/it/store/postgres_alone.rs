//! What only a server of its own can show: kill -9 under load, two processes opening at once, open
//! transactions, a line that is consumed from the head for long.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goflow::domain::job::Outcome;
use goflow::domain::{Epoch, EventKind, JobId, Place, QueueSettings, QueueStats, WorkerId};
use goflow::store::*;
use tokio_postgres::NoTls;

use super::make::*;
use crate::servers::postgres::Cluster;

const LONG: Duration = Duration::from_secs(3_600);

/// Does a call until it succeeds, as every caller of a store must. A macro, because a future that
/// borrows its closure's captures is not `Send` for every lifetime.
macro_rules! insist {
    ($call:expr) => {{
        let mut patience = 9_000;
        loop {
            match $call.await {
                Ok(answer) => break answer,
                Err(error) => assert!(error.is_transient(), "{error:?}"),
            }
            patience -= 1;
            assert!(patience > 0, "the server did not come back");
            // A server that is down answers at once: leave it the machine while it comes up.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }};
}

const BATCHES: usize = 60;
const BATCH: usize = 50;

async fn produce(store: Arc<PostgresStore>, acknowledged: Arc<AtomicUsize>) -> Vec<JobId> {
    let producer = producer();
    let mut ids = Vec::new();
    for sequence in 1..=BATCHES as u64 {
        let jobs: Vec<NewJob> = (0..BATCH).map(|_| now(job())).collect();
        let batch = Enqueue { producer, sequence, jobs, runs: vec![] };
        let answer = insist!(store.enqueue(&batch));
        assert_eq!(answer.jobs, vec![Enqueued::Created; BATCH], "a batch sent again is one batch");
        ids.extend(batch.jobs.iter().map(|new| new.job.id));
        acknowledged.fetch_add(BATCH, Ordering::SeqCst);
    }
    ids
}

/// Works until everything is completed. Answers how often each job was begun.
async fn work(store: Arc<PostgresStore>, worker: WorkerId) -> BTreeMap<JobId, usize> {
    let mut begun: BTreeMap<JobId, usize> = BTreeMap::new();
    let mut done: BTreeSet<JobId> = BTreeSet::new();
    let mut commits: Vec<Commit> = Vec::new();
    while done.len() < BATCHES * BATCH {
        let exchange = Exchange { commits: commits.clone(), claim: Some(wish(worker, &["default"], 32)) };
        match store.exchange(&exchange).await {
            Ok(answer) => {
                // Stale after an answer that was lost: the first time it was applied.
                done.extend(commits.drain(..).map(|commit| commit.moves[0].job.id));
                for claimed in answer.claimed {
                    *begun.entry(claimed.job.id).or_default() += 1;
                    commits.push(alone(settle(&claimed, self::done())));
                }
            }
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
                let beat = Heartbeat { info: info(worker, &["noop"]), lease: LONG };
                let beat = insist!(store.heartbeat(&beat));
                let mine: BTreeSet<Epoch> = commits.iter().filter_map(epoch).collect();
                let lost: Vec<_> = beat.held.into_iter().filter(|(_, epoch)| !mine.contains(epoch)).collect();
                for (id, epoch) in lost {
                    let stored = insist!(store.get(&[id])).remove(0).expect("it is kept");
                    let claimed = Claimed { job: stored.job, epoch, run: None };
                    commits.push(alone(settle(&claimed, Outcome::Released)));
                    let exchange = Exchange { commits: vec![commits.remove(commits.len() - 1)], claim: None };
                    insist!(store.exchange(&exchange));
                }
            }
        }
    }
    begun
}

fn epoch(commit: &Commit) -> Option<Epoch> {
    match commit.moves[0].expect {
        Expect::Lease(epoch) => Some(epoch),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_loses_nothing_acknowledged() {
    let mut cluster = Cluster::with(&[]);
    let store = Arc::new(PostgresStore::open(&cluster.url()).await.expect("the store opens"));
    let worker = hired(&*store).await;
    beat(&*store, worker, LONG).await;
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let producing = tokio::spawn(produce(store.clone(), acknowledged.clone()));
    let working = tokio::spawn(work(store.clone(), worker));
    for kill in 1..=3 {
        while acknowledged.load(Ordering::SeqCst) < kill * BATCHES * BATCH / 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cluster.kill();
        cluster.up();
    }
    let ids = producing.await.expect("everything was enqueued");
    let begun = working.await.expect("everything was done");
    assert_eq!(begun.keys().copied().collect::<BTreeSet<_>>(), ids.iter().copied().collect());
    for chunk in ids.chunks(500) {
        for stored in store.get(chunk).await.expect("get answers") {
            assert_eq!(stored.expect("it is kept").place, Place::Completed);
        }
    }
    assert_eq!(store.verify().await.expect("verify answers"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_line_is_taken_whole_and_once_by_two_processes() {
    let cluster = Cluster::start();
    let stores = [open(&cluster).await, open(&cluster).await];
    let worker = hired(&*stores[0]).await;
    let mut producing = Vec::new();
    for nth in 0..3usize {
        let store = stores[nth % 2].clone();
        producing.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            // Batches of all sizes, so that turns are drawn and committed in different orders.
            for size in (0..60).map(|step| 1 + (step * 37 + nth * 101) % 200) {
                let jobs: Vec<NewJob> = (0..size).map(|_| now(job())).collect();
                ids.extend(jobs.iter().map(|new| new.job.id));
                enqueue(&*store, jobs).await;
            }
            ids
        }));
    }
    let finished = Arc::new(AtomicUsize::new(0));
    let mut working = Vec::new();
    for nth in 0..4usize {
        let (store, finished) = (stores[nth % 2].clone(), finished.clone());
        working.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            let mut commits = Vec::new();
            loop {
                let over = finished.load(Ordering::SeqCst) == 1;
                let answer = exchange(&*store, commits, Some(wish(worker, &["default"], 64))).await;
                if over && answer.claimed.is_empty() {
                    return ids;
                }
                ids.extend(answer.claimed.iter().map(|one| one.job.id));
                commits = answer.claimed.iter().map(|one| alone(settle(one, done()))).collect();
            }
        }));
    }
    let mut expected = Vec::new();
    for task in producing {
        expected.extend(task.await.expect("a producer"));
    }
    finished.store(1, Ordering::SeqCst);
    let mut taken = Vec::new();
    for task in working {
        taken.extend(task.await.expect("a worker"));
    }
    expected.sort();
    taken.sort();
    assert!(expected.len() > 15_000, "enough for the line's floors to rise several times");
    assert!(taken == expected, "{} jobs were taken, {} were enqueued", taken.len(), expected.len());
    assert_eq!(stores[0].verify().await.expect("verify answers"), Vec::<String>::new());
}

async fn open(cluster: &Cluster) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::open(&cluster.url()).await.expect("the store opens"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_wait_for_open_transactions_and_are_never_skipped() {
    let cluster = Cluster::start();
    let store = open(&cluster).await;
    let (other, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    put(&*store, job()).await;
    let (before, cursor) = store.events(None, 100).await.expect("events");
    assert_eq!(before.len(), 1);
    // Somebody has drawn a position and is slow to commit: here with an empty list of events.
    other.batch_execute("BEGIN; SELECT goflow.log(7, ARRAY['\\x90'::bytea], NULL, NULL, NULL)").await.expect("begins");
    let late = put(&*store, job()).await;
    let (hidden, same) = store.events(Some(&cursor), 100).await.expect("events");
    assert_eq!((hidden.len(), &same), (0, &cursor), "nothing may be read past an open position");
    other.batch_execute("COMMIT").await.expect("commits");
    let (seen, _) = store.events(Some(&cursor), 100).await.expect("events");
    assert_eq!(
        seen.iter().map(|event| (event.kind, event.job)).collect::<Vec<_>>(),
        [(EventKind::JobCreated, Some(late))]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_database_is_set_up_once_and_a_newer_one_is_left_alone() {
    let cluster = Cluster::start();
    let url = cluster.url();
    let (a, b) = tokio::join!(PostgresStore::open(&url), PostgresStore::open(&url));
    let (a, b) = (a.expect("the first opens"), b.expect("the second opens"));
    let id = put(&a, job()).await;
    assert_eq!(place(&b, id).await, Place::Pending);
    let health = a.health().await.expect("health answers");
    assert!(health.server.starts_with("PostgreSQL "), "{health:?}");
    assert!(health.warnings.iter().any(|warning| warning.contains("fsync is off")), "{health:?}");
    cluster.sql("UPDATE goflow.version SET number = 99");
    let error = PostgresStore::open(&url).await.err();
    assert_eq!(error, Some(StoreError::TooNew { found: 99, known: health.schema }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_runs_while_a_newer_goflow_migrates_is_told_so() {
    let cluster = Cluster::start();
    let store = open(&cluster).await;
    let known = store.health().await.expect("health answers").schema;
    put(&*store, job()).await;
    cluster.sql("UPDATE goflow.version SET number = 99");
    cluster.sql(
        "DO $$ DECLARE old regprocedure; BEGIN
            FOR old IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'goflow'::regnamespace LOOP
                EXECUTE 'DROP FUNCTION ' || old;
            END LOOP; END $$",
    );
    let newer = StoreError::TooNew { found: 99, known };
    let someone = worker();
    let idle = Exchange { commits: vec![], claim: Some(wish(someone, &["default"], 1)) };
    assert_eq!(store.exchange(&idle).await.err(), Some(newer.clone()));
    let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![now(job())], runs: vec![] };
    assert_eq!(store.enqueue(&batch).await.err(), Some(newer.clone()));
    let beat = Heartbeat { info: info(someone, &["noop"]), lease: LONG };
    assert_eq!(store.heartbeat(&beat).await.err(), Some(newer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_what_can_be_done() {
    let mut cluster = Cluster::start();
    let store = open(&cluster).await;
    let elsewhere = cluster.url().trim_end_matches("postgres").to_owned() + "nowhere";
    let refused = PostgresStore::open(&elsewhere).await.err();
    assert!(matches!(refused, Some(StoreError::Refused(_))), "{refused:?}");
    let refused = PostgresStore::open("postgres://me:secret@localhost/db?colour=red").await.err();
    assert!(matches!(&refused, Some(StoreError::Refused(text)) if !text.contains("secret")), "{refused:?}");
    cluster.sql("CREATE ROLE guest LOGIN");
    let refused = PostgresStore::open(&cluster.url().replace("goflow@", "guest@")).await.err();
    assert!(matches!(refused, Some(StoreError::Refused(_))), "{refused:?}");
    cluster.kill();
    let gone = store.stats().await.expect_err("no server");
    assert!(gone.is_transient(), "{gone:?}");
    let away = PostgresStore::open(&cluster.url()).await.err();
    assert!(matches!(away, Some(StoreError::Unavailable(_))), "{away:?}");
    cluster.up();
    assert_eq!(insist!(store.stats()), vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_finds_what_was_broken() {
    let cluster = Cluster::start();
    let store = open(&cluster).await;
    put(&*store, job()).await;
    put(&*store, job_in("other", "noop")).await;
    cluster.sql("DELETE FROM goflow.waiting WHERE queue = 1; UPDATE goflow.job SET rev = 7 WHERE queue = 2");
    cluster.sql("INSERT INTO goflow.delta (n, queue, place) VALUES (3, 2, 'd')");
    let differences = store.verify().await.expect("verify answers").join("\n");
    for expected in ["pending without a turn", "its revision is not", "counts 3 jobs in place d and has 0"] {
        assert!(differences.contains(expected), "{expected:?} in:\n{differences}");
    }
}

/// The fixture was written by the first release: jobs in every place, a run at work, a run that is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_the_first_schema_is_taken_over() {
    let cluster = Cluster::start();
    cluster.load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/postgres/schema-1.sql"));
    let store = PostgresStore::open(&cluster.url()).await.expect("the store opens");
    assert!(store.health().await.expect("health answers").schema > 1, "it was brought up to date");
    let found = |stats: &[QueueStats]| -> Vec<(String, [u64; 7])> {
        let row = |one: &QueueStats| {
            let counts =
                [one.scheduled, one.pending, one.running, one.retrying, one.dead, one.completed, u64::from(one.paused)];
            (one.name.to_string(), counts)
        };
        stats.iter().map(row).collect()
    };
    let expected = [
        ("cut", [0, 1, 0, 0, 0, 0, 0]),
        ("cut2", [0, 0, 0, 1, 0, 0, 0]),
        ("dead", [0, 0, 0, 0, 1, 0, 0]),
        ("default", [0, 0, 1, 0, 1, 5, 0]),
        ("done", [0, 0, 0, 0, 0, 2, 0]),
        ("parked", [0, 1, 0, 0, 0, 0, 0]),
        ("waiting", [1, 3, 0, 0, 0, 0, 1]),
    ];
    let stats = store.stats().await.expect("stats answer");
    assert_eq!(found(&stats), expected.map(|(name, counts)| (name.to_owned(), counts)));
    assert!(store.verify().await.expect("verify answers").is_empty());

    for (place, queue, count) in [
        (Place::Completed, "default", 5),
        (Place::Completed, "done", 2),
        (Place::Dead, "dead", 1),
        (Place::Scheduled, "waiting", 1),
        (Place::Retrying, "cut2", 1),
        (Place::Suspect, "cut", 1),
        (Place::Running, "default", 1),
    ] {
        let query = ListQuery { place, queue: Some(name(queue)), after: None, budget: 100 };
        assert_eq!(store.list(&query).await.expect("a list").items.len(), count, "{place:?} of {queue}");
    }
    let query = RunQuery { finished: true, after: None, budget: 100 };
    assert_eq!(store.runs(&query).await.expect("runs").items.len(), 2);
    let query = RunQuery { finished: false, ..query };
    let live = store.runs(&query).await.expect("runs").items;
    assert_eq!(live.len(), 1);
    assert!(!store.history(live[0].id, None, 100_000).await.expect("a history").0.is_empty());
    assert!(!store.events(None, 1_000).await.expect("events").0.is_empty());

    // And it works on: what waits is claimed in its order, a silent worker's lease may still be settled.
    store.set_queue(&name("waiting"), &QueueSettings::default()).await.expect("it is resumed");
    let worker = worker();
    store.heartbeat(&Heartbeat { info: info(worker, &["nobody_has_this"]), lease: LONG }).await.expect("a beat");
    let exchange = Exchange { commits: vec![], claim: Some(wish(worker, &["waiting", "parked"], 64)) };
    let claimed = store.exchange(&exchange).await.expect("an exchange").claimed;
    assert_eq!(claimed.iter().map(|one| one.job.priority).collect::<Vec<_>>(), [50, 5, 0, 0]);
    let commits = claimed.iter().map(|one| alone(settle(one, done()))).collect();
    let answer = store.exchange(&Exchange { commits, claim: None }).await.expect("an exchange");
    assert!(answer.commits.iter().all(|one| one.moves == [Moved::Applied]));
    assert!(store.verify().await.expect("verify answers").is_empty());
}

/// The fixture was written by goflow of schema 2: held, keyed and cancelled jobs, gated runs, a schedule.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_the_second_schema_is_taken_over() {
    let mut cluster = Cluster::start();
    cluster.load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/postgres/schema-2.sql"));
    let store = PostgresStore::open(&cluster.url()).await.expect("the store opens");
    assert!(store.health().await.expect("health").schema > 2, "it was brought up to date");
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
    let stats = store.stats().await.expect("stats");
    let of = |name: &str| stats.iter().find(|queue| queue.name.as_str() == name).expect("a queue").clone();
    let waiting = of("waiting");
    assert_eq!((waiting.pending, waiting.scheduled, waiting.paused), (3, 2, true));
    assert_eq!((of("done").completed, of("dead").dead, of("slow").pending), (2, 1, 1));
    let live = RunQuery { finished: false, after: None, budget: 10 };
    assert_eq!(store.runs(&live).await.expect("runs").items.len(), 2);
    assert_eq!(store.schedules().await.expect("schedules").1.len(), 1);
    // What is new works on what is old, and outlives the server.
    let request = super::shared_laws::wish("nightly", 1, LONG);
    let Acquired::Granted(grant) = store.acquire(&request).await.expect("acquire") else { panic!("not granted") };
    cluster.kill();
    cluster.up();
    let released = insist!(store.release(&request.name, request.holder));
    assert!(released, "the grant outlived the server");
    let Acquired::Granted(next) = insist!(store.acquire(&request)) else { panic!("not granted") };
    assert!(next.fence > grant.fence);
    assert_eq!(insist!(store.verify()), Vec::<String>::new());
}

/// The fixture was written by goflow of schema 3: a line, leases one by one (one of them keyed, one with a
/// time-out), jobs that have ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_the_third_schema_is_taken_over() {
    let cluster = Cluster::start();
    cluster.load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/postgres/schema-3.sql"));
    let store = PostgresStore::open(&cluster.url()).await.expect("the store opens");
    assert!(store.health().await.expect("health").schema > 3, "it was brought up to date");
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
    let listed = async |place, queue: &str| {
        let query = ListQuery { place, queue: Some(name(queue)), after: None, budget: 100 };
        store.list(&query).await.expect("a list").items
    };
    let stats = store.stats().await.expect("stats");
    let of = |name: &str| stats.iter().find(|queue| queue.name.as_str() == name).expect("a queue").clone();
    assert_eq!((of("waiting").pending, of("waiting").scheduled, of("leased").running), (5, 1, 4));
    assert_eq!((of("done").completed, of("dead").dead, of("held").dead), (3, 1, 4));
    let waiting = listed(Place::Pending, "waiting").await;
    assert_eq!(waiting.iter().map(|one| one.job.priority).collect::<Vec<_>>(), [5, 0, 0, 0, -3]);

    // The leases of a worker that is long gone lapse, and whoever still holds one may settle it.
    let leased = listed(Place::Running, "leased").await;
    let leases: BTreeSet<Epoch> = leased.iter().map(|one| one.lease.as_ref().expect("a lease").epoch).collect();
    assert_eq!(leases.len(), 4);
    let overdue = store.overdue(LONG, 10).await.expect("overdue");
    assert_eq!(overdue.lapsed.len(), 4);
    let lease =
        |one: &Stored| Claimed { job: one.job.clone(), epoch: one.lease.as_ref().expect("a lease").epoch, run: None };
    let commits = leased.iter().map(|one| alone(settle(&lease(one), done()))).collect();
    let answer = store.exchange(&Exchange { commits, claim: None }).await.expect("an exchange");
    assert!(answer.commits.iter().all(|one| one.moves == [Moved::Applied]));

    // What waits is taken in its order, beside what comes now, under epochs above all that there were.
    store.set_queue(&name("waiting"), &QueueSettings::default()).await.expect("it is resumed");
    let id = put(&store, job_in("waiting", "noop")).await;
    let worker = hired(&store).await;
    let exchange = Exchange { commits: vec![], claim: Some(wish(worker, &["waiting"], 64)) };
    let claimed = store.exchange(&exchange).await.expect("an exchange").claimed;
    assert_eq!(claimed.iter().map(|one| one.job.priority).collect::<Vec<_>>(), [5, 0, 0, 0, 0, -3]);
    assert_eq!(claimed[4].job.id, id);
    assert!(claimed.iter().all(|one| leases.iter().all(|old| one.epoch > *old)));
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}
