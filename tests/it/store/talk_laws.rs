//! The laws of what is said to and by running jobs: asks, notes, drains, and the end of parents.

use std::time::Duration;

use goflow::domain::job::Outcome;
use goflow::domain::limits::{LOG_BYTES, LOG_BYTES_REDIS};
use goflow::domain::{Epoch, EventKind, Job, JobId, JobState, Place, Progress, To};
use goflow::store::*;

use super::backends::Subject;
use super::looks::all_events;
use super::make::*;

const LONG: Duration = Duration::from_secs(600);

async fn asked(store: &dyn Store, worker: goflow::domain::WorkerId) -> Vec<JobId> {
    let mut ids: Vec<_> = store.asked(worker, 100).await.expect("asked").into_iter().map(|one| one.job.id).collect();
    ids.sort();
    ids
}

fn sorted(mut ids: Vec<JobId>) -> Vec<JobId> {
    ids.sort();
    ids
}

pub async fn who_can_end_a_job_is_told(subject: &Subject) {
    let store = &*subject.store;
    let (one, two) = (hired(store).await, worker());
    let short = Duration::from_millis(400);
    beat(store, two, short).await;
    let ids: Vec<_> = [put(store, job()).await, put(store, job()).await, put(store, job()).await].into();
    let mine = claim_one(store, one).await;
    let other = claim_one(store, two).await;
    assert!(!exchange(store, vec![], None).await.asked);
    let all = [ids.clone(), vec![job_id()]].concat();
    assert_eq!(store.ask(&all).await.expect("ask"), [true, true, true, false]);
    assert_eq!(store.ask(&ids[..1]).await.expect("ask"), [true], "asking twice is asking once");
    assert!(exchange(store, vec![], None).await.asked);
    assert_eq!(asked(store, one).await, sorted(vec![mine.job.id, ids[2]]), "its own, and the idle one");
    assert_eq!(asked(store, two).await, sorted(vec![other.job.id, ids[2]]));
    assert!(stored(store, ids[2]).await.asked);
    subject.pass(short * 2).await;
    assert_eq!(asked(store, one).await, sorted(ids), "what has lapsed anybody can end");
}

pub async fn an_end_takes_the_mark_away(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    for outcome in [done(), hopeless(), Outcome::Cancelled { reason: "asked".into() }] {
        let id = put(store, job()).await;
        let claimed = claim_one(store, worker).await;
        store.ask(&[id]).await.expect("ask");
        make(store, settle(&claimed, outcome)).await;
        assert!(!exchange(store, vec![], None).await.asked);
        assert!(!stored(store, id).await.asked);
        assert_eq!(store.ask(&[id]).await.expect("ask"), [false], "it has ended");
    }
    // Going back to a line is no end.
    let id = put(store, job()).await;
    let claimed = claim_one(store, worker).await;
    store.ask(&[id]).await.expect("ask");
    make(store, settle(&claimed, Outcome::Released)).await;
    assert_eq!(asked(store, worker).await, [id]);
    let waiting = stored(store, id).await;
    make(store, idle(&waiting, To::Gone, EventKind::JobDeleted)).await;
    assert!(!exchange(store, vec![], None).await.asked);
}

fn note(claimed: &Claimed, log: &str) -> Note {
    Note { id: claimed.job.id, epoch: claimed.epoch, progress: None, log: log.into() }
}

pub async fn notes_need_the_lease(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let id = put(store, job()).await;
    let first = claim_one(store, worker).await;
    let half = Progress { percent: Some(50.0), message: "half way".into() };
    let told = Note { progress: Some(half.clone()), ..note(&first, "one\n") };
    let wrong = Note { epoch: Epoch(first.epoch.0 + 1), ..note(&first, "no\n") };
    assert_eq!(store.note(&[told, wrong, note(&first, "two\n")]).await.expect("note"), [true, false, true]);
    assert_eq!(stored(store, id).await.progress, Some(half));
    make(store, settle(&first, Outcome::Released)).await;
    assert_eq!(store.note(&[note(&first, "late\n")]).await.expect("note"), [false]);
    assert_eq!(stored(store, id).await.progress, None, "progress is of a lease");
    let second = claim_one(store, worker).await;
    store.note(&[note(&second, "three\n")]).await.expect("note");
    let log = store.log(id, 0).await.expect("log");
    let lines: Vec<_> = log.chunks.iter().map(|chunk| (chunk.epoch, chunk.text.as_str())).collect();
    assert_eq!(lines, [(first.epoch, "one\n"), (first.epoch, "two\n"), (second.epoch, "three\n")]);
    assert!(!log.truncated && log.chunks.is_sorted_by_key(|chunk| chunk.seq));
    let rest = store.log(id, log.chunks[1].seq).await.expect("log");
    assert_eq!(rest.chunks, log.chunks[2..]);
    assert_eq!(store.log(job_id(), 0).await.expect("log"), JobLog::default());
    let told: Vec<_> =
        all_events(store).await.into_iter().filter(|event| event.kind == EventKind::JobProgress).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].job, told[0].data.as_deref()), (Some(id), Some("50% half way")));
}

pub async fn logs_are_bounded_and_told(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let id = put(store, job()).await;
    let claimed = claim_one(store, worker).await;
    let chunk = "x".repeat(40 << 10);
    for nth in 0..30 {
        store.note(&[note(&claimed, &format!("{nth} {chunk}"))]).await.expect("note");
    }
    let log = store.log(id, 0).await.expect("log");
    let bytes: usize = log.chunks.iter().map(|chunk| chunk.text.len()).sum();
    assert!(log.truncated);
    assert!(bytes <= LOG_BYTES && bytes + chunk.len() > LOG_BYTES_REDIS, "{bytes} bytes are kept");
    assert!(log.chunks.last().is_some_and(|last| last.text.starts_with("29 ")), "the end is kept");
}

pub async fn a_deleted_job_takes_its_log_along(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let ids = [put(store, job()).await, put(store, job()).await];
    for claimed in claim(store, worker, 2).await {
        store.note(&[note(&claimed, "text")]).await.expect("note");
        make(store, settle(&claimed, done())).await;
    }
    let first = stored(store, ids[0]).await;
    make(store, idle(&first, To::Gone, EventKind::JobDeleted)).await;
    assert_eq!(store.log(ids[0], 0).await.expect("log"), JobLog::default());
    store.trim(Retention { age: LONG, count: 0 }, 10).await.expect("trim");
    assert_eq!(store.log(ids[1], 0).await.expect("log"), JobLog::default());
}

fn child_of(parents: &[JobId]) -> Job {
    Job { after: parents.to_vec(), ..job() }
}

/// What is free now: parent, its state, its children.
async fn freed(store: &dyn Store) -> Vec<(JobId, Option<JobState>, Vec<JobId>)> {
    let freed = store.freed(100).await.expect("freed");
    assert_eq!(exchange(store, vec![], None).await.freed, !freed.is_empty());
    let ids = |children: Vec<Stored>| sorted(children.into_iter().map(|child| child.job.id).collect());
    freed.into_iter().map(|one| (one.parent, one.state, ids(one.children))).collect()
}

/// Carries out what the domain decides about the children of a parent.
async fn let_go(store: &dyn Store, parent: JobId) {
    for one in store.freed(100).await.expect("freed").into_iter().filter(|one| one.parent == parent) {
        for child in one.children {
            let settled = child.job.clone().parent_ended(parent, one.state, BIRTH).expect("it waits for it");
            let step = Move::new(Expect::Idle(child.place, child.job.rev), settled);
            assert_eq!(make(store, step).await, Moved::Applied);
        }
    }
}

pub async fn a_child_is_held_until_its_parent_ends(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let parent = put(store, job()).await;
    let children = [put(store, child_of(&[parent])).await, put(store, child_of(&[parent])).await];
    assert_eq!(super::looks::stats(store, "default").await.scheduled, 2, "what is held is scheduled");
    assert_eq!(sorted(ids(store, Place::Held).await), sorted(children.to_vec()));
    let claimed = claim(store, worker, 9).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(freed(store).await, []);
    make(store, settle(&claimed[0], done())).await;
    assert_eq!(freed(store).await, [(parent, Some(JobState::Completed), sorted(children.to_vec()))]);
    assert_eq!(claim(store, worker, 9).await.len(), 0, "a child goes when it is told to");
    let_go(store, parent).await;
    assert_eq!(freed(store).await, []);
    assert_eq!(claim(store, worker, 9).await.len(), 2);
}

pub async fn every_end_of_a_parent_is_told(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    // One that had ended before its child came.
    let parent = put(store, job()).await;
    let claimed = claim_one(store, worker).await;
    make(store, settle(&claimed, hopeless())).await;
    let late = put(store, child_of(&[parent])).await;
    assert_eq!(freed(store).await, [(parent, Some(JobState::Dead), vec![late])]);
    let_go(store, parent).await;
    let cancelled = stored(store, late).await;
    assert_eq!(cancelled.place, Place::Cancelled);
    assert_eq!(freed(store).await, []);
    // Cancelled, deleted, trimmed.
    for (to, state) in [(To::Cancelled, Some(JobState::Cancelled)), (To::Gone, None)] {
        let parent = put(store, job()).await;
        let child = put(store, child_of(&[parent])).await;
        let waiting = stored(store, parent).await;
        make(store, idle(&waiting, to, EventKind::JobDeleted)).await;
        assert_eq!(freed(store).await, [(parent, state, vec![child])]);
        let_go(store, parent).await;
    }
    let parent = put(store, job()).await;
    let child = put(store, child_of(&[parent])).await;
    let claimed = claim_one(store, worker).await;
    make(store, settle(&claimed, done())).await;
    store.trim(Retention { age: LONG, count: 0 }, 100).await.expect("trim");
    assert_eq!(freed(store).await, [(parent, None, vec![child])]);
}

pub async fn a_child_of_several_waits_for_all(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let parents = [put(store, job()).await, put(store, job()).await];
    let child = put(store, child_of(&parents)).await;
    for parent in parents {
        assert_eq!(place(store, child).await, Place::Held);
        let claimed = claim_one(store, worker).await;
        assert_eq!(claimed.job.id, parent);
        make(store, settle(&claimed, done())).await;
        let_go(store, parent).await;
        assert_eq!(freed(store).await, []);
    }
    assert_eq!(claim_one(store, worker).await.job.id, child);
    // One that leaves by itself is tied to nobody.
    let parent = put(store, job()).await;
    let child = put(store, child_of(&[parent])).await;
    let held = stored(store, child).await;
    assert_eq!(make(store, idle(&held, To::Pending, EventKind::JobReady)).await, Moved::Applied);
    let waiting = stored(store, parent).await;
    make(store, idle(&waiting, To::Cancelled, EventKind::JobCancelled)).await;
    assert_eq!(freed(store).await, []);
}

pub async fn an_unknown_parent_is_refused(subject: &Subject) {
    let store = &*subject.store;
    let known = put(store, job()).await;
    let unknown = job_id();
    let batch = vec![now(child_of(&[known, unknown])), now(child_of(&[known]))];
    assert_eq!(enqueue(store, batch).await, [Enqueued::NoParent(unknown), Enqueued::Created]);
    // In one batch a child may come after its parent.
    let parent = job();
    let child = child_of(&[parent.id]);
    assert_eq!(enqueue(store, vec![now(parent), now(child)]).await, [Enqueued::Created; 2]);
}

pub async fn a_parent_that_lives_again_is_waited_for(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let parent = put(store, job()).await;
    let claimed = claim_one(store, worker).await;
    make(store, settle(&claimed, hopeless())).await;
    let child = put(store, child_of(&[parent])).await;
    let dead = stored(store, parent).await;
    make(store, idle(&dead, To::Pending, EventKind::JobRequeued)).await;
    assert_eq!(freed(store).await, []);
    let again = claim_one(store, worker).await;
    make(store, settle(&again, done())).await;
    assert_eq!(freed(store).await, [(parent, Some(JobState::Completed), vec![child])]);
}

pub async fn a_worker_is_told_to_drain(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    assert!(!beat(store, worker, LONG).await.drain);
    assert!(store.drain(worker).await.expect("drain"));
    assert!(store.drain(worker).await.expect("drain"), "twice is once");
    assert!(!store.drain(super::make::worker()).await.expect("drain"), "nobody of this name");
    assert!(beat(store, worker, LONG).await.drain);
    assert!(store.workers().await.expect("workers")[0].draining);
    let draining = all_events(store).await.into_iter().filter(|event| event.kind == EventKind::WorkerDraining).count();
    assert_eq!(draining, 1);
    store.farewell(worker).await.expect("farewell");
    assert!(!beat(store, worker, LONG).await.drain, "a new life");
}

pub async fn definitions_can_be_taken_back(subject: &Subject) {
    let store = &*subject.store;
    let definition =
        Definition { kind: "workflow".into(), name: name("order"), hash: "h1".into(), text: "text".into() };
    store.define(std::slice::from_ref(&definition)).await.expect("define");
    assert!(!store.undefine("handler", &name("order")).await.expect("undefine"));
    assert!(store.undefine("workflow", &name("order")).await.expect("undefine"));
    assert!(!store.undefine("workflow", &name("order")).await.expect("undefine"));
    assert_eq!(store.definitions("workflow").await.expect("definitions"), []);
    assert_eq!(store.definition("h1").await.expect("definition"), Some(definition), "a run may need it");
}
