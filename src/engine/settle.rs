//! From outcomes to commits: what the domain says becomes of each job, and, for a step of a run, the
//! advance of the run that rides on the same commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::job::{ASKED, JobError, Link, Outcome, RetryHint};
use crate::domain::trace::{Span, Spans};
use crate::domain::{Entropy, EventKind, JobId, Ms, RunId, To};
use crate::runs::Runs;
use crate::store::{
    Claim, Claimed, Commit, Committed, Exchange, Exchanged, Expect, Move, Moved, Result, RunRecord, Store,
};
use crate::workflow::{Run, StepRecord, Wanted};

use super::ledger::Finished;
use super::options::Summary;
use super::traces;

/// Until a step of a paused run is looked at again: at least, and at most.
const WITHHELD: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// A job's next move, and the run it is a step of, as far as it is known.
#[derive(Clone, Debug)]
pub struct Decided {
    pub step: Move,
    pub record: Option<Arc<RunRecord>>,
    /// When the job came to wait for the attempt that has ended, if there was one.
    pub waited_from: Option<Ms>,
}

/// Decides what becomes of the worker's own leases.
pub fn decide(finished: &[Finished], now: Ms, entropy: &dyn Entropy) -> Vec<Decided> {
    let decide = |one: &Finished| {
        let waited_from = Some(one.job.updated_at.unwrap_or(one.job.id.created_at()));
        let settled = one.job.clone().settle(one.outcome.clone(), now, entropy.fraction());
        let expect = Expect::Lease(one.epoch);
        let step = Move { expect, to: settled.to, job: settled.job, event: settled.event };
        Decided { step, record: one.run.clone(), waited_from }
    };
    finished.iter().map(decide).collect()
}

/// What becomes of a job whose record cannot be read: it is buried with its bytes. If it was a step's,
/// the run learns of it, as far as its header tells which step that was.
pub fn unreadable(claimed: &mut Claimed) -> Outcome {
    let job = &mut claimed.job;
    if let (None, Some(record)) = (&job.link, &claimed.run)
        && let Ok(run) = record.header()
    {
        let of = |step: &StepRecord| {
            let undo = step.undo_job == Some(job.id);
            (undo || step.job == Some(job.id)).then(|| Link { run: run.id, step: step.id.clone(), undo })
        };
        job.link = run.steps.iter().find_map(of);
    }
    let error = job.error.take().unwrap_or_else(|| JobError::new("unreadable", "its record cannot be read"));
    Outcome::Failed { error, retry: RetryHint::Never }
}

/// How a step that was just leased goes back unstarted, if its run does not want it to begin now. `asked`:
/// the store said with the lease that the end of some job is asked for.
pub fn unwanted(claimed: &Claimed, asked: bool, runs: &Runs, now: Ms) -> Option<Outcome> {
    match runs.wants(claimed, asked) {
        Wanted::Now => None,
        Wanted::Later => {
            // Whoever lets the run go on lets its steps go, unless that one dies: so they look by themselves
            // too, ever more seldom.
            let job = &claimed.job;
            let before = job.updated_at.filter(|_| job.withheld).map(|at| now.since(at));
            Some(Outcome::Withheld { delay: (before.unwrap_or_default() * 2).clamp(WITHHELD.0, WITHHELD.1) })
        }
        Wanted::NoMore => Some(Outcome::Cancelled { reason: ASKED.to_owned() }),
    }
}

/// What came of a batch.
pub struct Answered {
    pub answer: Exchanged,
    pub summary: Summary,
    /// Jobs whose shard did not answer, though others did: they are to be settled again.
    pub unanswered: BTreeSet<JobId>,
}

/// Commits ready to be sent, each with the header it would give its run.
#[derive(Default)]
pub struct Batch {
    commits: Vec<Commit>,
    headers: Vec<Option<Arc<Run>>>,
    /// What is told of a job once its move is applied; empty where nobody takes it.
    spans: BTreeMap<JobId, Vec<Span>>,
}

impl Batch {
    pub fn push(&mut self, commit: Commit, header: Option<Arc<Run>>) {
        self.commits.push(commit);
        self.headers.push(header);
    }

    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// Sends it, together with a wish for work, and notes what the store says about the runs.
    ///
    /// # Errors
    /// The store's.
    pub async fn send(self, store: &dyn Store, runs: &Runs, claim: Option<Claim>) -> Result<Answered> {
        let exchange = Exchange { commits: self.commits, claim };
        match store.exchange(&exchange).await {
            Ok(answer) => {
                if let Some(spans) = runs.spans() {
                    tell(spans, self.spans, &exchange.commits, &answer.commits);
                }
                runs.learn(&exchange.commits, self.headers, &answer.commits);
                for run in put_off(&exchange.commits, &answer.commits) {
                    // It may go on since this worker last saw it: then nobody else lets the step go.
                    if let Err(error) = runs.let_go(run, answer.now).await {
                        tracing::debug!(%run, %error, "its steps look by themselves whether it goes on");
                    }
                }
                let summary = tally(&exchange.commits, &answer.commits);
                let both = exchange.commits.iter().zip(&answer.commits);
                let open = both.filter(|(commit, answer)| answer.is_unanswered(commit)).flat_map(|(one, _)| &one.moves);
                let unanswered = open.map(|step| step.job.id).collect();
                Ok(Answered { answer, summary, unanswered })
            }
            Err(error) => {
                runs.forget();
                Err(error)
            }
        }
    }
}

/// Makes the commits: a plain job's move on its own, the last moves of steps together with the
/// others of the same run and with its advance.
///
/// # Errors
/// Of the store, when a definition or a value of a run had to be read.
pub async fn commits(decided: Vec<Decided>, now: Ms, runs: &Runs) -> Result<Batch> {
    let mut batch = Batch::default();
    let mut steps: BTreeMap<RunId, (Option<Arc<RunRecord>>, Vec<Move>)> = BTreeMap::new();
    for Decided { step, record, waited_from } in decided {
        if runs.spans().is_some() {
            batch.spans.insert(step.job.id, traces::of_move(&step, waited_from));
        }
        match step.job.link.as_ref().map(|link| link.run).filter(|_| step.to.frees_unique()) {
            // A plain job, or a step that is not over yet: nobody else has to know.
            None => {
                batch.push(Commit { moves: vec![step], run: None }, None);
            }
            Some(run) => {
                let (latest, moves) = steps.entry(run).or_default();
                if latest.as_ref().map(|record| record.rev) < record.as_ref().map(|record| record.rev) {
                    *latest = record;
                }
                moves.push(step);
            }
        }
    }
    for (run, (record, moves)) in steps {
        let planned = runs.advance_with(run, record, &moves, now).await?;
        batch.push(Commit { moves, run: Some(planned.part) }, planned.header);
    }
    Ok(batch)
}

/// Tells the spans of the moves that were applied.
fn tell(spans: &dyn Spans, mut of: BTreeMap<JobId, Vec<Span>>, commits: &[Commit], answers: &[Committed]) {
    for (commit, answer) in commits.iter().zip(answers) {
        for (step, moved) in commit.moves.iter().zip(&answer.moves) {
            let ended = of.remove(&step.job.id).unwrap_or_default();
            if *moved == Moved::Applied {
                ended.into_iter().for_each(|span| spans.record(span));
            }
        }
    }
}

/// The runs of which steps were put off because they were paused.
fn put_off(commits: &[Commit], answers: &[Committed]) -> BTreeSet<RunId> {
    let moves = commits.iter().zip(answers).flat_map(|(commit, answer)| commit.moves.iter().zip(&answer.moves));
    let withheld = moves.filter(|(step, moved)| **moved == Moved::Applied && step.job.withheld);
    withheld.filter_map(|(step, _)| step.job.link.as_ref().map(|link| link.run)).collect()
}

/// Adds up what became of the moves.
fn tally(commits: &[Commit], answers: &[Committed]) -> Summary {
    let mut summary = Summary::default();
    for (commit, answer) in commits.iter().zip(answers) {
        for (step, moved) in commit.moves.iter().zip(&answer.moves) {
            let counter = match (moved, step.to) {
                (Moved::Stale | Moved::Conflict(_), _) => &mut summary.lost,
                (Moved::Applied, To::Completed) => &mut summary.completed,
                (Moved::Applied, To::Dead) => &mut summary.dead,
                (Moved::Applied, To::Retrying(_)) => &mut summary.retried,
                (Moved::Applied, To::Cancelled) => &mut summary.cancelled,
                // Put off until later: nothing has become of it yet.
                (Moved::Applied, To::Scheduled(_)) => {
                    log(step, *moved);
                    continue;
                }
                (Moved::Applied, _) => &mut summary.released,
            };
            *counter += 1;
            log(step, *moved);
        }
    }
    summary
}

fn log(step: &Move, moved: Moved) {
    let job = &step.job;
    if moved != Moved::Applied {
        tracing::warn!(job = %job.id, kind = %job.kind, epoch = %job.epoch, "the lease was gone: the result is dropped");
        return;
    }
    match step.event {
        EventKind::JobCompleted => tracing::debug!(job = %job.id, kind = %job.kind, "completed"),
        EventKind::JobScheduled => tracing::debug!(job = %job.id, kind = %job.kind, "put off"),
        EventKind::JobCancelled => tracing::info!(job = %job.id, kind = %job.kind, "cancelled"),
        EventKind::JobReleased => tracing::debug!(job = %job.id, kind = %job.kind, "given back"),
        _ => {
            let error = job.error.as_ref().map(ToString::to_string).unwrap_or_default();
            let delay = match step.to {
                To::Retrying(delay) => Some(tracing::field::debug(delay)),
                _ => None,
            };
            let failures = job.failures;
            tracing::warn!(job = %job.id, kind = %job.kind, failures, %error, delay, "{}", step.event.as_str());
        }
    }
}
