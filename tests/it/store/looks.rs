//! The laws of looking: lists, counters, events, definitions, hints, and what is kept for how long.

use std::time::Duration;

use goflow::domain::job::Outcome;
use goflow::domain::{Event, EventKind, Job, JobId, Json, Ms, Place, QueueStats, RetryPolicy, To};
use goflow::store::*;

use super::backends::Subject;
use super::make::*;

const LONG: Duration = Duration::from_secs(600);

pub async fn lists_are_paged_and_ordered(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let mut expected = Vec::new();
    for queue in ["a", "b"] {
        let jobs: Vec<_> = (0..7).map(|_| job_in(queue, "noop")).collect();
        expected.extend(jobs.iter().map(|job| job.id));
        enqueue(store, jobs.into_iter().map(now).collect()).await;
    }
    for budget in [1, 3, 7, 14, 2_000] {
        assert_eq!(pages(store, Place::Pending, None, budget).await, expected, "budget {budget}");
    }
    assert_eq!(pages(store, Place::Pending, Some("b"), 3).await, expected[7..]);
    assert_eq!(pages(store, Place::Pending, Some("nowhere"), 3).await, []);
    // Finished work: the latest first.
    let mut finished = Vec::new();
    for _ in 0..5 {
        let claimed = exchange(store, vec![], Some(wish(worker, &["a"], 1))).await.claimed.remove(0);
        make(store, settle(&claimed, done())).await;
        finished.insert(0, claimed.job.id);
        subject.pass(Duration::from_millis(3)).await;
    }
    assert_eq!(pages(store, Place::Completed, Some("a"), 2).await, finished);
    assert_eq!(pages(store, Place::Completed, None, 2).await, finished);
    let running = exchange(store, vec![], Some(wish(worker, &["b"], 3))).await.claimed;
    let running: Vec<_> = running.iter().map(|claimed| claimed.job.id).collect();
    assert_eq!(pages(store, Place::Running, None, 2).await, running);
    let foreign = ListQuery { place: Place::Dead, queue: None, after: Some(Cursor("what?".into())), budget: 1 };
    assert!(matches!(store.list(&foreign).await, Err(StoreError::Refused(_))));
}

async fn pages(store: &dyn Store, place: Place, queue: Option<&str>, budget: usize) -> Vec<JobId> {
    let mut query = ListQuery { place, queue: queue.map(name), after: None, budget };
    let mut got = Vec::new();
    loop {
        let page = store.list(&query).await.expect("list answers");
        assert!(page.items.len() <= budget);
        assert!(page.items.iter().all(|stored| stored.place == place));
        got.extend(page.items.into_iter().map(|stored| stored.job.id));
        query.after = page.next;
        if query.after.is_none() {
            return got;
        }
        assert!(got.len() < 10_000, "a list ends");
    }
}

pub async fn the_newest_are_told_by_their_birth(subject: &Subject) {
    let store = &*subject.store;
    assert_eq!(store.newest(None, 10).await.expect("newest"), Newest { ids: vec![], whole: true });
    let mut born = Vec::new();
    for nth in 0..40_u64 {
        // In places of all kinds, and each born at a time of its own.
        let queue = if nth.is_multiple_of(2) { "default" } else { "other" };
        let at = BIRTH.after(Duration::from_secs(nth));
        let id = JobId::from_parts(at, goflow::domain::Shard(0), 7 * nth);
        let job = Job { id, ..job_in(queue, "noop") };
        let new = if nth.is_multiple_of(3) { later(job, Duration::from_secs(3_600)) } else { now(job) };
        assert_eq!(enqueue(store, vec![new]).await, [Enqueued::Created]);
        born.push(id);
    }
    let worker = hired(store).await;
    let claimed = claim_one(store, worker).await;
    commit(store, alone(settle(&claimed, done()))).await;
    born.reverse();
    let newest = async |before, limit| store.newest(before, limit).await.expect("newest");
    let told = |ids: &[JobId], whole| Newest { ids: ids.to_vec(), whole };
    assert_eq!(newest(None, 100).await, told(&born, true));
    assert_eq!(newest(None, 3).await, told(&born[..3], false));
    assert_eq!(newest(Some(born[2]), 5).await, told(&born[3..8], false));
    assert_eq!(newest(Some(born[36]), 5).await, told(&born[37..], true));
    assert_eq!(newest(Some(born[39]), 5).await, told(&[], true));
}

pub async fn parts_of_ids_are_found(subject: &Subject) {
    let store = &*subject.store;
    let mine = put(store, job()).await;
    enqueue(store, (0..50).map(|_| now(job())).collect()).await;
    let hex = mine.to_string().replace('-', "");
    for part in [&hex[..], &hex[24..], &hex[19..31], &hex[21..]] {
        assert_eq!(store.find(part, 10).await.expect("find"), [mine], "{part}");
    }
    assert_eq!(store.find("ffffffffffff", 10).await.expect("find"), []);
    assert_eq!(store.find(&hex[..8], 20).await.expect("find").len(), 20, "the limit holds");
    assert_eq!(store.find("*", 10).await.expect("find"), [], "a part is no pattern");
}

pub async fn stats(store: &dyn Store, queue: &str) -> QueueStats {
    let all = store.stats().await.expect("stats answer");
    let mut found = all.into_iter().find(|stats| stats.name.as_str() == queue).expect("the queue is known");
    found.oldest_pending_ms = None;
    found
}

pub async fn counters_match_states(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    enqueue(store, (0..10).map(|_| now(job())).chain([later(job(), LONG), later(job(), LONG)]).collect()).await;
    let claimed = claim(store, worker, 7).await;
    make(store, settle(&claimed[0], done())).await;
    make(store, settle(&claimed[1], failed())).await;
    make(store, settle(&claimed[2], hopeless())).await;
    make(store, settle(&claimed[3], Outcome::Released)).await;
    make(store, settle(&claimed[4], Outcome::Unhandled)).await;
    let expected = QueueStats {
        scheduled: 2,
        pending: 5,
        running: 2,
        retrying: 1,
        dead: 1,
        completed: 1,
        parked: 1,
        ..QueueStats::empty(name("default"))
    };
    assert_eq!(stats(store, "default").await, expected);
    assert!(expected.is_busy());
    let oldest = store.stats().await.expect("stats")[0].oldest_pending_ms;
    assert!(oldest.is_some(), "the head of the line has an age");
}

pub async fn finished_work_is_trimmed_by_age_and_by_count(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    enqueue(store, (0..9).map(|_| now(job())).collect()).await;
    let mut order = Vec::new();
    for one in claim(store, worker, 8).await {
        let outcome = if order.len() == 7 { hopeless() } else { done() };
        make(store, settle(&one, outcome)).await;
        order.push(one.job.id);
        subject.pass(Duration::from_millis(3)).await;
    }
    let keep = |age, count| Retention { age, count };
    assert_eq!(store.trim(keep(LONG, 100), 1_000).await.expect("trim").jobs, 0);
    assert_eq!(store.trim(keep(LONG, 4), 2).await.expect("trim").jobs, 2, "the limit holds");
    assert_eq!(store.trim(keep(LONG, 4), 1_000).await.expect("trim").jobs, 1);
    let mut left: Vec<_> = order[3..7].to_vec();
    left.reverse();
    assert_eq!(ids(store, Place::Completed).await, left, "the oldest went first");
    let trims = all_events(store).await.into_iter().filter(|event| event.kind == EventKind::QueueTrimmed);
    assert_eq!(trims.count(), 2, "a trim is an event");
    subject.pass(Duration::from_millis(50)).await;
    assert_eq!(store.trim(keep(Duration::from_millis(20), 100), 1_000).await.expect("trim").jobs, 4);
    let counted = stats(store, "default").await;
    assert_eq!((counted.completed, counted.dead, counted.pending), (0, 1, 1), "only finished work is trimmed");
}

pub async fn all_events(store: &dyn Store) -> Vec<Event> {
    store.events(None, 100_000).await.expect("events answer").0
}

pub async fn events_are_read_once_and_in_order(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let (_, start) = store.events(None, 100_000).await.expect("events");
    let a = put(store, job()).await;
    let claimed = claim_one(store, worker).await;
    make(store, settle(&claimed, failed())).await;
    let waiting = stored(store, a).await;
    make(store, idle(&waiting, To::Cancelled, EventKind::JobCancelled)).await;
    let b = later(job(), LONG);
    let b_id = b.job.id;
    enqueue(store, vec![b]).await;
    let mut got = Vec::new();
    let mut cursor = start;
    loop {
        let (events, next) = store.events(Some(&cursor), 1).await.expect("events");
        if events.is_empty() {
            break;
        }
        assert!(events.iter().all(|event| event.at.0 > 0));
        got.extend(events.into_iter().map(|event| (event.kind, event.job)));
        cursor = next;
    }
    use EventKind::*;
    let expected = [(JobCreated, a), (JobStarted, a), (JobRetried, a), (JobCancelled, a), (JobScheduled, b_id)];
    assert_eq!(got, expected.map(|(kind, id)| (kind, Some(id))));
    // Each was a commit of its own, and before them a worker came.
    for records in 0..5 {
        let tail = store.tail(records).await.expect("tail").expect("more than those are kept");
        let (events, _) = store.events(Some(&tail), 100).await.expect("events");
        let of_jobs = events.into_iter().filter(|event| event.job.is_some());
        let kinds: Vec<_> = of_jobs.map(|event| (event.kind, event.job)).collect();
        assert_eq!(kinds, got[got.len() - records..]);
    }
    assert_eq!(store.tail(10_000).await.expect("tail"), None);
    let (nothing, same) = store.events(Some(&cursor), 10).await.expect("events");
    assert_eq!((nothing.len(), same), (0, cursor));
    let retried = all_events(store).await.into_iter().find(|event| event.kind == JobRetried).expect("logged");
    assert_eq!((retried.attempt, retried.worker.is_some()), (Some(1), false));
    assert_eq!(retried.data.as_deref(), Some("exit:1"));
}

pub async fn a_place_in_the_log_is_found_by_its_time(subject: &Subject) {
    let store = &*subject.store;
    assert_eq!(told_from(store, &store.since(Ms(0)).await.expect("a place")).await, []);
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(put(store, job()).await);
        subject.pass(Duration::from_millis(3)).await;
    }
    let log = all_events(store).await;
    let at = |id: JobId| log.iter().find(|event| event.job == Some(id)).expect("it is told").at;
    for (nth, id) in ids.iter().enumerate() {
        assert_eq!(told_from(store, &store.since(at(*id)).await.expect("a place")).await, ids[nth..], "{nth}");
        let behind = Ms(at(*id).0 + 1);
        assert_eq!(told_from(store, &store.since(behind).await.expect("a place")).await, ids[nth + 1..], "{nth}");
    }
    assert_eq!(told_from(store, &store.since(Ms(0)).await.expect("a place")).await, ids);
    let end = store.since(Ms(at(ids[39]).0 + 3_600_000)).await.expect("a place");
    assert_eq!(told_from(store, &end).await, []);
    let last = put(store, job()).await;
    assert_eq!(told_from(store, &end).await, [last], "what comes after the end is read from there");
}

async fn told_from(store: &dyn Store, place: &Cursor) -> Vec<JobId> {
    let (events, _) = store.events(Some(place), 100_000).await.expect("events");
    events.into_iter().filter(|event| event.kind == EventKind::JobCreated).filter_map(|event| event.job).collect()
}

pub async fn definitions_are_kept_by_hash_and_by_name(subject: &Subject) {
    let store = &*subject.store;
    let definition = |kind: &str, of: &str, hash: &str| Definition {
        kind: kind.into(),
        name: name(of),
        hash: hash.into(),
        text: format!("text of {hash}"),
    };
    let first = [definition("workflow", "b", "1"), definition("workflow", "a", "2"), definition("handler", "a", "3")];
    store.define(&first).await.expect("define");
    store.define(&[definition("workflow", "a", "4")]).await.expect("define");
    store.define(&[definition("workflow", "a", "4")]).await.expect("define again");
    let workflows = store.definitions("workflow").await.expect("definitions");
    assert_eq!(workflows, [definition("workflow", "a", "4"), definition("workflow", "b", "1")]);
    assert_eq!(store.definition("2").await.expect("definition"), Some(definition("workflow", "a", "2")));
    assert_eq!(store.definition("9").await.expect("definition"), None);
    assert_eq!(store.definitions("nothing").await.expect("definitions"), []);
}

pub async fn hints_follow_new_work(subject: &Subject) {
    let store = &*subject.store;
    let mut hints = store.hints();
    // A hint may be lost while a subscription is being made: new work goes on coming, as in life.
    for _ in 0..200 {
        hints.borrow_and_update();
        put(store, job()).await;
        if tokio::time::timeout(Duration::from_millis(100), hints.changed()).await.is_ok() {
            // Who comes with the number of before learns that there was one in between.
            assert!(*store.hints().borrow() >= *hints.borrow(), "a number means the same for all who ask");
            return;
        }
    }
    panic!("no hint came");
}

pub async fn records_come_back_as_they_went_in(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let mut job = job_in("q.1:x-y", "send_email");
    job.payload = Json::parse("{\"text\": \"$(id) \\u001b[31m \u{202e} \\u0000 ${{ 7*7 }}\"}", 1_000).expect("JSON");
    job.priority = -100;
    job.retry = RetryPolicy { max: 0, errors: vec!["timeout".into()], ..impatient() };
    job.timeout_ms = Some(90_000);
    job.unique_key = Some("schlüssel\u{0}\n".into());
    job.metadata = [("a".to_owned(), "b".to_owned())].into();
    let id = put(store, job.clone()).await;
    assert_eq!(stored(store, id).await.job, job);
    let claimed = exchange(store, vec![], Some(wish(worker, &["q.1:x-y"], 1))).await.claimed.remove(0);
    assert_eq!(claimed.job, job);
    let settled = settle(&claimed, hopeless());
    make(store, settled.clone()).await;
    let dead = stored(store, id).await;
    assert_eq!((dead.job, dead.place, dead.lease), (settled.job, Place::Dead, None));
}
