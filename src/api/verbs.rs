//! What an operator does to jobs: retry, cancel, delete, one or a hundred thousand of them. Jobs are
//! found first and moved then, each by an atomic move that names the record it was decided on, so a
//! verb that is cut in between has done whole jobs only and goes on where it was when it is said again.

use super::enqueue::Patience;
use super::{Client, Filter, Result};
use crate::domain::edit::Edit;
use crate::domain::{JobId, JobState, Ms, RunId, limits};
use crate::store::{Commit, Cursor, Exchange, Expect, ListQuery, Move, Moved, StoreError, Stored};

/// Moves in one exchange.
pub const BATCH: usize = 200;
/// How often a job that somebody else moved meanwhile is looked at again.
const LOOKS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A new life for what is dead or cancelled.
    Retry,
    /// The end of what has not ended.
    Cancel,
    /// Out of the store.
    Delete,
}

/// Why a job was left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// It does a step of a run, and only the run may decide about it.
    Step { run: RunId, step: String },
    /// A live job holds its unique key.
    Held(JobId),
    /// Its state does not allow the verb.
    State(JobState),
    /// It is in a state that was not meant, though the verb could be done to it.
    Outside(JobState),
    /// It runs, and was asked to end before.
    Asked,
    /// Others moved it each time it was looked at.
    Changed,
    /// It is no longer kept.
    Gone,
}

/// What became of jobs, and of which not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acted {
    pub done: Vec<JobId>,
    /// They run: their workers were asked to end them, and will within seconds.
    pub asked: Vec<JobId>,
    pub left: Vec<(JobId, Left)>,
}

impl Acted {
    /// Adds what became of others.
    pub fn extend(&mut self, other: Acted) {
        self.done.extend(other.done);
        self.asked.extend(other.asked);
        self.left.extend(other.left);
    }
}

impl Acted {
    /// How many a verb does something to.
    pub fn touched(&self) -> usize {
        self.done.len() + self.asked.len()
    }
}

impl Verb {
    /// The states in which it finds something to do.
    pub fn states(self) -> &'static [JobState] {
        use JobState as S;
        match self {
            Verb::Retry => &[S::Dead, S::Cancelled],
            Verb::Cancel => &[S::Scheduled, S::Pending, S::Running, S::Retrying],
            Verb::Delete => &[S::Scheduled, S::Pending, S::Retrying, S::Dead, S::Completed, S::Cancelled],
        }
    }

    /// Whether a job in this state may be one that it was done to.
    fn has_come_true(self, state: JobState) -> bool {
        match self {
            Verb::Retry => !matches!(state, JobState::Dead | JobState::Cancelled),
            Verb::Cancel => state == JobState::Cancelled,
            Verb::Delete => false,
        }
    }

    /// What does it, or why nothing does.
    ///
    /// # Errors
    /// [`Left`].
    pub fn plan(self, stored: &Stored, now: Ms) -> Result<Plan, Left> {
        let (state, job) = (stored.place.state(), &stored.job);
        let unfit = Left::State(state);
        if !self.states().contains(&state) {
            return Err(unfit);
        }
        // What a run waits for, it must hear of; what it has heard of, it may lose.
        let is_waited_for = self != Verb::Delete || !state.is_terminal();
        if let Some(link) = job.link.as_ref().filter(|_| is_waited_for) {
            return Err(Left::Step { run: link.run, step: link.step.clone() });
        }
        let settled = match self {
            // Only its worker can end what runs.
            Verb::Cancel if state == JobState::Running && stored.asked => return Err(Left::Asked),
            Verb::Cancel if state == JobState::Running => return Ok(Plan::Ask),
            Verb::Retry => job.clone().requeue(state, now).ok(),
            Verb::Cancel => job.clone().cancel(state, "by an operator", now).ok(),
            Verb::Delete => job.clone().delete(state, now),
        };
        let settled = settled.ok_or(unfit)?;
        Ok(Plan::Move(Box::new(Move::new(Expect::Idle(stored.place, job.rev), settled))))
    }

    /// The same for one that must also match a filter, as of a time.
    ///
    /// # Errors
    /// [`Left`].
    pub fn plan_of(self, stored: &Stored, filter: Option<(&Filter, Ms)>, now: Ms) -> Result<Plan, Left> {
        let plan = self.plan(stored, now)?;
        match filter.is_none_or(|(filter, then)| filter.matches(stored, then)) {
            true => Ok(plan),
            false => Err(Left::Outside(stored.place.state())),
        }
    }
}

/// How a verb is done to one job.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    Move(Box<Move>),
    /// Its worker is asked to end it.
    Ask,
}

/// One page of jobs that match, and where the next begins.
#[derive(Clone, Debug)]
pub struct Found {
    pub jobs: Vec<Stored>,
    /// How many were looked at.
    pub looked: u64,
    pub next: Option<At>,
}

/// Where a walk over the places of a filter goes on.
#[derive(Clone, Debug, Default)]
pub struct At {
    nth: usize,
    after: Option<Cursor>,
}

impl Client {
    /// Walks over the jobs that match, a page at a time: what is kept is never read as a whole.
    /// `now` is the time that ages are told from, the same for a whole walk.
    ///
    /// # Errors
    /// The store's.
    pub async fn walk(&self, filter: &Filter, at: At, now: Ms) -> Result<Found> {
        let places = filter.places();
        let Some(place) = places.get(at.nth).copied() else {
            return Ok(Found { jobs: Vec::new(), looked: 0, next: None });
        };
        let query = ListQuery { place, queue: filter.queue().cloned(), after: at.after, budget: limits::LIST_BUDGET };
        let page = self.patiently(|| self.store().list(&query)).await?;
        let next = match page.next {
            Some(after) => Some(At { nth: at.nth, after: Some(after) }),
            None => Some(At { nth: at.nth + 1, after: None }).filter(|next| next.nth < places.len()),
        };
        let looked = page.items.len() as u64;
        let jobs = page.items.into_iter().filter(|stored| filter.matches(stored, now)).collect();
        Ok(Found { jobs, looked, next })
    }

    /// What a verb would do to the jobs that match, oldest first. `looked` is told how many more were
    /// looked at.
    ///
    /// # Errors
    /// The store's.
    pub async fn survey(&self, verb: Verb, filter: &Filter, now: Ms, mut looked: impl FnMut(u64)) -> Result<Acted> {
        let (mut plan, mut at) = (Acted::default(), Some(At::default()));
        while let Some(from) = at {
            let page = self.walk(filter, from, now).await?;
            looked(page.looked);
            for stored in page.jobs {
                // What has changed since the request came before was done then, or was not meant.
                if self.has_changed(&stored) {
                    continue;
                }
                match verb.plan(&stored, now) {
                    Ok(Plan::Move(_)) => plan.done.push(stored.job.id),
                    Ok(Plan::Ask) => plan.asked.push(stored.job.id),
                    Err(left) => plan.left.push((stored.job.id, left)),
                }
            }
            at = page.next;
        }
        // Ids begin with the time of birth. A job that moved on while it was looked for was seen twice.
        for ids in [&mut plan.done, &mut plan.asked] {
            ids.sort_unstable();
            ids.dedup();
        }
        plan.left.sort_by_key(|(id, _)| *id);
        plan.left.dedup_by_key(|(id, _)| *id);
        Ok(plan)
    }

    /// Does it to these jobs, those only that still match the filter; a job named twice is one.
    ///
    /// # Errors
    /// The store's, when it stays away for longer than patience lasts: what was done before stays done.
    pub async fn act(&self, verb: Verb, ids: &[JobId], filter: Option<(&Filter, Ms)>) -> Result<Acted> {
        let mut acted = Acted::default();
        for ids in ids.chunks(BATCH) {
            let mut open: Vec<(JobId, Option<Move>)> = ids.iter().map(|id| (*id, None)).collect();
            for _ in 0..LOOKS {
                open = self.attempt(verb, open, filter, &mut acted).await?;
                if open.is_empty() {
                    break;
                }
            }
            acted.left.extend(open.into_iter().map(|(id, _)| (id, Left::Changed)));
        }
        Ok(acted)
    }

    /// Looks at jobs and moves them; answers those that were moved by somebody in between, with the
    /// move that was tried: an answer that was lost may hide that it was made.
    async fn attempt(
        &self,
        verb: Verb,
        open: Vec<(JobId, Option<Move>)>,
        filter: Option<(&Filter, Ms)>,
        acted: &mut Acted,
    ) -> Result<Vec<(JobId, Option<Move>)>> {
        let ids: Vec<JobId> = open.iter().map(|(id, _)| *id).collect();
        let found = self.patiently(|| self.store().get(&ids)).await?;
        let now = self.clock().now();
        let (mut moves, mut asks) = (Vec::new(), Vec::new());
        for ((id, tried), stored) in open.into_iter().zip(found) {
            let made = |tried: &Move| match &stored {
                Some(stored) => stored.job == tried.job,
                None => verb == Verb::Delete,
            };
            if tried.as_ref().is_some_and(made) {
                acted.done.push(id);
                continue;
            }
            let planned = match &stored {
                None => Err(Left::Gone),
                Some(stored) if self.has_changed(stored) => {
                    match verb.has_come_true(stored.place.state()) {
                        true => acted.done.push(id),
                        false => acted.left.push((id, Left::Changed)),
                    }
                    continue;
                }
                Some(stored) => verb.plan_of(stored, filter, now),
            };
            match planned {
                Err(Left::Asked) if self.came_before().is_some() => acted.asked.push(id),
                Ok(Plan::Move(planned)) => moves.push(*planned),
                Ok(Plan::Ask) => asks.push(id),
                Err(left) => acted.left.push((id, left)),
            }
        }
        let mut stale = Vec::new();
        if !asks.is_empty() {
            for (id, lives) in asks.iter().zip(self.patiently(|| self.store().ask(&asks)).await?) {
                if lives {
                    acted.asked.push(*id);
                } else {
                    stale.push((*id, None));
                }
            }
        }
        if moves.is_empty() {
            return Ok(stale);
        }
        let commits = moves.iter().map(|one| Commit { moves: vec![one.clone()], run: None }).collect();
        let exchange = Exchange { commits, claim: None };
        let answer = self.patiently(|| self.store().exchange(&exchange)).await?;
        for (one, committed) in moves.into_iter().zip(&answer.commits) {
            match committed.moves.first() {
                Some(Moved::Applied) => acted.done.push(one.job.id),
                Some(Moved::Conflict(holder)) => acted.left.push((one.job.id, Left::Held(*holder))),
                Some(Moved::Stale) | None => stale.push((one.job.id, Some(one))),
            }
        }
        Ok(stale)
    }

    /// Whether a job has changed since the request of this client first came, if it came before: then it was
    /// done to it, or others were quicker, and it is not done to it again. A request writes the time at which
    /// it first came.
    fn has_changed(&self, stored: &Stored) -> bool {
        let since = stored.lease.as_ref().map(|lease| lease.since);
        let changed = since.max(stored.job.updated_at).unwrap_or_else(|| stored.job.id.created_at());
        self.came_before().is_some_and(|at| changed >= at)
    }

    /// Changes a job that waits; with `retry`, gives a dead or cancelled one a new life with the change.
    /// The job as it is then, or why it was left.
    ///
    /// # Errors
    /// The store's.
    pub async fn edit(&self, stored: &Stored, edit: Edit, retry: bool) -> Result<Result<Stored, Left>> {
        let (state, now) = (stored.place.state(), self.clock().now());
        if let Some(link) = &stored.job.link {
            return Ok(Err(Left::Step { run: link.run, step: link.step.clone() }));
        }
        let settled = if retry {
            let mut changed = stored.job.clone();
            changed.apply(edit);
            changed.requeue(state, now).ok()
        } else {
            // A due time is kept by the store's clock, not by ours.
            let nothing = Exchange::default();
            let store_now = self.patiently(|| self.store().exchange(&nothing)).await?.now;
            stored.job.clone().edit(stored.place, stored.at.since(store_now), edit, now)
        };
        let Some(settled) = settled else { return Ok(Err(Left::State(state))) };
        let expect = Expect::Idle(stored.place, stored.job.rev);
        let one = Move::new(expect, settled);
        let exchange = Exchange { commits: vec![Commit { moves: vec![one.clone()], run: None }], claim: None };
        let answer = self.patiently(|| self.store().exchange(&exchange)).await?;
        let id = [one.job.id];
        let kept = self.patiently(|| self.store().get(&id)).await?.into_iter().next().flatten();
        Ok(match (answer.commits.first().and_then(|committed| committed.moves.first()), kept) {
            (Some(Moved::Conflict(holder)), _) => Err(Left::Held(*holder)),
            (Some(Moved::Applied), Some(kept)) => Ok(kept),
            (_, Some(kept)) if kept.job == one.job => Ok(kept),
            (_, None) => Err(Left::Gone),
            _ => Err(Left::Changed),
        })
    }

    /// Asks again while the store is away: every call is idempotent.
    pub(super) async fn patiently<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let patience = Patience::default();
        let mut nth = 0;
        loop {
            match call().await {
                Err(StoreError::Unavailable(_) | StoreError::Unknown(_)) if nth + 1 < patience.tries => {
                    tokio::time::sleep(patience.delay(nth)).await;
                    nth += 1;
                }
                answer => return Ok(answer?),
            }
        }
    }
}
