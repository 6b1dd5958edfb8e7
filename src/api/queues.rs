//! Queues: their counters, and pausing.

use super::{ApiError, Client, Result};
use crate::domain::{Name, QueueStats};

impl Client {
    /// Every queue that was ever used, by name, with its counters.
    ///
    /// # Errors
    /// The store's.
    pub async fn queue_stats(&self) -> Result<Vec<QueueStats>> {
        Ok(self.store().stats().await?)
    }

    /// The counters of one queue.
    ///
    /// # Errors
    /// [`ApiError::NoQueue`].
    pub async fn queue(&self, name: &Name) -> Result<QueueStats> {
        let found = self.queue_stats().await?.into_iter().find(|stats| stats.name == *name);
        found.ok_or_else(|| ApiError::NoQueue(name.clone()))
    }

    /// Pauses or resumes a queue; whether that changed anything.
    ///
    /// # Errors
    /// [`ApiError::NoQueue`] when resuming a queue that never was. Pausing one makes it known: it may
    /// be paused before its first job.
    pub async fn set_paused(&self, name: &Name, paused: bool) -> Result<bool> {
        let known = self.store().queues().await?.into_iter().find(|(known, _)| known == name);
        let mut settings = match known {
            Some((_, settings)) => settings,
            None if paused => Default::default(),
            None => return Err(ApiError::NoQueue(name.clone())),
        };
        if settings.paused == paused {
            return Ok(false);
        }
        settings.paused = paused;
        self.store().set_queue(name, &settings).await?;
        Ok(true)
    }
}
