//! The dead-letter queue: giving dead jobs a new life.

use super::{ApiError, Client, Filter, Result};
use crate::domain::{JobId, JobState, Place, limits};
use crate::store::{Commit, Cursor, Exchange, Expect, ListQuery, Move, Moved, Stored};

/// Moves in one exchange.
const BATCH: usize = 100;

/// What became of jobs that were to be retried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    pub retried: Vec<JobId>,
    /// Somebody else changed it meanwhile: nothing was done.
    pub changed: Vec<JobId>,
    /// A live job holds its unique key.
    pub held: Vec<(JobId, JobId)>,
    /// They do a step of a run, and only the run may do it again.
    pub steps: Vec<JobId>,
}

impl Retried {
    /// Adds what became of others.
    pub fn extend(&mut self, other: Retried) {
        self.retried.extend(other.retried);
        self.changed.extend(other.changed);
        self.held.extend(other.held);
        self.steps.extend(other.steps);
    }
}

impl Client {
    /// One page of the dead jobs that match, and where the next begins. A DLQ can be long: it is
    /// never read as a whole.
    ///
    /// # Errors
    /// The store's.
    pub async fn dead_page(&self, filter: &Filter, after: Option<Cursor>) -> Result<(Vec<Stored>, Option<Cursor>)> {
        let filter = filter.clone().only_state(JobState::Dead);
        let query = ListQuery { place: Place::Dead, queue: filter.queue(), after, budget: limits::LIST_BUDGET };
        let (found, now) = (self.store().list(&query).await?, self.clock().now());
        Ok((found.items.into_iter().filter(|stored| filter.matches(stored, now)).collect(), found.next))
    }

    /// How many dead jobs match.
    ///
    /// # Errors
    /// The store's.
    pub async fn dead_count(&self, filter: &Filter) -> Result<u64> {
        let (mut count, mut after) = (0, None);
        loop {
            let (page, next) = self.dead_page(filter, after).await?;
            count += page.len() as u64;
            match next {
                Some(next) => after = Some(next),
                None => return Ok(count),
            }
        }
    }

    /// Gives dead jobs a new life.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] when one of them is not dead: then nothing was changed.
    pub async fn retry(&self, jobs: &[Stored]) -> Result<Retried> {
        let mut retried = Retried::default();
        let mut moves = Vec::new();
        for stored in jobs {
            if stored.job.link.is_some() {
                retried.steps.push(stored.job.id);
                continue;
            }
            let (state, rev) = (stored.place.state(), stored.job.rev);
            let settled = stored.job.clone().requeue(state, self.clock().now());
            let settled = settled.map_err(|_| {
                ApiError::Conflict(format!(
                    "job {} is {state}, and only a dead or cancelled job can be retried",
                    stored.job.id
                ))
            })?;
            let expect = Expect::Idle(stored.place, rev);
            moves.push(Move { expect, to: settled.to, job: settled.job, event: settled.event });
        }
        for batch in moves.chunks(BATCH) {
            let commits = batch.iter().map(|one| Commit { moves: vec![one.clone()], run: None }).collect();
            let answer = self.store().exchange(&Exchange { commits, claim: None }).await?;
            for (one, committed) in batch.iter().zip(&answer.commits) {
                match committed.moves.first() {
                    Some(Moved::Applied) => retried.retried.push(one.job.id),
                    Some(Moved::Conflict(holder)) => retried.held.push((one.job.id, *holder)),
                    Some(Moved::Stale) | None => retried.changed.push(one.job.id),
                }
            }
        }
        Ok(retried)
    }
}
