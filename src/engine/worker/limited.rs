//! Queues with a rate limit: no job leaves their line before there is a permit for it. Each is asked on
//! its own, for as many jobs as permits are good; permits are leased only while something waits.

use std::time::Duration;

use tokio::time::Instant;

use super::super::ledger::Wish;
use super::super::permits::{batch, of_queue};
use super::super::settle::unwanted;
use super::{Happened, Life};
use crate::domain::{Ms, Name, Place, Rate};
use crate::store::{Claim, Claimed, Exchange, Exchanged, ListQuery, PermitRequest, Result};

/// A queue with a rate limit.
#[derive(Debug)]
pub(super) struct Line {
    pub rate: Rate,
    /// The last look found nothing, and nobody has hinted at more since.
    pub idle: bool,
    /// When to look again all the same.
    look: Instant,
    /// No look before this: hints may come thick.
    rest: Instant,
    busy: bool,
}

/// Between two looks at a queue that seems to be empty.
const REST: Duration = Duration::from_millis(30);

/// A claim with the permits drawn for it.
pub(super) struct Drawn {
    line: Name,
    rate: Rate,
    nth: u64,
    wish: Wish,
    permits: Vec<Instant>,
    hinted: u64,
}

/// What a look at such a queue found.
pub(super) struct Peeked {
    next_due: Option<Ms>,
    asked: bool,
    rate: Rate,
    waits: Vec<Duration>,
}

impl Line {
    pub fn new(rate: Rate, now: Instant) -> Line {
        Line { rate, idle: false, look: now, rest: now, busy: false }
    }
}

impl Life {
    pub(super) fn send_limited(&mut self, now: Instant) {
        if !self.may_take(now) || self.standby.is_out() {
            return;
        }
        let names: Vec<Name> = self.lines.keys().cloned().collect();
        for name in names {
            let Some(wish) = self.ledger.wish(0, self.coming, self.plan.drains(now)) else { return };
            let Some(line) = self.lines.get_mut(&name) else { continue };
            if line.busy || (line.idle && now < line.look) {
                continue;
            }
            let rate = line.rate;
            let usable = self.permits.usable(of_queue(&name), rate, now);
            if self.permits.is_low(&of_queue(&name), rate) && now >= line.rest {
                line.busy = true;
                line.rest = now + REST;
                self.peek(name, rate);
            } else if usable > 0 {
                line.busy = true;
                let want = wish.want.min(usable);
                let permits = self.permits.draw(of_queue(&name), rate, want);
                self.draw(name, rate, permits, Wish { want, ..wish });
            }
        }
    }

    /// When a permit becomes good, or an idle queue is to be looked at again.
    pub(super) fn next_draw(&self, now: Instant) -> Option<Instant> {
        if self.standby.is_out() {
            return None;
        }
        // Without a place for a job, or the right to take one, time alone changes nothing.
        self.ledger.wish(0, self.coming, self.plan.drains(now)).filter(|_| self.may_take(now))?;
        let free = self.lines.iter().filter(|(_, line)| !line.busy);
        let next = |(name, line): (&Name, &Line)| match line.idle {
            true => Some(line.look),
            false => {
                let look = Some(line.rest).filter(|_| self.permits.is_low(&of_queue(name), line.rate));
                [self.permits.next(&of_queue(name)), look].into_iter().flatten().min()
            }
        };
        free.filter_map(next).min()
    }

    fn draw(&mut self, line: Name, rate: Rate, permits: Vec<Instant>, wish: Wish) {
        self.asides += 1;
        self.sent += 1;
        self.coming += wish.want;
        self.claims.insert(self.sent);
        let claim = Claim { worker: self.id, queues: vec![line.clone()], want: wish.want, alone: wish.alone };
        let drawn = Drawn { line, rate, nth: self.sent, wish, permits, hinted: self.hinted };
        let store = self.worker.store.clone();
        self.tasks.spawn(async move {
            let result = store.exchange(&Exchange::claiming(claim)).await;
            Happened::Drawn { drawn, result }
        });
    }

    pub(super) fn drawn(&mut self, drawn: Drawn, result: Result<Exchanged>) -> Result<()> {
        let Drawn { line: name, rate, nth, wish, mut permits, hinted } = drawn;
        self.asides -= 1;
        self.claims.remove(&nth);
        self.coming -= wish.want;
        self.strays |= result.is_err();
        let answer = self.accept_or_back_off(result)?;
        let now = Instant::now();
        if let Some(line) = self.lines.get_mut(&name) {
            line.busy = false;
        }
        // A lost answer may have leased: then its permits are used.
        let Some(answer) = answer else { return Ok(()) };
        self.learn(&answer, now);
        // A step that goes back unstarted has used none.
        let starts = |one: &&Claimed| unwanted(one, answer.asked, &self.runs, self.time.now()).is_none();
        let used = answer.claimed.iter().filter(|one| !one.job.permitted).filter(starts).count();
        self.permits.put_back(of_queue(&name), rate, permits.split_off(used.min(permits.len())));
        let patience = self.worker.entropy.fraction();
        self.plan.note_suspects(answer.suspects && !wish.alone, now, patience);
        let due = answer.next_due.map(|due| self.time.instant(due));
        if let Some(line) = self.lines.get_mut(&name) {
            line.idle = answer.claimed.len() < wish.want && hinted == self.hinted;
            line.look = due.unwrap_or(now + self.worker.options.poll).min(now + self.worker.options.poll).max(now);
        }
        self.accept(answer.claimed, wish.alone, answer.asked, now);
        Ok(())
    }

    /// Looks whether anything waits, and leases no more permits than that.
    fn peek(&mut self, line: Name, rate: Rate) {
        self.asides += 1;
        let (store, worker, hinted) = (self.worker.store.clone(), self.id, self.hinted);
        let queue = line.clone();
        self.tasks.spawn(async move {
            let look = async {
                let claim = Claim { worker, queues: vec![queue.clone()], want: 0, alone: false };
                let answer = store.exchange(&Exchange::claiming(claim)).await?;
                let budget = batch(rate);
                let query = ListQuery { place: Place::Pending, queue: Some(queue.clone()), after: None, budget };
                let found = store.list(&query).await?.items.len() + usize::from(answer.suspects);
                let mut waits = Vec::new();
                if found > 0 {
                    let count = found.min(budget) as u32;
                    let request = PermitRequest { bucket: of_queue(&queue), rate, count };
                    waits = store.permits(&[request]).await?.into_iter().flatten().collect();
                }
                Ok(Peeked { next_due: answer.next_due, asked: answer.asked, rate, waits })
            };
            let result = look.await;
            Happened::Peeked { line: queue, hinted, result }
        });
    }

    pub(super) fn peeked(&mut self, name: Name, hinted: u64, result: Result<Peeked>) -> Result<()> {
        self.asides -= 1;
        let found = self.accept_or_back_off(result)?;
        let now = Instant::now();
        let Some(line) = self.lines.get_mut(&name) else { return Ok(()) };
        line.busy = false;
        let Some(Peeked { next_due, asked, rate, waits }) = found else { return Ok(()) };
        line.idle = waits.is_empty() && hinted == self.hinted;
        let poll = now + self.worker.options.poll;
        line.look = next_due.map_or(poll, |due| self.time.instant(due).min(poll)).max(now);
        // The waits count from some moment of the call: from its end, rather late than early.
        self.permits.put_back(of_queue(&name), rate, waits.into_iter().map(|wait| now + wait));
        self.heard(asked, now);
        Ok(())
    }
}
