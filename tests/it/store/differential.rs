//! Random operations on a backend and on the reference store at once: every answer must agree. Only
//! what does not depend on the time of day is done here; time is the business of the laws.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use goflow::domain::job::Outcome;
use goflow::domain::{Epoch, EventKind, JobId, Place, QueueSettings, RunState, To, WorkerId};
use goflow::store::*;

use super::backends::{Subject, TestClock};
use super::make::*;

const LONG: Duration = Duration::from_secs(600);
const STEPS: usize = 400;

/// Numbers that depend on the seed alone (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.roll(from.len())) }
    }
}

/// The same job leased on both stores: epochs differ, so each keeps its own.
struct Held {
    ours: Claimed,
    theirs: Claimed,
}

pub async fn agrees_with_the_reference_store(subject: &Subject) {
    let seed = std::env::var("GOFLOW_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_209);
    println!("GOFLOW_SEED={seed}");
    let mut dice = Dice(seed);
    let ours = &*subject.store;
    let clock = TestClock::new();
    let reference: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
    let theirs = &*reference;
    let worker = worker();
    beat(ours, worker, LONG).await;
    beat(theirs, worker, LONG).await;
    let mut held: Vec<Held> = Vec::new();
    let mut runs: BTreeMap<goflow::domain::RunId, u64> = BTreeMap::new();
    let mut everything: Vec<JobId> = Vec::new();

    for step in 0..STEPS {
        let context = format!("seed {seed}, step {step}");
        clock.advance(Duration::from_millis(2));
        match dice.roll(10) {
            0 | 1 => {
                let batch = random_batch(&mut dice, &mut runs, &mut everything);
                let answer = ours.enqueue(&batch).await.expect("enqueue");
                assert_eq!(answer, theirs.enqueue(&batch).await.expect("enqueue"), "{context}");
                if dice.roll(4) == 0 {
                    assert_eq!(ours.enqueue(&batch).await.expect("enqueue"), answer, "{context}: sent again");
                }
            }
            2..=6 => {
                let settles = random_settles(&mut dice, &mut held, &mut runs);
                let claim = random_claim(&mut dice, worker, held.is_empty() && settles.is_empty());
                let (our_commits, their_commits) = settles.into_iter().unzip();
                let a = exchange(ours, our_commits, Some(claim.clone())).await;
                let b = exchange(theirs, their_commits, Some(claim)).await;
                assert_eq!(a.commits, b.commits, "{context}");
                assert_eq!((a.suspects, a.dirty), (b.suspects, b.dirty), "{context}");
                let ids = |claimed: &[Claimed]| claimed.iter().map(|one| one.job.clone()).collect::<Vec<_>>();
                assert_eq!(ids(&a.claimed), ids(&b.claimed), "{context}");
                let revs = |claimed: &[Claimed]| claimed.iter().map(|one| one.run.clone()).collect::<Vec<_>>();
                assert_eq!(revs(&a.claimed), revs(&b.claimed), "{context}");
                held.extend(a.claimed.into_iter().zip(b.claimed).map(|(ours, theirs)| Held { ours, theirs }));
            }
            7 => {
                if let Some(id) = dice.pick(&everything).copied() {
                    let to = [To::Pending, To::Front, To::Cancelled, To::Dead, To::Gone][dice.roll(5)];
                    let (a, b) = (kept(ours, id).await, kept(theirs, id).await);
                    assert_eq!(a.as_ref().map(|one| one.place), b.as_ref().map(|one| one.place), "{context}");
                    let (Some(a), Some(b)) = (a, b) else { continue };
                    let kind = EventKind::JobRequeued;
                    assert_eq!(
                        make(ours, idle(&a, to, kind)).await,
                        make(theirs, idle(&b, to, kind)).await,
                        "{context}"
                    );
                }
            }
            8 => {
                let queue = name(["a", "b"][dice.roll(2)]);
                let settings = QueueSettings { paused: dice.roll(3) == 0, ..QueueSettings::default() };
                ours.set_queue(&queue, &settings).await.expect("set");
                theirs.set_queue(&queue, &settings).await.expect("set");
            }
            _ => {
                let work = |store: Vec<RunWork>| {
                    let facts =
                        |work: RunWork| (work.record, work.inbox.into_iter().map(|(_, fact)| fact).collect::<Vec<_>>());
                    let mut work: Vec<_> = store.into_iter().map(facts).collect();
                    work.sort_by_key(|(record, _)| record.id);
                    work
                };
                let a = ours.take_dirty(1_000, Duration::ZERO).await.expect("take_dirty");
                let b = theirs.take_dirty(1_000, Duration::ZERO).await.expect("take_dirty");
                assert_eq!(work(a.clone()), work(b.clone()), "{context}");
                for one in a {
                    let Some(other) = b.iter().find(|other| other.record.id == one.record.id) else { continue };
                    let upto = |work: &RunWork| work.inbox.last().map(|(seq, _)| *seq);
                    let (first, second) = (drain(&one.record, upto(&one)), drain(&one.record, upto(other)));
                    assert_eq!(commit(ours, first).await, commit(theirs, second).await, "{context}");
                    runs.insert(one.record.id, one.record.rev + 1);
                }
            }
        }
        if step % 20 == 0 || step + 1 == STEPS {
            compare(ours, theirs, &context).await;
        }
    }
    assert!(everything.len() > 200, "the seed did too little");
}

async fn kept(store: &dyn Store, id: JobId) -> Option<Stored> {
    let stored = store.get(&[id]).await.expect("get").remove(0)?;
    (stored.place != Place::Running).then_some(stored)
}

fn random_batch(
    dice: &mut Dice,
    runs: &mut BTreeMap<goflow::domain::RunId, u64>,
    everything: &mut Vec<JobId>,
) -> Enqueue {
    let mut jobs = Vec::new();
    for _ in 0..dice.roll(12) {
        let mut job = job_in(["a", "b"][dice.roll(2)], ["noop", "exotic"][dice.roll(2)]);
        job.priority = [0, 0, 0, 5, -5][dice.roll(5)];
        job.unique_key = (dice.roll(5) == 0).then(|| format!("key {}", dice.roll(4)));
        everything.push(job.id);
        jobs.push(if dice.roll(8) == 0 { later(job, LONG) } else { now(job) });
    }
    let mut started = Vec::new();
    for _ in 0..dice.roll(3) {
        let run = run_id();
        runs.insert(run, 1);
        let steps =
            (0..dice.roll(4)).map(|n| goflow::domain::Job { queue: name("a"), ..step_job(run, &format!("s{n}")) });
        started.push(effects(record(run, 1, RunState::Running), steps.collect()).into());
    }
    Enqueue { producer: producer(), sequence: 1, jobs, runs: started }
}

fn random_claim(dice: &mut Dice, worker: WorkerId, alone: bool) -> Claim {
    let queues: &[&str] = [&["a", "b"][..], &["b", "a"], &["a"], &[]][dice.roll(4)];
    Claim { alone, ..wish(worker, queues, dice.roll(9)) }
}

/// Settles some of what is held, on both stores, sometimes with a wrong epoch.
fn random_settles(
    dice: &mut Dice,
    held: &mut Vec<Held>,
    runs: &mut BTreeMap<goflow::domain::RunId, u64>,
) -> Vec<(Commit, Commit)> {
    let mut settles = Vec::new();
    for _ in 0..dice.roll(6) {
        if held.is_empty() {
            break;
        }
        let one = held.swap_remove(dice.roll(held.len()));
        let mut outcome = match dice.roll(7) {
            0 => Outcome::Released,
            1 => Outcome::Unhandled,
            2 => Outcome::Crashed,
            3 => hopeless(),
            4 => failed(),
            _ => done(),
        };
        if matches!(outcome, Outcome::Crashed) && one.ours.job.crashes.len() == 2 {
            outcome = done();
        }
        let wrong = dice.roll(8) == 0;
        let run = one.ours.job.link.as_ref().map(|link| link.run);
        let guess = run.map(|run| runs.get(&run).copied().unwrap_or(1).saturating_sub(dice.roll(2) as u64));
        if let (Some(run), Some(guess)) = (run, guess)
            && !wrong
            && runs.get(&run) == Some(&guess)
        {
            runs.insert(run, guess + 1);
        }
        let next = step_job(run.unwrap_or_default(), "next");
        let mut both = [&one.ours, &one.theirs].map(|claimed| {
            let epoch = if wrong { Epoch(claimed.epoch.0 + 1_000_000) } else { claimed.epoch };
            let mut step = settle_at(claimed, epoch, outcome.clone());
            // Long delays, so that the clocks do not matter.
            if let To::Retrying(_) = step.to {
                step.to = To::Retrying(LONG);
            }
            let part = run.zip(guess).map(|(run, from_rev)| RunCommit {
                run,
                facts: vec![format!("fact of {}", step.job.id).into_bytes()],
                advance: Some(Advance {
                    from_rev,
                    drained: None,
                    effects: effects(record(run, from_rev + 1, RunState::Running), vec![next.clone()]),
                }),
            });
            Commit { moves: vec![step], run: part }
        });
        // An epoch is in no record that is compared, except in the job's own.
        for commit in &mut both {
            for step in &mut commit.moves {
                step.job.epoch = Epoch(1);
                step.job.history.clear();
            }
        }
        let [a, b] = both;
        settles.push((a, b));
        if wrong {
            held.push(one);
        }
    }
    settles
}

fn drain(from: &RunRecord, drained: Option<u64>) -> Commit {
    let effects = effects(record(from.id, from.rev + 1, RunState::Running), vec![]);
    let advance = Some(Advance { from_rev: from.rev, drained, effects });
    Commit { moves: vec![], run: Some(RunCommit { run: from.id, facts: vec![], advance }) }
}

/// Everything that can be looked at is the same.
pub async fn compare(ours: &dyn Store, theirs: &dyn Store, context: &str) {
    let counted = |mut stats: Vec<goflow::domain::QueueStats>| {
        stats.iter_mut().for_each(|queue| queue.oldest_pending_ms = None);
        // A queue that only a refused commit has named may be known or not: nothing was ever in it.
        stats.retain(|queue| *queue != goflow::domain::QueueStats::empty(queue.name.clone()));
        stats
    };
    assert_eq!(counted(ours.stats().await.expect("stats")), counted(theirs.stats().await.expect("stats")), "{context}");
    for place in Place::ALL {
        let (mut a, mut b) = (ids(ours, place).await, ids(theirs, place).await);
        // Where the clock orders, equal milliseconds may tie differently.
        if !matches!(place, Place::Pending | Place::Suspect | Place::Running) {
            a.sort();
            b.sort();
        }
        assert_eq!(a, b, "{context}: {place:?}");
    }
    for finished in [false, true] {
        let query = RunQuery { finished, after: None, budget: 2_000 };
        let runs = |page: Page<RunRecord>| {
            let mut items = page.items;
            items.sort_by_key(|record| record.id);
            items
        };
        let (a, b) = (ours.runs(&query).await.expect("runs"), theirs.runs(&query).await.expect("runs"));
        assert_eq!(runs(a), runs(b), "{context}");
    }
    assert_eq!(ours.verify().await.expect("verify"), Vec::<String>::new(), "{context}");
}
