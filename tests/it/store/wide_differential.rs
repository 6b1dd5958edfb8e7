//! Random operations with limits, parents, asks and gates on a backend and on the reference store at
//! once: every answer must agree. As in `differential`, only what does not depend on the time of day.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use goflow::domain::job::Outcome;
use goflow::domain::{
    Concurrency, EventKind, HolderId, Job, JobId, Place, QueueSettings, RunId, RunState, To, WorkerId,
};
use goflow::store::*;

use super::backends::{Subject, TestClock};
use super::differential::{Dice, compare};
use super::make::*;
use super::shared_laws;

const LONG: Duration = Duration::from_secs(600);
const STEPS: usize = 300;

/// Both stores, and what the test knows of them.
struct Pair<'a> {
    ours: &'a dyn Store,
    theirs: &'a dyn Store,
    dice: Dice,
    /// For what does not touch the rest, so that a seed plays the rest as before.
    aside: Dice,
    worker: WorkerId,
    /// Leased on both; epochs differ.
    held: Vec<(Claimed, Claimed)>,
    jobs: Vec<JobId>,
    runs: Vec<RunId>,
    /// Revisions of documents on both, by name.
    revs: BTreeMap<String, (u64, u64)>,
    /// Who asked for a lock.
    holders: Vec<HolderId>,
}

pub async fn agrees_with_the_reference_store(subject: &Subject) {
    agrees(subject, true).await;
}

/// For a store that divides the limits of queues: how many run then depends on where they lie.
pub async fn agrees_but_for_the_limits_of_queues(subject: &Subject) {
    agrees(subject, false).await;
}

async fn agrees(subject: &Subject, with_limits: bool) {
    let seed = std::env::var("GOFLOW_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_210);
    println!("GOFLOW_SEED={seed}");
    let clock = TestClock::new();
    let reference: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
    let worker = worker();
    let mut pair = Pair {
        ours: &*subject.store,
        theirs: &*reference,
        dice: Dice(seed),
        aside: Dice(seed),
        worker,
        held: vec![],
        jobs: vec![],
        runs: vec![],
        revs: BTreeMap::new(),
        holders: vec![],
    };
    beat(pair.ours, worker, LONG).await;
    beat(pair.theirs, worker, LONG).await;
    for step in 0..STEPS {
        let context = format!("seed {seed}, step {step}");
        clock.advance(Duration::from_millis(2));
        match pair.dice.roll(14) {
            0..=2 => pair.enqueue(&context).await,
            3..=6 => pair.exchange(&context).await,
            7 | 8 => pair.operate(&context).await,
            9 if with_limits => pair.set_limit().await,
            9 => {}
            10 => pair.ask(&context).await,
            11 => pair.let_go(&context).await,
            _ => pair.advance(&context).await,
        }
        match pair.aside.roll(3) {
            0 => pair.write_document(&context).await,
            1 => pair.lock(&context).await,
            _ => {}
        }
        if step % 15 == 0 || step + 1 == STEPS {
            compare(pair.ours, pair.theirs, &context).await;
            pair.compare_told(&context).await;
        }
    }
    assert!(pair.jobs.len() > 150 && pair.runs.len() > 30, "the seed did too little");
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let set: BTreeSet<T> = items.into_iter().collect();
    set.into_iter().collect()
}

impl Pair<'_> {
    fn random_job(&mut self) -> Job {
        let dice = &mut self.dice;
        let mut job = job_in(["a", "b", "c"][dice.roll(3)], "noop");
        job.priority = [0, 0, 0, 5, -5][dice.roll(5)];
        job.unique_key = (dice.roll(6) == 0).then(|| format!("key {}", dice.roll(3)));
        let key = |key: &str, limit| Some(Concurrency { key: key.into(), limit });
        job.concurrency = [None, None, key("one", 1), key("two", 2), key("two", 1)][dice.roll(5)].clone();
        if dice.roll(10) == 0 {
            job.crashes.push(goflow::domain::Ms(1));
        }
        if dice.roll(4) == 0 {
            job.after = (0..=dice.roll(2)).filter_map(|_| dice.pick(&self.jobs).copied()).collect();
            job.after.dedup();
        }
        self.jobs.push(job.id);
        job
    }

    fn random_run(&mut self) -> NewRun {
        let run = run_id();
        self.runs.push(run);
        let dice = &mut self.dice;
        let reject = (dice.roll(3) == 0).then(|| format!("{run} is refused").into_bytes());
        let gate =
            Gate { key: ["x", "y"][dice.roll(2)].into(), limit: 1 + dice.roll(2) as u32, go: b"go".to_vec(), reject };
        let jobs = (0..dice.roll(3)).map(|_| Job { queue: name("a"), ..step_job(run, "s") }).collect();
        let effects = Effects { jobs, ..Effects::of(record(run, 1, RunState::Running)) };
        NewRun { effects, gate: (dice.roll(3) > 0).then_some(gate) }
    }

    async fn enqueue(&mut self, context: &str) {
        let jobs = (0..self.dice.roll(8)).map(|_| now(self.random_job())).collect();
        let runs = (0..self.dice.roll(3)).map(|_| self.random_run()).collect();
        let batch = Enqueue { producer: producer(), sequence: 1, jobs, runs };
        let answer = self.ours.enqueue(&batch).await.expect("enqueue");
        assert_eq!(answer, self.theirs.enqueue(&batch).await.expect("enqueue"), "{context}");
    }

    async fn exchange(&mut self, context: &str) {
        let (mut our_commits, mut their_commits) = (vec![], vec![]);
        for _ in 0..self.dice.roll(5) {
            if self.held.is_empty() {
                break;
            }
            let (ours, theirs) = self.held.swap_remove(self.dice.roll(self.held.len()));
            let outcome = match self.dice.roll(6) {
                0 => Outcome::Released,
                1 if ours.job.crashes.len() < 2 => Outcome::Crashed,
                2 => hopeless(),
                3 => Outcome::Cancelled { reason: "asked".into() },
                _ => done(),
            };
            for (claimed, commits) in [(&ours, &mut our_commits), (&theirs, &mut their_commits)] {
                let mut step = settle(claimed, outcome.clone());
                step.job.history.clear();
                commits.push(alone(step));
            }
        }
        let alone = self.held.is_empty() && our_commits.is_empty();
        let queues: &[&str] = [&["a", "b", "c"][..], &["c", "b"], &["a"], &[]][self.dice.roll(4)];
        let claim = Claim { alone, ..wish(self.worker, queues, self.dice.roll(7)) };
        let a = exchange(self.ours, our_commits, Some(claim.clone())).await;
        let b = exchange(self.theirs, their_commits, Some(claim)).await;
        assert_eq!(a.commits, b.commits, "{context}");
        let flags = |answer: &Exchanged| (answer.suspects, answer.dirty, answer.asked, answer.freed);
        assert_eq!(flags(&a), flags(&b), "{context}: suspects, dirty, asked, freed");
        let ids = |claimed: &[Claimed]| claimed.iter().map(|one| one.job.id).collect::<Vec<_>>();
        assert_eq!(ids(&a.claimed), ids(&b.claimed), "{context}");
        self.held.extend(a.claimed.into_iter().zip(b.claimed));
    }

    /// An operator moves a job that nobody runs.
    async fn operate(&mut self, context: &str) {
        let Some(id) = self.dice.pick(&self.jobs).copied() else { return };
        let to = [To::Pending, To::Front, To::Cancelled, To::Dead, To::Gone][self.dice.roll(5)];
        let [a, b] = [self.ours.get(&[id]).await, self.theirs.get(&[id]).await].map(|got| got.expect("get").remove(0));
        assert_eq!(a.as_ref().map(|one| one.place), b.as_ref().map(|one| one.place), "{context}: {id}");
        let (Some(a), Some(b)) = (a, b) else { return };
        if a.place == Place::Running {
            return;
        }
        let kind = EventKind::JobRequeued;
        let (ours, theirs) = (make(self.ours, idle(&a, to, kind)).await, make(self.theirs, idle(&b, to, kind)).await);
        assert_eq!(ours, theirs, "{context}: {id} from {:?} to {to:?}", a.place);
    }

    async fn set_limit(&mut self) {
        let queue = name(["a", "b"][self.dice.roll(2)]);
        let concurrency = [None, Some(1), Some(4)][self.dice.roll(3)];
        let settings = QueueSettings { concurrency, ..QueueSettings::default() };
        self.ours.set_queue(&queue, &settings).await.expect("set");
        self.theirs.set_queue(&queue, &settings).await.expect("set");
    }

    async fn ask(&mut self, context: &str) {
        let ids: Vec<JobId> = (0..3).filter_map(|_| self.dice.pick(&self.jobs).copied()).collect();
        let answer = self.ours.ask(&ids).await.expect("ask");
        assert_eq!(answer, self.theirs.ask(&ids).await.expect("ask"), "{context}");
    }

    /// Carries out what the domain says of jobs whose parents have ended.
    async fn let_go(&mut self, context: &str) {
        for one in self.theirs.freed(100).await.expect("freed") {
            for child in one.children {
                let Some(settled) = child.job.clone().parent_ended(one.parent, one.state, BIRTH) else { continue };
                let step = Move::new(Expect::Idle(Place::Held, child.job.rev), settled);
                let moved = make(self.ours, step.clone()).await;
                assert_eq!(moved, make(self.theirs, step).await, "{context}");
            }
        }
    }

    async fn advance(&mut self, context: &str) {
        let work = self.theirs.take_dirty(100, Duration::ZERO).await.expect("take_dirty");
        let other = self.ours.take_dirty(100, Duration::ZERO).await.expect("take_dirty");
        let facts = |work: &[RunWork]| {
            let facts = |work: &RunWork| work.inbox.iter().map(|(_, fact)| fact.clone()).collect::<Vec<_>>();
            sorted(work.iter().map(|work| (work.record.id, work.record.rev, facts(work))))
        };
        assert_eq!(facts(&other), facts(&work), "{context}");
        let known = |work: &[RunWork], run| {
            work.iter().find(|work| work.record.id == run).and_then(|work| work.inbox.last().map(|(seq, _)| *seq))
        };
        let Some(run) = self.dice.pick(&self.runs).copied() else { return };
        let Some(before) = self.theirs.run(run).await.expect("run") else { return };
        let state = [RunState::Running, RunState::Running, RunState::Completed][self.dice.roll(3)];
        let mut effects = Effects::of(record(run, before.rev + 1, state));
        effects.cancel = (0..self.dice.roll(3)).filter_map(|_| self.dice.pick(&self.jobs).copied()).collect();
        effects.runs = (0..self.dice.roll(2)).map(|_| self.random_run()).collect();
        for nth in 0..self.dice.roll(3) {
            let told = self.dice.pick(&self.runs).copied().unwrap_or_default();
            effects.tell.push((told, format!("{context} {nth}").into_bytes()));
        }
        let commit_of = |work: &[RunWork]| {
            let advance = Advance { from_rev: before.rev, drained: known(work, run), effects: effects.clone() };
            Commit { moves: vec![], run: Some(RunCommit { run, facts: vec![], advance: Some(advance) }) }
        };
        let answer = commit(self.ours, commit_of(&other)).await;
        assert_eq!(answer, commit(self.theirs, commit_of(&work)).await, "{context}");
    }

    /// Changes a document, now and then from a revision that is not its own.
    async fn write_document(&mut self, context: &str) {
        let name = ["a", "ab", "b", "ü"][self.aside.roll(4)].to_owned();
        let (ours, theirs) = match self.aside.roll(4) {
            0 => [(0, 0), (1 << 62, 1 << 62)][self.aside.roll(2)],
            _ => self.revs.get(&name).copied().unwrap_or_default(),
        };
        let body = (self.aside.roll(4) > 0).then(|| context.as_bytes().to_vec());
        let keep = [None, Some(LONG)][self.aside.roll(2)];
        let change = |from_rev| DocumentChange { name: name.clone(), from_rev, body: body.clone(), keep };
        let a = self.ours.set_document(&change(ours)).await.expect("set_document");
        let b = self.theirs.set_document(&change(theirs)).await.expect("set_document");
        match (a, b) {
            (DocumentSet::Done(a), DocumentSet::Done(b)) => drop(self.revs.insert(name, (a, b))),
            (DocumentSet::Changed(a), DocumentSet::Changed(b)) => assert_eq!(told(a), told(b), "{context}"),
            (a, b) => panic!("{context}: {a:?} and {b:?}"),
        }
        let (a, b) =
            (self.ours.document("a").await.expect("document"), self.theirs.document("a").await.expect("document"));
        assert_eq!(told(a), told(b), "{context}");
        let (prefix, after) = (["", "a", "b"][self.aside.roll(3)], [None, Some("a"), Some("aa")][self.aside.roll(3)]);
        let a = self.ours.documents(prefix, after, 3).await.expect("documents");
        let b = self.theirs.documents(prefix, after, 3).await.expect("documents");
        let all = |list: Vec<Document>| list.into_iter().map(|one| told(Some(one))).collect::<Vec<_>>();
        assert_eq!(all(a), all(b), "{context}");
    }

    /// Asks for a lock, gives it back, prolongs or breaks it.
    async fn lock(&mut self, context: &str) {
        let lock = ["one", "two"][self.aside.roll(2)];
        let known = self.aside.pick(&self.holders).copied();
        let (ours, theirs) = (self.ours, self.theirs);
        let outcome = |acquired: Acquired| match acquired {
            Acquired::Granted(_) => ("granted", vec![]),
            Acquired::Held { lock, .. } => ("held", lock.holders),
            Acquired::OtherSlots { lock, .. } => ("other slots", lock.holders),
        };
        let who = |holders: Vec<LockHolder>| holders.into_iter().map(|one| (one.id, one.about)).collect::<Vec<_>>();
        match (self.aside.roll(6), known) {
            (0, Some(holder)) => {
                let answer = ours.release(&name(lock), holder).await.expect("release");
                assert_eq!(answer, theirs.release(&name(lock), holder).await.expect("release"), "{context}");
            }
            (1, Some(holder)) => {
                let a = ours.extend(&name(lock), holder, LONG).await.expect("extend");
                let b = theirs.extend(&name(lock), holder, LONG).await.expect("extend");
                assert_eq!(a.is_some(), b.is_some(), "{context}");
            }
            (2, holder) => {
                let holder = holder.filter(|_| self.aside.roll(2) == 0);
                let a = ours.break_lock(&name(lock), holder).await.expect("break_lock");
                let b = theirs.break_lock(&name(lock), holder).await.expect("break_lock");
                assert_eq!(who(a), who(b), "{context}");
            }
            (_, known) => {
                let mut request = shared_laws::wish(lock, [1, 2, 2][self.aside.roll(3)], LONG);
                if let Some(holder) = known.filter(|_| self.aside.roll(4) == 0) {
                    request.holder = holder;
                }
                self.holders.push(request.holder);
                let (a, b) =
                    (ours.acquire(&request).await.expect("acquire"), theirs.acquire(&request).await.expect("acquire"));
                let ((a, held), (b, others)) = (outcome(a), outcome(b));
                assert_eq!((a, who(held)), (b, who(others)), "{context}");
            }
        }
        let (a, b) = (ours.locks(None, 9).await.expect("locks").1, theirs.locks(None, 9).await.expect("locks").1);
        let all = |list: Vec<LockRecord>| {
            list.into_iter().map(|one| (one.name, one.slots, who(one.holders))).collect::<Vec<_>>()
        };
        assert_eq!(all(a), all(b), "{context}");
    }

    /// What is asked and what is free, and what is told of each job.
    async fn compare_told(&self, context: &str) {
        let ids = |asked: Vec<Stored>| sorted(asked.into_iter().map(|one| one.job.id));
        let (a, b) = (self.ours.asked(self.worker, 1_000).await, self.theirs.asked(self.worker, 1_000).await);
        assert_eq!(ids(a.expect("asked")), ids(b.expect("asked")), "{context}");
        let free = |freed: Vec<Freed>| {
            sorted(
                freed.into_iter().map(|one| (one.parent, one.state.map(|state| state.to_string()), ids(one.children))),
            )
        };
        let (a, b) = (self.ours.freed(1_000).await, self.theirs.freed(1_000).await);
        assert_eq!(free(a.expect("freed")), free(b.expect("freed")), "{context}");
        let (a, b) = (self.ours.get(&self.jobs).await.expect("get"), self.theirs.get(&self.jobs).await.expect("get"));
        for (id, (a, b)) in self.jobs.iter().zip(a.into_iter().zip(b)) {
            let told = |one: Option<Stored>| one.map(|one| (one.place, one.asked, one.job.concurrency, one.job.after));
            assert_eq!(told(a), told(b), "{context}: {id}");
        }
    }
}

/// A document without what differs from store to store.
fn told(document: Option<Document>) -> Option<(String, Vec<u8>, bool)> {
    document.map(|one| (one.name, one.body, one.until.is_some()))
}
