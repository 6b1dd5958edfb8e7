//! Commits in the reference store: check every right first, then write.

use super::*;

impl State {
    pub(super) fn commit(&mut self, commit: &Commit, now: Ms, events: &mut Vec<Event>) -> Committed {
        let mut moves = Vec::with_capacity(commit.moves.len());
        for (place, step) in commit.moves.iter().enumerate() {
            let twice = commit.moves[..place].iter().any(|before| before.job.id == step.job.id);
            moves.push(if twice { Moved::Stale } else { self.judge(step, now) });
        }
        let run = self.commit_run(commit, &moves, now, events);
        if run != RunAnswer::Contended {
            for (step, moved) in commit.moves.iter().zip(&moves) {
                if *moved == Moved::Applied {
                    events.push(step.log_entry());
                    let before = self.remove(step.job.id, now);
                    self.put(step.job.clone(), step.to, now);
                    if let Some(before) = before {
                        self.left(&before, now);
                    }
                }
            }
        }
        Committed { moves, run }
    }

    /// Whether a move may be made now.
    fn judge(&self, step: &Move, now: Ms) -> Moved {
        let Some(kept) = self.jobs.get(&step.job.id) else { return Moved::Stale };
        let leased = |epoch| kept.lease.as_ref().is_some_and(|lease| lease.epoch == epoch);
        let right = match step.expect {
            Expect::Lease(epoch) => leased(epoch),
            Expect::Lapsed(epoch) => leased(epoch) && self.lapsed(kept, now),
            Expect::Idle(place, rev) => {
                kept.place == place
                    && kept.job.rev == rev
                    && place != Place::Running
                    && kept.job.queue == step.job.queue
            }
        };
        if !right {
            return Moved::Stale;
        }
        let holder = step.job.unique_key.as_ref().and_then(|key| self.holder(key, now));
        match holder {
            Some(holder) if holder != step.job.id && !step.to.frees_unique() => Moved::Conflict(holder),
            _ => Moved::Applied,
        }
    }

    fn commit_run(&mut self, commit: &Commit, moves: &[Moved], now: Ms, events: &mut Vec<Event>) -> RunAnswer {
        let Some(part) = &commit.run else { return RunAnswer::None };
        let Some(kept) = self.runs.get_mut(&part.run) else { return RunAnswer::Gone };
        let all_apply = moves.iter().all(|moved| *moved == Moved::Applied);
        if let Some(advance) = &part.advance
            && all_apply
            && kept.record.rev == advance.from_rev
        {
            let drained = advance.drained.unwrap_or(0);
            kept.inbox.retain(|seq, _| *seq > drained);
            self.apply(&advance.effects, now, events);
            // Also what its own effects have told it.
            let more = self.runs.get(&part.run).is_some_and(|kept| !kept.inbox.is_empty());
            if more {
                self.dirty.insert(part.run, now);
            } else {
                self.dirty.remove(&part.run);
            }
            return RunAnswer::Advanced { more };
        }
        let facts = part.facts.iter().zip(moves).filter(|(_, moved)| **moved == Moved::Applied);
        let facts: Vec<Vec<u8>> = facts.map(|(fact, _)| fact.clone()).collect();
        if facts.is_empty() {
            return RunAnswer::Contended;
        }
        for fact in facts {
            self.inbox(part.run, fact, now);
        }
        RunAnswer::Inboxed
    }
}
