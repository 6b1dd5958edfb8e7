//! How a worker ends: what runs may finish or is stopped, what is held goes back to its line, and the
//! store is told, so that nobody takes a stop for a death.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::super::ledger::Finished;
use super::super::settle::{Answered, commits, decide};
use super::{Happened, Life};
use crate::domain::job::Outcome;
use crate::store::{Claimed, Result};

/// How long a stopping worker goes on trying to tell a store that does not answer.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long a worker that fails waits for its handlers to end.
const LAST_HANDLERS: Duration = Duration::from_secs(15);
/// Between two tries to be heard.
const AGAIN: Duration = Duration::from_millis(100);

impl Life {
    pub(super) fn begin_stop(&mut self, patience: Duration) {
        let now = Instant::now();
        if self.stopping.is_none() {
            info!(running = self.ledger.running(), "stopping");
        }
        self.stopping = Some(now + patience);
        self.standby.recall();
    }

    pub(super) fn is_over(&self) -> bool {
        let Some(end) = self.stopping else { return false };
        let done = self.ledger.is_empty() && self.in_flight + self.asides == 0;
        let given_up = Instant::now() > end + LAST_WORDS && self.ledger.running() == 0;
        if given_up && !done {
            warn!("the store does not answer: what is unsettled will be run again when its lease has lapsed");
        }
        done || given_up
    }

    /// After an error that ends the worker: its handlers are stopped and all its leases go back to
    /// their lines as far as the store lets them. What is lost with it costs nobody a crash.
    pub(super) async fn give_up(&mut self) {
        self.send_held_back(None);
        self.standby.recall();
        self.ledger.stop_running();
        self.ledger.release_ahead();
        let end = Instant::now() + LAST_HANDLERS;
        while self.ledger.running() > 0 || self.in_flight + self.asides > 0 {
            match tokio::time::timeout_at(end, self.tasks.join_next()).await {
                Ok(Some(Ok(happened))) => self.last(happened),
                Ok(Some(Err(error))) => debug!(%error, "a task of the engine failed"),
                Ok(None) | Err(_) => break,
            }
        }
        let end = Instant::now() + LAST_WORDS;
        if tokio::time::timeout_at(end, self.settle_last()).await.is_err() {
            warn!("the store does not answer: what is unsettled will be run again when its lease has lapsed");
        }
    }

    /// Notes what still comes in: only what concerns leases matters now.
    fn last(&mut self, happened: Happened) {
        match happened {
            Happened::Ended(ended) => {
                for (id, epoch, outcome) in ended {
                    self.ledger.ended(id, epoch, outcome);
                }
            }
            Happened::Exchanged { sent, result } => {
                self.in_flight -= 1;
                match result {
                    Ok(Answered { answer, summary, unanswered }) => {
                        let open = |one: &Finished| unanswered.contains(&one.job.id);
                        let (open, settled): (Vec<_>, Vec<_>) = sent.settled.into_iter().partition(open);
                        self.ledger.settled(&settled);
                        self.ledger.unsettled(open);
                        self.summary.add(summary);
                        self.give_back(Ok(answer.claimed));
                    }
                    Err(_) => {
                        self.strays |= sent.wish.is_some();
                        self.ledger.unsettled(sent.settled);
                    }
                }
            }
            Happened::StoodBy { result, .. } => {
                self.in_flight -= 1;
                self.give_back(result.map(|answer| answer.map_or_else(Vec::new, |answer| answer.claimed)));
            }
            Happened::Drawn { result, .. } => {
                self.asides -= 1;
                self.give_back(result.map(|answer| answer.claimed));
            }
            Happened::Peeked { .. } => self.asides -= 1,
            _ => {}
        }
    }

    /// What a last claim was given goes back; what it may have been given is looked for.
    fn give_back(&mut self, claimed: Result<Vec<Claimed>>) {
        match claimed {
            Ok(claimed) => claimed.into_iter().for_each(|one| self.ledger.finish(one, Outcome::Released)),
            Err(_) => self.strays = true,
        }
    }

    /// Settles one by one: it may be one of them that the store did not bear.
    async fn settle_last(&mut self) {
        let finished = self.ledger.take_all_finished();
        let now = self.time.now();
        for one in &finished {
            loop {
                let decided = decide(std::slice::from_ref(one), now, &*self.worker.entropy);
                let sent = match commits(decided, now, &self.runs).await {
                    Ok(batch) => batch.send(&*self.worker.store, &self.runs, None).await,
                    Err(error) => Err(error),
                };
                match sent {
                    Ok(answered) => self.summary.add(answered.summary),
                    Err(error) if error.is_transient() => {
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                    Err(error) => warn!(job = %one.job.id, %error, "the job cannot be given back: its lease lapses"),
                }
                break;
            }
        }
        self.ledger.settled(&finished);
    }

    /// Leases that came by answers which were lost are nobody's yet: the store says which, and they go
    /// back to their line before the farewell lets them lapse.
    pub(super) async fn return_strays(&mut self) {
        if !self.strays {
            return;
        }
        let back = async {
            loop {
                let (asked, beat) = (Instant::now(), self.sign_of_life());
                let given = match self.worker.store.heartbeat(&beat).await {
                    Ok(beat) => {
                        let (_, strays) = self.ledger.reconcile(&beat.held, asked);
                        self.housekeeper.give_back_now(strays, beat.now).await
                    }
                    Err(error) => Err(error),
                };
                match given {
                    Err(error) if error.is_transient() => tokio::time::sleep(AGAIN).await,
                    Err(error) => return debug!(%error, "strays are left to lapse"),
                    Ok(()) => return,
                }
            }
        };
        if tokio::time::timeout(LAST_WORDS, back).await.is_err() {
            debug!("the store does not answer: strays are left to lapse");
        }
    }
}
