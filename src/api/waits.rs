//! Waiting for a job or a run to end. Who waits looks again after each hint, and without one soon at first, then ever
//! more seldom: an end is no hint, for nobody has anything to do then.

use std::time::Duration;

use tokio::time::Instant;

use super::{ApiError, Client, Result};
use crate::domain::{JobId, RunId};
use crate::store::Stored;

/// The first pause between two looks, twice as long each time, and the longest.
const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(250);

impl Client {
    /// Waits until the job has ended, at most `timeout`. The job as it is then; `None` when the time
    /// ran out.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] if it is deleted meanwhile; the store's, but for transient ones where there is a
    /// `timeout`.
    pub async fn wait(&self, id: JobId, timeout: Option<Duration>) -> Result<Option<Stored>> {
        let look = || async {
            let stored = self.store().get(&[id]).await?.into_iter().next().flatten();
            let stored = stored.ok_or(ApiError::NotFound { noun: "job", id: id.to_string() })?;
            Ok(stored.place.state().is_terminal().then_some(stored))
        };
        self.until_ended(timeout, look).await
    }

    /// Waits until the run has ended, at most `timeout`; whether it has.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; the store's, but for transient ones.
    pub async fn wait_for_run(&self, id: RunId, timeout: Duration) -> Result<bool> {
        let look = || async { Ok(self.run_header(id).await?.state.is_terminal().then_some(())) };
        Ok(self.until_ended(Some(timeout), look).await?.is_some())
    }

    async fn until_ended<T, Look: Future<Output = Result<Option<T>>>>(
        &self,
        timeout: Option<Duration>,
        look: impl Fn() -> Look,
    ) -> Result<Option<T>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut hints = self.store().hints();
        let (mut hints_live, mut pause) = (true, FIRST);
        loop {
            match look().await {
                Ok(Some(ended)) => return Ok(Some(ended)),
                Ok(None) => {}
                // Whoever waits wants to know the end, and a store that restarts comes back.
                Err(ApiError::Store(error)) if error.is_transient() && deadline.is_some() => {}
                Err(error) => return Err(error),
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(None);
            }
            let until = now + pause;
            let until = deadline.map_or(until, |deadline| until.min(deadline));
            tokio::select! {
                biased;
                hint = hints.changed(), if hints_live => hints_live = hint.is_ok(),
                () = tokio::time::sleep_until(until) => pause = (pause * 2).min(LONGEST),
            }
        }
    }
}
