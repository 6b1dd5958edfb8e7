//! What is done to a run that is under way: signals, answers, pause and resume, cancel, retry. Each is a
//! fact for the run's inbox, checked against the run as it is now so that a wish that cannot come true is
//! told at once. The fact decides; what overtakes it makes it late, and it then changes nothing. It is taken
//! in before the answer, here or by a worker who was quicker: what was told holds from then on, whether a
//! worker lives or not. Of a request that may come again the fact has its key, which the run remembers.

use super::run_list::approvals;
use super::{ApiError, Client, Result, StoreError};
use crate::domain::{Json, Name, RunId, RunState};
use crate::workflow::{Fact, Run, What};

impl Client {
    /// Sends a signal. Nobody has to wait for it yet; after the end of the run it is kept and shown.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn signal(&self, id: RunId, name: Name, data: Json) -> Result<()> {
        if self.was_told(&self.run_header(id).await?) {
            return Ok(());
        }
        self.inform(id, Fact::signal(name, data, self.clock().now()).once(self.key())).await
    }

    /// Whether the run has taken what this client's request told it when it came before.
    fn was_told(&self, run: &Run) -> bool {
        self.key().is_some_and(|key| run.heard.contains(&key))
    }

    /// Answers the approval at the path `step`, or the only one that waits. `by` is who answers: a
    /// name, and groups as `group:NAME`. Gives the path of the step; none if the run has taken this
    /// answer before, and `step` did not say whose it was.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::Conflict`] if no such approval waits, several do and none was
    /// named, or `by` may not answer it.
    pub async fn answer(
        &self,
        id: RunId,
        step: Option<&str>,
        approved: bool,
        by: Vec<String>,
        comment: Option<String>,
    ) -> Result<Option<String>> {
        let run = self.run_header(id).await?;
        if self.was_told(&run) {
            return Ok(step.map(str::to_owned));
        }
        let definition = self.definition_of(&run.version).await?;
        let mut waiting = approvals(&definition, &run);
        if let Some(step) = step {
            waiting.retain(|(path, _)| path == step || path.rsplit('/').next() == Some(step));
        }
        let (path, approvers) = match waiting.as_slice() {
            [one] => one,
            [] => {
                let which = step.map_or_else(|| "no step".to_owned(), |step| format!("no step `{step}`"));
                return Err(ApiError::Conflict(format!("{which} of run {id} waits for an approval")));
            }
            several => {
                let paths: Vec<&str> = several.iter().map(|(path, _)| path.as_str()).collect();
                let message = format!("several steps wait for an approval: {}; name one", paths.join(", "));
                return Err(ApiError::Conflict(message));
            }
        };
        if !approvers.is_empty() && !approvers.iter().any(|name| by.contains(name)) {
            let message = format!("`{path}` is answered by {}", approvers.join(", "));
            return Err(ApiError::Conflict(message));
        }
        let answer = Fact::answer(path.clone(), approved, by, comment, self.clock().now());
        self.inform(id, answer.once(self.key())).await?;
        Ok(Some(path.clone()))
    }

    /// Nothing new starts until it is resumed, steps that wait in their line neither; what runs is not disturbed.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::Conflict`] unless it runs.
    pub async fn pause_run(&self, id: RunId) -> Result<()> {
        self.steer(id, What::Pause, "paused", |run| run.state == RunState::Running).await
    }

    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::Conflict`] unless it is paused.
    pub async fn resume_run(&self, id: RunId) -> Result<()> {
        self.steer(id, What::Resume, "resumed", |run| run.state == RunState::Paused).await
    }

    /// Cancels a run; what was done is undone first, unless `compensate` is false.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::Conflict`] if it is over, or about to be.
    pub async fn cancel_run(&self, id: RunId, compensate: bool) -> Result<()> {
        let may = |run: &Run| !run.state.is_terminal() && !run.is_stopping() && run.outcome.is_none();
        self.steer(id, What::Cancel { compensate }, "cancelled", may).await
    }

    /// Tries a failed run again: its owed undos if there are any, else from where it failed.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::Conflict`] unless it failed.
    pub async fn retry_run(&self, id: RunId) -> Result<()> {
        self.steer(id, What::Retry, "tried again", |run| run.state == RunState::Failed).await
    }

    /// Has a run looked at by whoever serves it, though nothing is to be done. Once its `rev` is beyond
    /// the one given, it has taken all that was sent to it before: so one knows that an end is the end.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn knock(&self, id: RunId) -> Result<u64> {
        let rev = self.run_header(id).await?.rev;
        // A timer that nobody has set changes nothing.
        self.inform(id, Fact::timer("knock", self.clock().now())).await?;
        Ok(rev)
    }

    async fn steer(&self, id: RunId, what: What, done: &str, may: impl Fn(&Run) -> bool) -> Result<()> {
        let run = self.run_header(id).await?;
        if self.was_told(&run) {
            return Ok(());
        }
        if !may(&run) {
            let about = if run.is_stopping() && !run.state.is_terminal() { " and about to end" } else { "" };
            let message = format!("run {id} is {}{about}: it cannot be {done}", run.state);
            return Err(ApiError::Conflict(message));
        }
        self.inform(id, Fact::of_run(what, self.clock().now()).once(self.key())).await
    }

    /// Tells a run a fact, and has it taken in.
    pub(super) async fn inform(&self, id: RunId, fact: Fact) -> Result<()> {
        let bytes = fact.encode().map_err(|error| StoreError::Corrupt(error.to_string()))?;
        match self.store().inform(&[(id, bytes)]).await?.first() {
            Some(true) => {
                self.runs.take_in([id], self.now.now()).await;
                Ok(())
            }
            _ => Err(ApiError::NotFound { noun: "run", id: id.to_string() }),
        }
    }
}
