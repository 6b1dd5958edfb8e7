//! Standing by: a worker that has nothing to do leaves its next claim with a store that can keep it until something
//! is written ([`Store::stand_by`]). Only who holds nothing does, and while it does it claims nothing else: so no job comes
//! beside a suspect. It rests before, and where many workers wait for the same few jobs, each look in vain
//! doubles the rest: hints are enough for most of them then.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::ledger::Wish;
use super::{Happened, Life, Sent};
use crate::domain::Ms;
#[cfg(doc)]
use crate::store::Store;
use crate::store::{Exchanged, Result, StoreError};

/// From the last thing that happened until a worker stands by, at least.
const REST: Duration = Duration::from_millis(2);
/// A wait that would be shorter is not worth the call.
const WORTHWHILE: Duration = Duration::from_millis(10);
/// How long a claim stands by at most: the look that a hint asks for waits until it is answered.
const LONGEST: Duration = Duration::from_secs(1);
/// After a claim that stood by was not answered: something is wrong that is not worth trying again at once.
const AGAIN: Duration = Duration::from_secs(5);
/// The hint that comes with a job is of that job: the end of it may come before the look that the hint asks for.
const SAME: Duration = Duration::from_millis(1);

/// Whether and when a worker stands by.
pub(super) struct Standby {
    /// The store's now at a look that found nothing, if nothing has happened here since.
    looked: Option<Ms>,
    rest: Duration,
    /// Not before this.
    at: Instant,
    /// The claim that is with the store.
    out: Option<Out>,
    /// When such a claim last brought something.
    given: Option<Instant>,
}

struct Out {
    /// When the store answers at the latest.
    until: Instant,
    recall: CancellationToken,
}

impl Standby {
    pub(super) fn new(now: Instant) -> Self {
        Standby { looked: None, rest: REST, at: now, out: None, given: None }
    }

    pub(super) fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// An exchange was answered. `empty`: it was a look of which nothing came, at this time of the store.
    pub(super) fn exchanged(&mut self, empty: Option<Ms>, now: Instant) {
        self.looked = empty;
        if empty.is_none() {
            self.at = now + self.rest;
        }
    }

    /// A look in vain: the next rest is twice as long.
    fn tire(&mut self, most: Duration, now: Instant) {
        self.rest = (self.rest * 2).min(most);
        self.exchanged(None, now);
    }

    /// When a hint that came now is to be followed.
    pub(super) fn hinted(&self, now: Instant) -> Instant {
        if self.given.is_some_and(|at| now < at + SAME) { now + SAME } else { now }
    }

    /// Gives up the claim that is with the store. It may have been answered by leases that nobody sees.
    pub(super) fn recall(&self) {
        if let Some(out) = &self.out {
            out.recall.cancel();
        }
    }
}

impl Life {
    /// What to ask for and until when, if this worker has nothing else to do than to wait for a while.
    fn standing(&self, now: Instant) -> Option<(Wish, Instant)> {
        let busy = self.in_flight + self.asides > 0 || !self.lines.is_empty() || self.worker.options.until_empty;
        if busy || !self.plan.idle || !self.worker.store.stands_by() || !self.may_claim(now) {
            return None;
        }
        let wish = self.ledger.wish(0, self.coming, self.plan.drains(now)).filter(|wish| wish.alone)?;
        // The right to claim ends with the registration, and what is due has to be looked at.
        let until = self.plan.registered?.min(self.plan.claim).min(now + LONGEST);
        (until >= now + WORTHWHILE).then_some((wish, until))
    }

    /// When it is to stand by.
    pub(super) fn next_standby(&self, now: Instant) -> Option<Instant> {
        self.standing(now).map(|_| self.standby.at)
    }

    pub(super) fn stand_by(&mut self, now: Instant) {
        let Some((wish, until)) = self.standing(now).filter(|_| now >= self.standby.at) else { return };
        let Some(since) = self.standby.looked else {
            return self.send_exchange(Vec::new(), Some(wish));
        };
        let sent = self.sending(Vec::new(), Some(wish));
        let claim = self.claim(wish, &sent.order);
        let recall = CancellationToken::new();
        self.standby.out = Some(Out { until, recall: recall.clone() });
        let store = self.worker.store.clone();
        self.tasks.spawn(async move {
            let result = tokio::select! {
                biased;
                result = store.stand_by(&claim, since, until - now) => result,
                () = recall.cancelled() => Err(StoreError::Unknown("a claim that stood by was given up".to_owned())),
            };
            Happened::StoodBy { sent, result }
        });
    }

    pub(super) fn stood_by(&mut self, sent: Sent, result: Result<Option<Exchanged>>) {
        let now = Instant::now();
        // Stores count in milliseconds.
        let was_early = self.standby.out.take().is_some_and(|out| now + WORTHWHILE < out.until);
        self.answered(&sent);
        let Sent { wish: Some(wish), order, hinted, .. } = sent else { return };
        match result {
            Ok(Some(answer)) => {
                let (found, at) = (!answer.claimed.is_empty(), answer.now);
                self.learn(&answer, now);
                self.given(wish, &order, hinted, answer, now);
                if found {
                    if !self.plan.idle && !self.plan.plenty {
                        (self.plan.idle, self.plan.claim) = (true, now + SAME);
                    }
                    (self.standby.rest, self.standby.given) = (REST, Some(now));
                    self.standby.exchanged(None, now);
                } else if was_early {
                    self.standby.tire(self.worker.options.poll, now);
                } else {
                    self.standby.exchanged(Some(at), now);
                }
            }
            other => {
                self.shares.unserved(&order, wish.want);
                self.standby.tire(self.worker.options.poll, now);
                if let Err(error) = other {
                    debug!(%error, "standing by was in vain");
                    self.standby.at = now + AGAIN;
                    // It may have leased what nobody here knows of: a heartbeat tells.
                    self.strays = true;
                    self.plan.beat = now;
                }
                // The look that is owed now tells whether the store is there.
                (self.plan.idle, self.plan.claim) = (false, now);
            }
        }
    }
}
