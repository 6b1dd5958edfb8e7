//! The laws of what a shard of several must be able to do: runs are taken out as they were seen and put in
//! as they were, once; a log goes with its copy.

use std::time::Duration;

use goflow::domain::{Epoch, Event, EventKind, Json, Ms, Place, Retention, RunId, RunState};
use goflow::store::*;

use super::backends::Subject;
use super::make::*;

async fn start(store: &dyn Store, new: NewRun) -> Enqueued {
    let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![], runs: vec![new] };
    store.enqueue(&batch).await.expect("enqueue answers").runs.remove(0)
}

pub fn json(text: &str) -> Json {
    Json::parse(text, 100).expect("JSON")
}

/// A run with something of everything.
fn rich(run: RunId, state: RunState) -> Effects {
    let timer = |key: &str, secs, fact: &str| Timer {
        key: key.into(),
        delay: Duration::from_secs(secs),
        fact: fact.as_bytes().to_vec(),
    };
    let told = |kind, step: &str| Event { run: Some(run), step: Some(step.into()), ..Event::new(kind) };
    Effects {
        values: vec![("i".into(), json(r#"{"a": [1, 2]}"#)), ("o/pick[3]".into(), json("7"))],
        timers: vec![timer("soon", 1, "it is time"), timer("late", 3_600, "too late")],
        events: vec![told(EventKind::StepStarted, "pick"), told(EventKind::StepCompleted, "pick")],
        ..Effects::of(record(run, 1, state))
    }
}

fn gated(run: RunId, key: &str) -> NewRun {
    let gate = Gate { key: key.into(), limit: 1, go: b"go".to_vec(), reject: None };
    NewRun { effects: rich(run, RunState::Pending), gate: Some(gate) }
}

async fn whole(store: &dyn Store, run: RunId) -> WholeRun {
    store.whole_run(run).await.expect("whole_run answers").expect("the run is kept")
}

fn take(runs: &[&WholeRun], mark: &str) -> TakeRuns {
    let (runs, mark) = (runs.iter().map(|run| run.seen()).collect(), mark.into());
    TakeRuns { runs, mark, from_rev: 0, body: b"carried".to_vec() }
}

async fn copied(store: &dyn Store, name: &str) -> u64 {
    let new = DocumentChange { name: name.into(), from_rev: 0, body: Some(b"copy".to_vec()), keep: None };
    match store.set_document(&new).await.expect("set_document") {
        DocumentSet::Done(rev) => rev,
        DocumentSet::Changed(kept) => panic!("{kept:?} is there"),
    }
}

/// Without the numbers that a store gives anew, and in an order of no meaning.
fn same(mut run: WholeRun) -> WholeRun {
    run.inbox.iter_mut().for_each(|(seq, _)| *seq = 0);
    run.gate.iter_mut().for_each(|gate| gate.turn = 0);
    run.values.sort_by(|a, b| a.0.cmp(&b.0));
    run.timers.sort();
    run
}

async fn facts(store: &dyn Store, run: RunId) -> Vec<String> {
    let work = store.take_dirty(100, Duration::ZERO).await.expect("take_dirty");
    let inbox = work.into_iter().filter(|work| work.record.id == run).flat_map(|work| work.inbox);
    inbox.map(|(_, fact)| String::from_utf8(fact).expect("text")).collect()
}

pub async fn a_run_is_taken_out_as_it_was_seen(subject: &Subject) {
    let store = &*subject.store;
    let run = run_id();
    assert_eq!(store.whole_run(run).await.expect("whole_run"), None);
    assert_eq!(start(store, gated(run, "k")).await, Enqueued::Created);
    let seen = whole(store, run).await;
    assert_eq!(seen.inbox.iter().map(|(_, fact)| fact.as_slice()).collect::<Vec<_>>(), [b"go"]);
    assert_eq!((seen.timers.len(), seen.values.len(), seen.finished), (2, 2, None));
    assert!(seen.gate.as_ref().is_some_and(|gate| gate.inside && gate.key == "k" && gate.limit == 1));
    assert_eq!(seen.history.iter().map(|(_, events)| events.len()).sum::<usize>(), 2);
    // What has come since was not seen.
    assert_eq!(store.inform(&[(run, b"news".to_vec())]).await.expect("inform"), [true]);
    assert!(!store.take_runs(&take(&[&seen], "m")).await.expect("take_runs"));
    let newer = whole(store, run).await;
    let advance = Advance {
        from_rev: 1,
        drained: Some(newer.seen().last),
        effects: Effects::of(record(run, 2, RunState::Running)),
    };
    let part = RunCommit { run, facts: vec![], advance: Some(advance) };
    commit(store, Commit { moves: vec![], run: Some(part) }).await;
    assert!(!store.take_runs(&take(&[&newer], "m")).await.expect("take_runs"));
    assert_eq!(store.document("m").await.expect("document"), None);
    let last = whole(store, run).await;
    assert_eq!((last.record.rev, last.inbox.len()), (2, 0));
    // A run that is not there is not taken along, and neither is what is beside it.
    let mut with_none = take(&[&last], "m");
    with_none.runs.push(SeenRun { id: run_id(), rev: 1, last: 0 });
    assert!(!store.take_runs(&with_none).await.expect("take_runs"));
    assert!(store.take_runs(&take(&[&last], "m")).await.expect("take_runs"));
    assert_eq!(store.document("m").await.expect("document").expect("the mark").body, b"carried");
    assert_eq!(store.run(run).await.expect("run"), None);
    assert_eq!(store.values(run, &["i".into()]).await.expect("values"), [None]);
    assert_eq!(store.history(run, None, 100_000).await.expect("history").0, []);
    assert_eq!(store.inform(&[(run, b"lost".to_vec())]).await.expect("inform"), [false]);
    assert!(store.take_dirty(10, Duration::ZERO).await.expect("take_dirty").is_empty());
    for finished in [false, true] {
        let query = RunQuery { finished, after: None, budget: 10 };
        assert!(store.runs(&query).await.expect("runs").items.is_empty());
    }
    subject.pass(Duration::from_secs(2)).await;
    assert_eq!(store.tick(10).await.expect("tick"), Ticked::default());
    // The mark was made once.
    let other = run_id();
    start(store, rich(other, RunState::Running).into()).await;
    let seen = whole(store, other).await;
    assert!(!store.take_runs(&take(&[&seen], "m")).await.expect("take_runs"));
    assert!(store.run(other).await.expect("run").is_some());
}

pub async fn runs_are_taken_by_the_right_of_a_mark_that_nobody_has_deleted(subject: &Subject) {
    let store = &*subject.store;
    let run = run_id();
    start(store, rich(run, RunState::Running).into()).await;
    let seen = whole(store, run).await;
    let by = |from_rev| TakeRuns { from_rev, ..take(&[&seen], "m") };
    let first = copied(store, "m").await;
    assert!(!store.take_runs(&by(first + 1)).await.expect("take_runs"));
    assert!(!store.take_runs(&by(0)).await.expect("take_runs"));
    let gone = DocumentChange { name: "m".into(), from_rev: first, body: None, keep: None };
    assert_eq!(store.set_document(&gone).await.expect("set_document"), DocumentSet::Done(0));
    assert!(!store.take_runs(&by(first)).await.expect("take_runs"));
    // Nor does the old right come back with a new mark.
    let second = copied(store, "m").await;
    assert!(!store.take_runs(&by(first)).await.expect("take_runs"));
    assert_eq!(store.document("m").await.expect("document").map(|kept| kept.rev), Some(second));
    assert!(store.take_runs(&by(second)).await.expect("take_runs"));
    let taken = store.document("m").await.expect("document").expect("the mark");
    assert!(taken.body == b"carried" && taken.rev > second, "{taken:?}");
    assert_eq!(store.run(run).await.expect("run"), None);
}

pub async fn a_run_is_put_in_as_it_was_and_once(subject: &Subject) {
    let store = &*subject.store;
    let (live, over) = (run_id(), run_id());
    start(store, gated(live, "k")).await;
    start(store, rich(over, RunState::Completed).into()).await;
    store.inform(&[(live, b"one".to_vec()), (over, b"late".to_vec()), (live, b"two".to_vec())]).await.expect("inform");
    let runs = vec![whole(store, live).await, whole(store, over).await];
    assert!(runs[1].finished.is_some() && runs[1].timers.is_empty());
    let rev = copied(store, "copy").await;
    let put = PutRuns { runs: runs.clone(), copy: "copy".into(), rev };
    // They are kept.
    assert!(!store.put_runs(&put).await.expect("put_runs"));
    assert!(store.document("copy").await.expect("document").is_some());
    assert!(store.take_runs(&take(&[&runs[0], &runs[1]], "m")).await.expect("take_runs"));
    assert!(!store.put_runs(&PutRuns { rev: rev + 1, ..put.clone() }).await.expect("put_runs"));
    assert_eq!(store.run(live).await.expect("run"), None);
    assert!(store.put_runs(&put).await.expect("put_runs"));
    assert_eq!(store.document("copy").await.expect("document"), None);
    for run in &runs {
        assert_eq!(same(whole(store, run.record.id).await), same(run.clone()));
    }
    let read = store.history(over, None, 100_000).await.expect("history").0;
    assert_eq!(
        read.iter().map(|event| event.kind).collect::<Vec<_>>(),
        [EventKind::StepStarted, EventKind::StepCompleted]
    );
    assert!(read.iter().all(|event| event.at > Ms(0)));
    assert_eq!(store.values(live, &["o/pick[3]".into(), "x".into()]).await.expect("values"), [Some(json("7")), None]);
    assert_eq!(facts(store, live).await, ["go", "one", "two"]);
    assert!(!store.put_runs(&put).await.expect("put_runs"));
    assert_eq!(facts(store, live).await, ["go", "one", "two"]);
    let listed = async |finished| {
        let page = store.runs(&RunQuery { finished, after: None, budget: 10 }).await.expect("runs");
        page.items.into_iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!((listed(false).await, listed(true).await), (vec![live], vec![over]));
    // Its timer goes off in its time, and what had ended is trimmed by its own age.
    subject.pass(Duration::from_secs(2)).await;
    let ticked = store.tick(10).await.expect("tick");
    assert!(ticked.fired == 1 && ticked.next_due.is_some(), "{ticked:?}");
    assert_eq!(facts(store, live).await, ["go", "one", "two", "it is time"]);
    let age = Retention { age: Duration::from_secs(1), count: 100 };
    assert_eq!(store.trim(age, 100).await.expect("trim").runs, 1);
    assert_eq!(store.whole_run(over).await.expect("whole_run"), None);
    // A step that was leased where the run was is leased later than that here.
    let (now, _) = store.schedules().await.expect("schedules");
    let worker = hired(store).await;
    super::make::put(store, job()).await;
    let others = Epoch::above_others(Ms(now.0 - 60_000));
    assert!(claim_one(store, worker).await.epoch > others);
}

pub async fn those_at_one_gate_go_together(subject: &Subject) {
    let store = &*subject.store;
    let ids = [run_id(), run_id(), run_id()];
    for run in ids {
        start(store, gated(run, "k")).await;
    }
    let mut runs = Vec::new();
    for run in ids {
        runs.push(whole(store, run).await);
    }
    assert_eq!(runs.iter().filter(|run| run.gate.as_ref().is_some_and(|gate| gate.inside)).count(), 1);
    for some in [&[&runs[0]][..], &[&runs[1], &runs[2]], &[&runs[0], &runs[2]]] {
        assert!(!store.take_runs(&take(some, "m")).await.expect("take_runs"));
    }
    assert!(store.take_runs(&take(&[&runs[0], &runs[1], &runs[2]], "m")).await.expect("take_runs"));
    // Nobody is left at the gate: who comes now is in at once.
    let next = run_id();
    start(store, gated(next, "k")).await;
    assert_eq!(facts(store, next).await, ["go"]);
    let own = whole(store, next).await;
    assert!(store.take_runs(&take(&[&own], "n")).await.expect("take_runs"));
    let rev = copied(store, "copy").await;
    assert!(store.put_runs(&PutRuns { runs: runs.clone(), copy: "copy".into(), rev }).await.expect("put_runs"));
    for run in &runs {
        assert_eq!(same(whole(store, run.record.id).await), same(run.clone()));
    }
    // In the order in which they came.
    let end = async |run| {
        let effects = Effects::of(record(run, 2, RunState::Completed));
        let advance = Some(Advance { from_rev: 1, drained: None, effects });
        commit(store, Commit { moves: vec![], run: Some(RunCommit { run, facts: vec![], advance }) }).await
    };
    for (run, behind) in [(ids[0], &ids[1..]), (ids[1], &ids[2..])] {
        for waiting in behind {
            assert_eq!(facts(store, *waiting).await, Vec::<String>::new());
        }
        end(run).await;
        assert_eq!(facts(store, behind[0]).await, ["go"]);
    }
    end(ids[2]).await;
    let last = run_id();
    start(store, gated(last, "k")).await;
    assert_eq!(facts(store, last).await, ["go"]);
}

pub async fn a_log_goes_with_its_copy(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let first = put(store, job()).await;
    let claimed = claim_one(store, worker).await;
    for text in ["one\n", "two\n"] {
        let note = Note { id: first, epoch: claimed.epoch, progress: None, log: text.into() };
        assert_eq!(store.note(&[note]).await.expect("note"), [true]);
    }
    let log = store.log(first, 0).await.expect("log");
    assert_eq!(log.chunks.len(), 2);
    let copy = goflow::domain::Job { rev: 7, ..job() };
    assert_eq!(enqueue(store, vec![later(copy.clone(), Duration::from_secs(60))]).await, [Enqueued::Created]);
    assert!(!store.keep_log(copy.id, 6, &log).await.expect("keep_log"));
    assert!(!store.keep_log(job_id(), 7, &log).await.expect("keep_log"));
    assert!(!store.keep_log(first, claimed.job.rev, &log).await.expect("keep_log"));
    assert_eq!(store.log(copy.id, 0).await.expect("log"), JobLog::default());
    for _ in 0..2 {
        assert!(store.keep_log(copy.id, 7, &log).await.expect("keep_log"));
        assert_eq!(store.log(copy.id, 0).await.expect("log"), log);
        assert_eq!(store.log(copy.id, 1).await.expect("log").chunks, log.chunks[1..]);
    }
    // It goes on where it was.
    let step = idle(&stored(store, copy.id).await, goflow::domain::To::Pending, EventKind::JobMoved);
    assert_eq!(make(store, step).await, Moved::Applied);
    let again = claim_one(store, worker).await;
    let note = Note { id: copy.id, epoch: again.epoch, progress: None, log: "three\n".into() };
    assert_eq!(store.note(&[note]).await.expect("note"), [true]);
    let texts: Vec<String> =
        store.log(copy.id, 0).await.expect("log").chunks.into_iter().map(|chunk| chunk.text).collect();
    assert_eq!(texts, ["one\n", "two\n", "three\n"]);
    assert_eq!(place(store, copy.id).await, Place::Running);
    // No more of it is kept than of any.
    let large = |seq| LogChunk { seq, at: BIRTH, epoch: claimed.epoch, text: "x".repeat(40_000) };
    let long = JobLog { chunks: (1..=40).map(large).collect(), truncated: false };
    let copy = goflow::domain::Job { rev: 7, ..job() };
    enqueue(store, vec![later(copy.clone(), Duration::from_secs(60))]).await;
    assert!(store.keep_log(copy.id, 7, &long).await.expect("keep_log"));
    let kept = store.log(copy.id, 0).await.expect("log");
    let bytes: usize = kept.chunks.iter().map(|chunk| chunk.text.len()).sum();
    assert!(kept.truncated && kept.chunks.last() == long.chunks.last() && bytes <= 1 << 20, "{bytes}");
    // What was dropped where it was is dropped here, whatever its chunks are numbered.
    for first in [1, 7] {
        let numbered = |nth: u64| LogChunk { seq: first + nth, text: format!("{nth}\n"), ..large(1) };
        let log = JobLog { chunks: (0..3).map(numbered).collect(), truncated: true };
        let copy = goflow::domain::Job { rev: 7, ..job() };
        enqueue(store, vec![later(copy.clone(), Duration::from_secs(60))]).await;
        assert!(store.keep_log(copy.id, 7, &log).await.expect("keep_log"));
        let kept = store.log(copy.id, 0).await.expect("log");
        assert!(kept.truncated, "{kept:?}");
        assert_eq!(kept.chunks.iter().map(|chunk| chunk.text.as_str()).collect::<Vec<_>>(), ["0\n", "1\n", "2\n"]);
        let step = idle(&stored(store, copy.id).await, goflow::domain::To::Pending, EventKind::JobMoved);
        assert_eq!(make(store, step).await, Moved::Applied);
        let claimed = claim_one(store, worker).await;
        let note = Note { id: copy.id, epoch: claimed.epoch, progress: None, log: "3\n".into() };
        assert_eq!(store.note(&[note]).await.expect("note"), [true]);
        let kept = store.log(copy.id, 0).await.expect("log");
        assert!(kept.truncated && kept.chunks.len() == 4, "{kept:?}");
    }
}
