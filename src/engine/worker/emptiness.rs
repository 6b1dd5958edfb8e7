//! `until_empty`: whether anything is left that this worker should wait for.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::{Happened, Life};
use crate::domain::Name;
use crate::store::{Result, RunQuery};

/// Between two looks whether everything is done.
const LOOK_FOR_END: Duration = Duration::from_millis(100);
/// How long runs without a job are waited for.
const RUNS_COME_BACK: Duration = Duration::from_secs(5);

/// What is left to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// No job, but a run that is not over.
    Runs,
    Jobs,
}

impl Life {
    pub(super) fn may_be_empty(&self) -> bool {
        let idle = self.plan.queues_known && (self.plan.idle || self.queues.is_empty());
        self.worker.options.until_empty && idle && self.ledger.is_empty() && self.in_flight + self.asides == 0
    }

    pub(super) fn look_for_end(&mut self, now: Instant) {
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

    pub(super) fn found_left(&mut self, result: Result<Left>) -> Result<()> {
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
