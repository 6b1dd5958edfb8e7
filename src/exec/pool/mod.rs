//! A pool: processes that live longer than a job and take jobs as lines of JSON, so that a handler in
//! Python or Node starts once. Gives each job to a process that has room, and knows nothing of how a
//! process is spoken to: that is `process`.
//!
//! ```text
//!  perform ── permit (size × concurrency, first come first served) ─→ the slot with most room
//!                                                                         │ order
//!            slot: one task, at most one process at a time                ↓
//!              wait for an order → start, unless it broke just now → serve → ended: start anew
//! ```
//!
//! A process is started with the first job that finds no free one, and ended when the pool is closed
//! or dropped: its input is closed, and what lives on after the grace is ended with its whole tree.

mod answer;
mod process;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::verdict::failed;
use super::{Context, Ended, Work};
use crate::domain::Name;
use crate::domain::job::RetryHint;
use crate::domain::time::format_duration;
use crate::workflow::{Command, PoolSpec};

/// What begins the variable that marks a pool's processes.
pub(super) const MARK: &str = "GOFLOW_POOL=";

/// The processes of one handler. Cloning is by `Arc`; dropping the last one ends them.
pub struct Pool {
    recipe: Arc<Recipe>,
    permits: Semaphore,
    slots: Mutex<Vec<Slot>>,
    size: usize,
    tasks: TaskTracker,
}

/// What all processes of a pool have in common.
struct Recipe {
    /// The job type, for messages.
    kind: Name,
    command: Command,
    environment: BTreeMap<OsString, OsString>,
    context: Arc<Context>,
}

struct Slot {
    orders: mpsc::UnboundedSender<Order>,
    /// Orders given to it that are not over.
    load: Arc<AtomicUsize>,
}

/// Counts one order of a slot for as long as somebody waits for it.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Jobs for one process, done at the same time.
struct Order {
    works: Vec<Work>,
    /// They are written as one line `{"batch": […]}`.
    batched: bool,
    /// When the time of one of them is over, and how long that time was; waiting for a process counts.
    deadline: Option<(Instant, Duration)>,
    stop: CancellationToken,
    reply: oneshot::Sender<Vec<Ended>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({}, {})", self.recipe.kind, self.size)
    }
}

impl Pool {
    /// A pool without processes yet.
    pub fn new(kind: Name, spec: &PoolSpec, context: &Arc<Context>) -> Pool {
        let size = spec.size.map_or(context.settings.processors.max(1), |size| size.max(1) as usize);
        let mut environment = context.settings.environment.clone();
        environment.extend(spec.env.iter().map(|(name, value)| (name.into(), value.into())));
        environment.insert("GOFLOW_JOB_TYPE".into(), kind.as_str().into());
        let recipe =
            Recipe { kind, command: Command::new(spec.program.clone()), environment, context: context.clone() };
        Pool {
            recipe: Arc::new(recipe),
            permits: Semaphore::new(size * spec.concurrency.max(1) as usize),
            slots: Mutex::default(),
            size,
            tasks: TaskTracker::new(),
        }
    }

    pub(super) async fn perform_one(&self, work: Work, stop: &CancellationToken) -> Ended {
        let mut ended = self.perform(vec![work], false, stop).await;
        ended.pop().unwrap_or(Ended::Stopped)
    }

    /// Does jobs in one process at the same time; how each ended, in their order.
    pub(super) async fn perform(&self, works: Vec<Work>, batched: bool, stop: &CancellationToken) -> Vec<Ended> {
        let number = works.len();
        let same = |ended: Ended| vec![ended; number];
        let limit = works.iter().filter_map(|work| work.timeout).min();
        let deadline = limit.and_then(|limit| Some((Instant::now().checked_add(limit)?, limit)));
        let permit = tokio::select! {
            biased;
            () = stop.cancelled() => return same(Ended::Stopped),
            permit = self.permits.acquire() => permit,
            limit = until(deadline) => return same(waited(limit)),
        };
        // Never closed; without a permit there is no process either.
        let Ok(_permit) = permit else { return same(Ended::Stopped) };
        // Whoever no longer waits for the outcome wants the work to end.
        let stop = stop.child_token();
        let _gone = stop.clone().drop_guard();
        let (reply, answer) = oneshot::channel();
        let _load = self.give(Order { works, batched, deadline, stop, reply });
        answer.await.unwrap_or_else(|_| {
            same(Ended::Outcome(failed("pool", "the task that speaks to its process ended", RetryHint::Policy)))
        })
    }

    /// Gives an order to a free slot, to a new one, or to the one with the least to do.
    fn give(&self, order: Order) -> Load {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| !slot.orders.is_closed());
        let load = |slot: &Slot| slot.load.load(Ordering::Relaxed);
        let least =
            slots.iter().min_by_key(|slot| load(slot)).filter(|slot| load(slot) == 0 || slots.len() >= self.size);
        let slot = match least {
            Some(slot) => slot,
            None => {
                let (orders, inbox) = mpsc::unbounded_channel();
                self.tasks.spawn(process::live(self.recipe.clone(), inbox));
                slots.push(Slot { orders, load: Arc::default() });
                &slots[slots.len() - 1]
            }
        };
        slot.load.fetch_add(1, Ordering::Relaxed);
        let load = Load(slot.load.clone());
        // A slot that has just ended drops the order, which its giver is told.
        let _ = slot.orders.send(order);
        load
    }

    /// How many jobs could begin now.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.permits.available_permits()
    }

    /// Ends all processes and waits until none lives: to be called once nothing is performed.
    pub async fn close(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }
}

/// The time ran out before a process was free. Nothing was done, so nothing is counted.
fn waited(limit: Duration) -> Ended {
    let message = format!("no process of the pool was free within {}: raise its `size`", format_duration(limit));
    Ended::Outcome(failed("timeout", message, RetryHint::Uncounted))
}

async fn until(deadline: Option<(Instant, Duration)>) -> Duration {
    match deadline {
        Some((at, limit)) => {
            tokio::time::sleep_until(at).await;
            limit
        }
        None => std::future::pending().await,
    }
}
