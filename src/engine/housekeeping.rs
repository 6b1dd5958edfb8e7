//! What every worker does for all: takes over what dead workers held, fires timers, drains inboxes,
//! trims, and gives back leases that came by lost answers. Each chore is one short task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::domain::job::{ASKED, Outcome, Settled};
use crate::domain::{Entropy, Epoch, JobId, Ms, To, limits};
use crate::runs::Runs;
use crate::store::{Commit, Expect, Freed, Move, Result, RunAnswer, Store, Stored};

use super::options::WorkerOptions;
use super::settle::{Batch, Decided, commits};
use super::time::StoreTime;

/// Records a chore handles in one go; when it was not enough it is due again at once.
const REAP_BATCH: usize = 128;
const TICK_BATCH: usize = 256;
const DRAIN_BATCH: usize = 16;
const TRIM_BATCH: usize = 1_000;
const FREE_BATCH: usize = 256;
/// The store's clock may run ahead of our view of it by so much before we think that we slept.
const JUMP: Duration = Duration::from_secs(5);
/// How long a dirty run is left to the one who took it.
const HOLD: Duration = Duration::from_secs(2);
/// How long a new worker waits for the inboxes that it found before it takes work.
const TAKE_IN: Duration = Duration::from_secs(5);
/// At least so much lies between two looks into inboxes that nobody but a hint has asked for.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Means {
    store: Arc<dyn Store>,
    runs: Arc<Runs>,
    entropy: Arc<dyn Entropy>,
    retention: crate::store::Retention,
}

enum Kind {
    Reap,
    Tick,
    Drain,
    Trim,
    GiveBack(Vec<(JobId, Epoch)>),
    /// Somebody asked for the end of jobs that no live worker holds.
    End(Vec<Stored>),
    /// Parents of held jobs have ended.
    Free,
}

/// One piece of housekeeping, ready to be run.
pub struct Chore {
    kind: Kind,
    means: Means,
}

/// What a chore came to.
pub enum Done {
    Reaped(Result<bool>),
    /// The store's clock ran ahead of ours: nothing was reaped.
    Jumped,
    Ticked(Result<(usize, Option<Ms>)>),
    Drained(Result<bool>),
    Trimmed(Result<bool>),
    GivenBack(Result<()>),
    Ended(Result<()>),
    Freed(Result<bool>),
}

/// When which chore is due.
pub struct Housekeeper {
    means: Means,
    reap_every: Duration,
    tick_every: Duration,
    trim_every: Duration,
    /// `None` while it is under way.
    reap: Option<Instant>,
    tick: Option<Instant>,
    trim: Option<Instant>,
    draining: bool,
    dirty: bool,
    born: Instant,
    /// Every timer that was due has fired; the last drain found no more; both were so at once.
    ticked: bool,
    drained: bool,
    taken_in: bool,
    /// When inboxes are to be looked into although no answer has named them, and when they were.
    look: Option<Instant>,
    looked: Option<Instant>,
    orphans: Vec<(JobId, Epoch)>,
    asked: Vec<Stored>,
    freeing: bool,
    freed: bool,
}

impl Housekeeper {
    pub fn new(store: &Arc<dyn Store>, runs: &Arc<Runs>, entropy: &Arc<dyn Entropy>, options: &WorkerOptions) -> Self {
        let means =
            Means { store: store.clone(), runs: runs.clone(), entropy: entropy.clone(), retention: options.retention };
        let now = Instant::now();
        Housekeeper {
            reap_every: options.reap_every,
            tick_every: options.poll,
            trim_every: options.trim_every,
            reap: Some(now),
            tick: Some(now),
            // Not all workers of a deployment at once.
            trim: Some(now + options.trim_every.mul_f64(means.entropy.fraction())),
            draining: false,
            dirty: true,
            born: now,
            ticked: false,
            drained: false,
            taken_in: false,
            look: None,
            looked: None,
            orphans: Vec::new(),
            asked: Vec::new(),
            freeing: false,
            freed: true,
            means,
        }
    }

    /// Runs wait in an inbox, or may do so: nobody has looked yet.
    pub fn dirty(&mut self) {
        self.dirty = true;
    }

    /// Whether something may come of what waits here: a run that goes on, a held job that is let go.
    pub fn is_dirty(&self) -> bool {
        self.dirty || self.draining || self.freed || self.freeing
    }

    /// Whether what had been told to runs before this worker began has been taken in, or is more than can be
    /// waited for: timers that were due have fired, and inboxes were empty once.
    pub fn has_taken_in(&self, now: Instant) -> bool {
        self.taken_in || now >= self.born + TAKE_IN
    }

    fn look_whether_taken_in(&mut self) {
        self.taken_in |= self.ticked && self.drained && !self.dirty;
    }

    /// A timer of some run is due then.
    pub fn timer_due(&mut self, at: Instant) {
        self.tick = self.tick.map(|tick| tick.min(at));
    }

    pub fn give_back(&mut self, orphans: Vec<(JobId, Epoch)>) {
        self.orphans.extend(orphans);
    }

    /// Ends jobs that were asked to end and that nobody runs, or whose worker is gone.
    pub fn end(&mut self, asked: Vec<Stored>) {
        self.asked = asked;
    }

    /// Parents of held jobs have ended, or may have done so.
    pub fn freed(&mut self) {
        self.freed = true;
    }

    /// Gives leases back at once.
    ///
    /// # Errors
    /// The store's.
    pub async fn give_back_now(&self, strays: Vec<(JobId, Epoch)>, now: Ms) -> Result<()> {
        self.means.give_back(strays, now).await
    }

    pub fn next(&self, now: Instant) -> Instant {
        let far = now + self.trim_every;
        [self.reap, self.tick, self.trim, self.look].into_iter().flatten().min().unwrap_or(far)
    }

    /// Somebody has hinted: perhaps a run was told something. A worker that is full, or has no queue to
    /// claim from, hears of it by no answer, so inboxes are looked into without one; hints may come
    /// thick, looks do not.
    pub fn hinted(&mut self, now: Instant) {
        self.look.get_or_insert(self.looked.map_or(now, |looked| now.max(looked + LOOK)));
    }

    /// Nothing is reaped before then.
    pub fn spare(&mut self, until: Instant) {
        self.reap = self.reap.map(|at| at.max(until));
    }

    /// Takes the chores that are due. Leases are judged only by those who may (`may_reap`): whoever was
    /// cut off cannot tell a dead worker from one that was cut off as well.
    pub fn due(&mut self, now: Instant, may_reap: bool) -> Vec<Chore> {
        let mut kinds = Vec::new();
        if !may_reap {
            self.spare(now + self.reap_every);
        }
        for (at, kind) in [(&mut self.reap, Kind::Reap), (&mut self.tick, Kind::Tick), (&mut self.trim, Kind::Trim)] {
            if at.is_some_and(|at| at <= now) {
                *at = None;
                kinds.push(kind);
            }
        }
        if self.look.is_some_and(|at| at <= now) {
            (self.look, self.looked) = (None, Some(now));
            self.dirty = true;
        }
        if self.dirty && !self.draining {
            (self.dirty, self.draining) = (false, true);
            kinds.push(Kind::Drain);
        }
        if !self.orphans.is_empty() {
            kinds.push(Kind::GiveBack(std::mem::take(&mut self.orphans)));
        }
        if !self.asked.is_empty() {
            kinds.push(Kind::End(std::mem::take(&mut self.asked)));
        }
        if self.freed && !self.freeing {
            (self.freed, self.freeing) = (false, true);
            kinds.push(Kind::Free);
        }
        kinds.into_iter().map(|kind| Chore { kind, means: self.means.clone() }).collect()
    }

    /// Notes what a chore came to, and when it is due again.
    ///
    /// # Errors
    /// The chore's own, after it has been planned again.
    pub fn done(&mut self, done: Done, time: &StoreTime) -> Result<()> {
        let now = Instant::now();
        let again = |more: &Result<bool>, every: Duration| match more {
            Ok(true) => Some(now),
            _ => Some(now + every),
        };
        match done {
            Done::Jumped => {
                self.reap = Some(now + self.reap_every);
                Ok(())
            }
            Done::Reaped(result) => {
                self.reap = again(&result, self.reap_every);
                result.map(drop)
            }
            Done::Trimmed(result) => {
                self.trim = again(&result, self.trim_every);
                result.map(drop)
            }
            Done::Ticked(result) => {
                self.tick = Some(now + self.tick_every);
                let (fired, next) = result?;
                self.dirty |= fired > 0;
                self.ticked |= fired < TICK_BATCH;
                self.look_whether_taken_in();
                // A hint may have been lost.
                self.hinted(now);
                if let Some(due) = next {
                    self.timer_due(time.instant(due).max(now));
                }
                Ok(())
            }
            Done::Drained(result) => {
                self.draining = false;
                self.drained = matches!(result, Ok(false));
                self.look_whether_taken_in();
                // After an error the run's hold passes by itself; the next answer will say dirty.
                self.dirty |= *result.as_ref().unwrap_or(&true);
                result.map(drop)
            }
            Done::GivenBack(result) | Done::Ended(result) => result,
            Done::Freed(result) => {
                self.freeing = false;
                // After an error the next answer will say so again.
                self.freed |= *result.as_ref().unwrap_or(&false);
                result.map(drop)
            }
        }
    }
}

impl Chore {
    /// Does it. `now` is the store's clock, for the records that are written.
    pub async fn run(self, now: Ms) -> Done {
        let means = &self.means;
        match self.kind {
            Kind::Reap => match means.reap(now).await {
                Ok(None) => Done::Jumped,
                Ok(Some(more)) => Done::Reaped(Ok(more)),
                Err(error) => Done::Reaped(Err(error)),
            },
            Kind::Tick => Done::Ticked(means.tick().await),
            Kind::Drain => Done::Drained(means.drain(now).await),
            Kind::Trim => Done::Trimmed(means.trim().await),
            Kind::GiveBack(orphans) => Done::GivenBack(means.give_back(orphans, now).await),
            Kind::End(asked) => Done::Ended(means.end(asked, now).await),
            Kind::Free => Done::Freed(means.free(now).await),
        }
    }
}

impl Means {
    /// Answers whether there is more to do; nothing, when the store's clock has run ahead of ours by
    /// so much that this machine must have slept.
    async fn reap(&self, expected: Ms) -> Result<Option<bool>> {
        let overdue = self.store.overdue(limits::PARKED, REAP_BATCH).await?;
        if overdue.now.since(expected) > JUMP {
            return Ok(None);
        }
        let more = overdue.lapsed.len() == REAP_BATCH || overdue.unhandled.len() == REAP_BATCH;
        let now = overdue.now;
        let mut decided = Vec::new();
        for stored in overdue.lapsed {
            let Some(lease) = stored.lease.clone() else { continue };
            let job = leased(stored);
            info!(job = %job.id, kind = %job.kind, worker = %lease.worker, "the lease has lapsed: taken over");
            decided.push((job.settle(Outcome::Crashed, now, self.entropy.fraction()), Expect::Lapsed(lease.epoch)));
        }
        for stored in overdue.unhandled {
            let expect = Expect::Idle(stored.place, stored.job.rev);
            decided.push((stored.job.bury_unhandled(now), expect));
        }
        self.settle(decided, now).await?;
        Ok(Some(more))
    }

    /// Commits what was decided about jobs that this worker does not run, with what their runs learn.
    async fn settle(&self, decided: Vec<(Settled, Expect)>, now: Ms) -> Result<()> {
        let mut moves = Vec::with_capacity(decided.len());
        for (settled, expect) in decided {
            let record = match &settled.job.link {
                Some(link) => self.store.run(link.run).await?.map(Arc::new),
                None => None,
            };
            moves.push(Decided { step: Move::new(expect, settled), record, waited_from: None });
        }
        self.commit(commits(moves, now, &self.runs).await?).await.map(drop)
    }

    /// Ends jobs that were asked to end: those that wait, and those whose worker is gone.
    async fn end(&self, asked: Vec<Stored>, now: Ms) -> Result<()> {
        let mut decided = Vec::new();
        for stored in asked {
            match stored.lease.clone() {
                Some(lease) => {
                    let outcome = Outcome::Cancelled { reason: ASKED.to_owned() };
                    decided.push((leased(stored).settle(outcome, now, 0.0), Expect::Lapsed(lease.epoch)));
                }
                None => {
                    let expect = Expect::Idle(stored.place, stored.job.rev);
                    // One that has ended meanwhile is left as it is.
                    decided
                        .extend(stored.job.cancel(stored.place.state(), ASKED, now).ok().map(|ended| (ended, expect)));
                }
            }
        }
        self.settle(decided, now).await
    }

    /// Tells held jobs that their parents have ended; answers whether there is more to do.
    async fn free(&self, now: Ms) -> Result<bool> {
        let freed = self.store.freed(FREE_BATCH).await?;
        let more = freed.iter().map(|one| one.children.len()).sum::<usize>() >= FREE_BATCH;
        // A job whose parents ended together is told of all of them in one move.
        let mut children: BTreeMap<JobId, (Expect, Settled)> = BTreeMap::new();
        for Freed { parent, state, children: told } in freed {
            for stored in told {
                let expect = Expect::Idle(stored.place, stored.job.rev);
                let next = match children.remove(&stored.job.id) {
                    None => stored.job.parent_ended(parent, state, now).map(|settled| (expect, settled)),
                    Some((expect, Settled { job, to: To::Held, event })) => {
                        let told = job.clone().parent_ended(parent, state, now);
                        Some((expect, told.unwrap_or(Settled { job, to: To::Held, event })))
                    }
                    // Cancelled by the end of another parent.
                    ended => ended,
                };
                children.extend(next.map(|(expect, settled)| (settled.job.id, (expect, settled))));
            }
        }
        let decided = children.into_values().map(|(expect, settled)| (settled, expect)).collect();
        self.settle(decided, now).await?;
        Ok(more)
    }

    async fn tick(&self) -> Result<(usize, Option<Ms>)> {
        let ticked = self.store.tick(TICK_BATCH).await?;
        Ok((ticked.fired, ticked.next_due))
    }

    /// Advances dirty runs by what waits in their inboxes; answers whether there is more to do.
    async fn drain(&self, now: Ms) -> Result<bool> {
        let work = self.store.take_dirty(DRAIN_BATCH, HOLD).await?;
        let mut more = work.len() == DRAIN_BATCH;
        let (mut drains, mut resumed) = (Batch::default(), Vec::new());
        for one in work {
            let run = one.record.id;
            match self.runs.drain(one, now).await {
                Ok(planned) if planned.part.advance.is_some() => {
                    resumed.extend(planned.resumes().then_some(run));
                    drains.push(Commit { moves: Vec::new(), run: Some(planned.part) }, planned.header);
                }
                Ok(_) => {}
                Err(error) if error.is_transient() => return Err(error),
                // One damaged run must not stop the others.
                Err(error) => tracing::error!(%run, %error, "the run's inbox cannot be drained"),
            }
        }
        for answer in self.commit(drains).await? {
            // Contended: another one advanced the run, and marked it if anything is left.
            more |= matches!(answer, RunAnswer::Advanced { more: true } | RunAnswer::Contended);
        }
        for run in resumed {
            self.runs.let_go(run, now).await?;
        }
        Ok(more)
    }

    async fn trim(&self) -> Result<bool> {
        let trimmed = self.store.trim(self.retention, TRIM_BATCH).await?;
        Ok(trimmed.jobs >= TRIM_BATCH || trimmed.runs >= TRIM_BATCH)
    }

    async fn give_back(&self, orphans: Vec<(JobId, Epoch)>, now: Ms) -> Result<()> {
        let ids: Vec<JobId> = orphans.iter().map(|(id, _)| *id).collect();
        let mut commits = Batch::default();
        for (stored, (id, epoch)) in self.store.get(&ids).await?.into_iter().zip(orphans) {
            let Some(stored) = stored.filter(|stored| stored.lease.as_ref().is_some_and(|lease| lease.epoch == epoch))
            else {
                continue;
            };
            warn!(job = %id, "a lease whose answer was lost goes back to its line");
            let settled = leased(stored).settle(Outcome::Released, now, 0.0);
            let step = Move::new(Expect::Lease(epoch), settled);
            commits.push(Commit { moves: vec![step], run: None }, None);
        }
        self.commit(commits).await.map(drop)
    }

    async fn commit(&self, batch: Batch) -> Result<Vec<RunAnswer>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let answer = batch.send(&*self.store, &self.runs, None).await?.answer;
        Ok(answer.commits.into_iter().map(|committed| committed.run).collect())
    }
}

/// The record with its lease noted, as the worker that holds it has it.
fn leased(stored: Stored) -> crate::domain::Job {
    let mut job = stored.job;
    job.progress = stored.progress.or(job.progress);
    if let Some(lease) = stored.lease {
        job.claimed(lease.worker, lease.epoch, lease.since);
    }
    job
}
