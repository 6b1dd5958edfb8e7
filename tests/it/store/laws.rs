//! The laws of jobs. Each is a question to the store and the only right answer.

use std::collections::BTreeSet;
use std::time::Duration;

use goflow::domain::job::Outcome;
use goflow::domain::{Epoch, EventKind, JobId, Place, QueueSettings, QueueStats, RetryPolicy, To};
use goflow::store::*;

use super::backends::Subject;
use super::looks::{all_events, stats};
use super::make::*;

const LONG: Duration = Duration::from_secs(600);

pub async fn claims_follow_priority_then_turn(subject: &Subject) {
    let store = &*subject.store;
    let jobs = [0, -5, 100, 0, 7, -5, 100, 0].map(with_priority);
    let order = [2, 6, 4, 0, 3, 7, 1, 5].map(|place: usize| jobs[place].id);
    enqueue(store, jobs.into_iter().map(now).collect()).await;
    let worker = hired(store).await;
    let mut got = Vec::new();
    for want in [1, 3, 2, 5] {
        got.extend(claim(store, worker, want).await.into_iter().map(|claimed| claimed.job.id));
    }
    assert_eq!(got, order);
    assert!(claim(store, worker, 9).await.is_empty());
}

pub async fn queues_are_served_in_the_order_asked(subject: &Subject) {
    let store = &*subject.store;
    for queue in ["a", "b", "c"] {
        enqueue(store, (0..3).map(|_| now(job_in(queue, "noop"))).collect()).await;
    }
    let worker = hired(store).await;
    let claimed = exchange(store, vec![], Some(wish(worker, &["b", "nowhere", "a"], 5))).await.claimed;
    let queues: Vec<_> = claimed.iter().map(|claimed| claimed.job.queue.as_str()).collect();
    assert_eq!(queues, ["b", "b", "b", "a", "a"]);
    let names: Vec<_> = store.queues().await.expect("queues").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "c"].map(name));
}

pub async fn a_queue_that_is_asked_twice_gives_each_job_once(subject: &Subject) {
    let store = &*subject.store;
    enqueue(store, (0..5).map(|_| now(job())).collect()).await;
    let worker = hired(store).await;
    let claimed = exchange(store, vec![], Some(wish(worker, &["default", "other", "default"], 9))).await.claimed;
    let ids: BTreeSet<JobId> = claimed.iter().map(|one| one.job.id).collect();
    assert_eq!((claimed.len(), ids.len()), (5, 5));
    for one in &claimed {
        assert_eq!(make(store, settle(one, done())).await, Moved::Applied);
    }
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

pub async fn commits_of_all_kinds_are_answered_in_their_order(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let jobs = [job(), job_with_key("a"), job(), job(), job(), job_with_key("b"), job()];
    let ids = jobs.clone().map(|job| job.id);
    enqueue(store, jobs.into_iter().map(now).collect()).await;
    let claimed = claim(store, worker, 9).await;
    let lease = |nth: usize| claimed.iter().find(|one| one.job.id == ids[nth]).expect("all are claimed");
    let late = Epoch(lease(2).epoch.0 + 1_000);
    let moves = vec![
        settle(lease(0), done()),
        settle(lease(1), done()),
        settle_at(lease(2), late, done()),
        settle(lease(3), failed()),
        settle(lease(4), Outcome::Released),
        settle(lease(5), hopeless()),
        settle(lease(6), done()),
        settle(lease(6), hopeless()),
    ];
    let answer = exchange(store, moves.into_iter().map(alone).collect(), None).await;
    let moved: Vec<Moved> = answer.commits.into_iter().flat_map(|one| one.moves).collect();
    let (yes, no) = (Moved::Applied, Moved::Stale);
    assert_eq!(moved, [yes, yes, no, yes, yes, yes, yes, no]);
    let mut places = Vec::new();
    for id in ids {
        places.push(place(store, id).await);
    }
    let (completed, running) = (Place::Completed, Place::Running);
    assert_eq!(places, [completed, completed, running, Place::Retrying, Place::Pending, Place::Dead, completed]);
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

pub async fn a_batch_sent_again_is_one_batch(subject: &Subject) {
    let store = &*subject.store;
    let taken = job_with_key("k");
    let holder = put(store, taken).await;
    let batch = |sequence, jobs| Enqueue { producer: producer(), sequence, jobs, runs: vec![] };
    let first = batch(7, vec![now(job()), now(job_with_key("k")), now(job())]);
    let answer = store.enqueue(&first).await.expect("enqueue answers");
    assert_eq!(answer.jobs, [Enqueued::Created, Enqueued::Conflict(holder), Enqueued::Created]);
    let again = store.enqueue(&first).await.expect("enqueue answers");
    assert_eq!(again, answer);
    assert_eq!(stats(store, "default").await.pending, 3);

    let older = Enqueue { sequence: 6, ..first.clone() };
    assert!(matches!(store.enqueue(&older).await, Err(StoreError::Refused(_))));
    let next = Enqueue { sequence: 8, jobs: vec![now(job())], ..first };
    assert_eq!(store.enqueue(&next).await.expect("enqueue answers").jobs, [Enqueued::Created]);
}

pub async fn an_id_is_kept_once(subject: &Subject) {
    let store = &*subject.store;
    let job = job();
    put(store, job.clone()).await;
    assert_eq!(enqueue(store, vec![now(job.clone())]).await, [Enqueued::Exists]);
    let worker = hired(store).await;
    let claimed = claim_one(store, worker).await;
    assert_eq!(make(store, settle(&claimed, done())).await, Moved::Applied);
    assert_eq!(enqueue(store, vec![now(job)]).await, [Enqueued::Exists], "a finished job keeps its id");
}

fn job_with_key(key: &str) -> goflow::domain::Job {
    goflow::domain::Job { unique_key: Some(key.into()), ..job() }
}

pub async fn a_unique_key_has_one_live_job(subject: &Subject) {
    let store = &*subject.store;
    let both = vec![now(job_with_key("k")), now(job_with_key("k"))];
    let first = both[0].job.id;
    assert_eq!(enqueue(store, both).await, [Enqueued::Created, Enqueued::Conflict(first)]);
    let worker = hired(store).await;
    let claimed = claim_one(store, worker).await;
    assert_eq!(enqueue(store, vec![now(job_with_key("k"))]).await, [Enqueued::Conflict(first)]);
    // Waiting for a retry is living.
    make(store, settle(&claimed, failed())).await;
    assert_eq!(enqueue(store, vec![now(job_with_key("k"))]).await, [Enqueued::Conflict(first)]);
    // Dead is not: the key is free, and then the dead one cannot come back.
    let waiting = stored(store, first).await;
    assert_eq!(make(store, idle(&waiting, To::Dead, EventKind::JobDead)).await, Moved::Applied);
    let second = put(store, job_with_key("k")).await;
    let dead = stored(store, first).await;
    assert_eq!(make(store, idle(&dead, To::Pending, EventKind::JobRequeued)).await, Moved::Conflict(second));
    assert_eq!(place(store, first).await, Place::Dead);
    let claimed = claim_one(store, worker).await;
    assert_eq!(claimed.job.id, second);
    make(store, settle(&claimed, done())).await;
    assert_eq!(make(store, idle(&dead, To::Pending, EventKind::JobRequeued)).await, Moved::Applied);
    assert_eq!(enqueue(store, vec![now(job_with_key("k"))]).await, [Enqueued::Conflict(first)]);
}

pub async fn delayed_work_is_never_early(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let soon = Duration::from_millis(300);
    let jobs = vec![later(job(), soon * 2), later(job(), soon), later(job(), LONG)];
    let order = [jobs[1].job.id, jobs[0].job.id];
    enqueue(store, jobs).await;
    let early = exchange(store, vec![], Some(wish(worker, &["default"], 9))).await;
    assert!(early.claimed.is_empty());
    let due = early.next_due.expect("something is due");
    assert!(due > early.now && due <= early.now.after(soon), "{due} after {}", early.now);
    assert_eq!(stats(store, "default").await.scheduled, 3);
    subject.pass(soon * 3).await;
    let got: Vec<_> = claim(store, worker, 9).await.into_iter().map(|claimed| claimed.job.id).collect();
    assert_eq!(got, order);

    // A past time means now.
    let past = NewJob { start: Start::At(goflow::domain::Ms(1)), ..NewJob::now(job()) };
    enqueue(store, vec![past]).await;
    assert_eq!(claim(store, worker, 9).await.len(), 1);
}

pub async fn a_stale_epoch_changes_nothing(subject: &Subject) {
    let store = &*subject.store;
    put(store, job()).await;
    let worker = hired(store).await;
    let first = claim_one(store, worker).await;
    assert_eq!(make(store, settle(&first, Outcome::Released)).await, Moved::Applied);
    assert_eq!(make(store, settle(&first, done())).await, Moved::Stale, "settled once already");
    let second = claim_one(store, worker).await;
    assert_eq!(second.job.id, first.job.id);
    let before = stored(store, first.job.id).await;
    for outcome in [done(), failed(), hopeless(), Outcome::Released, Outcome::Crashed, Outcome::Unhandled] {
        assert_eq!(make(store, settle(&first, outcome)).await, Moved::Stale);
    }
    assert_eq!(stored(store, first.job.id).await, before);
    assert_eq!(make(store, settle(&second, done())).await, Moved::Applied);
    assert_eq!(make(store, settle(&second, done())).await, Moved::Stale);
    let unknown = Claimed { job: job(), ..second };
    assert_eq!(make(store, settle(&unknown, done())).await, Moved::Stale);
}

pub async fn epochs_rise_with_every_claim(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    enqueue(store, (0..100).map(|_| now(job())).collect()).await;
    let mut last = goflow::domain::Epoch(0);
    for _ in 0..4 {
        let claimed = claim(store, worker, 40).await;
        for one in &claimed {
            assert!(one.epoch > last, "{} after {last}", one.epoch);
            last = one.epoch;
        }
        let back = claimed.iter().map(|one| alone(settle(one, Outcome::Released))).collect();
        exchange(store, back, None).await;
    }
}

fn lapse(stored: &Stored) -> Move {
    let lease = stored.lease.clone().expect("a running job has a lease");
    let settled = stored.job.clone().settle(Outcome::Crashed, stored.at, 0.5);
    Move { expect: Expect::Lapsed(lease.epoch), to: settled.to, job: settled.job, event: settled.event }
}

async fn overdue(store: &dyn Store) -> Overdue {
    store.overdue(LONG, 100).await.expect("overdue answers")
}

pub async fn a_silent_worker_loses_its_leases(subject: &Subject) {
    let store = &*subject.store;
    let worker = worker();
    let lease = Duration::from_millis(400);
    beat(store, worker, lease).await;
    let id = put(store, job()).await;
    let claimed = claim_one(store, worker).await;
    assert!(overdue(store).await.lapsed.is_empty());
    let live = stored(store, id).await;
    assert_eq!(live.lease.as_ref().map(|lease| (lease.worker, lease.epoch)), Some((worker, claimed.epoch)));
    assert_eq!(make(store, lapse(&live)).await, Moved::Stale, "nobody takes a lease that holds");
    subject.pass(lease * 2).await;
    let lapsed = overdue(store).await.lapsed;
    assert_eq!(lapsed.iter().map(|stored| stored.job.id).collect::<Vec<_>>(), [id]);
    assert_eq!(make(store, lapse(&lapsed[0])).await, Moved::Applied);
    assert_eq!(make(store, lapse(&lapsed[0])).await, Moved::Stale, "another reaper came first");
    assert_eq!(make(store, settle(&claimed, done())).await, Moved::Stale, "the lease is gone");
    assert_eq!(place(store, id).await, Place::Suspect);
    assert!(store.workers().await.expect("workers").is_empty());
}

pub async fn a_late_lease_may_settle_until_it_is_reaped(subject: &Subject) {
    let store = &*subject.store;
    let worker = worker();
    beat(store, worker, Duration::from_millis(100)).await;
    let id = put(store, job()).await;
    let claimed = claim_one(store, worker).await;
    subject.pass(Duration::from_millis(300)).await;
    assert_eq!(overdue(store).await.lapsed.len(), 1);
    assert_eq!(make(store, settle(&claimed, done())).await, Moved::Applied);
    assert_eq!(place(store, id).await, Place::Completed);
    assert!(overdue(store).await.lapsed.is_empty());
}

pub async fn a_heartbeat_tells_and_prolongs_leases(subject: &Subject) {
    let store = &*subject.store;
    let (one, other) = (worker(), worker());
    let lease = Duration::from_millis(500);
    beat(store, other, LONG).await;
    assert_eq!(beat(store, one, lease).await.held, []);
    enqueue(store, (0..3).map(|_| now(job())).collect()).await;
    let claimed = claim(store, one, 2).await;
    claim(store, other, 1).await;
    let held: BTreeSet<_> = claimed.iter().map(|claimed| (claimed.job.id, claimed.epoch)).collect();
    for _ in 0..4 {
        subject.pass(lease / 2).await;
        let beat = beat(store, one, lease).await;
        assert_eq!(beat.held.into_iter().collect::<BTreeSet<_>>(), held);
        assert!(overdue(store).await.lapsed.is_empty());
    }
    let workers = store.workers().await.expect("workers");
    assert_eq!(workers.iter().map(|status| status.running).sum::<u64>(), 3);
    assert_eq!(workers.len(), 2);
    make(store, settle(&claimed[0], done())).await;
    assert_eq!(beat(store, one, lease).await.held, [(claimed[1].job.id, claimed[1].epoch)]);
}

pub async fn a_job_past_its_own_expiry_lapses(subject: &Subject) {
    let store = &*subject.store;
    if subject.is_real() {
        // The grace of fifteen seconds is not waited for in real time; the rule is the same code
        // path as a silent worker's, and the reference store proves the arithmetic.
        let worker = hired(store).await;
        put(store, goflow::domain::Job { timeout_ms: Some(1), ..job() }).await;
        claim_one(store, worker).await;
        assert!(overdue(store).await.lapsed.is_empty(), "the grace has not passed");
        return;
    }
    let worker = worker();
    beat(store, worker, LONG).await;
    let id = put(store, goflow::domain::Job { timeout_ms: Some(1_000), ..job() }).await;
    claim_one(store, worker).await;
    subject.pass(Duration::from_secs(15)).await;
    assert!(overdue(store).await.lapsed.is_empty());
    subject.pass(Duration::from_secs(2)).await;
    let lapsed = overdue(store).await.lapsed;
    assert_eq!(lapsed.iter().map(|stored| stored.job.id).collect::<Vec<_>>(), [id]);
    assert_eq!(make(store, lapse(&lapsed[0])).await, Moved::Applied);
}

pub async fn farewell_ends_all_leases(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    put(store, job()).await;
    claim_one(store, worker).await;
    store.farewell(worker).await.expect("farewell");
    store.farewell(worker).await.expect("farewell twice");
    assert_eq!(overdue(store).await.lapsed.len(), 1);
    assert!(store.workers().await.expect("workers").is_empty());
}

pub async fn suspects_are_leased_alone(subject: &Subject) {
    let store = &*subject.store;
    let gone = worker();
    beat(store, gone, Duration::from_millis(100)).await;
    enqueue(store, (0..2).map(|_| now(job())).collect()).await;
    claim(store, gone, 2).await;
    store.farewell(gone).await.expect("farewell");
    for stored in overdue(store).await.lapsed {
        assert_eq!(make(store, lapse(&stored)).await, Moved::Applied);
    }
    let bystander = put(store, with_priority(50)).await;
    assert_eq!(stats(store, "default").await.pending, 3);
    let worker = hired(store).await;
    let busy = exchange(store, vec![], Some(wish(worker, &["default"], 9))).await;
    assert_eq!(busy.claimed.iter().map(|one| one.job.id).collect::<Vec<_>>(), [bystander]);
    assert!(busy.suspects, "the worker is told that suspects wait");
    let free = Claim { alone: true, ..wish(worker, &["default"], 9) };
    for left in [true, false] {
        let lone = exchange(store, vec![], Some(free.clone())).await;
        assert_eq!(lone.claimed.len(), 1, "one suspect, and nothing beside it");
        assert_eq!(lone.claimed[0].job.crashes.len(), 1);
        assert_eq!(lone.suspects, left);
        assert_eq!(make(store, settle(&lone.claimed[0], done())).await, Moved::Applied);
    }
}

pub async fn unknown_types_are_parked_until_a_worker_announces_them(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let exotic: Vec<_> = (0..2).map(|_| job_in("default", "exotic")).collect();
    let other = job_in("default", "other");
    let order: Vec<_> = exotic.iter().map(|job| job.id).collect();
    for job in exotic.into_iter().chain([other.clone()]) {
        put(store, job).await;
        let claimed = claim_one(store, worker).await;
        assert_eq!(make(store, settle(&claimed, Outcome::Unhandled)).await, Moved::Applied);
        subject.pass(Duration::from_millis(5)).await;
    }
    assert!(claim(store, worker, 9).await.is_empty());
    let counted = stats(store, "default").await;
    assert_eq!((counted.pending, counted.parked), (3, 3));
    assert!(store.overdue(LONG, 9).await.expect("overdue").unhandled.is_empty());
    let waiting = put(store, job()).await;

    let expert = Heartbeat { info: info(hired(store).await, &["exotic"]), lease: LONG };
    store.heartbeat(&expert).await.expect("heartbeat");
    let got: Vec<_> = claim(store, expert.info.id, 9).await.into_iter().map(|claimed| claimed.job.id).collect();
    assert_eq!(got, [order[0], order[1], waiting], "they come back to the head, in their order");

    subject.pass(Duration::from_millis(50)).await;
    let unhandled = store.overdue(Duration::from_millis(20), 9).await.expect("overdue").unhandled;
    assert_eq!(unhandled.iter().map(|stored| stored.job.id).collect::<Vec<_>>(), [other.id]);
    let buried = unhandled[0].job.clone().bury_unhandled(unhandled[0].at);
    let expect = Expect::Idle(Place::Parked, unhandled[0].job.rev);
    let step = Move { expect, to: buried.to, job: buried.job, event: buried.event };
    assert_eq!(make(store, step).await, Moved::Applied);
    let dead = stored(store, other.id).await;
    assert_eq!((dead.place, dead.job.error.expect("an error").class), (Place::Dead, "no_handler".to_owned()));
}

pub async fn what_is_given_back_is_first_again(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let mut jobs = [0, 0, 0, 9].map(with_priority);
    enqueue(store, jobs.iter().cloned().map(now).collect()).await;
    let claimed = claim(store, worker, 3).await;
    // Given back last, claimed first: a worker gives back in reverse to keep the order.
    for one in claimed.iter().rev() {
        make(store, settle(one, Outcome::Released)).await;
    }
    let got: Vec<_> = claim(store, worker, 9).await.into_iter().map(|claimed| claimed.job.id).collect();
    jobs.rotate_right(1);
    assert_eq!(got, jobs.map(|job| job.id));
}

pub async fn a_paused_queue_gives_nothing(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    store
        .set_queue(&name("default"), &QueueSettings { paused: true, ..QueueSettings::default() })
        .await
        .expect("pause");
    put(store, job()).await;
    assert!(claim(store, worker, 9).await.is_empty());
    assert!(stats(store, "default").await.paused);
    store.set_queue(&name("default"), &QueueSettings::default()).await.expect("resume");
    assert_eq!(claim(store, worker, 9).await.len(), 1);
    let kinds: Vec<_> = all_events(store).await.into_iter().map(|event| event.kind).collect();
    assert!(kinds.contains(&EventKind::QueuePaused) && kinds.contains(&EventKind::QueueResumed));
}

pub async fn an_operator_moves_only_what_it_saw(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let id = put(store, job()).await;
    let waiting = stored(store, id).await;
    let claimed = claim_one(store, worker).await;
    assert_eq!(make(store, idle(&waiting, To::Cancelled, EventKind::JobCancelled)).await, Moved::Stale);
    make(store, settle(&claimed, hopeless())).await;
    let dead = stored(store, id).await;
    assert_eq!(make(store, idle(&dead, To::Pending, EventKind::JobRequeued)).await, Moved::Applied);
    assert_eq!(make(store, idle(&dead, To::Pending, EventKind::JobRequeued)).await, Moved::Stale);
    let again = claim_one(store, worker).await;
    assert_eq!(again.job.id, id);
    make(store, settle(&again, hopeless())).await;
    assert_eq!(make(store, idle(&dead, To::Pending, EventKind::JobRequeued)).await, Moved::Stale, "another death");
}

pub async fn every_place_can_be_left_by_an_operator(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let exotic = job_in("default", "exotic");
    enqueue(store, vec![later(job(), LONG), now(with_priority(9)), now(job()), now(exotic), now(job()), now(job())])
        .await;
    let claimed = claim(store, worker, 4).await;
    let mut retrying = claimed[0].clone();
    retrying.job.retry = RetryPolicy { initial_ms: 600_000, ..RetryPolicy::default() };
    make(store, settle(&retrying, failed())).await;
    make(store, settle(&claimed[1], hopeless())).await;
    make(store, settle(&claimed[2], Outcome::Unhandled)).await;
    make(store, settle(&claimed[3], Outcome::Crashed)).await;
    put(store, with_priority(9)).await;
    let mut cancelled = 0;
    let live = [Place::Scheduled, Place::Retrying, Place::Parked, Place::Suspect, Place::Pending, Place::Dead];
    for from in live {
        for id in ids(store, from).await {
            let before = stored(store, id).await;
            assert_eq!(before.place, from);
            assert_eq!(
                make(store, idle(&before, To::Cancelled, EventKind::JobCancelled)).await,
                Moved::Applied,
                "{from:?}"
            );
            cancelled += 1;
        }
        assert_eq!(ids(store, from).await, [], "{from:?}");
    }
    assert_eq!(cancelled, 7);
    assert_eq!(ids(store, Place::Cancelled).await.len(), 7);
    let free = Claim { alone: true, ..wish(worker, &["default"], 9) };
    assert!(exchange(store, vec![], Some(free)).await.claimed.is_empty(), "nothing cancelled is given out");
}

pub async fn a_deleted_job_is_gone(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let doomed = put(store, job_with_key("k")).await;
    let waiting = stored(store, doomed).await;
    assert_eq!(make(store, idle(&waiting, To::Gone, EventKind::JobDeleted)).await, Moved::Applied);
    assert_eq!(store.get(&[doomed]).await.expect("get"), [None]);
    assert!(claim(store, worker, 9).await.is_empty());
    put(store, job_with_key("k")).await;
    let done_id = claim_one(store, worker).await;
    make(store, settle(&done_id, done())).await;
    let finished = stored(store, done_id.job.id).await;
    assert_eq!(make(store, idle(&finished, To::Gone, EventKind::JobDeleted)).await, Moved::Applied);
    assert_eq!(stats(store, "default").await, QueueStats::empty(name("default")));
}

pub async fn racing_claimers_never_share_a_job(subject: &Subject) {
    let store = &subject.store;
    let total = 800;
    for _ in 0..4 {
        enqueue(&**store, (0..total / 4).map(|_| now(job())).collect()).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            let worker = hired(&*store).await;
            let mut mine = Vec::new();
            let mut settles = Vec::new();
            loop {
                let answer = exchange(&*store, std::mem::take(&mut settles), Some(wish(worker, &["default"], 7))).await;
                assert!(answer.commits.iter().all(|one| one.moves == [Moved::Applied]));
                if answer.claimed.is_empty() {
                    return mine;
                }
                for one in answer.claimed {
                    settles.push(alone(settle(&one, done())));
                    mine.push(one.job.id);
                }
            }
        });
    }
    let all: Vec<JobId> = tasks.join_all().await.concat();
    assert_eq!(all.len(), total);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), total);
    assert_eq!(stats(&**store, "default").await.completed, total as u64);
}

pub async fn racing_producers_share_one_unique_key(subject: &Subject) {
    let store = &subject.store;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move { enqueue(&*store, vec![now(job_with_key("only"))]).await.remove(0) });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| **answer == Enqueued::Created).count(), 1, "{answers:?}");
    assert_eq!(stats(&**store, "default").await.pending, 1);
}
