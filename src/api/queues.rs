//! Queues: their counters, and pausing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::filter::{Field, Found, Kind, yes_or_no};
use super::{ApiError, Client, QueueView, Result};
use crate::domain::{Name, QueueSettings, QueueStats};

pub(super) fn number(count: u64) -> Found<'static> {
    Found::Number(i64::try_from(count).unwrap_or(i64::MAX))
}

type F = Field<QueueView>;

/// What can be asked of a queue.
pub const QUEUE_FIELDS: &[Field<QueueView>] = &[
    F::new("name", Kind::Text, |queue, _, _| queue.name.as_str().into()),
    F::new("paused", Kind::Choice(yes_or_no, "value of paused", "yes, no"), |queue, _, _| {
        if queue.paused { "yes" } else { "no" }.into()
    }),
    F::new("pending", Kind::Number, |queue, _, _| number(queue.pending)),
    F::new("running", Kind::Number, |queue, _, _| number(queue.running)),
    F::new("retrying", Kind::Number, |queue, _, _| number(queue.retrying)),
    F::new("scheduled", Kind::Number, |queue, _, _| number(queue.scheduled)),
    F::new("dead", Kind::Number, |queue, _, _| number(queue.dead)),
    F::new("completed", Kind::Number, |queue, _, _| number(queue.completed)),
    F::new("cancelled", Kind::Number, |queue, _, _| number(queue.cancelled)),
    F::new("parked", Kind::Number, |queue, _, _| number(queue.parked)),
    F::new("oldest", Kind::Age, |queue, _, _| match queue.oldest_pending_ms {
        Some(ms) => Found::Age(Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
        None => Found::Nothing,
    }),
];

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

    /// Every queue that was ever used, by name, with its counters and settings.
    ///
    /// # Errors
    /// The store's.
    pub async fn queue_views(&self) -> Result<Vec<QueueView>> {
        let (stats, queues) = (self.store().stats().await?, self.store().queues().await?);
        let settings: BTreeMap<Name, QueueSettings> = queues.into_iter().collect();
        let unset = QueueSettings::default();
        Ok(stats.iter().map(|one| QueueView::new(one, settings.get(&one.name).unwrap_or(&unset))).collect())
    }

    /// One queue, with its counters and settings.
    ///
    /// # Errors
    /// [`ApiError::NoQueue`].
    pub async fn queue_view(&self, name: &Name) -> Result<QueueView> {
        let found = self.queue_views().await?.into_iter().find(|view| view.name == name.as_str());
        found.ok_or_else(|| ApiError::NoQueue(name.clone()))
    }

    /// Changes a queue's settings; whether that changed anything. A queue may be set before its first
    /// job.
    ///
    /// # Errors
    /// The store's.
    pub async fn set_queue(&self, name: &Name, change: impl FnOnce(&mut QueueSettings)) -> Result<bool> {
        let known = self.store().queues().await?.into_iter().find(|(known, _)| known == name);
        let before = known.map(|(_, settings)| settings).unwrap_or_default();
        let mut settings = before.clone();
        change(&mut settings);
        if settings == before {
            return Ok(false);
        }
        self.store().set_queue(name, &settings).await?;
        Ok(true)
    }

    /// Pauses or resumes a queue; whether that changed anything.
    ///
    /// # Errors
    /// [`ApiError::NoQueue`] for a queue that never was: [`Client::set_queue`] makes one before its first
    /// job.
    pub async fn set_paused(&self, name: &Name, paused: bool) -> Result<bool> {
        let known = self.store().queues().await?.into_iter().find(|(known, _)| known == name);
        let (_, mut settings) = known.ok_or_else(|| ApiError::NoQueue(name.clone()))?;
        if settings.paused == paused {
            return Ok(false);
        }
        settings.paused = paused;
        self.store().set_queue(name, &settings).await?;
        Ok(true)
    }
}
