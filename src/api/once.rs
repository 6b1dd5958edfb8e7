//! What a client knows of a request that may come again: how it is called, where its work is born, and
//! what it made when it came before. Its ids follow from the request, but for the shard in them, which
//! follows from keys and from the shards that there are: so they are looked for on all of them. Knows
//! nothing of how requests are told apart, nor where that is kept.

use std::sync::Arc;

use super::{Client, Result};
use crate::domain::{Clock, Entropy, JobId, Ms, RunId, Shard};
use crate::store::{Near, StoreError, Stored};

/// Ids asked for at once.
const PAGE: usize = 500;

/// A request that may come again, and is to be done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// What it is called, also when it comes again.
    pub key: Arc<str>,
    /// When it first came.
    pub at: Ms,
    /// Where its work lies that may lie anywhere.
    pub birthplace: Shard,
    /// It came before, and what became of it then is not known.
    pub again: bool,
}

impl Client {
    /// The same client for a request that may come again. Its clock and its randomness must be those of the
    /// first time, so that it makes the same ids.
    #[must_use]
    pub fn once(self, once: Once, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Client {
        Client { clock, entropy, once: Some(once), ..self }
    }

    /// What the request is called that this client speaks for, if it may come again.
    pub(super) fn key(&self) -> Option<String> {
        self.once.as_ref().map(|once| once.key.to_string())
    }

    /// When the request first came that this client speaks for, if it came before.
    pub(super) fn came_before(&self) -> Option<Ms> {
        self.once.as_ref().filter(|once| once.again).map(|once| once.at)
    }

    /// Where something is born. What may lie anywhere lies, of a request that comes again, where it lay before.
    pub(super) fn birthplace(&self, near: Near<'_>) -> Shard {
        match (near, &self.once) {
            (Near::Nothing, Some(once)) => once.birthplace,
            (near, _) => self.store.birthplace(near),
        }
    }

    /// Where a request begins its work, and that of its repetitions, that may lie anywhere.
    pub fn new_birthplace(&self) -> Shard {
        self.store.birthplace(Near::Nothing)
    }

    /// Where a request goes on that has begun at `before`: there too, unless nothing is born there any more.
    ///
    /// # Errors
    /// The store's.
    pub async fn birthplace_again(&self, before: Shard) -> Result<Shard> {
        match self.store.placement().await? {
            Some(placement) if !placement.map.active().contains(&before.0) => Ok(self.new_birthplace()),
            _ => Ok(before),
        }
    }

    /// The jobs of these ids that this request made when it came before, wherever they were born: since
    /// then shards may have come and gone, and keys be at home elsewhere.
    ///
    /// # Errors
    /// The store's, also where one of the shards cannot tell.
    pub(super) async fn made_before(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>> {
        let mut found = vec![None; ids.len()];
        if self.came_before().is_none() {
            return Ok(found);
        }
        let shards = self.all_shards().await?;
        let asked = ids.iter().enumerate().flat_map(|(nth, id)| {
            let elsewhere = shards.iter().map(|shard| id.on(*shard)).filter(move |other| other != id);
            std::iter::once(*id).chain(elsewhere).map(move |id| (nth, id))
        });
        let asked: Vec<(usize, JobId)> = asked.collect();
        for page in asked.chunks(PAGE) {
            let ids: Vec<JobId> = page.iter().map(|(_, id)| *id).collect();
            for ((nth, _), stored) in page.iter().zip(self.store.get(&ids).await?) {
                if let (Some(stored), Some(place)) = (stored, found.get_mut(*nth)) {
                    *place = Some(stored);
                }
            }
        }
        Ok(found)
    }

    /// The run of this id that this request began when it came before: as for jobs.
    ///
    /// # Errors
    /// As [`Client::made_before`].
    pub(super) async fn begun_before(&self, id: RunId) -> Result<Option<RunId>> {
        if self.came_before().is_none() {
            return Ok(None);
        }
        let elsewhere = self.all_shards().await?.into_iter().map(|shard| id.on(shard)).filter(|other| *other != id);
        for id in std::iter::once(id).chain(elsewhere) {
            match self.store.run(id).await {
                Ok(Some(_)) => return Ok(Some(id)),
                // A shard that was removed had nothing on it.
                Ok(None) | Err(StoreError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    async fn all_shards(&self) -> Result<Vec<Shard>> {
        let placement = self.store.placement().await?;
        Ok(placement.map_or_else(Vec::new, |placement| placement.map.shards.iter().map(|one| Shard(one.id)).collect()))
    }
}
