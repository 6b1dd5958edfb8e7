//! The laws of limits: room in a queue, concurrency keys, permits, the time of a unique key, and what
//! a queue keeps.

use std::time::Duration;

use goflow::domain::job::Outcome;
use goflow::domain::{Concurrency, EventKind, Job, Place, QueueSettings, Retention, To};
use goflow::store::*;

use super::backends::Subject;
use super::looks::{all_events, stats};
use super::make::*;

const LONG: Duration = Duration::from_secs(600);

fn keyed(key: &str, limit: u32) -> Job {
    Job { concurrency: Some(Concurrency { key: key.into(), limit }), ..job() }
}

async fn set(store: &dyn Store, queue: &str, settings: QueueSettings) {
    store.set_queue(&name(queue), &settings).await.expect("settings are kept");
}

pub async fn a_queues_limit_holds_over_all_workers(subject: &Subject) {
    let store = &*subject.store;
    set(store, "default", QueueSettings { concurrency: Some(3), ..QueueSettings::default() }).await;
    enqueue(store, (0..10).map(|_| now(job())).collect()).await;
    enqueue(store, vec![now(job_in("other", "noop"))]).await;
    let (one, two) = (hired(store).await, hired(store).await);
    let first = claim(store, one, 2).await;
    let second = exchange(store, vec![], Some(wish(two, &["default", "other"], 9))).await.claimed;
    assert_eq!((first.len(), second.len()), (2, 2), "three of the queue, and one of the other");
    assert!(claim(store, one, 9).await.is_empty());
    assert_eq!(make(store, settle(&first[0], done())).await, Moved::Applied);
    assert_eq!(claim(store, two, 9).await.len(), 1);
    set(store, "default", QueueSettings::default()).await;
    assert_eq!(claim(store, two, 9).await.len(), 6);
}

pub async fn a_concurrency_key_lets_so_many_run(subject: &Subject) {
    let store = &*subject.store;
    let jobs = vec![keyed("k", 2), keyed("k", 2), keyed("k", 2), job(), keyed("other", 1), keyed("k", 2)];
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    enqueue(store, jobs.into_iter().map(now).collect()).await;
    let (one, two) = (hired(store).await, hired(store).await);
    let first = claim(store, one, 1).await;
    let second = claim(store, two, 9).await;
    let got: Vec<_> = first.iter().chain(&second).map(|claimed| claimed.job.id).collect();
    assert_eq!(got, [ids[0], ids[1], ids[3], ids[4]]);
    assert_eq!(place(store, ids[2]).await, Place::Blocked);
    assert_eq!(place(store, ids[5]).await, Place::Blocked);
    assert_eq!(stats(store, "default").await.pending, 2, "what is blocked is pending");
    assert!(claim(store, one, 9).await.is_empty());
    // However one ends: the next goes.
    assert_eq!(make(store, settle(&first[0], failed())).await, Moved::Applied);
    let third = claim_one(store, two).await;
    assert_eq!(third.job.id, ids[2]);
    assert!(claim(store, two, 9).await.is_empty());
    assert_eq!(make(store, settle(&second[0], done())).await, Moved::Applied);
    assert_eq!(claim_one(store, one).await.job.id, ids[5]);
}

pub async fn blocked_jobs_go_in_the_order_of_the_line(subject: &Subject) {
    let store = &*subject.store;
    let jobs: Vec<Job> = [0, 0, 0, 9].map(|priority| Job { priority, ..keyed("k", 1) }).into();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    let worker = hired(store).await;
    enqueue(store, jobs.into_iter().take(3).map(now).collect()).await;
    let mut held = claim_one(store, worker).await;
    assert_eq!(held.job.id, ids[0]);
    assert!(claim(store, worker, 9).await.is_empty());
    let last = Job { id: ids[3], priority: 9, ..keyed("k", 1) };
    put(store, last).await;
    assert!(claim(store, worker, 9).await.is_empty());
    for next in [ids[3], ids[1], ids[2]] {
        make(store, settle(&held, done())).await;
        held = claim_one(store, worker).await;
        assert_eq!(held.job.id, next);
    }
}

pub async fn a_key_spans_queues_and_forgets_nobody(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let jobs = ["a", "b", "c"].map(|queue| Job { queue: name(queue), ..keyed("k", 1) });
    let ids = jobs.clone().map(|job| job.id);
    enqueue(store, jobs.into_iter().map(now).collect()).await;
    let all = || Some(wish(worker, &["a", "b", "c"], 9));
    let first = exchange(store, vec![], all()).await.claimed;
    assert_eq!(first.len(), 1);
    // The next one is called up, and then taken out of the line: the one after it must go.
    make(store, settle(&first[0], done())).await;
    let second = stored(store, ids[1]).await;
    assert_eq!(second.place, Place::Pending);
    assert_eq!(make(store, idle(&second, To::Cancelled, EventKind::JobCancelled)).await, Moved::Applied);
    let third = exchange(store, vec![], all()).await.claimed;
    assert_eq!(third.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), [ids[2]]);
}

pub async fn a_blocked_job_can_be_cancelled(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let jobs = [keyed("k", 1), keyed("k", 1)];
    let ids = jobs.clone().map(|job| job.id);
    enqueue(store, jobs.into_iter().map(now).collect()).await;
    let first = claim(store, worker, 9).await;
    let blocked = stored(store, ids[1]).await;
    assert_eq!((first.len(), blocked.place), (1, Place::Blocked));
    assert_eq!(super::make::ids(store, Place::Blocked).await, [ids[1]]);
    assert_eq!(make(store, idle(&blocked, To::Cancelled, EventKind::JobCancelled)).await, Moved::Applied);
    assert_eq!(make(store, settle(&first[0], done())).await, Moved::Applied);
    assert!(claim(store, worker, 9).await.is_empty());
    assert_eq!(stats(store, "default").await.pending, 0);
}

pub async fn permits_are_spaced_evenly(subject: &Subject) {
    let store = &*subject.store;
    let request = |bucket: &str, rate: &str, count| PermitRequest {
        bucket: bucket.into(),
        rate: rate.parse().expect("a rate"),
        count,
    };
    let both = [request("type:mail", "1/m", 3), request("queue:a", "100/s", 64)];
    let answer = store.permits(&both).await.expect("permits");
    let near = |wait: Duration, seconds: u64| {
        let (at, least) = (wait.as_millis(), u128::from(seconds) * 1_000);
        assert!((least.saturating_sub(500)..=least).contains(&at), "{wait:?} is not {seconds} s");
    };
    for (nth, wait) in answer[0].iter().enumerate() {
        near(*wait, 60 * nth as u64);
    }
    assert_eq!(answer[1].len(), 64);
    assert!(answer[1].is_sorted());
    assert_eq!(answer[1].iter().filter(|wait| wait.is_zero()).count(), 5, "a twentieth at once");
    let last = answer[1][63].as_millis();
    assert!((570..=590).contains(&last), "{last} ms for 64 of 100 a second");
    // The next caller comes after them.
    let again = store.permits(&both[..1]).await.expect("permits");
    near(again[0][0], 180);
}

pub async fn a_unique_key_may_outlive_its_job(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let unique = |time| NewJob { unique_for: Some(time), ..NewJob::now(Job { unique_key: Some("k".into()), ..job() }) };
    let soon = Duration::from_millis(400);
    let first = unique(soon);
    let id = first.job.id;
    assert_eq!(enqueue(store, vec![first]).await, [Enqueued::Created]);
    let claimed = claim_one(store, worker).await;
    make(store, settle(&claimed, done())).await;
    assert_eq!(enqueue(store, vec![unique(soon)]).await, [Enqueued::Conflict(id)], "it ended, and the time goes on");
    subject.pass(soon * 2).await;
    let second = unique(soon);
    let next = second.job.id;
    assert_eq!(enqueue(store, vec![second]).await, [Enqueued::Created], "the time is over");
    subject.pass(soon * 2).await;
    assert_eq!(enqueue(store, vec![unique(soon)]).await, [Enqueued::Conflict(next)], "the time is over, and it lives");
}

pub async fn a_suspect_stays_apart_wherever_it_comes_from(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let crashed = || {
        let mut job = Job { retry: impatient(), ..job() };
        job.crashes.push(BIRTH);
        job
    };
    let alone = |queues: &[&str]| Claim { alone: true, ..wish(worker, queues, 9) };
    // By an enqueue, by a retry that is due, by coming out of a parking lot, by an operator.
    put(store, crashed()).await;
    let answer = exchange(store, vec![], Some(wish(worker, &["default"], 9))).await;
    assert!(answer.claimed.is_empty() && answer.suspects);
    let claimed = exchange(store, vec![], Some(alone(&["default"]))).await.claimed.remove(0);
    make(store, settle(&claimed, failed())).await;
    subject.pass(Duration::from_millis(50)).await;
    let answer = exchange(store, vec![], Some(wish(worker, &["default"], 9))).await;
    assert!(answer.claimed.is_empty() && answer.suspects, "a retry that is due");
    let claimed = exchange(store, vec![], Some(alone(&["default"]))).await.claimed.remove(0);
    make(store, settle(&claimed, Outcome::Unhandled)).await;
    beat(store, worker, LONG).await;
    let answer = exchange(store, vec![], Some(wish(worker, &["default"], 9))).await;
    assert!(answer.claimed.is_empty() && answer.suspects, "a type that is handled again");
    let waiting = stored(store, claimed.job.id).await;
    assert_eq!(waiting.place, Place::Suspect);
    assert_eq!(make(store, idle(&waiting, To::Front, EventKind::JobReleased)).await, Moved::Applied);
    assert_eq!(place(store, claimed.job.id).await, Place::Suspect);
}

pub async fn a_queue_keeps_what_it_says(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let retention = Some(Retention { age: LONG, count: 2 });
    set(store, "few", QueueSettings { retention, ..QueueSettings::default() }).await;
    for queue in ["few", "default"] {
        enqueue(store, (0..5).map(|_| now(job_in(queue, "noop"))).collect()).await;
        let claimed = exchange(store, vec![], Some(wish(worker, &[queue], 9))).await.claimed;
        for one in &claimed {
            make(store, settle(one, done())).await;
        }
    }
    let everything = Retention { age: LONG, count: 100 };
    let trimmed = store.trim(everything, 100).await.expect("trim");
    assert_eq!(trimmed.jobs, 3);
    assert_eq!((stats(store, "few").await.completed, stats(store, "default").await.completed), (2, 5));
}

pub async fn settings_come_back_as_they_went_in(subject: &Subject) {
    let store = &*subject.store;
    let settings = QueueSettings {
        paused: true,
        weight: Some(7),
        rate_limit: Some("5/m".parse().expect("a rate")),
        concurrency: Some(3),
        retention: Some(Retention { age: Duration::from_millis(1_500), count: 9 }),
    };
    set(store, "q", settings.clone()).await;
    assert_eq!(store.queues().await.expect("queues"), [(name("q"), settings.clone())]);
    set(store, "q", QueueSettings { paused: false, ..settings.clone() }).await;
    set(store, "q", QueueSettings { weight: None, paused: false, ..settings.clone() }).await;
    set(store, "q", QueueSettings { weight: None, paused: false, ..settings }).await;
    let kinds: Vec<_> = all_events(store).await.into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::QueuePaused, EventKind::QueueResumed, EventKind::QueueSet]);
}
