//! Runs that their shard does not let go, and carriers that are cut or late: their copies neither pile up nor
//! stay, and nobody takes a run out for a copy that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goflow::domain::{RunId, RunState};
use goflow::store::fault::Saboteur;
use goflow::store::*;
use goflow::workflow::Run;

use super::backends::TestClock;
use super::make::*;
use super::sharded_alone::{grounds, until};
use super::sharded_moves::{carry_all, mortal, opened};
use super::sharded_runs::{effects_of, key_at_home, run, start, with};

/// A run that stands at a gate of which its header does not tell.
async fn at_gate(store: &dyn Store, key: &str, run: &Run) {
    let gate = Gate { key: key.into(), limit: 1, go: b"go".to_vec(), reject: None };
    start(store, NewRun { effects: effects_of(run, vec![]), gate: Some(gate) }).await;
}

async fn cancel(store: &dyn Store, mut run: Run) {
    (run.state, run.rev) = (RunState::Cancelled, run.rev + 1);
    let advance = Advance { from_rev: run.rev - 1, drained: None, effects: effects_of(&run, vec![]) };
    let part = RunCommit { run: run.id, facts: vec![], advance: Some(advance) };
    let answer = commit(store, Commit { moves: vec![], run: Some(part) }).await;
    assert!(matches!(answer.run, RunAnswer::Advanced { .. }), "{answer:?}");
}

async fn names(store: &dyn Store) -> Vec<String> {
    store.documents("goflow:", None, 1_000).await.expect("documents").into_iter().map(|one| one.name).collect()
}

async fn is_on(store: &dyn Store, id: RunId) -> bool {
    store.whole_run(id).await.expect("whole_run").is_some()
}

#[tokio::test(start_paused = true)]
async fn copies_of_what_is_not_let_go_do_not_pile_up() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let store = opened(plain.clone(), clock.clone()).await;
    let parts = [plain(0, "zero".into()).await.expect("opens"), plain(1, "one".into()).await.expect("opens")];
    let [inside, behind] = [RunState::Running, RunState::Pending].map(run);
    let key = key_at_home(&store);
    at_gate(&store, &key, &inside).await;
    at_gate(&store, &key, &behind).await;
    let verbs = store.shards().expect("verbs");
    verbs.drain(1, Some(0)).await.expect("drains");
    for round in 0..12 {
        let carried = verbs.carry(1).await.expect("carries");
        // It may be that others have come in between; after that it is told.
        assert_eq!((carried.runs, carried.stuck), (0, if round == 0 { 0 } else { 2 }), "{round}");
        assert_eq!(names(&*parts[0]).await, Vec::<String>::new(), "{round}");
        assert_eq!(names(&*parts[1]).await, Vec::<String>::new(), "{round}");
        tokio::time::sleep(Duration::from_secs(16)).await;
    }
    assert!(is_on(&*parts[1], inside.id).await && is_on(&*parts[1], behind.id).await);
    cancel(&store, behind.clone()).await;
    until("what was stuck is looked at again", async || {
        tokio::time::sleep(Duration::from_secs(5)).await;
        verbs.carry(1).await.expect("carries");
        is_on(&*parts[0], inside.id).await && is_on(&*parts[0], behind.id).await
    })
    .await;
    assert_eq!(verbs.left(1).await.expect("left"), Left::default());
    assert_eq!([names(&*parts[0]).await, names(&*parts[1]).await].concat(), Vec::<String>::new());
}

/// A run that cannot be read holds those back that stand at its gate, and their steps go on where they are.
#[tokio::test(start_paused = true)]
async fn who_stands_at_the_gate_of_an_unreadable_run_stays_and_works() {
    let clock = TestClock::new();
    let store = opened(grounds(clock.clone()), clock.clone()).await;
    let (mut inside, odd) = (run(RunState::Running), run(RunState::Pending));
    let key = key_at_home(&store);
    inside.key = key.strip_prefix("order/").map(str::to_owned);
    let job = super::sharded_runs::step(&store, &mut inside, "a", goflow::domain::StepState::Running);
    let gate = Gate { key, limit: 1, go: b"go".to_vec(), reject: None };
    let effects = effects_of(&inside, vec![job.clone()]);
    start(&store, NewRun { effects, gate: Some(gate.clone()) }).await;
    let unreadable = RunRecord { body: b"later".to_vec(), ..RunRecord::of(&odd).expect("a record") };
    start(&store, NewRun { effects: Effects::of(unreadable), gate: Some(gate) }).await;
    let verbs = store.shards().expect("verbs");
    verbs.drain(1, Some(0)).await.expect("drains");
    assert_eq!(verbs.carry(1).await.expect("carries").stuck, 2);
    let worker = hired(&store).await;
    assert_eq!(claim_one(&store, worker).await.job.id, job.id);
}

/// One call is on its way for longer than others need to act.
struct Late {
    nth: u64,
    calls: AtomicU64,
    armed: std::sync::atomic::AtomicBool,
    is_it: std::sync::atomic::AtomicBool,
}

impl Saboteur for Late {
    fn before(&self, _: bool) -> goflow::store::Result<()> {
        let nth = if self.armed.load(Ordering::SeqCst) { self.calls.fetch_add(1, Ordering::SeqCst) } else { u64::MAX };
        self.is_it.store(nth == self.nth, Ordering::SeqCst);
        Ok(())
    }

    fn travel(&self) -> Duration {
        if self.is_it.swap(false, Ordering::SeqCst) { Duration::from_secs(8) } else { Duration::ZERO }
    }
}

/// A carrier whose n-th call arrives late: meanwhile another one has given its copy up, and the reason for
/// that has gone. Whether there was such a call.
async fn late_at(nth: u64) -> bool {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let late = Arc::new(Late { nth, calls: 0.into(), armed: false.into(), is_it: false.into() });
    let carrier = opened(with(&plain, late.clone(), None), clock.clone()).await;
    let other = opened(plain.clone(), clock.clone()).await;
    let there = plain(0, "zero".into()).await.expect("opens");
    let [inside, behind] = [RunState::Running, RunState::Pending].map(run);
    let key = key_at_home(&other);
    at_gate(&other, &key, &inside).await;
    at_gate(&other, &key, &behind).await;
    let verbs = other.shards().expect("verbs");
    verbs.drain(1, Some(0)).await.expect("drains");
    until("the carrier follows", async || carrier.map().epoch == other.map().epoch).await;
    late.armed.store(true, Ordering::SeqCst);
    let carry = async { carrier.shards().expect("verbs").carry(1).await.expect("carries") };
    let act = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        verbs.carry(1).await.expect("carries");
        cancel(&other, behind.clone()).await;
    };
    tokio::join!(carry, act);
    for run in [inside.id, behind.id] {
        assert!(other.run(run).await.expect("run").is_some(), "{nth}");
    }
    tokio::time::sleep(Duration::from_secs(31)).await;
    carry_all(&other, 1).await;
    for run in [inside.id, behind.id] {
        assert!(is_on(&*there, run).await, "{nth}");
    }
    assert_eq!(verbs.left(1).await.expect("left"), Left::default(), "{nth}");
    verbs.remove(1).await.expect("removes");
    assert_eq!(names(&*there).await, Vec::<String>::new(), "{nth}");
    late.calls.load(Ordering::SeqCst) > nth
}

#[tokio::test(start_paused = true)]
async fn a_carrier_that_is_late_takes_nothing_for_a_copy_that_was_given_up() {
    let mut nth = 0;
    while nth < 60 && late_at(nth).await {
        nth += 1;
    }
    assert!(nth > 30, "only {nth} calls");
}

/// What a carrier that was cut has written is given up, or gone on with, though nobody says the command again.
#[tokio::test(start_paused = true)]
async fn copies_that_were_cut_do_not_stay() {
    for nth in 0.. {
        let clock = TestClock::new();
        let plain = grounds(clock.clone());
        let store = opened(plain.clone(), clock.clone()).await;
        let parts = [plain(0, "zero".into()).await.expect("opens"), plain(1, "one".into()).await.expect("opens")];
        let waits = run(RunState::Running);
        start(&store, effects_of(&waits, vec![]).into()).await;
        store.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
        let (victim, cut) = mortal(&plain, &clock, nth).await;
        cut.arm();
        while victim.shards().expect("verbs").carry(1).await.is_ok_and(|carried| !carried.is_nothing()) {}
        if !cut.is_over() {
            assert!(nth > 12, "only {nth} calls");
            break;
        }
        drop(victim);
        clock.advance(Duration::from_secs(121));
        until("nothing of it is left", async || [names(&*parts[0]).await, names(&*parts[1]).await].concat().is_empty())
            .await;
        assert!(store.run(waits.id).await.expect("run").is_some(), "{nth}");
    }
}
