//! Definitions and settings of queues: on every shard the same. A change that did not reach a shard raises
//! a version on those that it reached, and the keeper copies it to whoever has a lower one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::notices::{self, Settled};
use super::shard::Slot;
use super::{Inner, PATIENT, good, nobody};
use crate::domain::{Name, QueueSettings};
use crate::store::contract::*;

/// Kinds of definitions.
const KINDS: [&str; 5] = ["workflow", "handler", "schedule", "queue", "webhook"];

/// Adds one shard's settings of a queue to those of all: shares of a limit are summed.
pub(super) fn add(all: &mut BTreeMap<Name, QueueSettings>, name: Name, settings: QueueSettings) {
    match all.get_mut(&name) {
        None => drop(all.insert(name, settings)),
        Some(sum) => {
            sum.paused |= settings.paused;
            sum.weight = sum.weight.or(settings.weight);
            sum.rate_limit = sum.rate_limit.or(settings.rate_limit);
            sum.concurrency = match (sum.concurrency, settings.concurrency) {
                (Some(a), Some(b)) => Some(a.saturating_add(b)),
                (a, b) => a.or(b),
            };
            sum.retention = match (sum.retention, settings.retention) {
                (Some(a), Some(b)) => Some(Retention { age: a.age.max(b.age), count: a.count.saturating_add(b.count) }),
                (a, b) => a.or(b),
            };
        }
    }
}

/// What the `nth` of `of` shards gets of a queue's limits: together exactly the limit.
fn share(settings: &QueueSettings, nth: usize, of: usize) -> QueueSettings {
    let divide = |whole: usize| whole / of + usize::from(nth < whole % of);
    QueueSettings {
        concurrency: settings.concurrency.map(|limit| u32::try_from(divide(limit as usize)).unwrap_or(u32::MAX)),
        retention: settings.retention.map(|keep| Retention { count: divide(keep.count), ..keep }),
        ..settings.clone()
    }
}

impl Inner {
    /// Does a change on every shard; good if one took it, and then told to those that did not.
    async fn everywhere<T, F>(&self, change: impl Fn(Arc<dyn Store>, usize) -> F + Sync) -> Result<Vec<T>>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        let slots = self.slots();
        let numbers: BTreeMap<u16, usize> = slots.iter().enumerate().map(|(nth, slot)| (slot.id, nth)).collect();
        let change = &change;
        let asked = slots.into_iter().map(|slot| {
            let nth = numbers.get(&slot.id).copied().unwrap_or_default();
            async move {
                let answer = slot.call(PATIENT, |store| change(store, nth)).await;
                (slot, answer)
            }
        });
        let answers = futures_util::future::join_all(asked).await;
        let has_failed = answers.iter().any(|(_, answer)| answer.is_err());
        let good = good(answers)?;
        if has_failed {
            self.raise_version(good.iter().map(|(slot, _)| slot.clone()).collect()).await?;
        }
        Ok(good.into_iter().map(|(_, answer)| answer).collect())
    }

    /// Lets these shards be ahead of the others.
    async fn raise_version(&self, slots: Vec<Arc<Slot>>) -> Result<()> {
        let mut highest = 0;
        for slot in &slots {
            let notices = slot.call(PATIENT, |store| async move { notices::of(&*store).await }).await?;
            highest = highest.max(notices.settled.version);
        }
        for slot in &slots {
            self.settle_version(slot, highest + 1).await?;
        }
        Ok(())
    }

    /// Notes that a shard has come so far.
    pub(super) async fn settle_version(&self, slot: &Slot, version: u64) -> Result<()> {
        loop {
            let done = slot.call_anyway(PATIENT, |store| async move {
                let notices = notices::of(&*store).await?;
                if notices.settled.version >= version {
                    return Ok(true);
                }
                notices::write_settled(&*store, notices.settled_rev, Settled { version }).await
            });
            if done.await? {
                return Ok(());
            }
        }
    }

    /// Brings a shard's definitions and settings to where another's are.
    pub(super) async fn copy_settings(&self, from: &Slot, to: &Slot, version: u64) -> Result<()> {
        for kind in KINDS {
            let wanted = from.call(PATIENT, |store| async move { store.definitions(kind).await }).await?;
            let there = to.call_anyway(PATIENT, |store| async move { store.definitions(kind).await }).await?;
            let hashes: BTreeMap<&Name, &str> = there.iter().map(|one| (&one.name, one.hash.as_str())).collect();
            let lacks = |one: &&Definition| hashes.get(&one.name) != Some(&one.hash.as_str());
            let missing: Vec<Definition> = wanted.iter().filter(lacks).cloned().collect();
            if !missing.is_empty() {
                let missing = &missing;
                to.call_anyway(PATIENT, |store| async move { store.define(missing).await }).await?;
            }
            let names: BTreeSet<&Name> = wanted.iter().map(|one| &one.name).collect();
            for gone in there.iter().filter(|one| !names.contains(&one.name)) {
                to.call_anyway(PATIENT, |store| async move { store.undefine(kind, &gone.name).await }).await?;
            }
        }
        let wanted = from.call(PATIENT, |store| async move { store.queues().await }).await?;
        let there = to.call_anyway(PATIENT, |store| async move { store.queues().await }).await?;
        let there: BTreeMap<Name, QueueSettings> = there.into_iter().collect();
        for (name, settings) in wanted {
            let settings = copied(settings, there.get(&name));
            // A pause or a limit that was taken back counts as much as one that was set.
            if there.get(&name).cloned().unwrap_or_default() != settings {
                let (name, settings) = (&name, &settings);
                to.call_anyway(PATIENT, |store| async move { store.set_queue(name, settings).await }).await?;
            }
        }
        self.settle_version(to, version).await
    }

    pub(super) async fn define(&self, definitions: &[Definition]) -> Result<()> {
        self.everywhere(|store, _| async move { store.define(definitions).await }).await.map(drop)
    }

    pub(super) async fn undefine(&self, kind: &str, name: &Name) -> Result<bool> {
        let done = self.everywhere(|store, _| async move { store.undefine(kind, name).await }).await?;
        Ok(done.into_iter().any(|was_there| was_there))
    }

    pub(super) async fn set_queue(&self, queue: &Name, settings: &QueueSettings) -> Result<()> {
        let of = self.slots().len();
        if let Some(limit) = settings.concurrency.filter(|limit| (*limit as usize) < of) {
            return Err(StoreError::Refused(format!(
                "a limit of {limit} cannot be divided among {of} shards: give the queue at least {of}, or give its jobs \
                 one --key, whose limit holds over all"
            )));
        }
        let set =
            |store: Arc<dyn Store>, nth: usize| async move { store.set_queue(queue, &share(settings, nth, of)).await };
        self.everywhere(set).await.map(drop)
    }

    pub(super) async fn definition(&self, hash: &str) -> Result<Option<Definition>> {
        let mut missing = None;
        for slot in self.slots() {
            match slot.call(PATIENT, |store| async move { store.definition(hash).await }).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) => drop(missing.get_or_insert(error)),
            }
        }
        missing.map_or(Ok(None), Err)
    }

    pub(super) async fn definitions(&self, kind: &str) -> Result<Vec<Definition>> {
        let mut first = None;
        for slot in self.slots() {
            match slot.call(PATIENT, |store| async move { store.definitions(kind).await }).await {
                Ok(found) => return Ok(found),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        Err(first.unwrap_or_else(nobody))
    }
}

/// Settings for a shard that missed them, from another's. How a limit was divided cannot be seen from one
/// share: a share is either kept, where there is one of about that size, or the smaller one is taken.
fn copied(from: QueueSettings, there: Option<&QueueSettings>) -> QueueSettings {
    let concurrency = from.concurrency.map(|share| match there.and_then(|there| there.concurrency) {
        Some(own) if own.abs_diff(share) <= 1 => own,
        _ => share.saturating_sub(1).max(1),
    });
    QueueSettings { concurrency, ..from }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_limit_are_the_limit() {
        let whole = QueueSettings { concurrency: Some(8), ..QueueSettings::default() };
        let name: Name = "q".parse().expect("a name");
        let mut all = BTreeMap::new();
        let shares: Vec<_> = (0..3).map(|nth| share(&whole, nth, 3)).collect();
        assert_eq!(shares.iter().map(|one| one.concurrency).collect::<Vec<_>>(), [Some(3), Some(3), Some(2)]);
        shares.into_iter().for_each(|share| add(&mut all, name.clone(), share));
        assert_eq!(all.get(&name), Some(&whole));
    }
}
