//! Facts that are taken in by whoever sent them. A fact in an inbox is safe, and some worker advances the run
//! by it some time; until then nothing of it holds, and without a worker it stays so. So its sender advances
//! the run at once. That may fail in every way without harm: the fact is where a worker finds it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{Planned, Runs};
use crate::domain::{Ms, RunId};
use crate::store::{Commit, Exchange, Result, RunAnswer};

/// How often others may be quicker with one run.
const TRIES: usize = 20;
/// How long a sender waits for it.
const PATIENCE: Duration = Duration::from_secs(3);

impl Runs {
    /// Advances a run by what waits in its inbox, and then the runs that are told something by that. Gives
    /// those whose inboxes were found or made empty: all that is missing is left to workers.
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
            let mut told = Vec::new();
            if self.empty_inbox(run, now, &mut told).await? {
                done.insert(run);
            }
            next.extend(told.into_iter().filter(|run| waiting.insert(*run)));
        }
        Ok(())
    }

    /// Whether it is empty now. `told`: the runs that were told something.
    async fn empty_inbox(&self, run: RunId, now: Ms, told: &mut Vec<RunId>) -> Result<bool> {
        for _ in 0..TRIES {
            let Some(work) = self.store.run_work(run).await? else { return Ok(false) };
            if work.inbox.is_empty() {
                return Ok(true);
            }
            let Planned { part, header } = self.drain(work, now).await?;
            let Some(advance) = &part.advance else { return Ok(false) };
            let others: Vec<RunId> = advance.effects.tell.iter().map(|(run, _)| *run).collect();
            let exchange = Exchange { commits: vec![Commit { moves: Vec::new(), run: Some(part) }], claim: None };
            let answer = self.store.exchange(&exchange).await?;
            self.learn(&exchange.commits, vec![header], &answer.commits);
            match answer.commits.first().map(|committed| committed.run) {
                Some(RunAnswer::Advanced { more }) => {
                    told.extend(others);
                    if !more {
                        return Ok(true);
                    }
                }
                // Somebody else has advanced it: perhaps by the same facts.
                Some(RunAnswer::Contended) => {}
                _ => return Ok(false),
            }
        }
        Ok(false)
    }
}
