//! Documents and locks. Documents lie on the lowest shard that is there, all of them: they are few, and it is
//! never drained. A lock lies on the home of its name.
//!
//! # When the home of a lock changes
//!
//! For the time of the change the names that it is about are not given out. Afterwards a lock that is held
//! where it was at home before stays there until nobody holds it: whoever wants it asks there first. What
//! asks is a *probe*, a wish for another number of slots than anybody may have: it is granted only where
//! nobody is in, and nobody gets in beside it. Under the probe the lock is taken at its new home, so that it
//! is never held on two shards, and so that its fence is higher than what was given there: that is at most
//! what the first probe was given, and if the new home's clock is behind, the lock waits until it is past that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::shard::Slot;
use super::{Inner, PATIENT, PROMPT, good, nobody};
use crate::domain::limits::LOCK_SLOTS;
use crate::domain::{Fence, HolderId, Ms, Name, Shard};
use crate::store::contract::*;

/// What a probe says about itself.
const PROBE: &str = "goflow:probe";
/// How long a probe holds if whoever asked dies.
const PROBE_TTL: Duration = Duration::from_secs(5);
/// A clock that is behind is waited for so often, and each time so long at most.
const TRIES: usize = 3;
const MOMENT: Duration = Duration::from_millis(100);

impl Inner {
    /// The shard of all documents.
    pub(super) fn keeper_of_documents(&self) -> Result<Arc<Slot>> {
        self.slots().into_iter().next().ok_or_else(nobody)
    }

    pub(super) async fn document(&self, name: &str) -> Result<Option<Document>> {
        let slot = self.keeper_of_documents()?;
        let found = slot.call(PATIENT, |store| async move { store.document(name).await }).await?;
        Ok(found.map(|document| ours(&slot, document)))
    }

    pub(super) async fn set_document(&self, change: &DocumentChange) -> Result<DocumentSet> {
        let slot = self.keeper_of_documents()?;
        let set = slot.call(PATIENT, |store| async move { store.set_document(change).await }).await?;
        Ok(match set {
            DocumentSet::Changed(Some(document)) => DocumentSet::Changed(Some(ours(&slot, document))),
            set => set,
        })
    }

    pub(super) async fn documents(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Document>> {
        let slot = self.keeper_of_documents()?;
        let found = slot.call(PATIENT, |store| async move { store.documents(prefix, after, limit).await }).await?;
        Ok(found.into_iter().map(|document| ours(&slot, document)).collect())
    }

    /// The home of a lock, and then where it was at home before and may still be held.
    fn homes_of_lock(&self, name: &Name) -> Result<(Arc<Slot>, Vec<Arc<Slot>>)> {
        let map = self.map();
        let before = map.homes_before(name.as_str()).into_iter().map(|id| self.slot(id)).collect::<Result<_>>()?;
        Ok((self.slot(map.home(name.as_str())?)?, before))
    }

    pub(super) async fn acquire(&self, request: &LockRequest) -> Result<Acquired> {
        request.check()?;
        // Who slept through a change would ask at a home of yesterday.
        if self.is_outdated() {
            self.look_at_maps().await?;
        }
        if self.map().home_to_come(request.name.as_str()).is_some() {
            return Err(StoreError::Unavailable(format!("the lock {} is about to be at home elsewhere", request.name)));
        }
        let (home, before) = self.homes_of_lock(&request.name)?;
        if before.is_empty() {
            return acquire_at(&home, request).await;
        }
        let mut probes = Vec::new();
        let answer = self.acquire_after(&home, &before, request, &mut probes).await;
        for (slot, probe) in probes {
            // It ends by its time otherwise.
            let name = &request.name;
            drop(slot.call(PROMPT, |store| async move { store.release(name, probe).await }).await);
        }
        answer
    }

    async fn acquire_after(
        &self,
        home: &Arc<Slot>,
        before: &[Arc<Slot>],
        request: &LockRequest,
        probes: &mut Vec<(Arc<Slot>, HolderId)>,
    ) -> Result<Acquired> {
        let mut floor = None;
        for slot in before {
            let probe = self.wish_alone(request);
            match acquire_at(slot, &probe).await? {
                Acquired::Granted(grant) => {
                    probes.push((slot.clone(), probe.holder));
                    floor = floor.max(Some(grant.fence));
                }
                Acquired::OtherSlots { lock, .. } | Acquired::Held { lock, .. } if is_probed(&lock) => {
                    return Err(on_its_way(&request.name));
                }
                // It stays where it is held.
                Acquired::OtherSlots { lock, .. } | Acquired::Held { lock, .. } => {
                    self.floors().remove(&request.name);
                    if let Some(grant) = again(slot, &lock, request).await? {
                        return Ok(Acquired::Granted(grant));
                    }
                    return match acquire_unprobed(slot, request).await? {
                        Acquired::Granted(grant) => {
                            let others = std::iter::once(home).chain(before).filter(|other| other.id != slot.id);
                            self.alone_at(slot, others, request, probes).await?;
                            Ok(Acquired::Granted(grant))
                        }
                        answer => Ok(answer),
                    };
                }
            }
        }
        // Who holds it already keeps what it holds, though the probes were given higher fences than it has.
        if let Some(grant) = self.again_at_home(home, request).await? {
            return Ok(Acquired::Granted(grant));
        }
        let Some(probed) = floor else { return acquire_unprobed(home, request).await };
        // Later probes are given higher numbers, and nobody else is let in there any more.
        let floor = *self.floors().entry(request.name.clone()).or_insert(probed);
        for _ in 0..TRIES {
            let answer = acquire_unprobed(home, request).await?;
            match &answer {
                Acquired::Granted(grant) if grant.fence <= floor => {
                    let (name, holder) = (&request.name, request.holder);
                    home.call(PROMPT, |store| async move { store.release(name, holder).await }).await?;
                    // Fences are microseconds of the clock.
                    let behind = Duration::from_micros(floor.0 - grant.fence.0) + Duration::from_millis(1);
                    tokio::time::sleep(behind.min(MOMENT)).await;
                }
                _ => {
                    self.floors().remove(&request.name);
                    return Ok(answer);
                }
            }
        }
        Err(StoreError::Unavailable(format!(
            "the clock of {} is behind: the lock {} is given out when it has caught up",
            home.name(),
            request.name
        )))
    }

    /// The grant that a holder has at the home of today.
    async fn again_at_home(&self, home: &Slot, request: &LockRequest) -> Result<Option<Grant>> {
        let probe = self.wish_alone(request);
        match acquire_at(home, &probe).await? {
            Acquired::Granted(_) => {
                let (name, probe) = (&request.name, probe.holder);
                home.call(PROMPT, |store| async move { store.release(name, probe).await }).await?;
                Ok(None)
            }
            Acquired::OtherSlots { lock, .. } | Acquired::Held { lock, .. } => again(home, &lock, request).await,
        }
    }

    /// A wish that is granted only where nobody is in.
    fn wish_alone(&self, request: &LockRequest) -> LockRequest {
        LockRequest {
            holder: HolderId::from_parts(self.now(), Shard::default(), self.options.entropy.next()),
            about: PROBE.to_owned(),
            slots: if request.slots == LOCK_SLOTS { LOCK_SLOTS - 1 } else { LOCK_SLOTS },
            ttl: PROBE_TTL,
            ..request.clone()
        }
    }

    /// What was granted at `slot`, an old home, is given back unless nobody is in anywhere else: between the
    /// look there and the grant the last holder may have gone, and another have taken it at its new home.
    async fn alone_at(
        &self,
        slot: &Slot,
        others: impl Iterator<Item = &Arc<Slot>>,
        request: &LockRequest,
        probes: &mut Vec<(Arc<Slot>, HolderId)>,
    ) -> Result<()> {
        let unprobed = |other: &&Arc<Slot>| !probes.iter().any(|(probed, _)| probed.id == other.id);
        let others: Vec<Arc<Slot>> = others.filter(unprobed).cloned().collect();
        let mut trouble = None;
        for other in others {
            let probe = self.wish_alone(request);
            match acquire_at(&other, &probe).await {
                Ok(Acquired::Granted(_)) => probes.push((other, probe.holder)),
                Ok(_) => trouble = Some(on_its_way(&request.name)),
                Err(error) => trouble = Some(error),
            }
            if trouble.is_some() {
                break;
            }
        }
        let Some(trouble) = trouble else { return Ok(()) };
        let (name, holder) = (&request.name, request.holder);
        slot.call(PROMPT, |store| async move { store.release(name, holder).await }).await?;
        Err(trouble)
    }

    fn floors(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Fence>> {
        self.floors.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) async fn extend(&self, name: &Name, holder: HolderId, ttl: Duration) -> Result<Option<Grant>> {
        let (home, before) = self.homes_of_lock(name)?;
        for slot in std::iter::once(home).chain(before) {
            let grant = slot.call(PROMPT, |store| async move { store.extend(name, holder, ttl).await }).await?;
            if let Some(grant) = grant {
                return Ok(Some(granted(&slot, grant)));
            }
        }
        Ok(None)
    }

    pub(super) async fn release(&self, name: &Name, holder: HolderId) -> Result<bool> {
        let (home, before) = self.homes_of_lock(name)?;
        for slot in std::iter::once(home).chain(before) {
            if slot.call(PROMPT, |store| async move { store.release(name, holder).await }).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) async fn locks(&self, after: Option<&Name>, limit: usize) -> Result<(Ms, Vec<LockRecord>)> {
        let read = self.ask_all(self.slots(), PATIENT, |store| async move { store.locks(after, limit).await }).await;
        let mut all: BTreeMap<Name, LockRecord> = BTreeMap::new();
        // Beyond where a full page of one shard ends, it may hold more that come before another's.
        let mut until: Option<Name> = None;
        for (slot, (_, locks)) in good(read)? {
            if locks.len() >= limit
                && let Some(last) = locks.last()
            {
                until = Some(until.map_or(last.name.clone(), |until| until.min(last.name.clone())));
            }
            for lock in locks.into_iter().filter(|lock| !is_probed(lock)) {
                let lock = record(&slot, lock);
                match all.get_mut(&lock.name) {
                    Some(other) => other.holders.extend(lock.holders),
                    None => drop(all.insert(lock.name.clone(), lock)),
                }
            }
        }
        let is_sure = |lock: &LockRecord| until.as_ref().is_none_or(|until| lock.name <= *until);
        Ok((self.now(), all.into_values().filter(is_sure).take(limit).collect()))
    }

    pub(super) async fn break_lock(&self, name: &Name, holder: Option<HolderId>) -> Result<Vec<LockHolder>> {
        let (home, before) = self.homes_of_lock(name)?;
        let mut broken = Vec::new();
        for slot in std::iter::once(home).chain(before) {
            broken.extend(slot.call(PATIENT, |store| async move { store.break_lock(name, holder).await }).await?);
        }
        Ok(broken)
    }

    /// Locks that are held on a shard, as far as one page shows.
    pub(super) async fn locks_on(&self, slot: &Slot) -> Result<u64> {
        const PAGE: usize = 1_000;
        let (_, locks) = slot.call(PATIENT, |store| async move { store.locks(None, PAGE).await }).await?;
        Ok(locks.iter().filter(|lock| !is_probed(lock)).count() as u64)
    }
}

/// Nobody has it but those who look whether somebody has.
fn is_probed(lock: &LockRecord) -> bool {
    lock.holders.iter().all(|holder| holder.about == PROBE)
}

fn on_its_way(name: &Name) -> StoreError {
    StoreError::Unavailable(format!("the lock {name} changes its home"))
}

/// The grant that a holder has on a shard whose lock was seen like this: prolonged, if it would end sooner.
async fn again(slot: &Slot, lock: &LockRecord, request: &LockRequest) -> Result<Option<Grant>> {
    let Some(own) = lock.holders.iter().find(|one| one.id == request.holder) else { return Ok(None) };
    match acquire_at(slot, request).await? {
        Acquired::Granted(grant) if grant.fence == own.fence => Ok(Some(grant)),
        // Its time was over in between: what is new is given out only after a look at the other homes.
        Acquired::Granted(_) => {
            let (name, holder) = (&request.name, request.holder);
            slot.call(PROMPT, |store| async move { store.release(name, holder).await }).await?;
            Err(on_its_way(name))
        }
        Acquired::OtherSlots { .. } | Acquired::Held { .. } => Err(on_its_way(&request.name)),
    }
}

/// A wish that is to be made again later where somebody only looks whether somebody is in.
async fn acquire_unprobed(slot: &Slot, request: &LockRequest) -> Result<Acquired> {
    match acquire_at(slot, request).await? {
        Acquired::OtherSlots { lock, .. } | Acquired::Held { lock, .. } if is_probed(&lock) => {
            Err(on_its_way(&request.name))
        }
        answer => Ok(answer),
    }
}

async fn acquire_at(slot: &Slot, request: &LockRequest) -> Result<Acquired> {
    let answer = slot.call(PROMPT, |store| async move { store.acquire(request).await }).await?;
    Ok(match answer {
        Acquired::Granted(grant) => Acquired::Granted(granted(slot, grant)),
        Acquired::Held { now, lock } => Acquired::Held { now: slot.to_ours(now), lock: record(slot, lock) },
        Acquired::OtherSlots { now, lock } => Acquired::OtherSlots { now: slot.to_ours(now), lock: record(slot, lock) },
    })
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
