//! The worker's loop. It owns the [`Ledger`]; everything that takes time is a task that reports back
//! once. See the drawing in the module above.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::domain::job::{JobError, Outcome, RetryHint};
use crate::domain::{Clock, Entropy, Epoch, JobId, Ms, Name, Shard, WorkerId};
use crate::store::{Beat, Claim, Definition, Exchanged, Heartbeat, Result, RunQuery, Store, StoreError, WorkerInfo};

use super::handlers::{Handlers, Task};
use super::housekeeping::{Chore, Done, Housekeeper};
use super::ledger::{Finished, Ledger, Wish};
use super::options::{Summary, WorkerOptions};
use super::plan::Plan;
use super::runs::Runs;
use super::settle::{commits, decide};
use super::time::StoreTime;

/// Exchanges under way at once: while the store works on one, the worker prepares the other.
const PIPELINE: usize = 2;
/// As many outcomes, or as many jobs to be had, make a second exchange worth its round trip.
const WORTHWHILE: usize = 32;
/// Between two looks for new queues when hints come in thick.
const LOOK_FOR_QUEUES: Duration = Duration::from_millis(20);
/// Between two looks for handlers that were applied.
const LOOK_FOR_HANDLERS: Duration = Duration::from_secs(5);
/// The same, when a job of an unknown type has come.
const LOOK_FOR_HANDLERS_NOW: Duration = Duration::from_millis(100);
/// Between two looks whether everything is done, with `until_empty`.
const LOOK_FOR_END: Duration = Duration::from_millis(100);
/// How long runs without a job are waited for, with `until_empty`.
const RUNS_COME_BACK: Duration = Duration::from_secs(5);
/// How long a stopping worker goes on trying to tell a store that does not answer.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// A worker over a store. [`Worker::run`] is its life.
pub struct Worker {
    store: Arc<dyn Store>,
    options: WorkerOptions,
    handlers: Handlers,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// What a task reports.
enum Happened {
    Exchanged {
        nth: u64,
        settled: Vec<Finished>,
        wish: Option<Wish>,
        /// The hints that had come when it was sent.
        hinted: u64,
        result: Result<(Exchanged, Summary)>,
    },
    Ended {
        id: JobId,
        epoch: Epoch,
        outcome: Option<Outcome>,
    },
    Beaten {
        asked: Instant,
        result: Result<Beat>,
    },
    Queues(Result<Vec<Name>>),
    Handlers(Result<Vec<Definition>>),
    Chore(Done),
    /// What is left that `--until-empty` waits for.
    Busy(Result<Left>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// No job, but a run that is not over.
    Runs,
    Jobs,
}

impl Worker {
    pub fn new(
        store: Arc<dyn Store>,
        options: WorkerOptions,
        handlers: Handlers,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Worker { store, options, handlers, clock, entropy }
    }

    /// Works until `stop` is cancelled and everything running has ended or was given back, or,
    /// with `until_empty`, until nothing is left. Cancelling `now` ends running jobs at once.
    ///
    /// # Errors
    /// What only somebody else can mend: refused, corrupt, too new. Everything transient is waited
    /// out; while the store is away, running jobs go on.
    pub async fn run(self, stop: CancellationToken, now: CancellationToken) -> Result<Summary> {
        let born = self.clock.now();
        let id = WorkerId::from_parts(born, Shard(0), self.entropy.next());
        let runs = Arc::new(Runs::new(self.store.clone()));
        let housekeeper = Housekeeper::new(&self.store, &runs, &self.entropy, &self.options);
        let mut life = Life {
            id,
            born,
            ledger: Ledger::new(self.options.concurrency),
            time: StoreTime::new(born),
            hints: self.store.hints(),
            queues: self.options.queues.iter().map(|(name, _)| name.clone()).collect(),
            worker: self,
            runs,
            housekeeper,
            tasks: JoinSet::new(),
            in_flight: 0,
            coming: 0,
            hinted: 0,
            plan: Plan::new(Instant::now()),
            sent: 0,
            claims: BTreeSet::new(),
            orphans: BTreeMap::new(),
            stopping: None,
            summary: Summary::default(),
        };
        let result = life.live(stop, now).await;
        life.tasks.shutdown().await;
        life.worker.handlers.close().await;
        if let Err(error) = life.worker.store.farewell(id).await {
            debug!(%error, "the farewell did not arrive: leases lapse by themselves");
        }
        result.map(|()| life.summary)
    }
}

struct Life {
    worker: Worker,
    id: WorkerId,
    born: Ms,
    ledger: Ledger,
    time: StoreTime,
    hints: watch::Receiver<u64>,
    queues: Vec<Name>,
    runs: Arc<Runs>,
    housekeeper: Housekeeper,
    tasks: JoinSet<Happened>,
    in_flight: usize,
    /// Leases asked for and not answered yet.
    coming: usize,
    /// How often somebody hinted at new work.
    hinted: u64,
    plan: Plan,
    /// Exchanges sent so far, and those with a claim that are not answered yet.
    sent: u64,
    claims: BTreeSet<u64>,
    /// Leases that the last heartbeat showed and nobody here knows of, each with the number of the
    /// last exchange sent before it was first seen.
    orphans: BTreeMap<(JobId, Epoch), u64>,
    /// Since a stop was asked for: when running jobs are ended.
    stopping: Option<Instant>,
    summary: Summary,
}

impl Life {
    async fn live(&mut self, stop: CancellationToken, at_once: CancellationToken) -> Result<()> {
        loop {
            self.start_jobs();
            let now = Instant::now();
            self.send_due(now);
            if self.is_over() {
                return Ok(());
            }
            let wake = self.next_wake(now);
            tokio::select! {
                biased;
                () = at_once.cancelled(), if self.stopping.is_none_or(|end| end > now) => {
                    self.begin_stop(Duration::ZERO);
                }
                () = stop.cancelled(), if self.stopping.is_none() => {
                    self.begin_stop(self.worker.options.shutdown_timeout);
                }
                Some(joined) = self.tasks.join_next() => {
                    self.joined(joined)?;
                    while let Some(joined) = self.tasks.try_join_next() {
                        self.joined(joined)?;
                    }
                }
                Ok(()) = self.hints.changed() => {
                    self.hints.borrow_and_update();
                    self.hinted += 1;
                    self.plan.idle = false;
                    self.plan.claim = Instant::now();
                }
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn joined(&mut self, joined: Result<Happened, tokio::task::JoinError>) -> Result<()> {
        match joined {
            Ok(happened) => self.happened(happened),
            // Handlers are caught where they run: this is a panic of the engine itself.
            Err(error) => Err(StoreError::Corrupt(format!("a task of the engine failed: {error}"))),
        }
    }

    /// Starts what has been leased, as far as there is room.
    fn start_jobs(&mut self) {
        if self.stopping.is_some() {
            self.ledger.release_ahead();
            return;
        }
        // Whoever has slept through its lease asks first what is still its own.
        if self.plan.registered.is_none_or(|until| until <= Instant::now()) {
            return;
        }
        let now = self.time.now();
        while let Some(mut claimed) = self.ledger.next() {
            claimed.job.claimed(self.id, claimed.epoch, now);
            let Some(handler) = self.worker.handlers.get(&claimed.job.kind) else {
                warn!(job = %claimed.job.id, kind = %claimed.job.kind, "no handler for this type: parked");
                self.ledger.done(claimed, Duration::ZERO, Outcome::Unhandled);
                self.plan.handlers = self.plan.handlers.min(Instant::now() + LOOK_FOR_HANDLERS_NOW);
                continue;
            };
            handler.defaults(&mut claimed.job);
            let begun = Instant::now();
            if let Some(outcome) = handler.immediate(&claimed.job) {
                self.ledger.done(claimed, begun.elapsed(), outcome);
                continue;
            }
            let stop = CancellationToken::new();
            let (id, epoch) = (claimed.job.id, claimed.epoch);
            let run = handler.run(Task::new(claimed.job.clone(), stop.clone()));
            self.ledger.started(claimed, stop);
            self.tasks.spawn(async move {
                let outcome = match AssertUnwindSafe(run).catch_unwind().await {
                    Ok(outcome) => outcome,
                    Err(_) => Some(Outcome::Failed {
                        error: JobError::new("panic", "the handler panicked"),
                        retry: RetryHint::Policy,
                    }),
                };
                Happened::Ended { id, epoch, outcome }
            });
        }
    }

    fn happened(&mut self, happened: Happened) -> Result<()> {
        match happened {
            Happened::Ended { id, epoch, outcome } => {
                if !self.ledger.ended(id, epoch, outcome) {
                    self.summary.lost += 1;
                }
                Ok(())
            }
            Happened::Exchanged { nth, settled, wish, hinted, result } => {
                self.claims.remove(&nth);
                self.exchanged(settled, wish, hinted, result)
            }
            Happened::Beaten { asked, result } => self.beaten(asked, result),
            Happened::Queues(result) => {
                self.plan.looking = false;
                if let Some(queues) = self.accept_or_back_off(result)? {
                    if queues != self.queues {
                        self.plan.idle = false;
                        self.plan.claim = Instant::now();
                    }
                    self.queues = queues;
                }
                Ok(())
            }
            Happened::Handlers(result) => {
                self.plan.following = false;
                self.plan.handlers_known |= result.is_ok();
                if let Some(definitions) = self.accept_or_back_off(result)?
                    && self.worker.handlers.follow(definitions)
                {
                    // The types are announced with the next beat, and what was parked comes back.
                    self.plan.beat = Instant::now();
                }
                Ok(())
            }
            Happened::Chore(done) => {
                if matches!(done, Done::Jumped) {
                    // The machine slept, and others with it: this worker first says that it lives.
                    let now = Instant::now();
                    self.plan.trouble.get_or_insert(now);
                    self.plan.beat = now;
                    self.housekeeper.spare(now + self.worker.options.lease / 5);
                }
                let result = self.housekeeper.done(done, &self.time);
                self.accept_or_back_off(result).map(drop)
            }
            Happened::Busy(result) => {
                self.plan.check = Some(Instant::now() + LOOK_FOR_END);
                let now = Instant::now();
                let left = self.accept_or_back_off(result)?;
                if left != Some(Left::Runs) {
                    self.plan.only_runs = None;
                }
                let is_over = match left {
                    Some(Left::Nothing) => true,
                    // A run without a job may be in the hands of a worker that just died: it comes back
                    // when the hold has passed. One that still does not move waits for something else.
                    Some(Left::Runs) => *self.plan.only_runs.get_or_insert(now) + RUNS_COME_BACK < now,
                    Some(Left::Jobs) | None => false,
                };
                if is_over && self.may_be_empty() && !self.housekeeper.is_dirty() {
                    self.begin_stop(Duration::ZERO);
                }
                Ok(())
            }
        }
    }

    /// Passes good answers on; waits after transient failures; gives up on the others.
    fn accept_or_back_off<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(answer) => {
                self.plan.answered();
                Ok(Some(answer))
            }
            Err(error) if error.is_transient() => {
                let wait = self.plan.failed(Instant::now());
                warn!(%error, ?wait, "the store did not answer");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn exchanged(
        &mut self,
        settled: Vec<Finished>,
        wish: Option<Wish>,
        hinted: u64,
        result: Result<(Exchanged, Summary)>,
    ) -> Result<()> {
        self.in_flight -= 1;
        self.coming -= wish.map_or(0, |wish| wish.want);
        let Some((answer, summary)) = self.accept_or_back_off(result)? else {
            self.ledger.unsettled(settled);
            return Ok(());
        };
        self.ledger.settled(&settled);
        self.summary.add(summary);
        self.time = StoreTime::new(answer.now);
        if let Some(wish) = wish {
            let now = Instant::now();
            self.plan.plenty = answer.claimed.len() == wish.want;
            // Work that was hinted at meanwhile may have come after this look.
            self.plan.idle = !self.plan.plenty && hinted == self.hinted;
            self.plan.claim = now + self.worker.options.poll;
            if let Some(due) = answer.next_due {
                self.plan.claim = self.plan.claim.min(self.time.instant(due)).max(now);
                self.housekeeper.timer_due(self.time.instant(due));
            }
            if self.plan.idle && self.worker.options.queues.is_empty() {
                self.plan.queues = self.plan.queues.min(now + LOOK_FOR_QUEUES);
            }
            let patience = self.worker.entropy.fraction();
            self.plan.note_suspects(answer.suspects && !wish.alone, now, patience);
            self.ledger.accept(answer.claimed, wish.alone);
        }
        if answer.dirty {
            self.housekeeper.dirty();
        }
        Ok(())
    }

    fn beaten(&mut self, asked: Instant, result: Result<Beat>) -> Result<()> {
        self.plan.beating = false;
        let Some(beat) = self.accept_or_back_off(result)? else { return Ok(()) };
        self.time = StoreTime::new(beat.now);
        let lease = self.worker.options.lease;
        if self.plan.trouble.take().is_some_and(|since| asked.duration_since(since) > lease / 3) {
            // The store was away for others too: they get the time to say that they live.
            self.housekeeper.spare(Instant::now() + lease / 5);
        }
        self.plan.registered = Some(asked + lease * 2 / 3);
        self.plan.beat = asked + lease / 3;
        let (lost, unknown) = self.ledger.reconcile(&beat.held, asked);
        for id in lost {
            warn!(job = %id, "the lease is lost: its command is ended, its result dropped");
            self.summary.lost += 1;
        }
        // A lease that is still unknown when every claim sent before it was first seen has been
        // answered, or has failed, came by an answer that was lost: it goes back to its line.
        let oldest = self.claims.first().copied().unwrap_or(u64::MAX);
        let mut orphaned = Vec::new();
        let mut waiting = BTreeMap::new();
        for lease in unknown {
            match self.orphans.get(&lease) {
                Some(seen) if *seen < oldest => orphaned.push(lease),
                seen => {
                    waiting.insert(lease, seen.copied().unwrap_or(self.sent));
                }
            }
        }
        self.orphans = waiting;
        if !self.orphans.is_empty() {
            self.plan.beat = self.plan.beat.min(asked + Duration::from_secs(1));
        }
        self.housekeeper.give_back(orphaned);
        Ok(())
    }

    fn begin_stop(&mut self, patience: Duration) {
        let now = Instant::now();
        if self.stopping.is_none() {
            info!(running = self.ledger.running(), "stopping");
        }
        self.stopping = Some(now + patience);
    }

    fn is_over(&self) -> bool {
        let Some(end) = self.stopping else { return false };
        let done = self.ledger.is_empty() && self.in_flight == 0;
        let given_up = Instant::now() > end + LAST_WORDS && self.ledger.running() == 0;
        if given_up && !done {
            warn!("the store does not answer: what is unsettled will be run again when its lease has lapsed");
        }
        done || given_up
    }

    /// Sends every call whose time has come.
    fn send_due(&mut self, now: Instant) {
        if self.stopping.is_some_and(|end| end <= now) {
            self.ledger.stop_running();
        }
        if now < self.plan.retry {
            return;
        }
        if now >= self.plan.beat && !self.plan.beating {
            self.send_beat(now);
        }
        self.send_exchanges(now);
        if self.stopping.is_some() {
            return;
        }
        if self.worker.handlers.follows_store() && now >= self.plan.handlers && !self.plan.following {
            self.plan.following = true;
            self.plan.handlers = now + LOOK_FOR_HANDLERS;
            let store = self.worker.store.clone();
            self.tasks.spawn(async move { Happened::Handlers(store.definitions("handler").await) });
        }
        if self.worker.options.queues.is_empty() && now >= self.plan.queues && !self.plan.looking {
            self.plan.looking = true;
            self.plan.queues = now + self.worker.options.poll;
            let store = self.worker.store.clone();
            self.tasks.spawn(async move {
                let queues = store.queues().await;
                Happened::Queues(queues.map(|queues| queues.into_iter().map(|(name, _)| name).collect()))
            });
        }
        for chore in self.housekeeper.due(now, self.plan.trouble.is_none()) {
            self.spawn_chore(chore);
        }
        self.check_empty(now);
    }

    fn spawn_chore(&mut self, chore: Chore) {
        let now = self.time.now();
        self.tasks.spawn(async move { Happened::Chore(chore.run(now).await) });
    }

    fn send_beat(&mut self, now: Instant) {
        self.plan.beating = true;
        self.plan.beat = now + self.worker.options.lease / 3;
        let options = &self.worker.options;
        let info = WorkerInfo {
            id: self.id,
            host: options.host.clone(),
            pid: options.pid,
            version: options.version.clone(),
            concurrency: options.concurrency as u32,
            queues: options.queues.iter().map(|(name, _)| name.clone()).collect(),
            types: self.worker.handlers.types(),
            started_at: self.born,
        };
        let beat = Heartbeat { info, lease: options.lease };
        let store = self.worker.store.clone();
        // One that hangs must not cost the lease: the next one may have a better connection.
        let limit = options.lease / 4;
        self.tasks.spawn(async move {
            let late = || StoreError::Unknown(format!("a heartbeat was not answered within {limit:?}"));
            let result = tokio::time::timeout(limit, store.heartbeat(&beat)).await;
            Happened::Beaten { asked: now, result: result.unwrap_or_else(|_| Err(late())) }
        });
    }

    fn send_exchanges(&mut self, now: Instant) {
        while self.in_flight < PIPELINE {
            let finished = self.ledger.finished();
            let free = self.in_flight == 0;
            let may_claim = self.may_claim(now);
            let look = may_claim && (!self.plan.idle || now >= self.plan.claim);
            // The store shall not wait while this worker makes the next batch ready: as long as there is
            // plenty, the next claim is under way already.
            let more = || self.ledger.wish(0, self.coming, self.plan.drains(now));
            let fill = || self.plan.plenty && may_claim && more().is_some_and(|wish| wish.want >= WORTHWHILE);
            if !(finished >= WORTHWHILE || (free && (finished > 0 || look)) || fill()) {
                return;
            }
            let settled = self.ledger.take_finished();
            let wish = self.ledger.wish(settled.len(), self.coming, self.plan.drains(now)).filter(|_| may_claim);
            if settled.is_empty() && wish.is_none() {
                // There is no room, or a suspect needs it all: the end of a job changes that.
                self.plan.claim = now + self.worker.options.poll;
                return;
            }
            self.send_exchange(settled, wish);
        }
    }

    /// Leases are only worth having while the registration holds them.
    fn may_claim(&self, now: Instant) -> bool {
        let registered = self.plan.registered.is_some_and(|until| now < until);
        let ready = self.plan.handlers_known || !self.worker.handlers.follows_store();
        registered && ready && self.stopping.is_none() && !self.queues.is_empty()
    }

    fn send_exchange(&mut self, settled: Vec<Finished>, wish: Option<Wish>) {
        self.in_flight += 1;
        self.sent += 1;
        let nth = self.sent;
        self.coming += wish.map_or(0, |wish| wish.want);
        if wish.is_some() {
            self.claims.insert(nth);
        }
        let claim =
            wish.map(|wish| Claim { worker: self.id, queues: self.queue_order(), want: wish.want, alone: wish.alone });
        let (store, runs, entropy) = (self.worker.store.clone(), self.runs.clone(), self.worker.entropy.clone());
        let (now, hinted) = (self.time.now(), self.hinted);
        self.tasks.spawn(async move {
            let result = async {
                let batch = commits(decide(&settled, now, &*entropy), now, &runs).await?;
                batch.send(&*store, &runs, claim).await
            };
            let result = result.await;
            Happened::Exchanged { nth, settled, wish, hinted, result }
        });
    }

    /// Strictly as given, or a random order in which a queue of twice the weight comes first twice
    /// as often (Efraimidis and Spirakis, weighted sampling without replacement).
    fn queue_order(&self) -> Vec<Name> {
        if self.worker.options.strict || self.queues.len() < 2 {
            return self.queues.clone();
        }
        let weight = |queue: &Name| {
            let known = self.worker.options.queues.iter().find(|(name, _)| name == queue);
            f64::from(known.map_or(1, |(_, weight)| *weight).max(1))
        };
        let mut order: Vec<(f64, Name)> = self
            .queues
            .iter()
            .map(|queue| (self.worker.entropy.fraction().powf(1.0 / weight(queue)), queue.clone()))
            .collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        order.into_iter().map(|(_, queue)| queue).collect()
    }

    fn may_be_empty(&self) -> bool {
        let idle = self.plan.idle || self.queues.is_empty();
        self.worker.options.until_empty && idle && self.ledger.is_empty() && self.in_flight == 0
    }

    fn check_empty(&mut self, now: Instant) {
        if !self.may_be_empty() || self.housekeeper.is_dirty() || self.plan.check.is_none_or(|at| now < at) {
            return;
        }
        self.plan.check = None;
        let store = self.worker.store.clone();
        let served: BTreeSet<Name> = self.worker.options.queues.iter().map(|(name, _)| name.clone()).collect();
        self.tasks.spawn(async move {
            let left = async {
                let stats = store.stats().await?;
                let ours = |name: &Name| served.is_empty() || served.contains(name);
                if stats.iter().any(|queue| ours(&queue.name) && queue.is_busy()) {
                    return Ok(Left::Jobs);
                }
                let live = store.runs(&RunQuery { finished: false, after: None, budget: 1 }).await?;
                Ok(if live.items.is_empty() { Left::Nothing } else { Left::Runs })
            };
            Happened::Busy(left.await)
        });
    }

    /// The next moment at which time alone changes something. What waits for an answer, a hint or
    /// the end of a job is woken by that.
    fn next_wake(&self, now: Instant) -> Instant {
        let mut wake = now + self.worker.options.poll;
        let mut consider = |moment: Instant, matters: bool| {
            if matters {
                wake = wake.min(moment);
            }
        };
        let working = self.stopping.is_none();
        consider(self.plan.beat, !self.plan.beating);
        consider(self.plan.claim, self.plan.idle && self.in_flight == 0 && self.may_claim(now));
        consider(self.plan.queues, working && self.worker.options.queues.is_empty() && !self.plan.looking);
        consider(self.plan.handlers, working && self.worker.handlers.follows_store() && !self.plan.following);
        consider(self.housekeeper.next(now), working);
        if let Some(at) = self.plan.check.filter(|_| self.may_be_empty()) {
            consider(at, working);
        }
        if let Some(end) = self.stopping {
            consider(if end > now { end } else { end + LAST_WORDS }, true);
        }
        wake.max(self.plan.retry).max(now + Duration::from_millis(1))
    }
}
