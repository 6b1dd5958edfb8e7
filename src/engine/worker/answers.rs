//! What the worker makes of what its tasks report: outcomes, answers of the store, heartbeats.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::super::housekeeping::Done;
use super::super::ledger::{Finished, Wish};
use super::super::options::Summary;
use super::super::time::StoreTime;
use super::{Happened, LOOK_FOR_QUEUES, Life};
use crate::store::{Beat, Exchanged, Result};

impl Life {
    pub(super) fn happened(&mut self, happened: Happened) -> Result<()> {
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
            Happened::Busy(result) => self.found_left(result),
        }
    }

    /// Passes good answers on; waits after transient failures; gives up on the others.
    pub(super) fn accept_or_back_off<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
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
        if result.is_err() {
            self.strays |= wish.is_some();
            self.ledger.unsettled(settled);
            return self.accept_or_back_off(result).map(drop);
        }
        let Some((answer, summary)) = self.accept_or_back_off(result)? else { return Ok(()) };
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
}
