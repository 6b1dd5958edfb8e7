//! The laws of what a run may do to others: facts from outside, asks, child runs, gates.

use std::time::Duration;

use goflow::domain::{Place, RunId, RunState};
use goflow::store::*;

use super::backends::Subject;
use super::make::*;

async fn start(store: &dyn Store, new: NewRun) -> Enqueued {
    let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![], runs: vec![new] };
    store.enqueue(&batch).await.expect("enqueue answers").runs.remove(0)
}

fn running(run: RunId) -> Effects {
    Effects::of(record(run, 1, RunState::Running))
}

/// What lies in the inboxes of dirty runs, by run; leaves them there.
async fn inboxes(store: &dyn Store) -> Vec<(RunId, Vec<String>)> {
    let text = |(_, fact): (u64, Vec<u8>)| String::from_utf8(fact).expect("text");
    let work = store.take_dirty(100, Duration::ZERO).await.expect("take_dirty");
    let mut inboxes: Vec<_> =
        work.into_iter().map(|work| (work.record.id, work.inbox.into_iter().map(text).collect())).collect();
    inboxes.sort();
    inboxes
}

/// Drains a run's inbox into these effects.
async fn advance(store: &dyn Store, effects: Effects) -> RunAnswer {
    let run = effects.record.id;
    let work = store.take_dirty(100, Duration::ZERO).await.expect("take_dirty");
    let drained =
        work.iter().find(|work| work.record.id == run).and_then(|work| work.inbox.last()).map(|(seq, _)| *seq);
    let advance = Some(Advance { from_rev: effects.record.rev - 1, drained, effects });
    commit(store, Commit { moves: vec![], run: Some(RunCommit { run, facts: vec![], advance }) }).await.run
}

pub async fn facts_reach_any_run(subject: &Subject) {
    let store = &*subject.store;
    let (live, over) = (run_id(), run_id());
    assert_eq!(start(store, running(live).into()).await, Enqueued::Created);
    assert_eq!(start(store, Effects::of(record(over, 1, RunState::Completed)).into()).await, Enqueued::Created);
    let facts =
        [(live, b"one".to_vec()), (run_id(), b"lost".to_vec()), (over, b"late".to_vec()), (live, b"two".to_vec())];
    assert_eq!(store.inform(&facts).await.expect("inform"), [true, false, true, true]);
    let mut expected = vec![(live, vec!["one".to_owned(), "two".into()]), (over, vec!["late".into()])];
    expected.sort();
    assert_eq!(inboxes(store).await, expected);
    let work = store.run_work(live).await.expect("run_work").expect("it is kept");
    let facts: Vec<&[u8]> = work.inbox.iter().map(|(_, fact)| fact.as_slice()).collect();
    assert_eq!((Some(&work.record), facts), (store.run(live).await.expect("run").as_ref(), vec![&b"one"[..], b"two"]));
    assert!(work.inbox[0].0 < work.inbox[1].0);
    assert_eq!(store.run_work(run_id()).await.expect("run_work"), None);
    assert_eq!(
        advance(store, Effects::of(record(over, 2, RunState::Completed))).await,
        RunAnswer::Advanced { more: false }
    );
    assert_eq!(inboxes(store).await.len(), 1);
}

pub async fn an_advance_asks_starts_and_tells(subject: &Subject) {
    let store = &*subject.store;
    let (parent, child, friend) = (run_id(), run_id(), run_id());
    let worker = hired(store).await;
    let step = step_job(parent, "slow");
    let slow = step.id;
    start(store, Effects { jobs: vec![step], ..running(parent) }.into()).await;
    start(store, running(friend).into()).await;
    assert_eq!(claim(store, worker, 9).await.len(), 1);
    let own = step_job(parent, "own");
    let own_id = own.id;
    let grandchild = step_job(child, "first");
    let effects = Effects {
        jobs: vec![own],
        cancel: vec![slow, own_id, job_id()],
        runs: vec![Effects { jobs: vec![grandchild.clone()], ..running(child) }.into(), running(friend).into()],
        tell: vec![(friend, b"hello".to_vec()), (run_id(), b"lost".to_vec())],
        ..Effects::of(record(parent, 2, RunState::Running))
    };
    assert_eq!(advance(store, effects).await, RunAnswer::Advanced { more: false });
    let mut asked: Vec<_> =
        store.asked(worker, 9).await.expect("asked").into_iter().map(|stored| stored.job.id).collect();
    asked.sort();
    let mut expected = vec![slow, own_id];
    expected.sort();
    assert_eq!(asked, expected);
    assert_eq!(store.run(child).await.expect("run").map(|record| record.rev), Some(1));
    assert_eq!(place(store, grandchild.id).await, Place::Pending);
    assert_eq!(inboxes(store).await, [(friend, vec!["hello".to_owned()])]);
    // One that has moved on does nothing of it.
    let stale = Effects { tell: vec![(friend, b"no".to_vec())], ..Effects::of(record(parent, 2, RunState::Running)) };
    assert_eq!(advance(store, stale).await, RunAnswer::Contended);
    assert_eq!(inboxes(store).await, [(friend, vec!["hello".to_owned()])]);
}

fn gated(run: RunId, limit: u32, reject: Option<&str>) -> NewRun {
    let reject = reject.map(|fact| fact.as_bytes().to_vec());
    let gate = Gate { key: "order 7".into(), limit, go: b"go".to_vec(), reject };
    NewRun { effects: Effects::of(record(run, 1, RunState::Pending)), gate: Some(gate) }
}

/// Drains `go` and ends a run.
async fn end(store: &dyn Store, run: RunId) {
    let rev = store.run(run).await.expect("run").expect("it is kept").rev;
    let answer = advance(store, Effects::of(record(run, rev + 1, RunState::Completed))).await;
    assert_eq!(answer, RunAnswer::Advanced { more: false });
}

pub async fn a_gate_lets_so_many_in(subject: &Subject) {
    let store = &*subject.store;
    let runs: Vec<_> = (0..5).map(|_| run_id()).collect();
    for run in &runs {
        assert_eq!(start(store, gated(*run, 2, None)).await, Enqueued::Created);
    }
    let go = |run: RunId| (run, vec!["go".to_owned()]);
    let sorted = |mut list: Vec<(RunId, Vec<String>)>| {
        list.sort();
        list
    };
    assert_eq!(inboxes(store).await, sorted(vec![go(runs[0]), go(runs[1])]));
    // A step forward is no end.
    assert_eq!(
        advance(store, Effects::of(record(runs[0], 2, RunState::Running))).await,
        RunAnswer::Advanced { more: false }
    );
    assert_eq!(inboxes(store).await, [go(runs[1])]);
    end(store, runs[0]).await;
    assert_eq!(inboxes(store).await, sorted(vec![go(runs[1]), go(runs[2])]));
    // One that waits and ends takes nobody's place.
    end(store, runs[3]).await;
    assert_eq!(inboxes(store).await, sorted(vec![go(runs[1]), go(runs[2])]));
    end(store, runs[1]).await;
    assert_eq!(inboxes(store).await, sorted(vec![go(runs[2]), go(runs[4])]));
    end(store, runs[2]).await;
    end(store, runs[4]).await;
    assert_eq!(inboxes(store).await, []);
    let next = run_id();
    assert_eq!(start(store, gated(next, 2, None)).await, Enqueued::Created);
    assert_eq!(inboxes(store).await, [go(next)]);
}

pub async fn who_is_let_in_while_it_moves_on_learns_of_it(subject: &Subject) {
    let store = &*subject.store;
    let (inside, waits) = (run_id(), run_id());
    start(store, gated(inside, 1, None)).await;
    start(store, gated(waits, 1, None)).await;
    let work = store.take_dirty(100, Duration::ZERO).await.expect("take_dirty").remove(0);
    let drained = work.inbox.last().map(|(seq, _)| *seq);
    let part = |run, state, drained| {
        let advance = Some(Advance { from_rev: 1, drained, effects: Effects::of(record(run, 2, state)) });
        Commit { moves: vec![], run: Some(RunCommit { run, facts: vec![], advance }) }
    };
    let both = vec![part(inside, RunState::Completed, drained), part(waits, RunState::Pending, None)];
    for one in exchange(store, both, None).await.commits {
        assert!(matches!(one.run, RunAnswer::Advanced { .. }), "{one:?}");
    }
    assert_eq!(inboxes(store).await, [(waits, vec!["go".to_owned()])]);
}

pub async fn a_full_gate_turns_away(subject: &Subject) {
    let store = &*subject.store;
    let (first, second) = (run_id(), run_id());
    assert_eq!(start(store, gated(first, 1, Some("busy"))).await, Enqueued::Created);
    assert_eq!(start(store, gated(second, 1, Some("busy"))).await, Enqueued::Busy);
    assert_eq!(store.run(second).await.expect("run"), None);
    end(store, first).await;
    assert_eq!(start(store, gated(second, 1, Some("busy"))).await, Enqueued::Created);
}

pub async fn a_parent_run_learns_of_a_refusal(subject: &Subject) {
    let store = &*subject.store;
    let (holder, parent, child) = (run_id(), run_id(), run_id());
    start(store, gated(holder, 1, None)).await;
    start(store, running(parent).into()).await;
    let effects = Effects {
        runs: vec![gated(child, 1, Some("child is busy"))],
        ..Effects::of(record(parent, 2, RunState::Running))
    };
    let answer = advance(store, effects).await;
    assert!(matches!(answer, RunAnswer::Advanced { .. }), "{answer:?}");
    assert_eq!(store.run(child).await.expect("run"), None);
    let told = inboxes(store).await.into_iter().find(|(run, _)| *run == parent);
    assert_eq!(told, Some((parent, vec!["child is busy".to_owned()])));
}
