//! What a worker holds: every lease is in exactly one of five stages. Pure bookkeeping: it decides
//! what may be started, what to ask for, and which leases are lost or left over; it talks to nobody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::job::{ASKED, Outcome};
use crate::domain::limits::CLAIM_BATCH;
use crate::domain::{Epoch, Job, JobId, Name, RunId};
use crate::store::{Claimed, RunRecord};

use super::pace::Pace;

/// When a lease that has not started may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    Now,
    /// Its permit is good from then on.
    At(Instant),
    /// A permit has been asked for.
    Unknown,
}

/// A lease that has not started.
struct Ahead {
    claimed: Claimed,
    since: Instant,
    ready: Ready,
}

/// Leases of one type that will be started together.
struct Batch {
    claimed: Vec<(Claimed, Instant)>,
    most: usize,
    /// When it starts, however few there are.
    until: Instant,
}

/// A lease that is running.
struct Running {
    claimed: Claimed,
    stop: CancellationToken,
    since: Instant,
    /// All that run as one have the same place.
    place: u64,
    /// Somebody asked for its end.
    asked: bool,
}

/// A lease whose end is decided and not yet committed. `job` is as it was leased.
#[derive(Clone, Debug)]
pub struct Finished {
    pub job: Job,
    pub epoch: Epoch,
    pub run: Option<Arc<RunRecord>>,
    pub outcome: Outcome,
}

impl Finished {
    pub fn run_id(&self) -> Option<RunId> {
        self.job.link.as_ref().map(|link| link.run)
    }
}

#[derive(Default)]
pub struct Ledger {
    concurrency: usize,
    /// How many jobs the store gives in one claim.
    batch: usize,
    pace: Pace,
    /// Leased and not started, in the order of the claim.
    ahead: VecDeque<Ahead>,
    batches: BTreeMap<Name, Batch>,
    running: BTreeMap<JobId, Running>,
    /// Places taken by what runs, each with how many run in it.
    places: BTreeMap<u64, usize>,
    last_place: u64,
    finished: VecDeque<Finished>,
    /// On their way to the store.
    settling: BTreeMap<JobId, Epoch>,
    /// Runs with a commit on its way: another one for the same run would only lose the race.
    busy_runs: BTreeSet<RunId>,
    /// A job that was leased alone, because its worker died before: nothing may be beside it.
    suspect: Option<JobId>,
}

/// What to ask the store for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub want: usize,
    pub alone: bool,
}

impl Ledger {
    pub fn new(concurrency: usize) -> Self {
        Ledger { concurrency: concurrency.max(1), batch: CLAIM_BATCH, ..Ledger::default() }
    }

    /// The same for a store that gives so many jobs in one claim.
    pub fn claiming(self, batch: usize) -> Self {
        Ledger { batch: batch.max(1), ..self }
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    pub fn finished(&self) -> usize {
        self.finished.len()
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
            && self.ahead.is_empty()
            && self.batches.is_empty()
            && self.finished.is_empty()
            && self.settling.is_empty()
    }

    /// Takes a new lease in. `alone`: the claim said so, and may have got a suspect.
    pub fn accept(&mut self, claimed: Claimed, alone: bool, ready: Ready) {
        if alone && claimed.job.is_suspect() {
            self.suspect = Some(claimed.job.id);
        }
        self.ahead.push_back(Ahead { claimed, since: Instant::now(), ready });
    }

    fn has_place(&self) -> bool {
        self.places.len() < self.concurrency
    }

    /// The next lease to start, if there is room for it.
    pub fn next(&mut self, now: Instant) -> Option<Claimed> {
        let may_start = |one: &Ahead| match one.ready {
            Ready::Now => true,
            Ready::At(at) => at <= now,
            Ready::Unknown => false,
        };
        let first = if self.has_place() { self.ahead.iter().position(may_start)? } else { return None };
        self.ahead.remove(first).map(|one| one.claimed)
    }

    /// The permits have come: `ready` says of each lease that waits for one when it may start; nothing
    /// means that it goes back.
    pub fn permitted(&mut self, mut ready: impl FnMut(&Job) -> Result<Ready, Outcome>) {
        for mut one in std::mem::take(&mut self.ahead) {
            if one.ready == Ready::Unknown {
                match ready(&one.claimed.job) {
                    Ok(ready) => one.ready = ready,
                    Err(outcome) => {
                        let Claimed { job, epoch, run } = one.claimed;
                        self.finished.push_back(Finished { job, epoch, run, outcome });
                        continue;
                    }
                }
            }
            self.ahead.push_back(one);
        }
    }

    /// Puts a lease aside until its batch is full or `within` is over.
    pub fn gather(&mut self, claimed: Claimed, most: usize, within: Duration) {
        let kind = claimed.job.kind.clone();
        let now = Instant::now();
        let until = now + within;
        let batch = self.batches.entry(kind).or_insert_with(|| Batch { claimed: Vec::new(), most, until });
        batch.claimed.push((claimed, now));
    }

    /// A batch that may start now: it is full or has waited long enough.
    pub fn next_batch(&mut self, now: Instant) -> Option<Vec<Claimed>> {
        if !self.has_place() {
            return None;
        }
        let may_start = |batch: &Batch| batch.claimed.len() >= batch.most || batch.until <= now;
        let kind = self.batches.iter().find(|(_, batch)| may_start(batch)).map(|(kind, _)| kind.clone())?;
        let batch = self.batches.remove(&kind)?;
        Some(batch.claimed.into_iter().map(|(claimed, _)| claimed).collect())
    }

    /// There is no room for it after all: it is the next one to start.
    pub fn keep(&mut self, claimed: Claimed) {
        self.ahead.push_front(Ahead { claimed, since: Instant::now(), ready: Ready::Now });
    }

    /// Whether the batch of this type takes one more.
    pub fn gathers(&self, kind: &Name) -> bool {
        self.batches.get(kind).is_none_or(|batch| batch.claimed.len() < batch.most)
    }

    /// When the next lease or batch may start that may not yet.
    pub fn next_start(&self) -> Option<Instant> {
        let permits = self.ahead.iter().filter_map(|one| match one.ready {
            Ready::At(at) => Some(at),
            Ready::Now | Ready::Unknown => None,
        });
        let batches = self.batches.values().map(|batch| batch.until);
        if self.has_place() { permits.chain(batches).min() } else { None }
    }

    pub fn started(&mut self, claimed: Claimed, stop: CancellationToken) {
        self.started_together(vec![(claimed, stop)]);
    }

    /// These run as one and take one place.
    pub fn started_together(&mut self, all: Vec<(Claimed, CancellationToken)>) {
        self.last_place += 1;
        self.places.insert(self.last_place, all.len());
        let (since, place) = (Instant::now(), self.last_place);
        for (claimed, stop) in all {
            self.running.insert(claimed.job.id, Running { claimed, stop, since, place, asked: false });
        }
    }

    fn take_running(&mut self, id: JobId) -> Option<Running> {
        let running = self.running.remove(&id)?;
        if let Some(others) = self.places.get_mut(&running.place) {
            *others -= 1;
            if *others == 0 {
                self.places.remove(&running.place);
            }
        }
        Some(running)
    }

    /// Notes the end of an execution. `None`: it was stopped, and is given back, or cancelled if
    /// somebody asked for that. Answers whether the lease was still ours to end.
    pub fn ended(&mut self, id: JobId, epoch: Epoch, outcome: Option<Outcome>) -> bool {
        match self.running.get(&id) {
            Some(running) if running.claimed.epoch == epoch => {}
            _ => return false,
        }
        let Some(Running { claimed, since, asked, .. }) = self.take_running(id) else { return false };
        let stopped = || if asked { Outcome::Cancelled { reason: ASKED.to_owned() } } else { Outcome::Released };
        self.done(claimed, since.elapsed(), outcome.unwrap_or_else(stopped));
        true
    }

    /// Notes an end without a start: an immediate outcome, or none at all for want of a handler.
    pub fn done(&mut self, claimed: Claimed, took: Duration, outcome: Outcome) {
        self.pace.took(took);
        self.finish(claimed, outcome);
    }

    /// Notes an end that says nothing of how long such jobs take.
    pub fn finish(&mut self, claimed: Claimed, outcome: Outcome) {
        let Claimed { job, epoch, run } = claimed;
        self.finished.push_back(Finished { job, epoch, run, outcome });
    }

    /// Somebody asked for the end of this lease: what runs is stopped, what waits is ended. Answers
    /// whether it was held and had not ended.
    pub fn ask(&mut self, id: JobId, epoch: Epoch) -> bool {
        let is_it = |claimed: &Claimed| claimed.job.id == id && claimed.epoch == epoch;
        if let Some(running) = self.running.get_mut(&id).filter(|running| is_it(&running.claimed)) {
            let first = !running.asked;
            running.asked = true;
            running.stop.cancel();
            return first;
        }
        let outcome = Outcome::Cancelled { reason: ASKED.to_owned() };
        if let Some(at) = self.ahead.iter().position(|one| is_it(&one.claimed))
            && let Some(one) = self.ahead.remove(at)
        {
            self.finish(one.claimed, outcome);
            return true;
        }
        for batch in self.batches.values_mut() {
            if let Some(at) = batch.claimed.iter().position(|(claimed, _)| is_it(claimed)) {
                let (claimed, _) = batch.claimed.remove(at);
                self.batches.retain(|_, batch| !batch.claimed.is_empty());
                self.finish(claimed, outcome);
                return true;
            }
        }
        false
    }

    /// Takes what can be settled now, at most a batch: whatever belongs to a run that has a commit
    /// under way waits for its answer.
    pub fn take_finished(&mut self) -> Vec<Finished> {
        let mut taken = Vec::with_capacity(self.finished.len().min(2 * self.batch));
        let mut waiting = VecDeque::new();
        let mut touched = BTreeSet::new();
        while let Some(one) = self.finished.pop_front() {
            let run = one.run_id();
            if taken.len() >= 2 * self.batch || run.is_some_and(|run| self.busy_runs.contains(&run)) {
                waiting.push_back(one);
                continue;
            }
            touched.extend(run);
            self.settling.insert(one.job.id, one.epoch);
            taken.push(one);
        }
        self.busy_runs.extend(touched);
        self.finished = waiting;
        taken
    }

    /// Takes all that is finished, whatever is under way: for the last words.
    pub fn take_all_finished(&mut self) -> Vec<Finished> {
        let taken: Vec<Finished> = self.finished.drain(..).collect();
        self.settling.extend(taken.iter().map(|one| (one.job.id, one.epoch)));
        taken
    }

    /// The store has answered about these.
    pub fn settled(&mut self, settled: &[Finished]) {
        for one in settled {
            self.settling.remove(&one.job.id);
            if let Some(run) = one.run_id() {
                self.busy_runs.remove(&run);
            }
            if self.suspect == Some(one.job.id) {
                self.suspect = None;
            }
        }
    }

    /// The store has not answered: they are to be settled again, before all others.
    pub fn unsettled(&mut self, settled: Vec<Finished>) {
        let suspect = self.suspect;
        self.settled(&settled);
        self.suspect = suspect;
        for one in settled.into_iter().rev() {
            self.finished.push_front(one);
        }
    }

    /// What to claim in an exchange that settles `taken` leases, when `coming` may still arrive by
    /// others. `drain`: take nothing new, so as to be free for a suspect.
    pub fn wish(&self, taken: usize, coming: usize, drain: bool) -> Option<Wish> {
        let held = self.ahead.len() + self.places.len();
        let gathering: usize = self.batches.values().map(|batch| batch.most.saturating_sub(batch.claimed.len())).sum();
        let target = self.concurrency + self.pace.ahead(self.concurrency, self.batch) + gathering;
        let want = target.saturating_sub(held + coming).min(self.batch);
        // The exchange settles before it claims: what it settles is over by then.
        let nothing = held + coming + self.finished.len() == 0 && self.batches.is_empty();
        let alone = nothing && self.settling.len() == taken;
        if want == 0 || (!alone && (drain || self.suspect.is_some())) {
            return None;
        }
        Some(Wish { want, alone })
    }

    /// Gives back everything that has not started, last first, so that the line keeps its order.
    pub fn release_ahead(&mut self) {
        while let Some(one) = self.ahead.pop_back() {
            self.finish(one.claimed, Outcome::Released);
        }
        for batch in std::mem::take(&mut self.batches).into_values() {
            for (claimed, _) in batch.claimed.into_iter().rev() {
                self.finish(claimed, Outcome::Released);
            }
        }
    }

    /// Tells every running job to end.
    pub fn stop_running(&self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
    }

    /// The lease turned out to be lost: what runs under it is stopped, its result will be dropped.
    pub fn lose(&mut self, id: JobId, epoch: Epoch) -> bool {
        if self.running.get(&id).is_none_or(|running| running.claimed.epoch != epoch) {
            return false;
        }
        if let Some(running) = self.take_running(id) {
            running.stop.cancel();
        }
        if self.suspect == Some(id) {
            self.suspect = None;
        }
        true
    }

    /// Compares with what the store says this worker holds. What was leased before `asked` and is not
    /// held any more is forgotten, and stopped if it runs; unknown leases are answered.
    pub fn reconcile(&mut self, held: &[(JobId, Epoch)], asked: Instant) -> (Vec<JobId>, Vec<(JobId, Epoch)>) {
        let held: BTreeSet<_> = held.iter().copied().collect();
        let holds = |claimed: &Claimed| held.contains(&(claimed.job.id, claimed.epoch));
        let is_lost = |running: &&Running| running.since < asked && !holds(&running.claimed);
        let lost: Vec<(JobId, Epoch)> = self
            .running
            .values()
            .filter(is_lost)
            .map(|running| (running.claimed.job.id, running.claimed.epoch))
            .collect();
        for (id, epoch) in &lost {
            self.lose(*id, *epoch);
        }
        // What has not started is not started any more.
        self.ahead.retain(|one| one.since >= asked || holds(&one.claimed));
        for batch in self.batches.values_mut() {
            batch.claimed.retain(|(claimed, since)| *since >= asked || holds(claimed));
        }
        self.batches.retain(|_, batch| !batch.claimed.is_empty());
        let unknown = held.iter().copied().filter(|(id, epoch)| !self.knows(*id, *epoch)).collect();
        (lost.into_iter().map(|(id, _)| id).collect(), unknown)
    }

    fn knows(&self, id: JobId, epoch: Epoch) -> bool {
        let is_it = |claimed: &Claimed| claimed.job.id == id && claimed.epoch == epoch;
        self.settling.get(&id) == Some(&epoch)
            || self.running.get(&id).is_some_and(|running| running.claimed.epoch == epoch)
            || self.finished.iter().any(|one| one.job.id == id && one.epoch == epoch)
            || self.ahead.iter().any(|one| is_it(&one.claimed))
            || self.batches.values().any(|batch| batch.claimed.iter().any(|(claimed, _)| is_it(claimed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Json, Ms, Shard};

    fn claimed(n: u64) -> Claimed {
        let name = |text: &str| text.parse().expect("a name");
        let id = JobId::from_parts(Ms(1), Shard(0), n);
        let job = Job::new(id, name("noop"), name("default"), Json::null());
        Claimed { job, epoch: Epoch(n), run: None }
    }

    fn crashed(n: u64) -> Claimed {
        let mut claimed = claimed(n);
        claimed.job.crashes.push(Ms(1));
        claimed
    }

    fn accept(ledger: &mut Ledger, numbers: std::ops::RangeInclusive<u64>) {
        numbers.for_each(|n| ledger.accept(claimed(n), false, Ready::Now));
    }

    fn done() -> Outcome {
        Outcome::Completed { result: None }
    }

    #[tokio::test]
    async fn a_lease_waits_for_its_permit_and_others_pass_it() {
        let mut ledger = Ledger::new(3);
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        ledger.accept(claimed(1), false, Ready::Unknown);
        ledger.accept(claimed(2), false, Ready::Now);
        assert_eq!(ledger.next(now).map(|next| next.epoch), Some(Epoch(2)));
        assert!(ledger.next(now).is_none());
        ledger.permitted(|_| Ok(Ready::At(later)));
        assert_eq!((ledger.next(now).is_none(), ledger.next_start()), (true, Some(later)));
        assert_eq!(ledger.next(later).map(|next| next.epoch), Some(Epoch(1)));
        ledger.accept(claimed(3), false, Ready::Unknown);
        ledger.permitted(|_| Err(Outcome::Limited { delay: Duration::from_secs(9) }));
        assert_eq!(ledger.take_finished().len(), 1, "a permit for much later sends it back");
    }

    #[tokio::test]
    async fn a_batch_starts_full_or_late_and_takes_one_place() {
        let mut ledger = Ledger::new(1);
        let within = Duration::from_secs(5);
        let kind = claimed(1).job.kind;
        for n in 1..=3 {
            assert!(ledger.gathers(&kind));
            ledger.gather(claimed(n), 3, within);
        }
        assert!(!ledger.gathers(&kind));
        let batch = ledger.next_batch(Instant::now()).expect("it is full");
        ledger.started_together(batch.into_iter().map(|one| (one, CancellationToken::new())).collect());
        ledger.gather(claimed(4), 3, within);
        assert!(ledger.next_batch(Instant::now() + within).is_none(), "there is one place");
        for n in 1..=3 {
            assert!(ledger.ended(claimed(n).job.id, Epoch(n), Some(done())));
        }
        assert!(ledger.next_batch(Instant::now()).is_none(), "it has not waited long enough");
        assert_eq!(ledger.next_batch(Instant::now() + within).map(|batch| batch.len()), Some(1));
    }

    #[tokio::test]
    async fn who_is_asked_to_end_is_cancelled_wherever_it_is() {
        let mut ledger = Ledger::new(4);
        let stop = CancellationToken::new();
        ledger.started(claimed(1), stop.clone());
        accept(&mut ledger, 2..=2);
        ledger.gather(claimed(3), 2, Duration::from_secs(5));
        let id = |n| claimed(n).job.id;
        assert!(!ledger.ask(id(1), Epoch(9)), "another lease of it");
        for n in 1..=3 {
            assert!(ledger.ask(id(n), Epoch(n)), "{n}");
            assert!(!ledger.ask(id(n), Epoch(n)), "asking twice is asking once");
        }
        assert!(stop.is_cancelled() && ledger.ended(id(1), Epoch(1), None));
        let outcomes: Vec<_> = ledger.take_finished().into_iter().map(|one| one.outcome).collect();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Cancelled { .. })), "{outcomes:?}");
        assert_eq!(outcomes.len(), 3);
    }

    #[test]
    fn a_worker_never_runs_more_than_its_concurrency() {
        let mut ledger = Ledger::new(2);
        accept(&mut ledger, 1..=5);
        for _ in 0..2 {
            let next = ledger.next(Instant::now()).expect("there is room");
            ledger.started(next, CancellationToken::new());
        }
        assert!(ledger.next(Instant::now()).is_none());
        assert!(ledger.ended(claimed(1).job.id, Epoch(1), Some(done())));
        assert_eq!(ledger.next(Instant::now()).map(|next| next.epoch), Some(Epoch(3)));
        assert!(!ledger.ended(claimed(1).job.id, Epoch(1), Some(done())), "an end is told once");
    }

    #[tokio::test]
    async fn a_suspect_has_nothing_beside_it() {
        let mut ledger = Ledger::new(10);
        assert_eq!(ledger.wish(0, 0, false), Some(Wish { want: 10, alone: true }));
        ledger.accept(crashed(1), true, Ready::Now);
        assert_eq!(ledger.wish(0, 0, false), None);
        let next = ledger.next(Instant::now()).expect("the suspect");
        ledger.done(next, Duration::from_secs(1), done());
        assert_eq!(ledger.wish(0, 0, false), None, "not settled yet");
        let taken = ledger.take_finished();
        assert_eq!(ledger.wish(taken.len(), 0, false), Some(Wish { want: 10, alone: true }));
        assert_eq!(ledger.wish(0, 0, false), None, "another exchange cannot know of that settle");
        ledger.unsettled(taken);
        assert_eq!(ledger.wish(0, 0, false), None, "the settle failed: it is still held");
        let taken = ledger.take_finished();
        ledger.settled(&taken);
        assert!(ledger.is_empty());
        assert_eq!(ledger.wish(0, 3, true), None, "leases on their way are company");
    }

    #[test]
    fn draining_for_a_suspect_takes_nothing_until_all_is_over() {
        let mut ledger = Ledger::new(4);
        accept(&mut ledger, 1..=1);
        assert_eq!(ledger.wish(0, 0, true), None);
        assert_eq!(ledger.wish(0, 0, false), Some(Wish { want: 3, alone: false }));
    }

    #[tokio::test]
    async fn what_the_store_does_not_hold_is_stopped_and_what_is_unknown_is_told() {
        let mut ledger = Ledger::new(4);
        let stop = CancellationToken::new();
        ledger.started(claimed(1), stop.clone());
        ledger.started(claimed(2), CancellationToken::new());
        accept(&mut ledger, 3..=3);
        let asked = Instant::now() + Duration::from_millis(1);
        let id = |n| claimed(n).job.id;
        let held = [(id(2), Epoch(2)), (id(3), Epoch(3)), (id(9), Epoch(9))];
        let (lost, unknown) = ledger.reconcile(&held, asked);
        assert_eq!((lost, unknown), (vec![id(1)], vec![(id(9), Epoch(9))]));
        assert!(stop.is_cancelled());
        assert!(!ledger.ended(id(1), Epoch(1), Some(done())), "its result is dropped");
        let (lost, _) = ledger.reconcile(&[], Instant::now() - Duration::from_secs(1));
        assert!(lost.is_empty(), "leased after the question was asked");
    }

    #[test]
    fn what_has_not_started_is_given_back_last_first() {
        let mut ledger = Ledger::new(1);
        accept(&mut ledger, 1..=3);
        ledger.release_ahead();
        let order: Vec<_> = ledger.take_finished().iter().map(|one| one.epoch.0).collect();
        assert_eq!(order, [3, 2, 1]);
    }
}
