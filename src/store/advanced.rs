//! From what `workflow::advance` wants to what a store commits: the same thing, as bytes.

use super::contract::{Effects, Result, RunRecord, StoreError, Timer};
use crate::domain::Ms;
use crate::workflow::{Advanced, Fact};

impl RunRecord {
    /// The record of a run's header.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the header cannot be encoded.
    pub fn of(run: &crate::workflow::Run) -> Result<RunRecord> {
        let body = run.encode().map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(RunRecord { id: run.id, workflow: run.workflow.clone(), state: run.state, rev: run.rev, body })
    }

    /// The header that the record holds.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it is none.
    pub fn header(&self) -> Result<crate::workflow::Run> {
        crate::workflow::Run::decode(&self.body)
            .map_err(|error| StoreError::Corrupt(format!("run {}: {error}", self.id)))
    }
}

/// The effects of an advance that happened at `now`. Jobs whose end is awaited without need
/// (`cancel_jobs`) end by themselves: the run waits for them.
///
/// # Errors
/// [`StoreError::Corrupt`] if a record cannot be encoded.
pub fn effects(advanced: Advanced, now: Ms) -> Result<Effects> {
    let timer = |(key, delay): (String, std::time::Duration)| {
        let fact = Fact::timer(key.clone(), now.after(delay)).encode();
        let fact = fact.map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(Timer { key, delay, fact })
    };
    Ok(Effects {
        record: RunRecord::of(&advanced.run)?,
        jobs: advanced.jobs,
        values: advanced.values,
        timers: advanced.timers.into_iter().map(timer).collect::<Result<_>>()?,
        drop_timers: advanced.drop_timers,
        events: advanced.events,
        cancel: advanced.cancel_jobs,
        runs: Vec::new(),
        tell: Vec::new(),
    })
}
