//! Facts that are taken in by whoever sent them. A fact in an inbox is safe, and some worker advances the run
//! by it some time; until then nothing of it holds, and without a worker it stays so. So its sender advances
//! the run at once. That may fail in every way without harm: the fact is where a worker finds it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{Planned, Runs};
use crate::domain::job::ASKED;
use crate::domain::{JobId, Ms, RunId};
use crate::store::{Commit, Exchange, Expect, Move, Result, RunAnswer};

/// Jobs that are ended at once.
const END: usize = 200;
/// How often others may be quicker with one run.
const TRIES: usize = 20;
/// How long a sender waits for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// What advances have led to.
#[derive(Default)]
struct Led {
    /// Runs that were told something.
    tells: Vec<RunId>,
    /// Jobs that are to end.
    ends: Vec<JobId>,
}

impl Runs {
    /// Advances a run by what waits in its inbox, and then the runs that are told something by that; jobs that
    /// they ask to end and that nobody runs are ended. Gives the runs whose inboxes were found or made empty:
    /// all that is missing is left to workers.
    pub async fn take_in(&self, run: RunId, now: Ms) -> BTreeSet<RunId> {
        let mut done = BTreeSet::new();
        let all = self.take_in_all(run, now, &mut done);
        match tokio::time::timeout(PATIENCE, all).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%run, %error, "what it was told waits for a worker"),
            Err(_) => tracing::debug!(%run, "what it was told waits for a worker"),
        }
        done
    }

    async fn take_in_all(&self, run: RunId, now: Ms, done: &mut BTreeSet<RunId>) -> Result<()> {
        // A run may come again: whom it has told something may have something to tell it.
        let (mut next, mut waiting) = (VecDeque::from([run]), BTreeSet::from([run]));
        while let Some(run) = next.pop_front() {
            waiting.remove(&run);
            let mut led = Led::default();
            let mut empty = self.empty_inbox(run, now, &mut led).await?;
            let ends = std::mem::take(&mut led.ends);
            if !ends.is_empty() {
                self.end_idle(run, &ends, now, &mut led).await?;
                empty = self.empty_inbox(run, now, &mut led).await?;
            }
            if empty {
                done.insert(run);
            }
            next.extend(led.tells.into_iter().filter(|run| waiting.insert(*run)));
        }
        Ok(())
    }

    /// Whether it is empty now.
    async fn empty_inbox(&self, run: RunId, now: Ms, led: &mut Led) -> Result<bool> {
        for _ in 0..TRIES {
            let Some(work) = self.store.run_work(run).await? else { return Ok(false) };
            if work.inbox.is_empty() {
                return Ok(true);
            }
            let planned = self.drain(work, now).await?;
            if planned.part.advance.is_none() {
                return Ok(false);
            }
            match self.send(Vec::new(), planned, led).await? {
                RunAnswer::Advanced { more: false } => return Ok(true),
                // The rest of a full inbox; or somebody else has advanced it, perhaps by the same facts, or it is
                // carried to another shard.
                RunAnswer::Advanced { more: true } | RunAnswer::Contended | RunAnswer::Gone => {}
                RunAnswer::None | RunAnswer::Inboxed => return Ok(false),
            }
        }
        Ok(false)
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
                let record = self.store.run(run).await?;
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
        let exchange = Exchange { commits: vec![Commit { moves, run: Some(planned.part) }], claim: None };
        let answer = self.store.exchange(&exchange).await?;
        self.learn(&exchange.commits, vec![planned.header], &answer.commits);
        let answer = answer.commits.first().map_or(RunAnswer::None, |committed| committed.run);
        if matches!(answer, RunAnswer::Advanced { .. }) {
            led.tells.extend(tells);
            led.ends.extend(ends);
        }
        Ok(answer)
    }
}
