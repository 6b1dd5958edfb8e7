//! The packed line and the packed leases of PostgreSQL: what a stretch is made of, what leaves it in the middle, a
//! head that somebody else holds, a limit that concerns nothing that waits, rows that are not where they were, one of
//! several leases that has more to say.

use std::sync::Arc;
use std::time::Duration;

use goflow::domain::{EventKind, Job, JobId, Place, Progress, QueueSettings, To};
use goflow::store::*;
use tokio_postgres::NoTls;

use super::make::*;
use crate::servers::postgres::Cluster;

async fn open(cluster: &Cluster) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::open(&cluster.url()).await.expect("the store opens"))
}

/// Enqueues so many as one batch.
async fn put_all(store: &dyn Store, count: usize) -> Vec<JobId> {
    let jobs: Vec<Job> = (0..count).map(|_| job()).collect();
    let ids = jobs.iter().map(|job| job.id).collect();
    assert_eq!(enqueue(store, jobs.into_iter().map(now).collect()).await, vec![Enqueued::Created; count]);
    ids
}

fn ids(claimed: &[Claimed]) -> Vec<JobId> {
    claimed.iter().map(|one| one.job.id).collect()
}

async fn settle_all(store: &dyn Store, claimed: &[Claimed]) {
    let commits = claimed.iter().map(|one| alone(settle(one, done()))).collect();
    let answer = exchange(store, commits, None).await;
    assert!(answer.commits.iter().all(|one| one.moves == [Moved::Applied]));
}

async fn verified(store: &dyn Store) {
    assert_eq!(store.verify().await.expect("verify answers"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_leave_a_stretch_leave_the_others_in_their_order() {
    let cluster = Cluster::start();
    let store = open(&cluster).await;
    let worker = hired(&*store).await;
    let line = put_all(&*store, 150).await;
    let gone = [0, 2, 3, 63, 64, 149].map(|nth| line[nth]);
    for id in gone {
        let step = idle(&stored(&*store, id).await, To::Cancelled, EventKind::JobCancelled);
        assert_eq!(make(&*store, step).await, Moved::Applied);
    }
    let front = idle(&stored(&*store, line[70]).await, To::Front, EventKind::JobMoved);
    assert_eq!(make(&*store, front).await, Moved::Applied);
    verified(&*store).await;
    let mut left: Vec<JobId> = line.iter().copied().filter(|id| !gone.contains(id) && *id != line[70]).collect();
    left.insert(0, line[70]);

    // Pages hold while some of what was shown is taken, whatever the size of either.
    let mut listed = Vec::new();
    let mut query = ListQuery { place: Place::Pending, queue: Some(name("default")), after: None, budget: 7 };
    let mut taken = Vec::new();
    loop {
        let page = store.list(&query).await.expect("a page");
        listed.extend(page.items.iter().map(|one| one.job.id));
        let Some(next) = page.next else { break };
        query.after = Some(next);
        taken.extend(claim(&*store, worker, 5).await);
    }
    assert!(listed == left, "each is listed once, in the order of the line");
    taken.extend(claim(&*store, worker, 64).await);
    verified(&*store).await;
    taken.extend(claim(&*store, worker, 64).await);
    assert!(ids(&taken) == left, "each is taken once, in the order of the line");
    let stats = store.stats().await.expect("stats").remove(0);
    assert_eq!((stats.pending, stats.running, stats.cancelled), (0, 144, 6));
    for some in taken.chunks(50) {
        settle_all(&*store, some).await;
        verified(&*store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_may_be_of_any_size() {
    let cluster = Cluster::start();
    let store = open(&cluster).await;
    let worker = hired(&*store).await;
    let sizes = [1, 2, 31, 32, 33, 62, 63, 64, 65, 126, 127, 128];
    for size in sizes {
        let line = put_all(&*store, size).await;
        let claimed = claim(&*store, worker, store.claim_batch()).await;
        assert_eq!(ids(&claimed), line);
        let held = beat(&*store, worker, Duration::from_secs(600)).await.held;
        assert_eq!(held, claimed.iter().map(|one| (one.job.id, one.epoch)).collect::<Vec<_>>());
        settle_all(&*store, &claimed).await;
    }
    assert_eq!(store.stats().await.expect("stats")[0].completed, sizes.iter().sum::<usize>() as u64);
    verified(&*store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_waits_for_who_holds_all_that_waits() {
    let cluster = Cluster::start();
    let store = open(&cluster).await;
    let worker = hired(&*store).await;
    let line = put_all(&*store, 5).await;
    let (other, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let (watcher, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    other.batch_execute("BEGIN; SELECT FROM goflow.waiting FOR UPDATE").await.expect("it is held");
    let claiming = tokio::spawn({
        let store = store.clone();
        async move { claim(&*store, worker, 10).await }
    });
    let waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%await_line%'";
    let mut patience = 3_000;
    while watcher.query(waits, &[]).await.expect("a look").is_empty() {
        assert!(!claiming.is_finished(), "nothing was claimed, though five jobs wait");
        patience -= 1;
        assert!(patience > 0, "nobody waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    other.batch_execute("ROLLBACK").await.expect("it is let go");
    let claimed = claiming.await.expect("a claim");
    assert_eq!(ids(&claimed), line);
    verified(&*store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_rewritten_are_found_again() {
    let cluster = Cluster::start();
    let store = open(&cluster).await;
    let worker = hired(&*store).await;
    let line = put_all(&*store, 90).await;
    let first = claim(&*store, worker, 40).await;
    settle_all(&*store, &first[..30]).await;
    // What has ended has left gaps: each row comes to lie elsewhere.
    cluster.sql("VACUUM FULL goflow.job");
    settle_all(&*store, &first[30..]).await;
    cluster.sql("VACUUM FULL goflow.job");
    let second = claim(&*store, worker, 64).await;
    assert_eq!(ids(&second), line[40..]);
    settle_all(&*store, &second).await;
    assert_eq!(store.stats().await.expect("stats")[0].completed, 90);
    verified(&*store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_leases_may_have_more_to_say() {
    let cluster = Cluster::start();
    let store = open(&cluster).await;
    let worker = hired(&*store).await;
    let limited: Vec<NewJob> =
        (0..4).map(|nth| now(Job { timeout_ms: Some(nth).filter(|ms| *ms > 2), ..job() })).collect();
    enqueue(&*store, limited).await;
    let claimed = claim(&*store, worker, 10).await;
    let progress = Some(Progress { percent: Some(50.0), message: "half".into() });
    let note = Note { id: claimed[1].job.id, epoch: claimed[1].epoch, progress: progress.clone(), log: String::new() };
    assert_eq!(store.note(std::slice::from_ref(&note)).await.expect("note"), [true]);
    verified(&*store).await;
    assert_eq!(stored(&*store, note.id).await.progress, progress);
    let held = beat(&*store, worker, Duration::from_secs(600)).await.held;
    assert_eq!(held, claimed.iter().map(|one| (one.job.id, one.epoch)).collect::<Vec<_>>());
    // Only the one with a time-out may be over before its worker is: not yet, it has its grace.
    assert_eq!(store.overdue(Duration::from_secs(600), 10).await.expect("overdue").lapsed, vec![]);
    cluster.sql("UPDATE goflow.leased SET expires = array_replace(expires, expires[4], 1)");
    let lapsed = store.overdue(Duration::from_secs(600), 10).await.expect("overdue").lapsed;
    assert_eq!(lapsed.iter().map(|one| one.job.id).collect::<Vec<_>>(), [claimed[3].job.id]);
    let step = |claimed: &Claimed, to| Move {
        expect: Expect::Lapsed(claimed.epoch),
        ..Move { to, ..settle(claimed, done()) }
    };
    assert_eq!(make(&*store, step(&claimed[0], To::Completed)).await, Moved::Stale, "its worker lives");
    assert_eq!(make(&*store, step(&claimed[3], To::Completed)).await, Moved::Applied);
    settle_all(&*store, &claimed[..3]).await;
    assert_eq!(make(&*store, settle(&claimed[1], done())).await, Moved::Stale);
    verified(&*store).await;
}

/// Two that end jobs of one claim at the same time: the second waits for the first, and both leases are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settle_that_waits_for_another_of_its_claim_ends_its_own_lease() {
    let cluster = Cluster::start();
    let store = open(&cluster).await;
    let worker = hired(&*store).await;
    put_all(&*store, 3).await;
    let claimed = claim(&*store, worker, 3).await;
    let (other, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let (watcher, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    // As another session that has changed the lease of the first and has not committed.
    let touch = "BEGIN; UPDATE goflow.leased SET since = since";
    other.batch_execute(touch).await.expect("it is held");
    let settling = tokio::spawn({
        let (store, second) = (store.clone(), claimed[1].clone());
        async move { make(&*store, settle(&second, done())).await }
    });
    let waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%exchange%'";
    let mut patience = 3_000;
    while watcher.query(waits, &[]).await.expect("a look").is_empty() {
        patience -= 1;
        assert!(patience > 0 && !settling.is_finished(), "nobody waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    other.batch_execute("COMMIT").await.expect("it is let go");
    assert_eq!(settling.await.expect("it ends"), Moved::Applied);
    verified(&*store).await;
    let stats = store.stats().await.expect("stats").remove(0);
    assert_eq!((stats.running, stats.completed), (2, 1));
    assert_eq!(make(&*store, settle(&claimed[1], done())).await, Moved::Stale);
    settle_all(&*store, &[claimed[0].clone(), claimed[2].clone()]).await;
    verified(&*store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixed_batch_keeps_its_order_and_is_packed() {
    let cluster = Cluster::start();
    let store = open(&cluster).await;
    let worker = hired(&*store).await;
    let taken = put(&*store, Job { unique_key: Some("taken".into()), ..job() }).await;
    let mut jobs: Vec<Job> = (0..300).map(|nth| with_priority((nth % 3) as i8)).collect();
    for nth in [40, 100, 160] {
        jobs[nth].unique_key = Some(format!("key {nth}"));
    }
    jobs[161].unique_key = Some("taken".into());
    // A parent counts for what comes after it, and an id once.
    jobs[200].after = vec![jobs[10].id];
    jobs[201].after = vec![jobs[220].id];
    jobs[250] = jobs[249].clone();
    let mut line = jobs.clone();
    let answers = enqueue(&*store, jobs.into_iter().map(now).collect()).await;
    for (nth, answer) in answers.iter().enumerate() {
        let wanted = match nth {
            161 => Enqueued::Conflict(taken),
            201 => Enqueued::NoParent(line[220].id),
            250 => Enqueued::Exists,
            _ => Enqueued::Created,
        };
        assert_eq!(*answer, wanted, "job {nth}");
    }
    verified(&*store).await;
    let (looker, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let rows: i64 = looker.query_one("SELECT count(*) FROM goflow.waiting", &[]).await.expect("a count").get(0);
    assert!(rows < 20, "{rows} rows for 297 jobs of three priorities");
    for nth in [250, 201, 200, 161] {
        line.remove(nth);
    }
    // It was there before all others of its priority.
    line.insert(0, stored(&*store, taken).await.job);
    line.sort_by_key(|job| -job.priority);
    let mut claimed = Vec::new();
    for _ in 0..10 {
        claimed.extend(claim(&*store, worker, 40).await);
    }
    assert!(ids(&claimed) == line.iter().map(|job| job.id).collect::<Vec<_>>(), "in the order of the line");
    verified(&*store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_work_with_a_limit_waits_for_the_lock_of_limits() {
    let cluster = Cluster::start();
    let store = open(&cluster).await;
    let worker = hired(&*store).await;
    let narrow = QueueSettings { concurrency: Some(1), ..QueueSettings::default() };
    store.set_queue(&name("narrow"), &narrow).await.expect("set");
    let line = put_all(&*store, 3).await;
    let (other, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    other.batch_execute("BEGIN; SELECT goflow.lock_limits()").await.expect("it is held");
    let both = || Some(wish(worker, &["narrow", "default"], 2));
    let soon = tokio::time::timeout(Duration::from_secs(10), exchange(&*store, vec![], both())).await;
    assert_eq!(ids(&soon.expect("nothing waits that has a limit").claimed), line[..2]);
    let limited = put(&*store, job_in("narrow", "noop")).await;
    let mut claiming = tokio::spawn({
        let store = store.clone();
        async move { exchange(&*store, vec![], Some(wish(worker, &["narrow", "default"], 5))).await.claimed }
    });
    let early = tokio::time::timeout(Duration::from_millis(500), &mut claiming).await;
    assert!(early.is_err(), "the limit was judged beside whoever holds the lock");
    other.batch_execute("ROLLBACK").await.expect("it is let go");
    assert_eq!(ids(&claiming.await.expect("a claim")), [limited, line[2]]);
    verified(&*store).await;
}
