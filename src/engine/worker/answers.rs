//! What the worker makes of what its tasks report: outcomes, answers of the store, heartbeats.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::super::housekeeping::Done;
use super::super::ledger::Wish;
use super::super::settle::Answered;
use super::super::shares::Weighted;
use super::super::time::StoreTime;
use super::limited::Line;
use super::{HOLD_BACK, Happened, LOOK_FOR_QUEUES, Life, Sent};
use crate::domain::{Name, QueueSettings};
use crate::store::{Beat, Exchanged, PermitRequest, Result};

impl Life {
    pub(super) fn happened(&mut self, happened: Happened) -> Result<()> {
        match happened {
            Happened::Ended(ended) => {
                for (id, epoch, outcome) in ended {
                    if !self.ledger.ended(id, epoch, outcome) {
                        self.notes.close((id, epoch));
                        self.summary.lost += 1;
                    }
                }
                Ok(())
            }
            Happened::Exchanged { sent, result } => self.exchanged(sent, result),
            Happened::StoodBy { sent, result } => {
                self.stood_by(sent, result);
                Ok(())
            }
            Happened::Drawn { drawn, result } => self.drawn(drawn, result),
            Happened::Peeked { line, hinted, result } => self.peeked(line, hinted, result),
            Happened::Permitted { requests, result } => self.permitted(&requests, result),
            Happened::Asked(result) => self.asked(result),
            Happened::Noted(result) => self.noted(result),
            Happened::Beaten { asked, result } => self.beaten(asked, result),
            Happened::Queues(result) => {
                self.plan.looking = false;
                if let Some(queues) = self.accept_or_back_off(result)? {
                    self.serve(queues);
                }
                Ok(())
            }
            Happened::Handlers(result) => {
                self.plan.following = false;
                self.plan.handlers_known |= result.is_ok();
                if let Some(definitions) = self.accept_or_back_off(result)?
                    && self.worker.handlers.follow(definitions)
                {
                    // The types are announced with the next beat, and what was parked comes back: without a word in
                    // the log, for which a claim that stands by would wait.
                    self.plan.beat = Instant::now();
                    self.standby.recall();
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

    /// Which queues are served is decided anew from their settings.
    fn serve(&mut self, queues: Vec<(Name, QueueSettings)>) {
        let now = Instant::now();
        let (served, rates) = self.worker.options.served(&queues);
        self.lines.retain(|name, line| rates.get(name) == Some(&line.rate));
        for (name, rate) in rates {
            self.lines.entry(name).or_insert_with(|| Line::new(rate, now));
        }
        if served != self.queues || !self.lines.is_empty() {
            // A claim that stands by asks the queues that were.
            self.standby.recall();
        }
        if served != self.queues {
            self.plan.idle = false;
            self.plan.claim = now;
            self.queues = served;
        }
        self.plan.queues_known = true;
    }

    /// What every answer to an exchange says beside its jobs.
    pub(super) fn learn(&mut self, answer: &Exchanged, now: Instant) {
        self.time = StoreTime::new(answer.now);
        if answer.dirty {
            self.housekeeper.dirty();
        }
        if answer.freed {
            self.housekeeper.freed();
        }
        self.heard(answer.asked, now);
    }

    fn permitted(&mut self, requests: &[PermitRequest], result: Result<Vec<Vec<Duration>>>) -> Result<()> {
        let now = Instant::now();
        let granted = self.accept_or_back_off(result)?;
        // The waits count from some moment of the call: from its end, rather late than early.
        self.permits.granted(requests, granted.unwrap_or_default(), now);
        self.judge_again(now);
        Ok(())
    }

    fn exchanged(&mut self, sent: Sent, result: Result<Answered>) -> Result<()> {
        self.answered(&sent);
        let Sent { settled, wish, order, hinted, .. } = sent;
        if result.is_err() {
            self.strays |= wish.is_some();
            self.shares.unserved(&order, wish.map_or(0, |wish| wish.want));
            self.ledger.unsettled(settled);
            return self.accept_or_back_off(result).map(drop);
        }
        let Some(Answered { answer, summary, unanswered }) = self.accept_or_back_off(result)? else { return Ok(()) };
        let now = Instant::now();
        let (open, settled): (Vec<_>, Vec<_>) = settled.into_iter().partition(|one| unanswered.contains(&one.job.id));
        if !open.is_empty() {
            // Their shard is away; the others go on meanwhile.
            self.strays |= wish.is_some();
            self.held_back.push((now + HOLD_BACK, open));
        }
        self.ledger.settled(&settled);
        settled.iter().for_each(|one| self.notes.close((one.job.id, one.epoch)));
        self.summary.add(summary);
        self.learn(&answer, now);
        let is_look = settled.is_empty() && answer.claimed.is_empty() && wish.is_some_and(|wish| wish.alone);
        self.standby.exchanged(is_look.then_some(answer.now), now);
        if let Some(wish) = wish {
            self.given(wish, &order, hinted, answer, now);
        }
        Ok(())
    }

    /// What a claim was given, and what that says of the next.
    pub(super) fn given(&mut self, wish: Wish, order: &[Weighted], hinted: u64, answer: Exchanged, now: Instant) {
        let mut given = BTreeMap::new();
        for one in &answer.claimed {
            *given.entry(one.job.queue.clone()).or_default() += 1;
        }
        self.shares.served(order, wish.want, &given);
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
        self.accept(answer.claimed, wish.alone, answer.asked, now);
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
        if beat.drain && self.stopping.is_none() {
            info!("an operator drains this worker: it takes no more work");
            self.begin_stop(self.worker.options.shutdown_timeout);
        }
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
