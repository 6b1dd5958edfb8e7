//! What a worker holds: every lease is in exactly one of four stages. Pure bookkeeping: it decides
//! what may be started, what to ask for, and which leases are lost or left over; it talks to nobody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::job::Outcome;
use crate::domain::limits::CLAIM_BATCH;
use crate::domain::{Epoch, Job, JobId, RunId};
use crate::store::{Claimed, RunRecord};

use super::pace::Pace;

/// A lease that is running.
struct Running {
    claimed: Claimed,
    stop: CancellationToken,
    since: Instant,
}

/// A lease whose end is decided and not yet committed. `job` is as it was leased.
#[derive(Clone, Debug)]
pub struct Finished {
    pub job: Job,
    pub epoch: Epoch,
    pub run: Option<RunRecord>,
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
    pace: Pace,
    /// Leased and not started, in the order of the claim, each with the time it came.
    ahead: VecDeque<(Claimed, Instant)>,
    running: BTreeMap<JobId, Running>,
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
        Ledger { concurrency: concurrency.max(1), ..Ledger::default() }
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    pub fn finished(&self) -> usize {
        self.finished.len()
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.ahead.is_empty() && self.finished.is_empty() && self.settling.is_empty()
    }

    /// Takes new leases in. `alone`: the claim said so, and may have got a suspect.
    pub fn accept(&mut self, claimed: Vec<Claimed>, alone: bool) {
        if let [one] = &*claimed
            && alone
            && !one.job.crashes.is_empty()
        {
            self.suspect = Some(one.job.id);
        }
        let now = Instant::now();
        self.ahead.extend(claimed.into_iter().map(|one| (one, now)));
    }

    /// The next lease to start, if there is room for it.
    pub fn next(&mut self) -> Option<Claimed> {
        if self.running.len() < self.concurrency { self.ahead.pop_front().map(|(claimed, _)| claimed) } else { None }
    }

    pub fn started(&mut self, claimed: Claimed, stop: CancellationToken) {
        self.running.insert(claimed.job.id, Running { claimed, stop, since: Instant::now() });
    }

    /// Notes the end of an execution. `None`: it was stopped, and is given back.
    /// Answers whether the lease was still ours to end.
    pub fn ended(&mut self, id: JobId, epoch: Epoch, outcome: Option<Outcome>) -> bool {
        match self.running.get(&id) {
            Some(running) if running.claimed.epoch == epoch => {}
            _ => return false,
        }
        let Some(Running { claimed, since, .. }) = self.running.remove(&id) else { return false };
        self.done(claimed, since.elapsed(), outcome.unwrap_or(Outcome::Released));
        true
    }

    /// Notes an end without a start: an immediate outcome, or none at all for want of a handler.
    pub fn done(&mut self, claimed: Claimed, took: Duration, outcome: Outcome) {
        self.pace.took(took);
        let Claimed { job, epoch, run } = claimed;
        self.finished.push_back(Finished { job, epoch, run, outcome });
    }

    /// Takes what can be settled now, at most a batch: whatever belongs to a run that has a commit
    /// under way waits for its answer.
    pub fn take_finished(&mut self) -> Vec<Finished> {
        let mut taken = Vec::with_capacity(self.finished.len().min(2 * CLAIM_BATCH));
        let mut waiting = VecDeque::new();
        let mut touched = BTreeSet::new();
        while let Some(one) = self.finished.pop_front() {
            let run = one.run_id();
            if taken.len() >= 2 * CLAIM_BATCH || run.is_some_and(|run| self.busy_runs.contains(&run)) {
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
        let held = self.ahead.len() + self.running.len();
        let target = self.concurrency + self.pace.ahead(self.concurrency);
        let want = target.saturating_sub(held + coming).min(CLAIM_BATCH);
        // The exchange settles before it claims: what it settles is over by then.
        let alone = held + coming + self.finished.len() == 0 && self.settling.len() == taken;
        if want == 0 || (!alone && (drain || self.suspect.is_some())) {
            return None;
        }
        Some(Wish { want, alone })
    }

    /// Gives back everything that has not started, last first, so that the line keeps its order.
    pub fn release_ahead(&mut self) {
        while let Some((claimed, _)) = self.ahead.pop_back() {
            let Claimed { job, epoch, run } = claimed;
            self.finished.push_back(Finished { job, epoch, run, outcome: Outcome::Released });
        }
    }

    /// Tells every running job to end.
    pub fn stop_running(&self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
    }

    /// Compares with what the store says this worker holds. What was leased before `asked` and is not
    /// held any more is forgotten, and stopped if it runs; unknown leases are answered.
    pub fn reconcile(&mut self, held: &[(JobId, Epoch)], asked: Instant) -> (Vec<JobId>, Vec<(JobId, Epoch)>) {
        let held: BTreeSet<_> = held.iter().copied().collect();
        let is_lost = |running: &Running| {
            running.since < asked && !held.contains(&(running.claimed.job.id, running.claimed.epoch))
        };
        let lost: Vec<JobId> =
            self.running.values().filter(|running| is_lost(running)).map(|running| running.claimed.job.id).collect();
        for id in &lost {
            if let Some(running) = self.running.remove(id) {
                running.stop.cancel();
            }
            if self.suspect == Some(*id) {
                self.suspect = None;
            }
        }
        // What has not started is not started any more.
        self.ahead.retain(|(one, since)| *since >= asked || held.contains(&(one.job.id, one.epoch)));
        let unknown = held.into_iter().filter(|(id, epoch)| !self.knows(*id, *epoch)).collect();
        (lost, unknown)
    }

    fn knows(&self, id: JobId, epoch: Epoch) -> bool {
        self.settling.get(&id) == Some(&epoch)
            || self.running.get(&id).is_some_and(|running| running.claimed.epoch == epoch)
            || self.finished.iter().any(|one| one.job.id == id && one.epoch == epoch)
            || self.ahead.iter().any(|(one, _)| one.job.id == id && one.epoch == epoch)
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

    fn done() -> Outcome {
        Outcome::Completed { result: None }
    }

    #[test]
    fn a_worker_never_runs_more_than_its_concurrency() {
        let mut ledger = Ledger::new(2);
        ledger.accept((1..=5).map(claimed).collect(), false);
        for _ in 0..2 {
            let next = ledger.next().expect("there is room");
            ledger.started(next, CancellationToken::new());
        }
        assert!(ledger.next().is_none());
        assert!(ledger.ended(claimed(1).job.id, Epoch(1), Some(done())));
        assert_eq!(ledger.next().map(|next| next.epoch), Some(Epoch(3)));
        assert!(!ledger.ended(claimed(1).job.id, Epoch(1), Some(done())), "an end is told once");
    }

    #[tokio::test]
    async fn a_suspect_has_nothing_beside_it() {
        let mut ledger = Ledger::new(10);
        assert_eq!(ledger.wish(0, 0, false), Some(Wish { want: 10, alone: true }));
        ledger.accept(vec![crashed(1)], true);
        assert_eq!(ledger.wish(0, 0, false), None);
        let next = ledger.next().expect("the suspect");
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
        ledger.accept(vec![claimed(1)], false);
        assert_eq!(ledger.wish(0, 0, true), None);
        assert_eq!(ledger.wish(0, 0, false), Some(Wish { want: 3, alone: false }));
    }

    #[tokio::test]
    async fn what_the_store_does_not_hold_is_stopped_and_what_is_unknown_is_told() {
        let mut ledger = Ledger::new(4);
        let stop = CancellationToken::new();
        ledger.started(claimed(1), stop.clone());
        ledger.started(claimed(2), CancellationToken::new());
        ledger.accept(vec![claimed(3)], false);
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
        ledger.accept((1..=3).map(claimed).collect(), false);
        ledger.release_ahead();
        let order: Vec<_> = ledger.take_finished().iter().map(|one| one.epoch.0).collect();
        assert_eq!(order, [3, 2, 1]);
    }
}
