//! Documents and locks: on the lowest shard that is there, all of them. They are few, and the numbers that
//! fence them off rise on one shard only; so it is never drained, and adding shards moves none.

use std::sync::Arc;
use std::time::Duration;

use super::shard::Slot;
use super::{Inner, PATIENT, PROMPT, nobody};
use crate::domain::{HolderId, Ms, Name};
use crate::store::contract::*;

impl Inner {
    /// The shard of all documents and locks.
    pub(super) fn keeper_of_locks(&self) -> Result<Arc<Slot>> {
        self.slots().into_iter().next().ok_or_else(nobody)
    }

    pub(super) async fn document(&self, name: &str) -> Result<Option<Document>> {
        let slot = self.keeper_of_locks()?;
        let found = slot.call(PATIENT, |store| async move { store.document(name).await }).await?;
        Ok(found.map(|document| ours(&slot, document)))
    }

    pub(super) async fn set_document(&self, change: &DocumentChange) -> Result<DocumentSet> {
        let slot = self.keeper_of_locks()?;
        let set = slot.call(PATIENT, |store| async move { store.set_document(change).await }).await?;
        Ok(match set {
            DocumentSet::Changed(Some(document)) => DocumentSet::Changed(Some(ours(&slot, document))),
            set => set,
        })
    }

    pub(super) async fn documents(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Document>> {
        let slot = self.keeper_of_locks()?;
        let found = slot.call(PATIENT, |store| async move { store.documents(prefix, after, limit).await }).await?;
        Ok(found.into_iter().map(|document| ours(&slot, document)).collect())
    }

    pub(super) async fn acquire(&self, request: &LockRequest) -> Result<Acquired> {
        let slot = self.keeper_of_locks()?;
        let answer = slot.call(PROMPT, |store| async move { store.acquire(request).await }).await?;
        Ok(match answer {
            Acquired::Granted(grant) => Acquired::Granted(granted(&slot, grant)),
            Acquired::Held { now, lock } => Acquired::Held { now: slot.to_ours(now), lock: record(&slot, lock) },
            Acquired::OtherSlots { now, lock } => {
                Acquired::OtherSlots { now: slot.to_ours(now), lock: record(&slot, lock) }
            }
        })
    }

    pub(super) async fn extend(&self, name: &Name, holder: HolderId, ttl: Duration) -> Result<Option<Grant>> {
        let slot = self.keeper_of_locks()?;
        let grant = slot.call(PROMPT, |store| async move { store.extend(name, holder, ttl).await }).await?;
        Ok(grant.map(|grant| granted(&slot, grant)))
    }

    pub(super) async fn release(&self, name: &Name, holder: HolderId) -> Result<bool> {
        let slot = self.keeper_of_locks()?;
        slot.call(PROMPT, |store| async move { store.release(name, holder).await }).await
    }

    pub(super) async fn locks(&self, after: Option<&Name>, limit: usize) -> Result<(Ms, Vec<LockRecord>)> {
        let slot = self.keeper_of_locks()?;
        let (now, locks) = slot.call(PATIENT, |store| async move { store.locks(after, limit).await }).await?;
        Ok((slot.to_ours(now), locks.into_iter().map(|lock| record(&slot, lock)).collect()))
    }

    pub(super) async fn break_lock(&self, name: &Name, holder: Option<HolderId>) -> Result<Vec<LockHolder>> {
        let slot = self.keeper_of_locks()?;
        slot.call(PATIENT, |store| async move { store.break_lock(name, holder).await }).await
    }
}

fn ours(slot: &Slot, document: Document) -> Document {
    Document { until: document.until.map(|until| slot.to_ours(until)), ..document }
}

fn granted(slot: &Slot, grant: Grant) -> Grant {
    Grant { now: slot.to_ours(grant.now), until: slot.to_ours(grant.until), ..grant }
}

fn record(slot: &Slot, mut lock: LockRecord) -> LockRecord {
    for holder in &mut lock.holders {
        (holder.since, holder.until) = (slot.to_ours(holder.since), slot.to_ours(holder.until));
    }
    lock
}
