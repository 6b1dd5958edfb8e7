//! Facts that are taken in by whoever sent them. A fact in an inbox is safe, and some worker advances the run
//! by it some time; until then nothing of it holds, and without a worker it stays so. So its sender advances
//! the run at once. That may fail in every way without harm: the fact is where a worker finds it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Planned, Runs};
use crate::domain::job::ASKED;
use crate::domain::{JobId, Ms, RunId};
use crate::store::{Commit, Exchange, Expect, Move, Result, RunAnswer};

/// Jobs that are ended at once, and that are let go.
const END: usize = 100;
const LET_GO: usize = 200;
/// How often others may be quicker with one run.
const TRIES: usize = 20;
/// How long a sender waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What advances have led to.
#[derive(Default)]
struct Led {
    /// Runs that were told something.
    tells: Vec<RunId>,
    /// Jobs that are to end.
    ends: Vec<JobId>,
    /// The run goes on that was paused.
    resumed: bool,
}

impl Runs {
    /// Advances runs by what waits in their inboxes, and then the runs that are told something by that; jobs that
    /// they ask to end and that nobody runs are ended, and steps that waited for a run to be resumed go back to
    /// their lines. What fails is left to workers.
    pub async fn take_in(&self, told: impl IntoIterator<Item = RunId>, now: Ms) {
        let told: BTreeSet<RunId> = told.into_iter().collect();
        match tokio::time::timeout(PATIENCE, self.take_in_all(told, now)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "what runs were told waits for a worker"),
            Err(_) => tracing::debug!("what runs were told waits for a worker"),
        }
    }

    async fn take_in_all(&self, mut waiting: BTreeSet<RunId>, now: Ms) -> Result<()> {
        // A run may come again: whom it has told something may have something to tell it.
        let mut next: VecDeque<RunId> = waiting.iter().copied().collect();
        while let Some(run) = next.pop_front() {
            waiting.remove(&run);
            let mut led = Led::default();
            self.empty_inbox(run, now, &mut led).await?;
            if led.resumed {
                self.let_go(run, now).await?;
            }
            let ends = std::mem::take(&mut led.ends);
            if !ends.is_empty() {
                self.end_idle(run, &ends, now, &mut led).await?;
                self.empty_inbox(run, now, &mut led).await?;
            }
            next.extend(led.tells.into_iter().filter(|run| waiting.insert(*run)));
        }
        Ok(())
    }

    async fn empty_inbox(&self, run: RunId, now: Ms, led: &mut Led) -> Result<()> {
        let mut overtaken = false;
        for _ in 0..TRIES {
            let Some(work) = self.store.run_work(run).await? else { break };
            if work.inbox.is_empty() {
                if overtaken {
                    // What it has told those whom it calls is not known here.
                    work.record.header()?.calls(&mut led.tells);
                }
                break;
            }
            let planned = self.drain(work, now).await?;
            if planned.part.advance.is_none() {
                break;
            }
            match self.send(Vec::new(), planned, led).await? {
                // The rest of a full inbox; or somebody else has advanced it, perhaps by the same facts, or it is
                // carried to another shard.
                RunAnswer::Advanced { more: true } => {}
                RunAnswer::Contended | RunAnswer::Gone => overtaken = true,
                RunAnswer::Advanced { more: false } | RunAnswer::None | RunAnswer::Inboxed => break,
            }
        }
        Ok(())
    }

    /// Brings steps that were withheld while their run was paused back to their lines. Without it they look by
    /// themselves, within five minutes.
    ///
    /// # Errors
    /// The store's.
    pub async fn let_go(&self, run: RunId, now: Ms) -> Result<()> {
        let Some(header) = self.store.run(run).await?.map(|record| record.header()).transpose()? else { return Ok(()) };
        if header.is_held() {
            return Ok(());
        }
        for ids in header.jobs().chunks(LET_GO) {
            let back = self.store.get(ids).await?.into_iter().flatten().filter_map(|stored| {
                let expect = Expect::Idle(stored.place, stored.job.rev);
                let step = Move::new(expect, stored.job.let_go(stored.place, now)?);
                Some(Commit { moves: vec![step], run: None })
            });
            let commits: Vec<Commit> = back.collect();
            if !commits.is_empty() {
                self.store.exchange(&Exchange { commits, claim: None }).await?;
            }
        }
        Ok(())
    }

    /// Ends those of the jobs that nobody runs: they were asked to end, and a worker would do it. What runs is
    /// ended by who runs it.
    async fn end_idle(&self, run: RunId, jobs: &[JobId], now: Ms, led: &mut Led) -> Result<()> {
        for ids in jobs.chunks(END) {
            let idle = self.store.get(ids).await?.into_iter().flatten().filter(|stored| stored.lease.is_none());
            let moves = idle.filter_map(|stored| {
                let expect = Expect::Idle(stored.place, stored.job.rev);
                Some(Move::new(expect, stored.job.cancel(stored.place.state(), ASKED, now).ok()?))
            });
            let moves: Vec<Move> = moves.collect();
            if !moves.is_empty() {
                let record = self.store.run(run).await?.map(Arc::new);
                let planned = self.advance_with(run, record, &moves, now).await?;
                self.send(moves, planned, led).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, moves: Vec<Move>, planned: Planned, led: &mut Led) -> Result<RunAnswer> {
        let effects = planned.part.advance.as_ref().map(|advance| &advance.effects);
        let tells: Vec<RunId> = effects.iter().flat_map(|all| all.tell.iter().map(|(run, _)| *run)).collect();
        let ends = effects.map(|all| all.cancel.clone()).unwrap_or_default();
        let resumed = planned.resumes();
        let exchange = Exchange { commits: vec![Commit { moves, run: Some(planned.part) }], claim: None };
        let answer = self.store.exchange(&exchange).await?;
        self.learn(&exchange.commits, vec![planned.header], &answer.commits);
        let answer = answer.commits.first().map_or(RunAnswer::None, |committed| committed.run);
        if matches!(answer, RunAnswer::Advanced { .. }) {
            led.tells.extend(tells);
            led.ends.extend(ends);
            led.resumed |= resumed;
        }
        Ok(answer)
    }
}
