//! Work for those who are not workers of goflow: leases, signs of life, notes and ends of jobs, one call
//! each, for a process that keeps nothing between them. What such a worker holds is in the store and
//! nowhere else, and what becomes of a job is decided here, as for every other worker.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, warn};

use super::options::WorkerOptions;
use super::permits::{Permits, batch, of_queue};
use super::settle::{Decided, commits, unreadable, unwanted};
use crate::domain::job::{JobError, Outcome, RetryHint};
use crate::domain::limits::CLAIM_BATCH;
use crate::domain::trace::Spans;
use crate::domain::{Clock, Entropy, Epoch, Job, JobId, JobState, Ms, Name, Place, Rate, Shard, WorkerId};
use crate::runs::Runs;
use crate::store::{
    Claim, Claimed, Exchange, Expect, Heartbeat, ListQuery, Move, Moved, Note, PermitRequest, Result, Store, Stored,
    WorkerInfo,
};

/// A lease that a worker does not name was given by an answer that it never got, once it is as old.
const UNHEARD: Duration = Duration::from_secs(10);
/// Jobs that a worker is told to end, in one answer.
const ASKS: usize = 256;
/// Between two looks for work without a hint.
const POLL: Duration = Duration::from_secs(1);
/// Not to ask in a circle while hints come thick.
const REST: Duration = Duration::from_millis(5);

/// Who pulls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Puller {
    pub id: WorkerId,
    /// For people: where it is.
    pub name: String,
    pub types: Vec<Name>,
    /// Empty: every queue.
    pub queues: Vec<Name>,
    /// How long it may be silent.
    pub lease: Duration,
    /// Jobs at once, for people.
    pub concurrency: u32,
}

/// What a sign of life is answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alive {
    /// Leases that it named and does not hold any more: what it does for them is in vain.
    pub lost: Vec<(JobId, Epoch)>,
    /// Leases whose jobs somebody wants to end.
    pub cancel: Vec<(JobId, Epoch)>,
    /// It is to take no more work, and to end.
    pub drain: bool,
    /// How many leases it holds.
    pub held: usize,
}

/// A worker that is not registered, and said nothing of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// What became of a lease that was to end.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The job as it is now; also when the same end came before.
    Done(Box<Stored>),
    /// The lease is not held with this epoch: nothing was changed.
    Stale,
    /// There is no such job.
    Gone,
}

/// The calls of such workers over one store.
pub struct Pull {
    store: Arc<dyn Store>,
    runs: Runs,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// Of queues with a rate limit, shared by all that this process serves.
    permits: Mutex<Permits>,
}

impl Pull {
    /// `spans` takes those of what ends here, if anybody does.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        spans: Option<Arc<dyn Spans>>,
    ) -> Pull {
        Pull { runs: Runs::new(store.clone(), spans), store, clock, entropy, permits: Mutex::default() }
    }

    /// An id for a worker that has none yet.
    pub fn worker_id(&self) -> WorkerId {
        WorkerId::from_parts(self.clock.now(), Shard::default(), self.entropy.next())
    }

    /// What a worker said of itself when it came, if it is registered.
    ///
    /// # Errors
    /// The store's.
    pub async fn known(&self, id: WorkerId, lease: Duration) -> Result<std::result::Result<Puller, Unknown>> {
        let found = self.store.workers().await?.into_iter().find(|worker| worker.info.id == id);
        Ok(found.ok_or(Unknown).map(|worker| {
            let WorkerInfo { host: name, types, queues, concurrency, .. } = worker.info;
            Puller { id, name, types, queues, lease, concurrency }
        }))
    }

    /// Prolongs all leases of a worker. `holds` are those that it knows of; one that it does not name was
    /// lost on its way and goes back to its line.
    ///
    /// # Errors
    /// The store's.
    pub async fn beat(&self, who: &Puller, holds: Option<&[(JobId, Epoch)]>) -> Result<Alive> {
        let info = WorkerInfo {
            id: who.id,
            host: who.name.clone(),
            pid: 0,
            version: format!("http/{}", env!("CARGO_PKG_VERSION")),
            concurrency: who.concurrency,
            queues: who.queues.clone(),
            types: who.types.clone(),
            started_at: who.id.created_at(),
        };
        let beat = self.store.heartbeat(&Heartbeat { info, lease: who.lease }).await?;
        let held: BTreeSet<(JobId, Epoch)> = beat.held.iter().copied().collect();
        let mut alive = Alive { drain: beat.drain, held: held.len(), ..Alive::default() };
        if let Some(holds) = holds {
            alive.lost = holds.iter().filter(|lease| !held.contains(lease)).copied().collect();
            let unheard = beat.held.into_iter().filter(|lease| !holds.contains(lease)).collect();
            self.give_back(unheard, beat.now).await?;
        }
        if !held.is_empty() {
            let asked = self.store.asked(who.id, ASKS).await?;
            let leases = asked.iter().filter_map(|stored| Some((stored.job.id, stored.lease.as_ref()?.epoch)));
            alive.cancel = leases.filter(|lease| held.contains(lease)).collect();
        }
        Ok(alive)
    }

    /// Gives leases back that came by lost answers, and not those whose answers may be on their way.
    async fn give_back(&self, unheard: Vec<(JobId, Epoch)>, now: Ms) -> Result<()> {
        if unheard.is_empty() {
            return Ok(());
        }
        let ids: Vec<JobId> = unheard.iter().map(|(id, _)| *id).collect();
        let mut decided = Vec::new();
        for (stored, (id, epoch)) in self.store.get(&ids).await?.into_iter().zip(unheard) {
            let Some(stored) = stored else { continue };
            let lease = stored.lease.clone();
            if lease.is_none_or(|lease| lease.epoch != epoch || now.since(lease.since) < UNHEARD) {
                continue;
            }
            warn!(job = %id, "a lease that its worker does not know of goes back to its line");
            decided.push(decide(leased(stored), epoch, Outcome::Released, now, &*self.entropy));
        }
        self.commit(decided, now).await.map(drop)
    }

    /// Waits until there is work, for so long at most, and leases up to `max` jobs. `alone`: it holds
    /// nothing, and so may be given a job that its workers died of.
    ///
    /// # Errors
    /// The store's.
    pub async fn lease(&self, who: &Puller, max: usize, wait: Duration, alone: bool) -> Result<Vec<Claimed>> {
        let mut beat = Instant::now() + who.lease / 3;
        let until = Instant::now() + wait;
        let mut hints = self.store.hints();
        let options = WorkerOptions {
            queues: who.queues.iter().map(|queue| (queue.clone(), None)).collect(),
            ..WorkerOptions::default()
        };
        loop {
            hints.borrow_and_update();
            if beat <= Instant::now() {
                beat = Instant::now() + who.lease / 3;
                // Whoever waits cannot say that it lives.
                if self.beat(who, None).await?.drain {
                    return Ok(Vec::new());
                }
            }
            let (free, limited) = options.served(&self.store.queues().await?);
            let mut wake = beat.min(Instant::now() + POLL);
            let claim = Claim {
                worker: who.id,
                queues: free.into_iter().map(|(queue, _)| queue).collect(),
                want: max.min(CLAIM_BATCH),
                alone,
            };
            let (mut kept, due) = self.claim(who, claim).await?;
            wake = due.map_or(wake, |due| wake.min(due));
            for (queue, rate) in limited {
                if kept.len() >= max {
                    break;
                }
                let (more, next) =
                    self.claim_limited(who, queue, rate, max - kept.len(), alone && kept.is_empty()).await?;
                kept.extend(more);
                wake = next.map_or(wake, |next| wake.min(next));
            }
            let now = Instant::now();
            if !kept.is_empty() || now >= until {
                return Ok(kept);
            }
            tokio::select! {
                biased;
                Ok(()) = hints.changed() => tokio::time::sleep(REST).await,
                () = tokio::time::sleep_until(wake.min(until).max(now + REST)) => {}
            }
        }
    }

    /// One claim; what this worker cannot do is set apart at once. Also when the next job is due.
    async fn claim(&self, who: &Puller, claim: Claim) -> Result<(Vec<Claimed>, Option<Instant>)> {
        let answer = self.store.exchange(&Exchange::claiming(claim)).await?;
        let now = answer.now;
        let due = answer.next_due.map(|due| Instant::now() + due.since(now) + Duration::from_millis(1));
        let (mut kept, mut decided) = (Vec::new(), Vec::new());
        for mut claimed in answer.claimed {
            let unwanted = unwanted(&claimed, answer.asked, &self.runs, now);
            if unwanted.is_none() {
                claimed.job.claimed(who.id, claimed.epoch, now);
            }
            let outcome = if unwanted.is_some() {
                unwanted
            } else if claimed.job.raw.is_some() {
                error!(job = %claimed.job.id, queue = %claimed.job.queue, "the job's record cannot be read: set apart");
                Some(unreadable(&mut claimed))
            } else if !who.types.contains(&claimed.job.kind) {
                Some(Outcome::Unhandled)
            } else if claimed.job.deadline().is_some_and(|deadline| deadline <= now) {
                let error = JobError::new("deadline", "its deadline has passed");
                Some(Outcome::Failed { error, retry: RetryHint::Never })
            } else {
                None
            };
            match outcome {
                Some(outcome) => {
                    let record = claimed.run.take();
                    let one = decide(claimed.job, claimed.epoch, outcome, now, &*self.entropy);
                    decided.push(Decided { record, ..one });
                }
                None => kept.push(claimed),
            }
        }
        self.commit(decided, now).await?;
        Ok((kept, due))
    }

    /// A claim from a queue with a rate limit: for as many jobs as there are permits. Also when the next
    /// permit is good.
    async fn claim_limited(
        &self,
        who: &Puller,
        queue: Name,
        rate: Rate,
        want: usize,
        alone: bool,
    ) -> Result<(Vec<Claimed>, Option<Instant>)> {
        if self.permits().is_low(&of_queue(&queue), rate) {
            self.ask_for_permits(who, &queue, rate).await?;
        }
        let now = Instant::now();
        let drawn = {
            let mut permits = self.permits();
            let usable = permits.usable(of_queue(&queue), rate, now).min(want);
            permits.draw(of_queue(&queue), rate, usable)
        };
        if drawn.is_empty() {
            return Ok((Vec::new(), self.permits().next(&of_queue(&queue)).map(|next| next.max(now))));
        }
        let claim = Claim { worker: who.id, queues: vec![queue.clone()], want: drawn.len(), alone };
        let (kept, due) = self.claim(who, claim).await?;
        let unused = drawn.into_iter().skip(kept.len());
        self.permits().put_back(of_queue(&queue), rate, unused);
        Ok((kept, due))
    }

    /// Permits are leased only while something waits.
    async fn ask_for_permits(&self, who: &Puller, queue: &Name, rate: Rate) -> Result<()> {
        let look = Claim { worker: who.id, queues: vec![queue.clone()], want: 0, alone: false };
        let answer = self.store.exchange(&Exchange::claiming(look)).await?;
        let budget = batch(rate);
        let query = ListQuery { place: Place::Pending, queue: Some(queue.clone()), after: None, budget };
        let found = self.store.list(&query).await?.items.len() + usize::from(answer.suspects);
        if found > 0 {
            let request = PermitRequest { bucket: of_queue(queue), rate, count: found.min(budget) as u32 };
            let waits = self.store.permits(&[request]).await?.into_iter().flatten();
            let now = Instant::now();
            self.permits().put_back(of_queue(queue), rate, waits.map(|wait| now + wait));
        }
        Ok(())
    }

    fn permits(&self) -> MutexGuard<'_, Permits> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a running job tells; whether its lease still holds.
    ///
    /// # Errors
    /// The store's.
    pub async fn note(&self, note: Note) -> Result<bool> {
        Ok(self.store.note(&[note]).await?.first().copied().unwrap_or(false))
    }

    /// Ends a lease. The same end again is answered as the first time.
    ///
    /// # Errors
    /// The store's.
    pub async fn settle(&self, id: JobId, epoch: Epoch, outcome: Outcome) -> Result<Ended> {
        let Some(stored) = self.get(id).await? else { return Ok(Ended::Gone) };
        if stored.lease.as_ref().is_none_or(|lease| lease.epoch != epoch) {
            return Ok(match was_so(&stored, epoch, &outcome) {
                true => Ended::Done(Box::new(stored)),
                false => Ended::Stale,
            });
        }
        let record = match &stored.job.link {
            Some(link) => self.store.run(link.run).await?.map(Arc::new),
            None => None,
        };
        let now = self.store.exchange(&Exchange::default()).await?.now;
        let decided = Decided { record, ..decide(leased(stored), epoch, outcome, now, &*self.entropy) };
        let moved = self.commit(vec![decided], now).await?;
        if moved.first() != Some(&Moved::Applied) {
            return Ok(Ended::Stale);
        }
        Ok(self.get(id).await?.map_or(Ended::Gone, |stored| Ended::Done(Box::new(stored))))
    }

    async fn get(&self, id: JobId) -> Result<Option<Stored>> {
        Ok(self.store.get(&[id]).await?.into_iter().next().flatten())
    }

    /// Commits, each step with the advance of its run; what became of the moves, by job.
    async fn commit(&self, decided: Vec<Decided>, now: Ms) -> Result<Vec<Moved>> {
        if decided.is_empty() {
            return Ok(Vec::new());
        }
        let batch = commits(decided, now, &self.runs).await?;
        let answer = batch.send(&*self.store, &self.runs, None).await?.answer;
        Ok(answer.commits.into_iter().flat_map(|committed| committed.moves).collect())
    }
}

fn decide(job: Job, epoch: Epoch, outcome: Outcome, now: Ms, entropy: &dyn Entropy) -> Decided {
    let waited_from = Some(job.updated_at.unwrap_or(job.id.created_at()));
    let step = Move::new(Expect::Lease(epoch), job.settle(outcome, now, entropy.fraction()));
    Decided { step, record: None, waited_from }
}

/// The record with its lease noted, as the worker that holds it has it.
fn leased(stored: Stored) -> Job {
    let mut job = stored.job;
    job.progress = stored.progress.or(job.progress);
    if let Some(lease) = stored.lease {
        job.claimed(lease.worker, lease.epoch, lease.since);
    }
    job
}

/// Whether a lease with this epoch has ended in just this way: an answer that was lost makes a worker
/// say it again.
fn was_so(stored: &Stored, epoch: Epoch, outcome: &Outcome) -> bool {
    let (job, state) = (&stored.job, stored.place.state());
    if job.epoch != epoch {
        return false;
    }
    match outcome {
        Outcome::Completed { .. } => state == JobState::Completed,
        Outcome::Failed { error, .. } => {
            matches!(state, JobState::Retrying | JobState::Dead | JobState::Pending)
                && job.error.as_ref() == Some(error)
        }
        Outcome::Cancelled { .. } => state == JobState::Cancelled,
        _ => false,
    }
}
