//! The worker's loop. It owns the [`Ledger`]; everything that takes time is a task that reports back
//! once. See the drawing in the module above. `calls` sends, `answers` takes in, `ending` stops.

mod answers;
mod calls;
mod emptiness;
mod ending;
mod limited;
mod standby;
mod starting;
mod talk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error};

use crate::domain::job::Outcome;
use crate::domain::{Clock, Entropy, Epoch, JobId, Ms, Name, QueueSettings, Shard, WorkerId};
use crate::runs::Runs;
use crate::store::{Beat, Definition, Exchanged, PermitRequest, Result, Store, StoreError, Stored};

use self::emptiness::Left;
use self::ending::LAST_WORDS;
use self::limited::{Drawn, Line, Peeked};
use self::standby::Standby;
use super::handlers::Handlers;
use super::housekeeping::{Done, Housekeeper};
use super::ledger::{Finished, Ledger, Wish};
use super::notes::NoteBook;
use super::options::{Summary, WorkerOptions};
use super::permits::Permits;
use super::plan::Plan;
use super::settle::Answered;
use super::shares::{Shares, Weighted};
use super::time::StoreTime;

/// Exchanges under way at once: while the store works on one, the worker prepares the other.
const PIPELINE: usize = 2;
/// As many outcomes, or as many jobs to be had, make a second exchange worth its round trip.
const WORTHWHILE: usize = 32;
/// Between two looks for new queues when hints come in thick.
const LOOK_FOR_QUEUES: Duration = Duration::from_millis(20);
/// Between two looks for handlers that were applied.
const LOOK_FOR_HANDLERS: Duration = Duration::from_secs(5);
/// Until outcomes whose shard did not answer are sent again.
const HOLD_BACK: Duration = Duration::from_millis(500);

/// A worker over a store. [`Worker::run`] is its life.
pub struct Worker {
    store: Arc<dyn Store>,
    options: WorkerOptions,
    handlers: Handlers,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// An exchange that was sent.
struct Sent {
    nth: u64,
    settled: Vec<Finished>,
    wish: Option<Wish>,
    /// The queues it asks, in this order.
    order: Vec<Weighted>,
    /// The hints that had come by then.
    hinted: u64,
}

/// What a task reports.
enum Happened {
    Exchanged {
        sent: Sent,
        result: Result<Answered>,
    },
    /// A claim that stood by.
    StoodBy {
        sent: Sent,
        result: Result<Option<Exchanged>>,
    },
    /// A claim from a queue with a rate limit.
    Drawn {
        drawn: Drawn,
        result: Result<Exchanged>,
    },
    /// A look whether such a queue has work, and the permits for it.
    Peeked {
        line: Name,
        hinted: u64,
        result: Result<Peeked>,
    },
    Permitted {
        requests: Vec<PermitRequest>,
        result: Result<Vec<Vec<Duration>>>,
    },
    Asked(Result<Vec<Stored>>),
    Noted(Result<Vec<(JobId, Epoch)>>),
    /// One execution, or all of a batch.
    Ended(Vec<(JobId, Epoch, Option<Outcome>)>),
    Beaten {
        asked: Instant,
        result: Result<Beat>,
    },
    Queues(Result<Vec<(Name, QueueSettings)>>),
    Handlers(Result<Vec<Definition>>),
    Chore(Done),
    /// What is left that `--until-empty` waits for.
    Busy(Result<Left>),
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

    /// As [`Worker::run`], in a task of its own that ends with this future. What `block_on` waits for itself is polled
    /// by a thread that runs no task: each hint and each answer of the store would have to wake another thread,
    /// and that one the first again.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub async fn run_apart(self, stop: CancellationToken, now: CancellationToken) -> Result<Summary> {
        match AbortOnDropHandle::new(tokio::spawn(self.run(stop, now))).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(StoreError::Unavailable(format!("the worker's task was ended: {error}"))),
            },
        }
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
        let runs = Arc::new(Runs::new(self.store.clone(), self.options.spans.clone()));
        let housekeeper = Housekeeper::new(&self.store, &runs, &self.entropy, &self.options);
        let mut life = Life {
            id,
            born,
            ledger: Ledger::new(self.options.concurrency).claiming(self.store.claim_batch()),
            time: StoreTime::new(born),
            hints: self.store.hints(),
            queues: Vec::new(),
            lines: BTreeMap::new(),
            shares: Shares::default(),
            permits: Permits::default(),
            notes: Arc::default(),
            worker: self,
            runs,
            housekeeper,
            tasks: JoinSet::new(),
            in_flight: 0,
            asides: 0,
            coming: 0,
            hinted: 0,
            plan: Plan::new(Instant::now()),
            standby: Standby::new(Instant::now()),
            sent: 0,
            claims: BTreeSet::new(),
            orphans: BTreeMap::new(),
            strays: false,
            held_back: Vec::new(),
            stopping: None,
            summary: Summary::default(),
        };
        let result = life.live(stop, now).await;
        if let Err(error) = &result {
            error!(%error, "the worker cannot go on");
            life.give_up().await;
        }
        life.return_strays().await;
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
    /// The queues served, but for those with a rate limit.
    queues: Vec<Weighted>,
    /// Those.
    lines: BTreeMap<Name, Line>,
    shares: Shares,
    permits: Permits,
    notes: Arc<NoteBook>,
    runs: Arc<Runs>,
    housekeeper: Housekeeper,
    tasks: JoinSet<Happened>,
    in_flight: usize,
    /// Calls for queues with a rate limit that are under way.
    asides: usize,
    /// Leases asked for and not answered yet.
    coming: usize,
    /// How often somebody hinted at new work.
    hinted: u64,
    plan: Plan,
    standby: Standby,
    /// Exchanges sent so far, and those with a claim that are not answered yet.
    sent: u64,
    claims: BTreeSet<u64>,
    /// Leases that the last heartbeat showed and nobody here knows of, each with the number of the
    /// last exchange sent before it was first seen.
    orphans: BTreeMap<(JobId, Epoch), u64>,
    /// A claim was not answered: the store may have leased what nobody here knows of.
    strays: bool,
    /// Outcomes whose shard did not answer, each with the moment at which they are sent again.
    held_back: Vec<(Instant, Vec<Finished>)>,
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
                    let now = Instant::now();
                    self.hinted += 1;
                    self.plan.claim = self.standby.hinted(now);
                    self.plan.idle &= self.plan.claim > now;
                    self.housekeeper.hinted(now);
                    // Else the first job that there ever was would wait for a poll.
                    if self.queues.is_empty() {
                        self.plan.queues = Instant::now();
                    }
                    self.lines.values_mut().for_each(|line| line.idle = false);
                }
                () = self.notes.changed() => self.plan.note(Instant::now()),
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
        consider(self.plan.queues, working && !self.plan.looking);
        consider(self.plan.handlers, working && self.worker.handlers.follows_store() && !self.plan.following);
        consider(self.housekeeper.next(now), working);
        consider(self.plan.asks, (self.plan.asked || self.ledger.running() > 0) && !self.plan.asking);
        if let Some(at) = self.plan.notes {
            consider(at, !self.plan.noting);
        }
        self.held_back.iter().for_each(|(at, _)| consider(*at, true));
        for at in [self.ledger.next_start(), self.next_draw(now), self.next_standby(now)].into_iter().flatten() {
            consider(at, working);
        }
        if let Some(at) = self.plan.check.filter(|_| self.may_be_empty()) {
            consider(at, working);
        }
        if let Some(end) = self.stopping {
            consider(if end > now { end } else { end + LAST_WORDS }, true);
        }
        wake.max(self.plan.retry).max(now + Duration::from_millis(1))
    }
}
