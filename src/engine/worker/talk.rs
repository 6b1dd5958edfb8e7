//! What is said to and by running jobs: their ends are asked for, their notes are sent.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Happened, Life};
use crate::domain::limits::CLAIM_BATCH;
use crate::domain::{Epoch, JobId};
use crate::store::{Result, StoreError, Stored};

/// Jobs whose end was asked for, looked at in one go.
const ASKS: usize = 4 * CLAIM_BATCH;
/// Between two looks for asks while there are some.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A worker that runs something and hears nothing from the store looks this often.
pub(super) const ASK_IDLE: Duration = Duration::from_millis(500);

impl Life {
    pub(super) fn send_talk(&mut self, now: Instant) {
        if now >= self.plan.asks && !self.plan.asking && (self.ledger.running() > 0 || self.plan.asked) {
            self.plan.asking = true;
            self.plan.asked = false;
            let (store, id) = (self.worker.store.clone(), self.id);
            self.tasks.spawn(async move { Happened::Asked(store.asked(id, ASKS).await) });
        }
        if self.plan.notes.is_some_and(|at| at <= now) && !self.plan.noting {
            self.plan.noting = true;
            self.plan.notes = None;
            let (store, notes) = (self.worker.store.clone(), self.notes.clone());
            self.tasks.spawn(async move { Happened::Noted(notes.send(&*store, None).await) });
        }
    }

    /// An exchange says whether jobs were asked to end.
    pub(super) fn heard(&mut self, asked: bool, now: Instant) {
        self.plan.asked |= asked;
        self.plan.asks = match asked {
            true => self.plan.asks.min(now.max(self.plan.last_asks + ASK_AGAIN)),
            false => now + ASK_IDLE,
        };
    }

    pub(super) fn asked(&mut self, result: Result<Vec<Stored>>) -> Result<()> {
        let now = Instant::now();
        (self.plan.asking, self.plan.last_asks, self.plan.asks) = (false, now, now + ASK_IDLE);
        // What a store refuses is told by the next exchange, if it is not this call alone.
        if let Err(StoreError::Refused(why)) = &result {
            warn!(%why, "no jobs can be cancelled while they run");
            return Ok(());
        }
        let Some(asked) = self.accept_or_back_off(result)? else { return Ok(()) };
        let mut others = Vec::new();
        for stored in asked {
            match stored.lease.as_ref().filter(|lease| lease.worker == self.id) {
                Some(lease) => {
                    if self.ledger.ask(stored.job.id, lease.epoch) {
                        info!(job = %stored.job.id, kind = %stored.job.kind, "cancelled");
                    }
                }
                None => others.push(stored),
            }
        }
        self.housekeeper.end(others);
        Ok(())
    }

    pub(super) fn noted(&mut self, result: Result<Vec<(JobId, Epoch)>>) -> Result<()> {
        self.plan.noting = false;
        if result.is_err() {
            self.plan.note(Instant::now());
        }
        for (id, epoch) in self.accept_or_back_off(result)?.unwrap_or_default() {
            self.notes.close((id, epoch));
            if self.ledger.lose(id, epoch) {
                warn!(job = %id, "the lease is lost: its command is ended, its result dropped");
                self.summary.lost += 1;
            }
        }
        Ok(())
    }
}
