//! The laws of runs: an outcome and what follows from it are one commit, or the outcome waits.

use std::time::Duration;

use goflow::domain::job::Concurrency;
use goflow::domain::{Epoch, Event, EventKind, Job, Json, RunId, RunState, WorkerId};
use goflow::store::*;

use super::backends::Subject;
use super::looks::all_events;
use super::make::*;

const LONG: Duration = Duration::from_secs(600);

/// Starts a run with one step and gives its id.
async fn started(store: &dyn Store) -> RunId {
    let run = run_id();
    start(store, effects(record(run, 1, RunState::Running), vec![step_job(run, "one")])).await;
    run
}

async fn start(store: &dyn Store, effects: Effects) {
    let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![], runs: vec![effects.into()] };
    assert_eq!(store.enqueue(&batch).await.expect("enqueue answers").runs, [Enqueued::Created]);
}

fn step_done(claimed: &Claimed, from_rev: u64, next: Vec<Job>) -> Commit {
    let run = claimed.job.link.as_ref().expect("a step").run;
    let effects = effects(record(run, from_rev + 1, RunState::Running), next);
    let advance = Some(Advance { from_rev, drained: None, effects });
    Commit {
        moves: vec![settle(claimed, done())],
        run: Some(RunCommit { run, facts: vec![format!("done {}", claimed.epoch).into_bytes()], advance }),
    }
}

async fn rev(store: &dyn Store, run: RunId) -> u64 {
    store.run(run).await.expect("run answers").expect("the run is kept").rev
}

async fn dirty(store: &dyn Store) -> Vec<RunWork> {
    store.take_dirty(10, LONG).await.expect("take_dirty answers")
}

pub async fn a_run_starts_once(subject: &Subject) {
    let store = &*subject.store;
    let run = run_id();
    let mut first = effects(record(run, 1, RunState::Running), vec![step_job(run, "one"), step_job(run, "two")]);
    first.values = vec![("input".into(), Json::parse("[1]", 9).expect("JSON"))];
    first.events = vec![Event { run: Some(run), ..Event::new(EventKind::RunStarted) }];
    let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![now(job())], runs: vec![first.clone().into()] };
    let answer = store.enqueue(&batch).await.expect("enqueue answers");
    assert_eq!((answer.jobs, answer.runs), (vec![Enqueued::Created], vec![Enqueued::Created]));
    let other = Enqueue { producer: producer(), sequence: 1, jobs: vec![], runs: vec![first.clone().into()] };
    assert_eq!(store.enqueue(&other).await.expect("enqueue answers").runs, [Enqueued::Exists]);
    assert_eq!(store.run(run).await.expect("run"), Some(first.record.clone()));
    assert_eq!(store.run(run_id()).await.expect("run"), None);
    let keys = ["input".to_owned(), "nothing".to_owned()];
    let values = store.values(run, &keys).await.expect("values");
    assert_eq!(values, [Some(Json::parse("[1]", 9).expect("JSON")), None]);
    let worker = hired(store).await;
    let claimed = claim(store, worker, 9).await;
    assert_eq!(claimed.len(), 3);
    let records: Vec<_> = claimed.iter().map(|one| one.run.as_deref()).collect();
    assert_eq!(records, [None, Some(&first.record), Some(&first.record)]);
    let history = store.history(run, None, 100_000).await.expect("history").0;
    assert_eq!(history.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::RunStarted]);
    assert!(history[0].at.0 > 0);
}

pub async fn a_step_and_its_advance_are_one_commit(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let run = started(store).await;
    let first = claim_one(store, worker).await;
    let mut step = step_done(&first, 1, vec![step_job(run, "two")]);
    if let Some(advance) = step.run.as_mut().and_then(|part| part.advance.as_mut()) {
        advance.effects.events = vec![Event { run: Some(run), ..Event::new(EventKind::StepCompleted) }];
        advance.effects.values = vec![("one".into(), Json::null())];
    }
    // One round trip: the settle, the advance, and the claim of what follows.
    let answer = exchange(store, vec![step], Some(wish(worker, &["default"], 5))).await;
    let advanced = Committed { moves: vec![Moved::Applied], run: RunAnswer::Advanced { more: false } };
    assert_eq!(answer.commits, [advanced]);
    assert!(!answer.dirty);
    assert_eq!(answer.claimed.len(), 1);
    assert_eq!(answer.claimed[0].run.as_ref().map(|record| record.rev), Some(2));
    assert_eq!(store.history(run, None, 100_000).await.expect("history").0.len(), 1);
    let kinds: Vec<_> = all_events(store).await.into_iter().map(|event| event.kind).collect();
    assert!(kinds.contains(&EventKind::StepCompleted), "{kinds:?}");
    assert!(dirty(store).await.is_empty());
}

pub async fn a_history_is_told_a_part_at_a_time_and_goes_on_from_there(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let run = run_id();
    let mut first = effects(record(run, 1, RunState::Running), vec![step_job(run, "one")]);
    let happened = |kind, step: &str| Event { run: Some(run), step: Some(step.to_owned()), ..Event::new(kind) };
    first.events = (0..5).map(|nth| happened(EventKind::StepStarted, &format!("s{nth}"))).collect();
    start(store, first).await;
    let (mut told, mut after) = (Vec::new(), None);
    for _ in 0..9 {
        let (events, next) = store.history(run, after.as_ref(), 2).await.expect("history");
        // Fewer are the last.
        let is_last = events.len() < 2;
        told.extend(events);
        after = Some(next);
        if is_last {
            break;
        }
    }
    let (whole, end) = store.history(run, None, 100_000).await.expect("history");
    assert_eq!((whole.len(), &told), (5, &whole));
    for end in [after.expect("a cursor"), end] {
        assert_eq!(store.history(run, Some(&end), 2).await.expect("history").0, []);
    }
    let (nothing, before) = store.history(run_id(), None, 2).await.expect("history");
    assert_eq!(
        (nothing, store.history(run, Some(&before), 100_000).await.expect("history").0),
        (vec![], whole.clone())
    );

    let (_, end) = store.history(run, None, 100_000).await.expect("history");
    let claimed = claim_one(store, worker).await;
    let mut step = step_done(&claimed, 1, vec![]);
    if let Some(advance) = step.run.as_mut().and_then(|part| part.advance.as_mut()) {
        advance.effects.events =
            vec![happened(EventKind::StepCompleted, "one"), happened(EventKind::StepStarted, "two")];
    }
    commit(store, step).await;
    let (news, _) = store.history(run, Some(&end), 100_000).await.expect("history");
    assert_eq!(
        news.iter().map(|event| event.kind).collect::<Vec<_>>(),
        [EventKind::StepCompleted, EventKind::StepStarted]
    );
    assert_eq!(store.history(run, None, 100_000).await.expect("history").0, [whole, news].concat());
    let strange = store.history(run, Some(&Cursor("nowhere".into())), 2).await;
    assert!(matches!(strange, Err(StoreError::Refused(_))), "{strange:?}");
}

pub async fn a_step_that_is_given_at_once_wakes_nobody(subject: &Subject) {
    let store = &*subject.store;
    let (worker, mut hints) = (hired(store).await, store.hints());
    // Until a subscription is made, hints are lost.
    for nth in 0.. {
        assert!(nth < 200, "no hint came");
        put(store, job_in("other", "email")).await;
        if told(&mut hints, Duration::from_millis(100)).await {
            break;
        }
    }
    let run = started(store).await;
    let mut step = claim_one(store, worker).await;
    while told(&mut hints, Duration::from_millis(300)).await {}
    for rev in 1..=3 {
        let commits = vec![step_done(&step, rev, vec![step_job(run, "next")])];
        step = exchange(store, commits, Some(wish(worker, &["default"], 5))).await.claimed.remove(0);
    }
    assert!(!told(&mut hints, Duration::from_millis(500)).await, "nobody but the claimant has anything to do");
    let two = || vec![step_job(run, "one"), step_job(run, "another")];
    let commits = vec![step_done(&step, 4, two())];
    step = exchange(store, commits, Some(wish(worker, &["default"], 1))).await.claimed.remove(0);
    assert!(told(&mut hints, Duration::from_secs(20)).await, "one is left");
    while told(&mut hints, Duration::from_millis(300)).await {}
    let mut next = two();
    next[0].queue = name("other");
    let commits = vec![step_done(&step, 5, next)];
    step = exchange(store, commits, Some(wish(worker, &["default"], 1))).await.claimed.remove(0);
    assert!(told(&mut hints, Duration::from_secs(20)).await, "one is for others");

    // Whom the end of a key lets go may be anywhere.
    let keyed = |job| Job { concurrency: Some(Concurrency { key: "k".into(), limit: 1 }), ..job };
    let rest = exchange(store, vec![step_done(&step, 6, vec![keyed(step_job(run, "first"))])], None).await;
    assert_eq!(rest.commits[0].run, RunAnswer::Advanced { more: false });
    let step = claim(store, worker, 9).await.pop().expect("the one with a key is the last");
    put(store, keyed(job_in("third", "email"))).await;
    assert!(exchange(store, vec![], Some(wish(worker, &["third"], 1))).await.claimed.is_empty());
    while told(&mut hints, Duration::from_millis(300)).await {}
    let commits = vec![step_done(&step, 7, vec![step_job(run, "second")])];
    exchange(store, commits, Some(wish(worker, &["default"], 5))).await;
    assert!(told(&mut hints, Duration::from_secs(20)).await, "the next of the key is for others");

    // So is the next after a job that is no step.
    let first = claim_one_of(store, worker, "third").await;
    put(store, keyed(job_in("fourth", "email"))).await;
    assert!(exchange(store, vec![], Some(wish(worker, &["fourth"], 1))).await.claimed.is_empty());
    while told(&mut hints, Duration::from_millis(300)).await {}
    exchange(store, vec![alone(settle(&first, done()))], Some(wish(worker, &["third"], 5))).await;
    assert!(told(&mut hints, Duration::from_secs(20)).await, "the next of the key is for others");
}

async fn claim_one_of(store: &dyn Store, worker: WorkerId, queue: &str) -> Claimed {
    let mut claimed = exchange(store, vec![], Some(wish(worker, &[queue], 1))).await.claimed;
    assert_eq!(claimed.len(), 1, "one job waits in {queue}");
    claimed.remove(0)
}

/// Whether a hint comes within so long.
async fn told(hints: &mut tokio::sync::watch::Receiver<u64>, within: Duration) -> bool {
    tokio::time::timeout(within, hints.changed()).await.is_ok_and(|hint| hint.is_ok())
}

pub async fn a_contended_run_keeps_the_fact_in_its_inbox(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let run = run_id();
    let steps = ["a", "b", "c"].map(|step| step_job(run, step)).to_vec();
    start(store, effects(record(run, 1, RunState::Running), steps)).await;
    let claimed = claim(store, worker, 3).await;
    let follow = step_job(run, "follow");
    let commits = claimed.iter().map(|one| step_done(one, 1, vec![])).collect();
    let answer = exchange(store, commits, None).await;
    let outcomes: Vec<_> = answer.commits.iter().map(|one| (one.moves[0], one.run)).collect();
    let expected = [RunAnswer::Advanced { more: false }, RunAnswer::Inboxed, RunAnswer::Inboxed];
    assert_eq!(outcomes, expected.map(|run| (Moved::Applied, run)));
    assert!(answer.dirty);
    let work = dirty(store).await;
    assert_eq!(work.len(), 1);
    assert_eq!(work[0].record.rev, 2);
    let facts: Vec<_> = work[0].inbox.iter().map(|(_, fact)| String::from_utf8_lossy(fact).into_owned()).collect();
    assert_eq!(facts, [format!("done {}", claimed[1].epoch), format!("done {}", claimed[2].epoch)]);
    assert!(dirty(store).await.is_empty(), "a taken run is hidden from others");
    assert!(!exchange(store, vec![], Some(wish(worker, &["default"], 1))).await.dirty);
    let drained = work[0].inbox.last().map(|(seq, _)| *seq);
    let effects = effects(record(run, 3, RunState::Running), vec![follow.clone()]);
    let part = RunCommit { run, facts: vec![], advance: Some(Advance { from_rev: 2, drained, effects }) };
    let answer = commit(store, Commit { moves: vec![], run: Some(part) }).await;
    assert_eq!(answer.run, RunAnswer::Advanced { more: false });
    assert_eq!(claim_one(store, worker).await.job.id, follow.id);
}

pub async fn a_stale_move_takes_no_advance_along(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let run = run_id();
    start(store, effects(record(run, 1, RunState::Running), vec![step_job(run, "a"), step_job(run, "b")])).await;
    let claimed = claim(store, worker, 2).await;
    let stale = settle_at(&claimed[0], Epoch(claimed[0].epoch.0 + 1_000), done());
    let advance = Advance {
        from_rev: 1,
        drained: None,
        effects: effects(record(run, 2, RunState::Running), vec![step_job(run, "c")]),
    };
    let both = RunCommit { run, facts: vec![b"a".to_vec(), b"b".to_vec()], advance: Some(advance.clone()) };
    let moves = vec![stale.clone(), settle(&claimed[1], done())];
    let answer = commit(store, Commit { moves, run: Some(both) }).await;
    assert_eq!(answer, Committed { moves: vec![Moved::Stale, Moved::Applied], run: RunAnswer::Inboxed });
    assert_eq!(rev(store, run).await, 1);
    let facts: Vec<_> = dirty(store).await.remove(0).inbox.into_iter().map(|(_, fact)| fact).collect();
    assert_eq!(facts, [b"b".to_vec()], "only what happened is told");
    let only = RunCommit { run, facts: vec![b"a".to_vec()], advance: Some(advance) };
    let answer = commit(store, Commit { moves: vec![stale], run: Some(only) }).await;
    assert_eq!(answer, Committed { moves: vec![Moved::Stale], run: RunAnswer::Contended });
    assert!(claim(store, worker, 9).await.is_empty());
}

pub async fn a_drain_that_lost_the_race_changes_nothing(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let run = started(store).await;
    let step = claim_one(store, worker).await;
    let part = RunCommit { run, facts: vec![b"fact".to_vec()], advance: None };
    let answer = commit(store, Commit { moves: vec![settle(&step, done())], run: Some(part) }).await;
    assert_eq!(answer.run, RunAnswer::Inboxed);
    let work = dirty(store).await.remove(0);
    let drain = |from_rev: u64, step: &str| {
        let effects = effects(record(run, from_rev + 1, RunState::Running), vec![step_job(run, step)]);
        let drained = work.inbox.last().map(|(seq, _)| *seq);
        let advance = Some(Advance { from_rev, drained, effects });
        Commit { moves: vec![], run: Some(RunCommit { run, facts: vec![], advance }) }
    };
    assert_eq!(commit(store, drain(1, "two")).await.run, RunAnswer::Advanced { more: false });
    assert_eq!(commit(store, drain(1, "two again")).await.run, RunAnswer::Contended);
    assert_eq!(rev(store, run).await, 2);
    assert_eq!(claim(store, worker, 9).await.len(), 1);
}

pub async fn facts_that_come_during_a_drain_are_not_lost(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let run = run_id();
    start(store, effects(record(run, 1, RunState::Running), vec![step_job(run, "a"), step_job(run, "b")])).await;
    let claimed = claim(store, worker, 2).await;
    let tell = |claimed: &Claimed, fact: &str| Commit {
        moves: vec![settle(claimed, done())],
        run: Some(RunCommit { run, facts: vec![fact.as_bytes().to_vec()], advance: None }),
    };
    commit(store, tell(&claimed[0], "a")).await;
    let work = dirty(store).await.remove(0);
    commit(store, tell(&claimed[1], "b")).await;
    assert!(dirty(store).await.is_empty(), "the one who took the run will see it");
    let drained = work.inbox.last().map(|(seq, _)| *seq);
    let advance = Advance { from_rev: 1, drained, effects: effects(record(run, 2, RunState::Running), vec![]) };
    let part = RunCommit { run, facts: vec![], advance: Some(advance) };
    let answer = commit(store, Commit { moves: vec![], run: Some(part) }).await;
    assert_eq!(answer.run, RunAnswer::Advanced { more: true });
    let facts: Vec<_> = dirty(store).await.remove(0).inbox.into_iter().map(|(_, fact)| fact).collect();
    assert_eq!(facts, [b"b".to_vec()]);
}

pub async fn timers_fire_into_the_inbox(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let run = run_id();
    let timer = |key: &str, ms, fact: &str| Timer {
        key: key.into(),
        delay: Duration::from_millis(ms),
        fact: fact.as_bytes().to_vec(),
    };
    let mut first = effects(record(run, 1, RunState::Running), vec![]);
    first.timers = vec![timer("soon", 200, "soon"), timer("later", 600_000, "later"), timer("soon", 300, "set again")];
    start(store, first).await;
    let ticked = store.tick(10).await.expect("tick");
    assert_eq!(ticked.fired, 0);
    let next = ticked.next_due.expect("a timer waits");
    assert_eq!(exchange(store, vec![], Some(wish(worker, &["default"], 1))).await.next_due, Some(next));
    subject.pass(Duration::from_millis(600)).await;
    assert_eq!(store.tick(10).await.expect("tick").fired, 1);
    assert_eq!(store.tick(10).await.expect("tick").fired, 0);
    let work = dirty(store).await;
    let facts: Vec<_> = work[0].inbox.iter().map(|(_, fact)| fact.clone()).collect();
    assert_eq!(facts, [b"set again".to_vec()]);
}

pub async fn dropped_timers_do_not_fire(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let run = run_id();
    let timer = |key: &str| Timer { key: key.into(), delay: Duration::from_millis(100), fact: key.as_bytes().to_vec() };
    let mut first = effects(record(run, 1, RunState::Running), vec![step_job(run, "one")]);
    first.timers = vec![timer("dropped"), timer("kept")];
    start(store, first).await;
    let step = claim_one(store, worker).await;
    let mut next = step_done(&step, 1, vec![]);
    if let Some(advance) = next.run.as_mut().and_then(|part| part.advance.as_mut()) {
        advance.effects.drop_timers = vec!["dropped".into()];
    }
    commit(store, next).await;
    let over = run_id();
    let mut ended = effects(record(over, 1, RunState::Completed), vec![]);
    ended.timers = vec![];
    start(store, ended).await;
    subject.pass(Duration::from_millis(300)).await;
    assert_eq!(store.tick(10).await.expect("tick").fired, 1);
    let facts: Vec<_> = dirty(store).await.remove(0).inbox.into_iter().map(|(_, fact)| fact).collect();
    assert_eq!(facts, [b"kept".to_vec()]);
}

pub async fn a_finished_run_is_listed_and_trimmed(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let live = started(store).await;
    let run = started(store).await;
    let mut claimed = claim(store, worker, 2).await;
    let mut last = step_done(&claimed.remove(1), 1, vec![]);
    if let Some(advance) = last.run.as_mut().and_then(|part| part.advance.as_mut()) {
        advance.effects.record.state = RunState::Completed;
        advance.effects.values = vec![("one".into(), Json::null())];
        advance.effects.events = vec![Event { run: Some(run), ..Event::new(EventKind::RunCompleted) }];
    }
    commit(store, last).await;
    let page = |finished| RunQuery { finished, after: None, budget: 10 };
    let listed = |page: Page<RunRecord>| page.items.into_iter().map(|record| record.id).collect::<Vec<_>>();
    assert_eq!(listed(store.runs(&page(false)).await.expect("runs")), [live]);
    assert_eq!(listed(store.runs(&page(true)).await.expect("runs")), [run]);
    let hex = run.to_string().replace('-', "");
    assert_eq!(store.find_runs(&hex[22..], 9).await.expect("find_runs"), [run]);
    let keep = |age| Retention { age, count: 100 };
    assert_eq!(store.trim(keep(LONG), 100).await.expect("trim").runs, 0);
    subject.pass(Duration::from_millis(50)).await;
    assert_eq!(store.trim(keep(Duration::from_millis(20)), 100).await.expect("trim").runs, 1);
    assert_eq!(store.run(run).await.expect("run"), None);
    assert_eq!(store.values(run, &["one".to_owned()]).await.expect("values"), [None]);
    assert_eq!(store.history(run, None, 100_000).await.expect("history").0, []);
    assert!(store.run(live).await.expect("run").is_some());
}

pub async fn a_step_of_a_vanished_run_settles_alone(subject: &Subject) {
    let store = &*subject.store;
    let worker = hired(store).await;
    let run = run_id();
    put(store, step_job(run, "orphan")).await;
    let claimed = claim_one(store, worker).await;
    assert_eq!(claimed.run, None);
    let answer = commit(store, step_done(&claimed, 1, vec![step_job(run, "next")])).await;
    assert_eq!(answer, Committed { moves: vec![Moved::Applied], run: RunAnswer::Gone });
    assert!(claim(store, worker, 9).await.is_empty());
    assert!(dirty(store).await.is_empty());
}
