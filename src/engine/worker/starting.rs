//! How leases become executions: permits are judged, batches gathered, handlers called and caught.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::super::handlers::{Ending, Task};
use super::super::ledger::Ready;
use super::super::notes::JobNotes;
use super::super::permits::{Permits, of_type};
use super::super::settle::{unreadable, unwanted};
use super::{Happened, Life};
use crate::domain::job::{JobError, Outcome, RetryHint};
use crate::domain::trace::{Placed, TRACEPARENT};
use crate::domain::{Job, Ms};
use crate::engine::Handlers;
use crate::store::Claimed;

/// Between two looks for handlers that were applied, when a job of an unknown type has come.
const LOOK_FOR_HANDLERS_NOW: Duration = Duration::from_millis(100);
/// How long a lease is kept for a permit that is not good yet; for longer ones the job goes back, with
/// the time of its permit.
const HOLD: Duration = Duration::from_millis(100);

impl Life {
    /// Starts what has been leased, as far as there is room.
    pub(super) fn start_jobs(&mut self) {
        if self.stopping.is_some() {
            self.ledger.release_ahead();
            return;
        }
        let now = Instant::now();
        // Whoever has slept through its lease asks first what is still its own.
        if self.plan.registered.is_none_or(|until| until <= now) {
            return;
        }
        self.start_batches(now);
        while let Some(claimed) = self.ledger.next(now) {
            if !self.start_one(claimed) {
                break;
            }
        }
        self.start_batches(now);
    }

    /// Answers whether there is room for another.
    fn start_one(&mut self, mut claimed: Claimed) -> bool {
        let now = self.time.now();
        // What this worker itself has committed since the lease may have changed that.
        if let Some(outcome) = unwanted(&claimed, false, &self.runs, now) {
            self.ledger.finish(claimed, outcome);
            return true;
        }
        let before = (claimed.job.worker, claimed.job.epoch, claimed.job.started_at);
        claimed.job.claimed(self.id, claimed.epoch, now);
        if claimed.job.raw.is_some() {
            error!(job = %claimed.job.id, queue = %claimed.job.queue, "the job's record cannot be read: set apart");
            let outcome = unreadable(&mut claimed);
            self.ledger.finish(claimed, outcome);
            return true;
        }
        let Some(handler) = self.worker.handlers.get(&claimed.job.kind).cloned() else {
            warn!(job = %claimed.job.id, kind = %claimed.job.kind, "no handler for this type: parked");
            self.ledger.finish(claimed, Outcome::Unhandled);
            self.plan.handlers = self.plan.handlers.min(Instant::now() + LOOK_FOR_HANDLERS_NOW);
            return true;
        };
        handler.defaults(&mut claimed.job);
        if claimed.job.deadline().is_some_and(|deadline| deadline <= now) {
            self.ledger.finish(claimed, past_deadline());
            return true;
        }
        if let Some(batching) = handler.batch() {
            let kind = claimed.job.kind.clone();
            while !self.ledger.gathers(&kind) {
                if !self.start_batch(Instant::now()) {
                    // It has not begun: its run may take it back still.
                    (claimed.job.worker, claimed.job.epoch, claimed.job.started_at) = before;
                    self.ledger.keep(claimed);
                    return false;
                }
            }
            self.ledger.gather(claimed, batching.max, batching.within);
            return true;
        }
        let begun = Instant::now();
        if let Some(outcome) = handler.immediate(&claimed.job) {
            self.ledger.done(claimed, begun.elapsed(), outcome);
            return true;
        }
        let task = self.task(&claimed);
        let (id, epoch, stop) = (claimed.job.id, claimed.epoch, task.stop.clone());
        let limit = until_deadline(&claimed.job, now);
        let run = handler.run(task);
        self.ledger.started(claimed, stop.clone());
        self.tasks.spawn(async move {
            let outcome = AssertUnwindSafe(within(limit, stop, run)).catch_unwind().await;
            Happened::Ended(vec![(id, epoch, outcome.unwrap_or_else(|_| Some(panicked())))])
        });
        true
    }

    fn start_batches(&mut self, now: Instant) {
        while self.start_batch(now) {}
    }

    /// Starts the next batch that is full or late; answers whether there was one, and room for it.
    fn start_batch(&mut self, now: Instant) -> bool {
        let Some(batch) = self.ledger.next_batch(now) else { return false };
        let Some(handler) = batch.first().and_then(|one| self.worker.handlers.get(&one.job.kind)).cloned() else {
            batch.into_iter().for_each(|claimed| self.ledger.finish(claimed, Outcome::Unhandled));
            return true;
        };
        let clock = self.time.now();
        let limits: Vec<Option<Duration>> = batch.iter().map(|claimed| until_deadline(&claimed.job, clock)).collect();
        let tasks: Vec<Task> = batch.iter().map(|claimed| self.task(claimed)).collect();
        let leases: Vec<_> = batch.iter().map(|claimed| (claimed.job.id, claimed.epoch)).collect();
        let stops: Vec<CancellationToken> = tasks.iter().map(|task| task.stop.clone()).collect();
        let run = handler.run_batch(tasks);
        self.ledger.started_together(batch.into_iter().zip(stops.clone()).collect());
        self.tasks.spawn(async move {
            let run = AssertUnwindSafe(run).catch_unwind();
            let (outcomes, late) = within_each(&limits, &stops, run).await;
            let mut outcomes = outcomes.unwrap_or_else(|_| vec![Some(panicked()); leases.len()]).into_iter();
            let short = || JobError::new("batch", "the handler told nothing of this job of its batch");
            let mut next = || {
                outcomes.next().unwrap_or_else(|| Some(Outcome::Failed { error: short(), retry: RetryHint::Policy }))
            };
            let ended = leases.into_iter().zip(late).map(|((id, epoch), late)| {
                let outcome = next();
                let done = matches!(outcome, Some(Outcome::Completed { .. }));
                (id, epoch, if late && !done { Some(past_deadline()) } else { outcome })
            });
            Happened::Ended(ended.collect())
        });
        true
    }

    fn task(&self, claimed: &Claimed) -> Task {
        let notes = Arc::new(JobNotes::new(&self.notes, claimed.job.id, claimed.epoch));
        let (job, stop) = (claimed.job.clone(), CancellationToken::new());
        let trace = match &self.worker.options.spans {
            // What the handler does lies below the attempt; else below whatever was given.
            Some(_) => Some(Placed::of_job(&job).attempt(job.id, claimed.epoch).trace.to_string()),
            None => job.metadata.get(TRACEPARENT).cloned(),
        };
        Task { job, stop, notes, trace }
    }

    /// Takes new leases in. `asked`: the end of some job was asked for when they were given.
    pub(super) fn accept(&mut self, claimed: Vec<Claimed>, alone: bool, asked: bool, now: Instant) {
        let alone = alone && claimed.len() == 1;
        for one in claimed {
            if let Some(outcome) = unwanted(&one, asked, &self.runs, self.time.now()) {
                self.ledger.finish(one, outcome);
                continue;
            }
            match judge(&self.worker.handlers, &mut self.permits, &one.job, now) {
                Ok(ready) => self.ledger.accept(one, alone, ready),
                Err(outcome) => self.ledger.finish(one, outcome),
            }
        }
    }

    /// Permits have come for leases that wait for them.
    pub(super) fn judge_again(&mut self, now: Instant) {
        let (handlers, permits) = (&self.worker.handlers, &mut self.permits);
        self.ledger.permitted(|job| judge(handlers, permits, job, now));
    }
}

/// When a lease may start by the rate of its type, or how it goes back.
fn judge(handlers: &Handlers, permits: &mut Permits, job: &Job, now: Instant) -> Result<Ready, Outcome> {
    let rate = handlers.get(&job.kind).and_then(|handler| handler.limits().rate);
    let Some(rate) = rate.filter(|_| !job.permitted) else { return Ok(Ready::Now) };
    match permits.take(of_type(&job.kind), rate, now) {
        None => Ok(Ready::Unknown),
        Some(at) if at <= now => Ok(Ready::Now),
        Some(at) if at <= now + HOLD => Ok(Ready::At(at)),
        Some(at) => Err(Outcome::Limited { delay: at - now }),
    }
}

fn until_deadline(job: &Job, now: Ms) -> Option<Duration> {
    job.deadline().map(|deadline| deadline.since(now))
}

fn past_deadline() -> Outcome {
    let error = JobError::new("deadline", "its deadline has passed");
    Outcome::Failed { error, retry: RetryHint::Never }
}

fn panicked() -> Outcome {
    Outcome::Failed { error: JobError::new("panic", "the handler panicked"), retry: RetryHint::Policy }
}

/// Runs to the end, or to the job's deadline: then it is stopped.
async fn within(limit: Option<Duration>, stop: CancellationToken, mut run: Ending) -> Option<Outcome> {
    let Some(limit) = limit else { return run.await };
    tokio::select! {
        biased;
        outcome = &mut run => outcome,
        () = tokio::time::sleep(limit) => {
            stop.cancel();
            // What was done in the end counts all the same.
            run.await.filter(|outcome| matches!(outcome, Outcome::Completed { .. })).or_else(|| Some(past_deadline()))
        }
    }
}

/// Runs a batch to its end; each job whose deadline comes before that is stopped. Also tells which.
async fn within_each<T>(
    limits: &[Option<Duration>],
    stops: &[CancellationToken],
    run: impl Future<Output = T>,
) -> (T, Vec<bool>) {
    let mut late = vec![false; limits.len()];
    let begun = Instant::now();
    let mut run = std::pin::pin!(run);
    loop {
        let open = limits.iter().zip(&late).enumerate().filter(|(_, (_, late))| !**late);
        let next = open.filter_map(|(at, (limit, _))| limit.map(|limit| (limit, at))).min();
        let Some((limit, at)) = next else { return (run.await, late) };
        tokio::select! {
            biased;
            outcome = &mut run => return (outcome, late),
            () = tokio::time::sleep_until(begun + limit) => {
                late[at] = true;
                stops[at].cancel();
            }
        }
    }
}
