//! Shards that are carried away with runs on them: carriers that are cut at every call, signals that come
//! meanwhile. Each run is there once, whole, and is never unknown.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goflow::domain::{Event, EventKind, Job, JobId, Link, Place, RunId, RunState, Shard, StepState};
use goflow::store::fault::{FaultStore, Saboteur};
use goflow::store::sharded::Opener;
use goflow::store::*;
use goflow::workflow::run::Parent;
use goflow::workflow::{Run, Slot, StepRecord};

use super::backends::TestClock;
use super::carry_laws::json;
use super::make::*;
use super::sharded_alone::{born, fresh, grounds, until};
use super::sharded_moves::{Cut, carry_all, opened};

/// A run that is born on shard 1.
pub fn run(state: RunState) -> Run {
    let id = RunId::from_parts(BIRTH, Shard(1), fresh());
    let mut run = Run::pending(id, name("order"), "hash".into(), Slot::Inline(json("null")), BIRTH);
    (run.state, run.rev) = (state, 1);
    run
}

/// A step of a run, with its job.
pub fn step(store: &dyn Store, run: &mut Run, id: &str, state: StepState) -> Job {
    let link = Link { run: run.id, step: id.into(), undo: false };
    let job = Job { link: Some(link), ..born(store, Near::Shard(Shard(1))) };
    let mut record = StepRecord::new(id.into());
    (record.state, record.job) = (state, Some(job.id));
    run.steps.push(record);
    job
}

pub fn effects_of(run: &Run, jobs: Vec<Job>) -> Effects {
    let told = Event { run: Some(run.id), ..Event::new(EventKind::RunStarted) };
    let record = RunRecord::of(run).expect("a record");
    Effects { events: vec![told], jobs, ..Effects::of(record) }
}

pub async fn start(store: &dyn Store, new: NewRun) {
    let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![], runs: vec![new] };
    assert_eq!(store.enqueue(&batch).await.expect("enqueue answers").runs, [Enqueued::Created]);
}

/// A key that is at home on shard 1.
pub fn key_at_home(store: &dyn Store) -> String {
    (0..).map(|nth| format!("order/k{nth}")).find(|key| store.birthplace(Near::Key(key)) == Shard(1)).expect("a key")
}

/// What lies on shard 1 before it is drained.
struct Scene {
    waiting: RunId,
    /// One that was called, by the one before it.
    child: RunId,
    over: RunId,
    inside: RunId,
    behind: RunId,
    retrying: JobId,
    ended: JobId,
    pending: JobId,
}

impl Scene {
    async fn set(store: &dyn Store) -> Scene {
        let worker = hired(store).await;
        let waits = run(RunState::Running);
        let timer = Timer { key: "wait".into(), delay: Duration::from_secs(3_600), fact: b"time".to_vec() };
        let values = vec![("v".to_owned(), json("[1]"))];
        start(store, Effects { timers: vec![timer], values, ..effects_of(&waits, vec![]) }.into()).await;
        store.inform(&[(waits.id, b"early".to_vec())]).await.expect("inform");

        let parent = run(RunState::Paused);
        let mut child = run(RunState::Running);
        child.parent = Some(Parent { run: parent.id, step: "sub".into(), depth: 1 });
        let retried = step(store, &mut child, "a", StepState::Retrying);
        start(store, effects_of(&parent, vec![]).into()).await;
        start(store, effects_of(&child, vec![retried.clone()]).into()).await;
        let claimed = claim_one(store, worker).await;
        let note = Note { id: retried.id, epoch: claimed.epoch, progress: None, log: "printed\n".into() };
        assert_eq!(store.note(&[note]).await.expect("note"), [true]);
        assert_eq!(make(store, settle(&claimed, failed())).await, Moved::Applied);

        let mut over = run(RunState::Running);
        let ended = step(store, &mut over, "a", StepState::Running);
        start(store, effects_of(&over, vec![ended.clone()]).into()).await;
        let claimed = claim_one(store, worker).await;
        (over.state, over.rev) = (RunState::Completed, 2);
        over.steps[0].state = StepState::Completed;
        let advance = Advance { from_rev: 1, drained: None, effects: effects_of(&over, vec![]) };
        let part = RunCommit { run: over.id, facts: vec![b"a ended".to_vec()], advance: Some(advance) };
        let done = Commit { moves: vec![settle(&claimed, done())], run: Some(part) };
        assert_eq!(commit(store, done).await.run, RunAnswer::Advanced { more: false });

        let gate = Gate { key: key_at_home(store), limit: 1, go: b"go".to_vec(), reject: None };
        let key = gate.key.strip_prefix("order/").map(str::to_owned);
        let [mut inside, mut behind] = [RunState::Running, RunState::Pending].map(run);
        (inside.key, behind.key) = (key.clone(), key);
        let pending = step(store, &mut inside, "a", StepState::Running);
        let effects = effects_of(&inside, vec![pending.clone()]);
        start(store, NewRun { effects, gate: Some(gate.clone()) }).await;
        start(store, NewRun { effects: effects_of(&behind, vec![]), gate: Some(gate) }).await;
        Scene {
            waiting: waits.id,
            child: child.id,
            over: over.id,
            inside: inside.id,
            behind: behind.id,
            retrying: retried.id,
            ended: ended.id,
            pending: pending.id,
        }
    }

    fn runs(&self) -> [RunId; 5] {
        [self.waiting, self.child, self.over, self.inside, self.behind]
    }

    async fn is_known(&self, store: &dyn Store) -> bool {
        for run in self.runs() {
            if store.run(run).await.expect("run").is_none()
                || store.history(run, None, 100_000).await.expect("history").0.is_empty()
            {
                return false;
            }
        }
        let jobs = store.get(&[self.retrying, self.ended, self.pending]).await.expect("get");
        jobs.iter().all(Option::is_some)
    }
}

pub fn with(plain: &Opener, saboteur: Arc<dyn Saboteur>, only: Option<u16>) -> Opener {
    let inner = plain.clone();
    Arc::new(move |id, url| {
        let (opening, saboteur) = (inner(id, url), saboteur.clone());
        Box::pin(async move {
            let store = opening.await?;
            let is_it = only.is_none_or(|only| only == id);
            Ok(if is_it { Arc::new(FaultStore::new(store, saboteur)) as Arc<dyn Store> } else { store })
        })
    })
}

/// Plays one drain whose carrier dies at its n-th call; whether it died.
async fn cut_at(nth: u64, after: bool) -> bool {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let cut = Arc::new(Cut::new(nth, after));
    let heir = opened(plain.clone(), clock.clone()).await;
    let victim = opened(with(&plain, cut.clone(), None), clock.clone()).await;
    let scene = Scene::set(&heir).await;
    let whole = heir.history(scene.over, None, 100_000).await.expect("history").0;
    let (told, place) = heir.history(scene.over, None, 1).await.expect("history");
    assert!(!told.is_empty() && told.len() < whole.len(), "{told:?}");
    let there = plain(0, "zero".into()).await.expect("opens");
    let verbs = heir.shards().expect("verbs");
    verbs.drain(1, Some(0)).await.expect("drains");
    until("the victim follows", async || victim.map().epoch == heir.map().epoch).await;

    cut.arm();
    let carrier = victim.shards().expect("verbs");
    while carrier.carry(1).await.is_ok_and(|carried| !carried.is_nothing()) {}
    let died = cut.is_over();
    drop(victim);
    assert!(scene.is_known(&heir).await, "{nth} {after}");
    // Who reads a history goes on behind what was told, wherever the rest is.
    let rest = heir.history(scene.over, Some(&place), 100_000).await.expect("history").0;
    assert_eq!(rest, whole[told.len()..], "{nth} {after}");
    // What is said to a run meanwhile is heard, wherever it is.
    let said = [(scene.waiting, b"late".to_vec()), (scene.over, b"after".to_vec())];
    assert_eq!(heir.inform(&said).await.expect("inform"), [true, true], "{nth} {after}");
    // Somebody else goes on: the keeper with what was begun, a command with the rest.
    if nth.is_multiple_of(3) {
        clock.advance(Duration::from_secs(11));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(scene.is_known(&heir).await, "{nth} {after}");
    }
    carry_all(&heir, 1).await;
    assert_eq!(verbs.left(1).await.expect("left"), Left::default(), "{nth} {after}");
    verbs.remove(1).await.expect("removes");
    assert!(scene.is_known(&heir).await, "{nth} {after}");
    let (rest, end) = heir.history(scene.over, Some(&place), 100_000).await.expect("history");
    assert_eq!(rest, whole[told.len()..], "{nth} {after}");
    assert_eq!(heir.history(scene.over, Some(&end), 9).await.expect("history").0, [], "{nth} {after}");
    assert!(there.documents("goflow:", None, 9).await.expect("documents").is_empty(), "{nth} {after}");

    let waits = there.whole_run(scene.waiting).await.expect("whole_run").expect("is there");
    let heard: Vec<&[u8]> = waits.inbox.iter().map(|(_, fact)| fact.as_slice()).collect();
    assert_eq!(heard, [&b"early"[..], b"late"], "{nth} {after}");
    assert_eq!((waits.timers.len(), waits.values.len(), waits.items()), (1, 1, 6), "{nth} {after}");
    let over = there.whole_run(scene.over).await.expect("whole_run").expect("is there");
    assert_eq!((over.record.rev, over.finished.is_some(), over.inbox.len()), (2, true, 1), "{nth} {after}");
    let place_of = async |id| stored(&*there, id).await.place;
    assert_eq!(place_of(scene.ended).await, Place::Completed, "{nth} {after}");
    assert_eq!(place_of(scene.retrying).await, Place::Retrying, "{nth} {after}");
    assert_eq!(place_of(scene.pending).await, Place::Pending, "{nth} {after}");
    let log = there.log(scene.retrying, 0).await.expect("log");
    assert_eq!(log.chunks.iter().map(|chunk| chunk.text.as_str()).collect::<Vec<_>>(), ["printed\n"], "{nth} {after}");
    // The step goes on with its run, and whoever waited behind it is let in.
    let worker = hired(&heir).await;
    let claimed = claim_one(&heir, worker).await;
    assert_eq!(claimed.run.as_ref().map(|run| run.id), Some(scene.inside), "{nth} {after}");
    let mut inside = claimed.run.as_ref().expect("its run").header().expect("a header");
    (inside.state, inside.rev) = (RunState::Completed, 2);
    let advance = Advance { from_rev: 1, drained: None, effects: effects_of(&inside, vec![]) };
    let part = RunCommit { run: inside.id, facts: vec![b"ended".to_vec()], advance: Some(advance) };
    let ends = Commit { moves: vec![settle(&claimed, done())], run: Some(part) };
    assert!(matches!(commit(&heir, ends).await.run, RunAnswer::Advanced { .. }), "{nth} {after}");
    let behind = there.whole_run(scene.behind).await.expect("whole_run").expect("is there");
    assert!(behind.gate.is_some_and(|gate| gate.inside), "{nth} {after}");
    assert_eq!(behind.inbox.len(), 1, "{nth} {after}");
    assert_eq!(heir.verify().await.expect("verify"), Vec::<String>::new());
    died
}

#[tokio::test(start_paused = true)]
async fn a_carrier_of_runs_that_dies_anywhere_leaves_each_once_and_whole() {
    for after in [false, true] {
        let mut deaths = 0;
        for nth in 0.. {
            if !cut_at(nth, after).await {
                break;
            }
            deaths += 1;
        }
        assert!(deaths > 60, "only {deaths} calls");
    }
}

/// Says something to a run before one call on shard 1.
struct Speaker {
    is_on: AtomicBool,
    said: tokio::sync::mpsc::UnboundedSender<()>,
}

impl Saboteur for Speaker {
    fn before(&self, _: bool) -> goflow::store::Result<()> {
        if self.is_on.load(Ordering::SeqCst) {
            // Nobody listens any more once it is over.
            let _ = self.said.send(());
        }
        Ok(())
    }

    fn travel(&self) -> Duration {
        if self.is_on.load(Ordering::SeqCst) { Duration::from_millis(20) } else { Duration::ZERO }
    }
}

/// Signals that come between any two calls of the carrier are heard once each, in their order.
#[tokio::test(start_paused = true)]
async fn signals_that_come_on_the_way_are_heard_once() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let (said, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let speaker = Arc::new(Speaker { is_on: false.into(), said });
    let other = opened(plain.clone(), clock.clone()).await;
    let carrier = opened(with(&plain, speaker.clone(), None), clock.clone()).await;
    let waits = run(RunState::Running);
    start(&other, effects_of(&waits, vec![]).into()).await;
    other.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
    until("the carrier follows", async || carrier.map().epoch == other.map().epoch).await;
    speaker.is_on.store(true, Ordering::SeqCst);
    let carry = async {
        let mut rounds = 0;
        while carrier.shards().expect("verbs").left(1).await.expect("left").all() > 0 {
            carrier.shards().expect("verbs").carry(1).await.expect("carries");
            rounds += 1;
            // After so much contention, some peace.
            speaker.is_on.store(rounds < 12, Ordering::SeqCst);
        }
        speaker.is_on.store(false, Ordering::SeqCst);
        rounds
    };
    let mut told = 0u64;
    let tell = async {
        let mut nth = 0u64;
        while let Some(()) = calls.recv().await {
            nth += 1;
            // Not at each call: else it would never go.
            if nth.is_multiple_of(7) {
                let known = other.inform(&[(waits.id, told.to_be_bytes().to_vec())]).await.expect("inform");
                assert_eq!(known, [true], "at call {nth}");
                told += 1;
            }
            assert!(other.run(waits.id).await.expect("run").is_some(), "unknown at call {nth}");
        }
    };
    let rounds = tokio::select! {
        rounds = carry => rounds,
        () = tell => panic!("nobody carries"),
    };
    let there = plain(0, "zero".into()).await.expect("opens").whole_run(waits.id).await.expect("whole_run");
    let heard: Vec<u64> = there.expect("is there").inbox.iter().map(|(_, fact)| number(fact)).collect();
    assert!(told > 0 && rounds > 0, "{told} in {rounds} rounds");
    assert_eq!(heard, (0..told).collect::<Vec<_>>());
}

fn number(fact: &[u8]) -> u64 {
    u64::from_be_bytes(fact.try_into().expect("eight bytes"))
}

/// A run with a step that runs waits for it, and goes as soon as it can.
#[tokio::test(start_paused = true)]
async fn a_run_with_a_running_step_waits_its_turn() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let store = opened(plain.clone(), clock.clone()).await;
    let worker = hired(&store).await;
    let mut busy = run(RunState::Running);
    let job = step(&store, &mut busy, "a", StepState::Running);
    start(&store, effects_of(&busy, vec![job]).into()).await;
    let claimed = claim_one(&store, worker).await;
    let verbs = store.shards().expect("verbs");
    verbs.drain(1, Some(0)).await.expect("drains");
    assert!(verbs.carry(1).await.expect("carries").is_nothing());
    assert!(verbs.remove(1).await.is_err());
    let next = step(&store, &mut busy, "b", StepState::Running);
    busy.rev = 2;
    let advance = Advance { from_rev: 1, drained: None, effects: effects_of(&busy, vec![next.clone()]) };
    let part = RunCommit { run: busy.id, facts: vec![b"a".to_vec()], advance: Some(advance) };
    let settled = Commit { moves: vec![settle(&claimed, done())], run: Some(part) };
    assert_eq!(commit(&store, settled).await.run, RunAnswer::Advanced { more: false });
    carry_all(&store, 1).await;
    assert_eq!(verbs.left(1).await.expect("left"), Left::default());
    let claimed = claim_one(&store, worker).await;
    assert_eq!((claimed.job.id, claimed.run.map(|run| run.rev)), (next.id, Some(2)));
}

/// What cannot be read, or is too much for one step, stays and is told.
#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_be_carried_stays_and_is_told() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let store = opened(plain.clone(), clock.clone()).await;
    let (odd, large, fits) = (run(RunState::Running), run(RunState::Completed), run(RunState::Running));
    let unreadable = RunRecord { body: b"later".to_vec(), ..RunRecord::of(&odd).expect("a record") };
    start(&store, Effects::of(unreadable).into()).await;
    let events = vec![Event { run: Some(large.id), ..Event::new(EventKind::StepStarted) }; 100_001];
    start(&store, Effects { events, ..effects_of(&large, vec![]) }.into()).await;
    start(&store, effects_of(&fits, vec![]).into()).await;
    let verbs = store.shards().expect("verbs");
    verbs.drain(1, Some(0)).await.expect("drains");
    let first = verbs.carry(1).await.expect("carries");
    assert_eq!((first.runs, first.stuck), (1, 2));
    let left = verbs.left(1).await.expect("left");
    assert_eq!((left.runs, left.finished_runs), (1, 1));
    let kept = [odd.id, large.id, fits.id];
    let known: BTreeSet<RunId> =
        [store.find_runs("", 9).await.expect("find")].into_iter().flatten().filter(|id| kept.contains(id)).collect();
    assert_eq!(known.len(), 3);
}

/// Runs are moved on from where they were moved to.
#[tokio::test(start_paused = true)]
async fn runs_go_from_shard_to_shard_to_shard() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let store = opened(plain.clone(), clock.clone()).await;
    let scene = Scene::set(&store).await;
    let verbs = store.shards().expect("verbs");
    verbs.drain(1, Some(2)).await.expect("drains");
    carry_all(&store, 1).await;
    verbs.drain(2, Some(0)).await.expect("drains");
    carry_all(&store, 2).await;
    for shard in [1, 2] {
        assert_eq!(verbs.left(shard).await.expect("left"), Left::default());
    }
    assert!(scene.is_known(&store).await);
    assert_eq!(store.inform(&[(scene.child, b"x".to_vec())]).await.expect("inform"), [true]);
    for shard in [1, 2] {
        verbs.remove(shard).await.expect("removes");
    }
    assert!(scene.is_known(&store).await);
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

/// What a run is told where it has been carried is taken in there, while its first shard is still emptied.
#[tokio::test(start_paused = true)]
async fn an_inbox_is_drained_where_the_run_has_been_carried() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let store = opened(plain.clone(), clock.clone()).await;
    let mut waits = run(RunState::Running);
    start(&store, effects_of(&waits, vec![]).into()).await;
    store.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
    carry_all(&store, 1).await;
    assert!(plain(0, "zero".into()).await.expect("opens").run(waits.id).await.expect("run").is_some());
    for taken in [true, false] {
        assert_eq!(store.inform(&[(waits.id, b"x".to_vec())]).await.expect("inform"), [true]);
        let work = match taken {
            true => store.take_dirty(9, Duration::from_secs(9)).await.expect("take_dirty").pop(),
            false => store.run_work(waits.id).await.expect("run_work"),
        };
        let work = work.expect("it waits");
        let drained = work.inbox.last().map(|(seq, _)| *seq);
        assert!(drained.is_some());
        waits.rev += 1;
        let advance = Advance { from_rev: work.record.rev, drained, effects: effects_of(&waits, vec![]) };
        let part = RunCommit { run: waits.id, facts: vec![], advance: Some(advance) };
        let answer = commit(&store, Commit { moves: vec![], run: Some(part) }).await.run;
        assert_eq!(answer, RunAnswer::Advanced { more: false }, "taken: {taken}");
        assert!(store.run_work(waits.id).await.expect("run_work").expect("is there").inbox.is_empty());
    }
}
