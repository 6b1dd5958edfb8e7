//! The laws of schedules: a tick is one commit, whoever makes it.

use std::sync::Arc;

use goflow::domain::{Event, EventKind, Ms, Place, RunState};
use goflow::store::*;

use super::backends::Subject;
use super::looks::all_events;
use super::make::*;

fn change(from_rev: u64, next: Option<(Option<Ms>, &str)>) -> ScheduleCommit {
    ScheduleCommit {
        name: name("daily"),
        from_rev,
        next: next.map(|(due, body)| (due, body.as_bytes().to_vec())),
        jobs: vec![],
        runs: vec![],
        cancel: vec![],
        tell: vec![],
        events: vec![],
    }
}

async fn set(store: &dyn Store, commit: &ScheduleCommit) -> Option<EnqueueAnswer> {
    store.set_schedule(commit).await.expect("set_schedule")
}

async fn all(store: &dyn Store) -> Vec<ScheduleRecord> {
    let (now, schedules) = store.schedules().await.expect("schedules");
    assert!(now.0 > 0);
    schedules
}

pub async fn a_schedule_changes_by_who_saw_it(subject: &Subject) {
    let store = &*subject.store;
    let record =
        |rev, due, body: &str| ScheduleRecord { name: name("daily"), rev, due, body: body.as_bytes().to_vec() };
    assert_eq!(set(store, &change(1, Some((None, "no")))).await, None, "there is none");
    assert!(set(store, &change(0, Some((Some(Ms(5)), "one")))).await.is_some());
    assert_eq!(all(store).await, [record(1, Some(Ms(5)), "one")]);
    assert_eq!(set(store, &change(0, Some((None, "no")))).await, None, "there is one");
    assert!(set(store, &change(1, Some((None, "two")))).await.is_some());
    assert_eq!(set(store, &change(1, Some((None, "no")))).await, None, "it has changed");
    assert_eq!(all(store).await, [record(2, None, "two")]);
    let other = ScheduleCommit { name: name("a-first"), ..change(0, Some((None, "other"))) };
    assert!(set(store, &other).await.is_some());
    assert_eq!(all(store).await.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a-first", "daily"]);
    assert!(set(store, &change(2, None)).await.is_some());
    assert_eq!(all(store).await.len(), 1);
    assert!(set(store, &change(0, Some((None, "again")))).await.is_some());
}

pub async fn a_tick_is_one_commit(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    set(store, &change(0, Some((Some(Ms(5)), "one")))).await;
    let old = put(store, job()).await;
    assert_eq!(claim(store, worker, 1).await.len(), 1);
    let known = run_id();
    let enqueue = Enqueue {
        producer: producer(),
        sequence: 1,
        jobs: vec![],
        runs: vec![Effects::of(record(known, 1, RunState::Running)).into()],
    };
    store.enqueue(&enqueue).await.expect("enqueue");
    let (first, run) = (job(), run_id());
    let id = first.id;
    let tick = ScheduleCommit {
        jobs: vec![now(first.clone()), now(first)],
        runs: vec![
            Effects { jobs: vec![step_job(run, "one")], ..Effects::of(record(run, 1, RunState::Running)) }.into(),
        ],
        cancel: vec![old],
        tell: vec![(known, b"stop".to_vec())],
        events: vec![Event { data: Some("daily".into()), ..Event::new(EventKind::ScheduleTicked) }],
        ..change(1, Some((Some(Ms(9)), "two")))
    };
    let answer = set(store, &tick).await.expect("it is as it was");
    assert_eq!(answer.jobs, [Enqueued::Created, Enqueued::Exists]);
    assert_eq!(answer.runs, [Enqueued::Created]);
    assert_eq!(place(store, id).await, Place::Pending);
    assert!(store.run(run).await.expect("run").is_some());
    assert!(stored(store, old).await.asked);
    let dirty = store.take_dirty(9, std::time::Duration::ZERO).await.expect("take_dirty");
    assert_eq!(dirty.iter().map(|work| work.record.id).collect::<Vec<_>>(), [known]);
    let ticks = |events: Vec<Event>| events.into_iter().filter(|event| event.kind == EventKind::ScheduleTicked).count();
    assert_eq!(ticks(all_events(store).await), 1);
    // Sent again, because its answer was lost: nothing.
    assert_eq!(set(store, &tick).await, None);
    assert_eq!(ticks(all_events(store).await), 1);
}

pub async fn racing_schedulers_tick_once(subject: &Subject) {
    set(&*subject.store, &change(0, Some((Some(Ms(5)), "0")))).await;
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store: Arc<dyn Store> = subject.store.clone();
        racers.spawn(async move {
            let mut won = 0;
            for rev in 1..=20 {
                let tick = ScheduleCommit { jobs: vec![now(job())], ..change(rev, Some((None, "next"))) };
                won += usize::from(set(&*store, &tick).await.is_some());
            }
            won
        });
    }
    let won: usize = racers.join_all().await.into_iter().sum();
    assert_eq!(won as u64, all(&*subject.store).await[0].rev - 1);
    assert_eq!(ids(&*subject.store, Place::Pending).await.len(), won);
    assert!(won >= 5, "{won} ticks");
}
