//! What an operator does to shards. Each change is a new map, kept first where the lowest shard is, so that
//! of two changes at once one is told to look again; the keeper of every process follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::map::{Entry, Map, State};
use super::shard::Slot;
use super::work::ENQUEUE;
use super::{CHANGE, FRESH, Inner, PATIENT, map_of, nobody, notices};
use crate::domain::{Event, EventKind, Name, QueueSettings, Shard, limits};
use crate::store::contract::*;
use crate::store::open;
use crate::store::url::hide_password;

/// Clocks that are further apart than this are not waited for.
const CLOCKS: Duration = Duration::from_secs(5);

#[async_trait]
impl Shards for Inner {
    async fn list(&self) -> Result<ShardList> {
        self.compare().await?;
        let map = self.map();
        let shards = futures_util::future::join_all(map.shards.iter().map(|entry| self.status(entry))).await;
        Ok(ShardList { epoch: map.epoch, strategy: map.strategy.as_str().to_owned(), shards })
    }

    fn away(&self) -> Vec<(u16, String)> {
        let slots = self.slots();
        let away = slots.iter().filter(|slot| slot.is_away());
        away.map(|slot| (slot.id, slot.trouble().unwrap_or_else(|| "it was not reached yet".to_owned()))).collect()
    }

    async fn add(&self, url: &str) -> Result<u16> {
        self.add_shard(url).await
    }

    async fn add_beside(&self) -> Result<u16> {
        self.compare().await?;
        let map = self.map();
        let number = map.shards.iter().map(|entry| entry.id + 1).max().unwrap_or_default();
        if let Some(joining) = map.there().find(|entry| entry.state == State::Joining) {
            return self.add_shard(&joining.url).await;
        }
        let there: Vec<&Entry> = map.there().collect();
        let beside = usize::from(number).checked_rem(there.len()).and_then(|nth| there.get(nth)).ok_or_else(nobody)?;
        let known: Vec<String> = map.shards.iter().map(|entry| entry.url.clone()).collect();
        self.add_shard(&open::beside(&beside.url, number, &known).await?).await
    }

    async fn drain(&self, id: u16, into: Option<u16>) -> Result<()> {
        self.begin_drain(id, into).await
    }

    async fn left(&self, id: u16) -> Result<Left> {
        let slot = self.slot(id)?;
        self.left_on(&slot).await
    }

    async fn carry(&self, id: u16) -> Result<Carried> {
        self.carry_batch(id).await
    }

    async fn remove(&self, id: u16) -> Result<()> {
        self.remove_shard(id).await
    }
}

fn event(kind: EventKind, id: u16, text: &str) -> Event {
    Event { data: Some(format!("{id} {text}").trim_end().to_owned()), ..Event::new(kind) }
}

impl Inner {
    async fn status(&self, entry: &Entry) -> ShardStatus {
        let mut status = ShardStatus {
            id: entry.id,
            url: hide_password(&entry.url),
            state: entry.state.as_str().to_owned(),
            moved_to: entry.moved_to,
            trouble: None,
            workers: 0,
            left: Left::default(),
        };
        let Ok(slot) = self.slot(entry.id) else { return status };
        let left = self.left_on(&slot).await;
        let workers = slot.call(PATIENT, |store| async move { store.workers().await }).await;
        match (left, workers) {
            (Ok(left), Ok(workers)) => (status.left, status.workers) = (left, workers.len() as u64),
            (Err(error), _) | (_, Err(error)) => {
                status.trouble = Some(slot.trouble().unwrap_or_else(|| error.to_string()));
                if let Some(stats) = slot.last_stats() {
                    status.left = counted(&stats);
                }
            }
        }
        status
    }

    pub(super) async fn left_on(&self, slot: &Slot) -> Result<Left> {
        let stats = slot.call(PATIENT, |store| async move { store.stats().await }).await?;
        slot.remember_stats(&stats);
        let mut left = counted(&stats);
        let page = |finished| RunQuery { finished, after: None, budget: limits::LIST_BUDGET };
        let live = slot.call(PATIENT, |store| async move { store.runs(&page(false)).await }).await?;
        let ended = slot.call(PATIENT, |store| async move { store.runs(&page(true)).await }).await?;
        (left.runs, left.finished_runs) = (live.items.len() as u64, ended.items.len() as u64);
        left.runs += self.marks_on(slot).await?;
        let (_, records) = slot.call(PATIENT, |store| async move { store.schedules().await }).await?;
        left.schedules = records.iter().filter(|record| !notices::is_notice(&record.name)).count() as u64;
        left.locks = self.locks_on(slot).await?;
        Ok(left)
    }

    /// Keeps a map, made from the one in use. The lowest shard decides between two who change it at once.
    async fn publish(&self, next: Map, events: Vec<Event>) -> Result<()> {
        // The one that it was made from, which may be older than the one in use by now.
        let current = next.epoch - 1;
        let changed = || StoreError::Unavailable("the shards have just been changed by somebody else".to_owned());
        if self.map().epoch != current {
            return Err(changed());
        }
        let slots = self.slots();
        let (awake, there) = (self.awake(), slots.len());
        if awake.len() * 2 <= there {
            return Err(StoreError::Unavailable("most shards do not answer: the map is left as it is".to_owned()));
        }
        let first = awake.into_iter().next().ok_or_else(nobody)?;
        let (map, id, events) = (&next, first.id, &events);
        let kept = first.call(PATIENT, |store| async move {
            let notices = notices::of(&*store).await?;
            if notices.map.is_some_and(|map| map.epoch > current) {
                return Ok(false);
            }
            notices::write_map(&*store, id, notices.map_rev, map, events.clone()).await
        });
        if !kept.await? {
            return Err(changed());
        }
        self.adopt(next.clone());
        let slots = self.slots();
        futures_util::future::join_all(slots.iter().map(|slot| slot.open(&self.options.opener))).await;
        self.compare().await?;
        if self.map().epoch == next.epoch { Ok(()) } else { Err(changed()) }
    }

    pub(super) async fn add_shard(&self, url: &str) -> Result<u16> {
        self.compare().await?;
        let map = self.map();
        let known = map.there().find(|entry| entry.url == url).cloned();
        let id = match &known {
            Some(entry) if entry.state == State::Joining => entry.id,
            Some(entry) => {
                return Err(StoreError::Refused(format!("{} is shard {} already", hide_password(url), entry.id)));
            }
            None => {
                let id = map.shards.iter().map(|entry| entry.id + 1).max().unwrap_or_default();
                self.look_at_new(id, url).await?;
                id
            }
        };
        if id > Shard::MAX {
            return Err(StoreError::Refused(format!(
                "there have been {} shards: ids can name no more",
                Shard::MAX + 1
            )));
        }
        let limited = self.limited_queues(map.there().count() + usize::from(known.is_none())).await?;
        if known.is_none() {
            let joining = map.changed(|map| {
                let entry = Entry { id, url: url.to_owned(), state: State::Joining, moved_to: None };
                map.shards.push(entry);
                let mut next = map.active();
                next.push(id);
                map.next = Some(next);
            });
            self.publish(joining, Vec::new()).await?;
        }
        let slot = self.slot(id)?;
        let from = self.awake().into_iter().find(|slot| slot.id != id).ok_or_else(nobody)?;
        let version = from.call(PATIENT, |store| async move { notices::of(&*store).await }).await?.settled.version;
        self.copy_settings(&from, &slot, version).await?;
        // Before anything is born there, so that the shares are never more than the whole.
        for (name, settings) in limited {
            self.set_queue(&name, &settings).await?;
        }
        tokio::time::sleep(CHANGE).await;
        let active = self.map().changed(|map| {
            if let Some(entry) = map.shards.iter_mut().find(|entry| entry.id == id) {
                entry.state = State::Active;
            }
            map.next = None;
        });
        self.publish(active, vec![event(EventKind::ShardAdded, id, &hide_password(url))]).await?;
        Ok(id)
    }

    /// Whether a store may become a shard.
    async fn look_at_new(&self, id: u16, url: &str) -> Result<()> {
        let store = (self.options.opener)(id, url.to_owned()).await?;
        if map_of(&*store).await?.is_some() {
            return Err(StoreError::Refused(format!("{} is or was a shard of a store", hide_password(url))));
        }
        let stats = store.stats().await?;
        if counted(&stats).all() > 0 || !store.schedules().await?.1.is_empty() {
            return Err(StoreError::Refused(format!(
                "{} holds jobs already: a new shard is empty",
                hide_password(url)
            )));
        }
        // Told by its own words, else it could be a key space that is in use by another name.
        let same: Vec<Arc<Slot>> = self.slots().into_iter().filter(|slot| slot.shown() == hide_password(url)).collect();
        match same.first() {
            Some(slot) => Err(StoreError::Refused(format!("{} is in use already", slot.name()))),
            None => Ok(()),
        }
    }

    /// Queues whose limits are divided among the shards: they are divided anew when there are more.
    async fn limited_queues(&self, of: usize) -> Result<Vec<(Name, QueueSettings)>> {
        let mut limited = self.queues().await?;
        limited.retain(|(_, settings)| settings.concurrency.is_some() || settings.retention.is_some());
        for (name, settings) in &limited {
            if let Some(limit) = settings.concurrency.filter(|limit| (*limit as usize) < of) {
                return Err(StoreError::Refused(format!(
                    "the queue {name} runs at most {limit} jobs at once, which cannot be divided among {of} shards: raise \
                     its limit first"
                )));
            }
        }
        Ok(limited)
    }

    pub(super) async fn begin_drain(&self, id: u16, into: Option<u16>) -> Result<()> {
        self.compare().await?;
        let map = self.map();
        let entry = map.entry(id).ok_or_else(|| StoreError::Refused(format!("there is no shard {id}")))?;
        let active = map.active();
        let into = match into {
            Some(into) if into == id || !active.contains(&into) => {
                return Err(StoreError::Refused(format!("jobs cannot be carried to shard {into}: it is not active")));
            }
            into => into,
        };
        if let Some(joining) = map.there().find(|entry| entry.state == State::Joining) {
            return Err(StoreError::Refused(format!("shard {} is joining: add it to the end first", joining.id)));
        }
        if self.keeper_of_documents()?.id == id {
            return Err(StoreError::Refused(format!("shard {id} keeps the documents of all, and is never drained")));
        }
        match entry.state {
            State::Active if active == [id] => {
                return Err(StoreError::Refused(format!("shard {id} is the last one that takes new work")));
            }
            State::Active => {}
            State::Draining if into.is_none() || entry.moved_to == into => return Ok(()),
            State::Draining if entry.moved_to.is_none() => {}
            State::Draining => {
                let to = entry.moved_to.unwrap_or_default();
                return Err(StoreError::Refused(format!("shard {id} is being carried to shard {to} already")));
            }
            State::Joining => {
                return Err(StoreError::Refused(format!("shard {id} is joining: add it to the end first")));
            }
            State::Removed => return Err(StoreError::Refused(format!("shard {id} was removed"))),
        }
        if entry.state == State::Active {
            let rest: Vec<u16> = active.into_iter().filter(|other| *other != id).collect();
            if map.next.is_none() {
                self.publish(map.changed(|map| map.next = Some(rest)), Vec::new()).await?;
                tokio::time::sleep(CHANGE).await;
            }
        }
        let next = self.map().changed(|map| {
            if let Some(entry) = map.shards.iter_mut().find(|entry| entry.id == id) {
                (entry.state, entry.moved_to) = (State::Draining, into);
            }
            map.next = None;
        });
        let text = into.map(|into| format!("into {into}")).unwrap_or_default();
        self.publish(next, vec![event(EventKind::ShardDraining, id, &text)]).await
    }

    pub(super) async fn remove_shard(&self, id: u16) -> Result<()> {
        self.compare().await?;
        let map = self.map();
        let entry = map.entry(id).ok_or_else(|| StoreError::Refused(format!("there is no shard {id}")))?;
        match entry.state {
            State::Removed => return Ok(()),
            State::Draining => {}
            State::Active | State::Joining => {
                return Err(StoreError::Refused(format!("shard {id} is {}: drain it first", entry.state.as_str())));
            }
        }
        if self.keeper_of_documents()?.id == id {
            return Err(StoreError::Refused(format!("shard {id} keeps the documents of all, and is never removed")));
        }
        // Who has not heard yet that it drains may still put something there, and be at it for a while.
        // An enqueue asks first who holds its keys.
        tokio::time::sleep(FRESH + 2 * ENQUEUE + Duration::from_secs(1)).await;
        self.compare().await?;
        let map = self.map();
        if map.entry(id).is_none_or(|entry| entry.state != State::Draining) {
            return Err(StoreError::Unavailable("the shards have just been changed by somebody else".to_owned()));
        }
        if let Some(other) = map.there().find(|entry| entry.moved_to == Some(id)) {
            let other = other.id;
            return Err(StoreError::Refused(format!("shard {other} is carried to shard {id}: remove {other} first")));
        }
        let slot = self.slot(id)?;
        self.sweep_copies(id).await?;
        let left = self.left_on(&slot).await?;
        if left.all() > 0 {
            return Err(StoreError::Refused(format!("shard {id} is not empty: {}", told(&left))));
        }
        self.wait_for_clocks(&slot).await?;
        let limited = self.limited_queues(1).await?;
        let removed = map.changed(|map| {
            if let Some(entry) = map.shards.iter_mut().find(|entry| entry.id == id) {
                entry.state = State::Removed;
            }
        });
        self.publish(removed.clone(), vec![event(EventKind::ShardRemoved, id, "")]).await?;
        // Decided: whoever still looks there learns where the others are.
        let (last, shard) = (&removed, id);
        slot.call_anyway(PATIENT, |store| async move {
            let notices = notices::of(&*store).await?;
            notices::write_map(&*store, shard, notices.map_rev, last, Vec::new()).await
        })
        .await?;
        for (name, settings) in limited {
            self.set_queue(&name, &settings).await?;
        }
        Ok(())
    }

    /// Nobody asks a shard that is gone which fences it gave. They were at most its clock: so it goes when
    /// those of the others are past that.
    async fn wait_for_clocks(&self, going: &Slot) -> Result<()> {
        let last = going.clock().await?;
        for other in self.slots().iter().filter(|other| other.id != going.id) {
            let behind = last.since(other.clock().await?);
            if behind > CLOCKS {
                return Err(StoreError::Refused(format!(
                    "the clock of {} is {} behind that of {}, and fences of locks must rise: set it right first",
                    other.name(),
                    crate::domain::text::age(behind),
                    going.name(),
                )));
            }
            tokio::time::sleep(behind + Duration::from_millis(1)).await;
        }
        Ok(())
    }

    pub(super) async fn holders(&self, keys: &[String]) -> Result<Vec<Option<Holder>>> {
        let map = self.map();
        let mut asks: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (nth, key) in keys.iter().enumerate() {
            let mut homes = map.homes_before(key);
            homes.push(map.home(key)?);
            homes.into_iter().for_each(|home| asks.entry(home).or_default().push(nth));
        }
        let mut all = vec![None; keys.len()];
        for (shard, places) in asks {
            let part: Vec<String> = places.iter().filter_map(|nth| keys.get(*nth).cloned()).collect();
            let slot = self.slot(shard)?;
            let found = slot.call(PATIENT, |store| {
                let part = &part;
                async move { store.holders(part).await }
            });
            for (nth, holder) in places.into_iter().zip(found.await?) {
                all[nth] = all[nth].or(holder);
            }
        }
        Ok(all)
    }
}

fn counted(stats: &[crate::domain::QueueStats]) -> Left {
    let mut left = Left::default();
    for queue in stats {
        left.scheduled += queue.scheduled;
        left.pending += queue.pending;
        left.running += queue.running;
        left.retrying += queue.retrying;
        left.dead += queue.dead;
        left.finished += queue.completed + queue.cancelled;
    }
    left
}

/// What is left, in words.
fn told(left: &Left) -> String {
    let counts = [
        (left.scheduled, "scheduled"),
        (left.pending, "pending"),
        (left.running, "running"),
        (left.retrying, "retrying"),
        (left.dead, "dead"),
        (left.finished, "finished"),
        (left.runs, "of runs under way"),
        (left.finished_runs, "of runs that ended"),
        (left.schedules, "of schedules"),
        (left.locks, "of held locks"),
    ];
    let words = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    words.collect::<Vec<_>>().join(", ")
}
