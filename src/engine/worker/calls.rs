//! What the worker asks of the store, and when: each call is a task that reports back.

use tokio::time::Instant;

use super::super::housekeeping::Chore;
use super::super::ledger::{Finished, Wish};
use super::super::settle::{commits, decide};
use super::super::shares::Weighted;
use super::{Happened, LOOK_FOR_HANDLERS, Life, PIPELINE, Sent, WORTHWHILE};
use crate::store::{Claim, Heartbeat, StoreError, WorkerInfo};

impl Life {
    /// Sends every call whose time has come.
    pub(super) fn send_due(&mut self, now: Instant) {
        if self.stopping.is_some_and(|end| end <= now) {
            self.ledger.stop_running();
        }
        if now < self.plan.retry {
            return;
        }
        self.send_held_back(Some(now));
        if now >= self.plan.beat && !self.plan.beating {
            self.send_beat(now);
        }
        self.send_exchanges(now);
        self.send_talk(now);
        if self.stopping.is_some() {
            return;
        }
        self.stand_by(now);
        if self.worker.handlers.follows_store() && now >= self.plan.handlers && !self.plan.following {
            self.plan.following = true;
            self.plan.handlers = now + LOOK_FOR_HANDLERS;
            let store = self.worker.store.clone();
            self.tasks.spawn(async move { Happened::Handlers(store.definitions("handler").await) });
        }
        if now >= self.plan.queues && !self.plan.looking {
            self.plan.looking = true;
            self.plan.queues = now + self.worker.options.poll;
            let store = self.worker.store.clone();
            self.tasks.spawn(async move { Happened::Queues(store.queues().await) });
        }
        self.send_limited(now);
        if let Some(requests) = self.permits.request() {
            let store = self.worker.store.clone();
            self.tasks.spawn(async move {
                let result = store.permits(&requests).await;
                Happened::Permitted { requests, result }
            });
        }
        for chore in self.housekeeper.due(now, self.plan.trouble.is_none()) {
            self.spawn_chore(chore);
        }
        self.look_for_end(now);
    }

    fn spawn_chore(&mut self, chore: Chore) {
        let now = self.time.now();
        self.tasks.spawn(async move { Happened::Chore(chore.run(now).await) });
    }

    fn send_beat(&mut self, now: Instant) {
        self.plan.beating = true;
        self.plan.beat = now + self.worker.options.lease / 3;
        let (store, beat) = (self.worker.store.clone(), self.sign_of_life());
        // One that hangs must not cost the lease: the next one may have a better connection.
        let limit = beat.lease / 4;
        self.tasks.spawn(async move {
            let late = || StoreError::Unknown(format!("a heartbeat was not answered within {limit:?}"));
            let result = tokio::time::timeout(limit, store.heartbeat(&beat)).await;
            Happened::Beaten { asked: now, result: result.unwrap_or_else(|_| Err(late())) }
        });
    }

    pub(super) fn sign_of_life(&self) -> Heartbeat {
        let options = &self.worker.options;
        let info = WorkerInfo {
            id: self.id,
            host: options.host.clone(),
            pid: options.pid,
            version: options.version.clone(),
            concurrency: options.concurrency as u32,
            queues: options.queues.iter().map(|(name, _)| name.clone()).collect(),
            types: self.worker.handlers.types(),
            started_at: self.born,
        };
        Heartbeat { info, lease: options.lease }
    }

    /// What a shard did not answer for is to be settled again: what is due, or all.
    pub(super) fn send_held_back(&mut self, due: Option<Instant>) {
        let is_due = |at: Instant| due.is_none_or(|now| at <= now);
        for (_, open) in self.held_back.extract_if(.., |(at, _)| is_due(*at)).collect::<Vec<_>>() {
            self.ledger.unsettled(open);
        }
    }

    fn send_exchanges(&mut self, now: Instant) {
        while self.in_flight < PIPELINE {
            let finished = self.ledger.finished();
            let free = self.in_flight == 0;
            let may_claim = self.may_claim(now);
            let look = may_claim && (!self.plan.idle || now >= self.plan.claim);
            // The store shall not wait while this worker makes the next batch ready: as long as there is
            // plenty, the next claim is under way already.
            let more = || self.ledger.wish(0, self.coming, self.plan.drains(now));
            let fill = || self.plan.plenty && may_claim && more().is_some_and(|wish| wish.want >= WORTHWHILE);
            if !(finished >= WORTHWHILE || (free && (finished > 0 || look)) || fill()) {
                return;
            }
            let settled = self.ledger.take_finished();
            let wish = self.ledger.wish(settled.len(), self.coming, self.plan.drains(now)).filter(|_| may_claim);
            if settled.is_empty() && wish.is_none() {
                // There is no room, or a suspect needs it all: the end of a job changes that.
                self.plan.claim = now + self.worker.options.poll;
                return;
            }
            self.send_exchange(settled, wish);
        }
    }

    /// Leases are only worth having while the registration holds them.
    pub(super) fn may_take(&self, now: Instant) -> bool {
        let registered = self.plan.registered.is_some_and(|until| now < until);
        let ready = self.plan.handlers_known || !self.worker.handlers.follows_store();
        // A run may have been cancelled, or its time may be over, while nobody worked.
        let fresh = self.housekeeper.has_taken_in(now);
        registered && ready && fresh && self.plan.queues_known && self.stopping.is_none()
    }

    pub(super) fn may_claim(&self, now: Instant) -> bool {
        self.may_take(now) && !self.queues.is_empty()
    }

    /// Notes that this is on its way to the store.
    pub(super) fn sending(&mut self, settled: Vec<Finished>, wish: Option<Wish>) -> Sent {
        self.in_flight += 1;
        self.sent += 1;
        let nth = self.sent;
        self.coming += wish.map_or(0, |wish| wish.want);
        if wish.is_some() {
            self.claims.insert(nth);
        }
        let order = wish.map_or_else(Vec::new, |wish| self.order(wish.want));
        Sent { nth, settled, wish, order, hinted: self.hinted }
    }

    pub(super) fn claim(&self, wish: Wish, order: &[Weighted]) -> Claim {
        let queues = order.iter().map(|(name, _)| name.clone()).collect();
        Claim { worker: self.id, queues, want: wish.want, alone: wish.alone }
    }

    /// It is not on its way any more.
    pub(super) fn answered(&mut self, sent: &Sent) {
        self.claims.remove(&sent.nth);
        self.in_flight -= 1;
        self.coming -= sent.wish.map_or(0, |wish| wish.want);
    }

    pub(super) fn send_exchange(&mut self, mut settled: Vec<Finished>, wish: Option<Wish>) {
        let mut talked = Vec::new();
        for one in &mut settled {
            let lease = (one.job.id, one.epoch);
            if self.notes.has(lease) {
                one.job.progress = self.notes.latest(lease).or(one.job.progress.take());
                talked.push(lease);
            }
        }
        let sent = self.sending(settled, wish);
        let claim = wish.map(|wish| self.claim(wish, &sent.order));
        let (store, runs, entropy) = (self.worker.store.clone(), self.runs.clone(), self.worker.entropy.clone());
        let (now, notes) = (self.time.now(), self.notes.clone());
        self.tasks.spawn(async move {
            let result = async {
                // Last words come before the end: with it the right to say anything is gone.
                if !talked.is_empty() {
                    notes.send(&*store, Some(&talked)).await?;
                }
                let batch = commits(decide(&sent.settled, now, &*entropy), now, &runs).await?;
                batch.send(&*store, &runs, claim).await
            };
            let result = result.await;
            Happened::Exchanged { sent, result }
        });
    }

    /// The order in which queues are asked: strictly as given, or by their shares.
    fn order(&mut self, want: usize) -> Vec<Weighted> {
        if self.worker.options.strict {
            return self.queues.clone();
        }
        self.shares.order(&self.queues, want, &*self.worker.entropy)
    }
}
