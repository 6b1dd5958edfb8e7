//! What jobs have printed, as every face shows it.

use serde::Serialize;
use utoipa::ToSchema;

use super::wire::Time;
use super::{Client, Result};
use crate::domain::JobId;
use crate::store::{JobLog, LogChunk};

/// A piece of a job's log. Pieces end anywhere, also within a line.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LogView {
    /// Rises within a job.
    pub seq: u64,
    pub at: Time,
    /// Which lease of the job it was printed under.
    pub epoch: u64,
    /// May hold anything that a handler printed.
    pub text: String,
}

impl From<&LogChunk> for LogView {
    fn from(chunk: &LogChunk) -> LogView {
        LogView { seq: chunk.seq, at: Time(chunk.at), epoch: chunk.epoch.0, text: chunk.text.clone() }
    }
}

impl Client {
    /// What a job has printed after the piece `after` (0: all that is kept).
    ///
    /// # Errors
    /// The store's.
    pub async fn log(&self, id: JobId, after: u64) -> Result<JobLog> {
        self.patiently(|| self.store().log(id, after)).await
    }

    /// Whether a job has ended, or is not kept any more.
    ///
    /// # Errors
    /// The store's.
    pub async fn has_ended(&self, id: JobId) -> Result<bool> {
        let ids = [id];
        let found = self.patiently(|| self.store().get(&ids)).await?.into_iter().next().flatten();
        Ok(found.is_none_or(|stored| stored.place.state().is_terminal()))
    }
}
