//! Keeps the shards together: reads the map on each every second and takes the newest, mends what lags
//! behind, and looks for shards that are away. It ends with the store that it keeps.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::map::Map;
use super::notices::{self, Notices};
use super::shard::Slot;
use super::{Inner, PATIENT, PROMPT};
use crate::domain::{Event, EventKind};
use crate::store::contract::{Result, StoreError};

/// Between two looks for shards that are away.
const PROBE: Duration = Duration::from_millis(100);
/// Between two looks at the map.
const COMPARE: Duration = Duration::from_secs(1);

/// Between two looks for shards that nobody works for.
const CLAIMS: Duration = Duration::from_secs(10);
/// How long that may be so before it is told, and how long until it is told again.
const UNCLAIMED: Duration = Duration::from_secs(30);
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// One loop for each of its duties, so that none waits for another's shard.
pub(super) async fn keep(inner: Weak<Inner>) {
    let mut duties = JoinSet::new();
    duties.spawn(look_for_the_lost(inner.clone()));
    duties.spawn(every(inner.clone(), COMPARE, |inner| async move {
        if let Err(error) = inner.compare().await {
            tracing::debug!(%error, "the map could not be compared");
        }
    }));
    duties.spawn(every(inner.clone(), COMPARE, |inner| async move {
        if inner.map().strategy == super::Strategy::LeastLoaded {
            drop(inner.stats().await);
        }
    }));
    duties.spawn(every(inner.clone(), super::carry::FINISH, |inner| async move {
        if let Err(error) = inner.finish_carrying().await {
            tracing::debug!(%error, "what was being carried could not be looked at");
        }
    }));
    duties.spawn(every(inner, CLAIMS, |inner| async move { inner.watch_claims().await }));
    while duties.join_next().await.is_some() {}
}

/// Does a duty again and again, for as long as there is a store.
async fn every<F>(inner: Weak<Inner>, pause: Duration, duty: impl Fn(Arc<Inner>) -> F)
where
    F: Future<Output = ()>,
{
    while let Some(inner) = inner.upgrade() {
        duty(inner).await;
        tokio::time::sleep(pause).await;
    }
}

/// Probes each shard that is away, by a task of its own: one may take long to say nothing.
async fn look_for_the_lost(inner: Weak<Inner>) {
    let mut probes = JoinSet::new();
    loop {
        {
            let Some(inner) = inner.upgrade() else { return };
            for slot in inner.slots().into_iter().filter(|slot| slot.wants_probe() && slot.begin_probe()) {
                let inner = inner.clone();
                probes.spawn(async move {
                    inner.probe(&slot).await;
                    slot.end_probe();
                });
            }
            listen(&inner);
        }
        while probes.try_join_next().is_some() {}
        tokio::time::sleep(PROBE).await;
    }
}

/// Passes the hints of shards on, of those of which none are passed on yet.
pub(super) fn listen(inner: &Arc<Inner>) {
    for slot in inner.slots() {
        let Some(mut hints) = slot.hints_once() else { continue };
        let (inner, slot) = (Arc::downgrade(inner), Arc::downgrade(&slot));
        tokio::spawn(async move {
            while hints.changed().await.is_ok() {
                let (Some(inner), Some(slot)) = (inner.upgrade(), slot.upgrade()) else { return };
                slot.set_dry(false);
                inner.hint();
            }
        });
    }
}

impl Inner {
    /// A shard on which work waits and that no worker is registered with is told of.
    async fn watch_claims(&self) {
        let slots = self.awake();
        futures_util::future::join_all(slots.iter().map(|slot| self.watch_claim(slot))).await;
    }

    async fn watch_claim(&self, slot: &Slot) {
        let stats = slot.call(PROMPT, |store| async move { store.stats().await }).await;
        let workers = slot.call(PROMPT, |store| async move { store.workers().await }).await;
        let (Ok(stats), Ok(workers)) = (stats, workers) else { return };
        let waits: u64 = stats.iter().map(|queue| queue.pending + queue.retrying).sum();
        if slot.unclaimed_for(waits > 0 && workers.is_empty()) < UNCLAIMED {
            return;
        }
        let text = format!("{} {waits} jobs wait and no worker is registered", slot.id);
        let event = Event { data: Some(text), ..Event::new(EventKind::ShardUnclaimed) };
        let now = slot.to_theirs(self.now());
        let not_since = now.0.saturating_sub(TELL_AGAIN.as_millis() as i64);
        let told =
            slot.call(PROMPT, |store| async move { notices::tell_unclaimed(&*store, now.0, not_since, event).await });
        if told.await.is_ok() {
            tracing::warn!(shard = slot.id, waits, "no worker is registered with a shard on which jobs wait");
        }
    }

    /// Takes a map: shards that are new get a slot, those that are gone lose theirs.
    pub(super) fn adopt(&self, map: Map) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let stays = |id: u16, slot: &Slot| {
            map.entry(id).is_some_and(|entry| entry.state.is_there() && slot.lies_at(&entry.url))
        };
        slots.retain(|id, slot| stays(*id, slot));
        for entry in map.there() {
            slots.entry(entry.id).or_insert_with(|| Arc::new(Slot::new(entry.id, entry.url.clone())));
        }
        *self.map.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(map);
        drop(slots);
        self.hint();
    }

    /// Opens what can be opened, takes the newest map that is found, and keeps it where it is missing.
    pub(super) async fn first_look(&self) -> Result<()> {
        for _ in 0..8 {
            let slots = self.slots();
            let opened = futures_util::future::join_all(slots.iter().map(|slot| slot.open(&self.options.opener))).await;
            // A shard that refuses will go on refusing: that is told at once.
            for error in opened.iter().filter_map(|opened| opened.as_ref().err()) {
                if !error.is_transient() {
                    return Err(error.clone());
                }
            }
            if slots.iter().all(|slot| slot.is_away()) {
                let first = opened.into_iter().find_map(Result::err);
                return Err(first.unwrap_or_else(super::nobody));
            }
            let epoch = self.map().epoch;
            if epoch == 0 && self.keep_first().await? {
                continue;
            }
            self.compare().await?;
            if self.map().epoch == epoch {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("the shard map changes all the time".to_owned()))
    }

    /// A list of URLs becomes a map, unless a shard has one already; whether a map was kept.
    async fn keep_first(&self) -> Result<bool> {
        let slots = self.awake();
        let read = self.ask_all(slots, PATIENT, |store| async move { notices::of(&*store).await }).await;
        let known = super::every(read)?;
        if known.iter().any(|(_, notices)| notices.map.is_some()) {
            return Ok(false);
        }
        if let Some(away) = self.slots().iter().find(|slot| slot.is_away()) {
            return Err(StoreError::Unavailable(format!(
                "{} does not answer, and shards that were never used together must all be there at first: {}",
                away.name(),
                away.trouble().unwrap_or_default()
            )));
        }
        for (slot, _) in known.iter().filter(|(slot, _)| slot.id > 0) {
            let stats = slot.call(PATIENT, |store| async move { store.stats().await }).await?;
            if stats.iter().any(holds_jobs) {
                return Err(StoreError::Refused(format!(
                    "{} already holds jobs of a store of its own: a new shard must be empty, or the first of the list",
                    slot.name()
                )));
            }
        }
        let map = self.map().changed(|_| {});
        // The lowest number decides who was first.
        for (slot, notices) in &known {
            let map = &map;
            let rev = notices.map_rev;
            let id = slot.id;
            let kept =
                slot.call(PATIENT, |store| async move { notices::write_map(&*store, id, rev, map, Vec::new()).await });
            if !kept.await? {
                return Ok(true);
            }
        }
        self.adopt(map);
        Ok(true)
    }

    /// Reads every shard's map and takes the newest. What was read, if that is the one in use.
    pub(super) async fn look_at_maps(&self) -> Result<Option<Vec<(Arc<Slot>, Notices)>>> {
        let asked = Instant::now();
        let slots = self.awake();
        let read = self.ask_all(slots, PROMPT, |store| async move { notices::of(&*store).await }).await;
        let known = super::good(read)?;
        let newest = known.iter().filter_map(|(_, notices)| notices.map.as_ref()).max_by_key(|map| map.epoch);
        if let Some(map) = newest.filter(|map| map.epoch > self.map().epoch) {
            tracing::info!(epoch = map.epoch, "the shards have changed");
            self.adopt(map.clone());
            let opened = self.slots();
            futures_util::future::join_all(opened.iter().map(|slot| slot.open(&self.options.opener))).await;
            // What was read was read of the shards before.
            return Ok(None);
        }
        *self.compared.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        Ok(Some(known))
    }

    /// Looks at the maps, and mends those that lag behind.
    pub(super) async fn compare(&self) -> Result<()> {
        let Some(known) = self.look_at_maps().await? else { return Ok(()) };
        for (slot, notices) in &known {
            if let Some(other) = notices.shard.filter(|shard| *shard != slot.id) {
                return Err(StoreError::Refused(format!(
                    "{} is shard {other} again: each shard needs a key space of its own (redis://…#{}, another database, \
                     another file)",
                    slot.name(),
                    slot.id
                )));
            }
        }
        let version = known.iter().map(|(_, notices)| notices.settled.version).max().unwrap_or_default();
        let best = known.iter().find(|(_, notices)| notices.settled.version == version).map(|(slot, _)| slot.clone());
        let mends = known.iter().map(|(slot, notices)| self.mend(slot, notices, best.as_deref(), version));
        futures_util::future::try_join_all(mends).await.map(drop)
    }

    async fn mend(&self, slot: &Slot, notices: &Notices, best: Option<&Slot>, version: u64) -> Result<()> {
        let map = self.map();
        if map.entry(slot.id).is_none_or(|entry| !entry.state.is_there()) {
            return Ok(());
        }
        if notices.map.as_ref().is_none_or(|theirs| theirs.epoch < map.epoch) && map.epoch > 0 {
            let (rev, map) = (notices.map_rev, &*map);
            // Whoever was quicker kept the same or a newer one.
            let id = slot.id;
            slot.call_anyway(
                PROMPT,
                |store| async move { notices::write_map(&*store, id, rev, map, Vec::new()).await },
            )
            .await?;
        }
        if let Some(best) = best.filter(|best| best.id != slot.id && notices.settled.version < version) {
            tracing::info!(shard = slot.id, from = best.id, "definitions and settings are brought up to date");
            self.copy_settings(best, slot, version).await?;
        }
        Ok(())
    }

    /// Looks whether a shard is there again; before it counts as such, it learns what it missed.
    async fn probe(&self, slot: &Arc<Slot>) {
        if slot.store().is_none() {
            drop(slot.open(&self.options.opener).await);
            return;
        }
        // Nobody waits for a probe, and a connection whose server has gone silent is given up only by a call that
        // waits until the backend's own patience ends.
        let Ok(notices) = slot.call_anyway(PATIENT, |store| async move { notices::of(&*store).await }).await else {
            return;
        };
        let others = self.awake();
        let read = self.ask_all(others, PROMPT, |store| async move { notices::of(&*store).await }).await;
        let known = super::good(read).unwrap_or_default();
        let version = known.iter().map(|(_, notices)| notices.settled.version).max().unwrap_or_default();
        let best = known.iter().find(|(_, notices)| notices.settled.version == version).map(|(slot, _)| slot.clone());
        if self.mend(slot, &notices, best.as_deref(), version).await.is_err() {
            return;
        }
        let notes = slot.take_notes();
        if !notes.is_empty() {
            let sent = slot.call_anyway(PROMPT, |store| {
                let notes = &notes;
                async move { store.note(notes).await }
            });
            if sent.await.is_err() {
                slot.keep_notes(notes);
                return;
            }
        }
        slot.came_back();
        self.hint();
    }

    /// What the shards' own maps say that differs from the one in use.
    pub(super) async fn verify_maps(&self) -> Result<Vec<String>> {
        let map = self.map();
        let read = self.ask_all(self.slots(), PATIENT, |store| async move { notices::of(&*store).await }).await;
        let mut differences = Vec::new();
        for (slot, notices) in super::every(read)? {
            match notices.map {
                Some(theirs) if theirs == *map || theirs.epoch > map.epoch => {}
                Some(theirs) => differences
                    .push(format!("shard {}: its map has epoch {}, the others' {}", slot.id, theirs.epoch, map.epoch)),
                None => differences.push(format!("shard {}: it has no map", slot.id)),
            }
        }
        Ok(differences)
    }
}

fn holds_jobs(queue: &crate::domain::QueueStats) -> bool {
    queue.scheduled + queue.pending + queue.running + queue.retrying + queue.dead + queue.completed + queue.cancelled
        > 0
}
