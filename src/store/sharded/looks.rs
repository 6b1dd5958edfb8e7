//! What those see who look, put together from all shards: lists in one order, with a cursor that holds a
//! position a shard; counters summed; one event log.

use std::cmp::Ordering as Order;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;

use super::shard::Slot;
use super::{Inner, PATIENT, good, nobody};
use crate::domain::limits::LIST_BUDGET;
use crate::domain::{Event, JobId, Ms, Name, Place, QueueSettings, QueueStats, RunId, WorkerId};
use crate::store::contract::*;

/// Where a list has come on each shard. A shard that is not named has not begun.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
struct Places(BTreeMap<u16, Option<String>>);

impl Places {
    /// A cursor that one shard has given when it was alone is its own.
    fn read(cursor: Option<&Cursor>, alone: Option<u16>) -> Result<Places> {
        let Some(Cursor(text)) = cursor else { return Ok(Places::default()) };
        let odd = || StoreError::Refused(format!("`{text}` is not a cursor of this store"));
        if text.starts_with('{') {
            return serde_json::from_str(text).map_err(|_| odd());
        }
        let shard = alone.ok_or_else(odd)?;
        Ok(Places(BTreeMap::from([(shard, Some(text.clone()))])))
    }

    fn write(&self) -> Result<Cursor> {
        let text = serde_json::to_string(self).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(Cursor(text))
    }

    fn has_ended(&self, shard: u16) -> bool {
        matches!(self.0.get(&shard), Some(None))
    }

    fn cursor(&self, shard: u16) -> Option<Cursor> {
        self.0.get(&shard).cloned().flatten().map(Cursor)
    }

    fn set(&mut self, shard: u16, next: Option<Cursor>) {
        self.0.insert(shard, next.map(|cursor| cursor.0));
    }
}

/// How much of a run's history was told. A history moves with its run, and is numbered anew where it lands.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Told {
    events: usize,
    /// Where that is on the shard that told the last of them.
    last: Option<(u16, Cursor)>,
}

impl Told {
    fn read(Cursor(text): &Cursor) -> Result<Told> {
        let odd = |_| StoreError::Refused(format!("`{text}` is not a cursor of this store"));
        serde_json::from_str(text).map_err(odd)
    }

    fn write(&self) -> Result<Cursor> {
        let text = serde_json::to_string(self).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(Cursor(text))
    }
}

/// What one shard gave, and how much of it has been taken.
struct Source<T> {
    slot: Arc<Slot>,
    items: Vec<T>,
    taken: usize,
    next: Option<Cursor>,
}

impl<T> Source<T> {
    fn head(&self) -> Option<&T> {
        self.items.get(self.taken)
    }
}

/// Takes items in order until there are enough, or until a shard that has more has none at hand.
fn merge<T: Clone>(sources: &mut [Source<T>], most: usize, order: impl Fn(&T, &T) -> Order) -> Vec<T> {
    let mut merged = Vec::new();
    while merged.len() < most {
        if sources.iter().any(|source| source.head().is_none() && source.next.is_some()) {
            break;
        }
        let mut first: Option<usize> = None;
        for nth in 0..sources.len() {
            let Some(head) = sources[nth].head() else { continue };
            let is_first =
                first.and_then(|best| sources[best].head()).is_none_or(|best| order(head, best) == Order::Less);
            if is_first {
                first = Some(nth);
            }
        }
        let Some(nth) = first else { break };
        merged.extend(sources[nth].head().cloned());
        sources[nth].taken += 1;
    }
    merged
}

impl Inner {
    /// One page, merged. `page` asks one shard for so many after a cursor.
    async fn merged<T, F>(
        &self,
        after: Option<&Cursor>,
        budget: usize,
        order: impl Fn(&T, &T) -> Order,
        page: impl Fn(Arc<dyn Store>, Option<Cursor>, usize) -> F + Sync,
    ) -> Result<Page<T>>
    where
        T: Clone + Send,
        F: Future<Output = Result<Page<T>>> + Send,
    {
        let slots = self.slots();
        let mut places = Places::read(after, alone(&slots))?;
        let open: Vec<Arc<Slot>> =
            slots.iter().filter(|slot| !places.has_ended(slot.id) && !slot.is_away()).cloned().collect();
        if open.is_empty() {
            return if slots.iter().all(|slot| slot.is_away()) {
                Err(nobody())
            } else {
                Ok(Page { items: Vec::new(), next: None })
            };
        }
        let budget = budget.clamp(1, LIST_BUDGET);
        let each = budget.min((LIST_BUDGET / open.len()).max(1));
        let (page, from) = (&page, &places);
        let pages = join_all(open.into_iter().map(|slot| async move {
            let after = from.cursor(slot.id);
            let answer = slot.call(PATIENT, |store| page(store, after, each)).await;
            (slot, answer)
        }))
        .await;
        let source = |(slot, page): (Arc<Slot>, Page<T>)| Source { slot, items: page.items, taken: 0, next: page.next };
        let mut sources: Vec<Source<T>> = good(pages)?.into_iter().map(source).collect();
        let items = merge(&mut sources, budget, order);
        let mut more = false;
        for source in sources {
            let (id, after) = (source.slot.id, places.cursor(source.slot.id));
            let next = if source.taken == source.items.len() {
                source.next
            } else if source.taken == 0 {
                more = true;
                if after.is_none() {
                    // It has not begun.
                    continue;
                }
                after
            } else {
                // Where the part that was taken ends, only the shard can say.
                let taken = source.taken;
                source.slot.call(PATIENT, |store| page(store, after, taken)).await?.next
            };
            more |= next.is_some();
            places.set(id, next);
        }
        let next = if more { Some(places.write()?) } else { None };
        Ok(Page { items, next })
    }

    pub(super) async fn list(&self, query: &ListQuery) -> Result<Page<Stored>> {
        let place = query.place;
        let order = |a: &Stored, b: &Stored| a.job.queue.cmp(&b.job.queue).then_with(|| in_place(place, a, b));
        let page = |store: Arc<dyn Store>, after: Option<Cursor>, budget: usize| {
            let query = ListQuery { after, budget, ..query.clone() };
            async move { store.list(&query).await }
        };
        let mut page = self.merged(query.after.as_ref(), query.budget, order, page).await?;
        // What is on its way is in no list for a moment, rather than in two.
        page.items.retain(|stored| super::transit::side(stored).is_none());
        Ok(page)
    }

    /// A job that was moved is told of by two shards, and is one.
    pub(super) async fn newest(&self, before: Option<JobId>, limit: usize) -> Result<Newest> {
        let ask = |store: Arc<dyn Store>| async move { store.newest(before, limit).await };
        let found = good(self.ask_all(self.awake(), PATIENT, ask).await)?;
        Ok(together_by_birth(found.into_iter().map(|(_, newest)| newest).collect(), limit))
    }

    pub(super) async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        let order = |a: &RunRecord, b: &RunRecord| b.id.cmp(&a.id);
        let page = |store: Arc<dyn Store>, after: Option<Cursor>, budget: usize| {
            let query = RunQuery { after, budget, ..query.clone() };
            async move { store.runs(&query).await }
        };
        self.merged(query.after.as_ref(), query.budget, order, page).await
    }

    pub(super) async fn find<T, F>(&self, limit: usize, ask: impl Fn(Arc<dyn Store>) -> F + Sync) -> Result<Vec<T>>
    where
        T: Ord + Send,
        F: Future<Output = Result<Vec<T>>> + Send,
    {
        let found = self.ask_all(self.slots(), PATIENT, ask).await;
        let missing = found.iter().find_map(|(_, answer)| answer.as_ref().err().cloned());
        let all: BTreeSet<T> = good(found)?.into_iter().flat_map(|(_, ids)| ids).collect();
        match missing {
            // It may be on the shard that was not seen.
            Some(error) if all.is_empty() => Err(error),
            _ => Ok(all.into_iter().take(limit).collect()),
        }
    }

    pub(super) async fn since(&self, at: Ms) -> Result<Cursor> {
        let found = join_all(self.awake().into_iter().map(|slot| async move {
            let theirs = slot.to_theirs(at);
            let answer = slot.call(PATIENT, |store| async move { store.since(theirs).await }).await;
            (slot, answer)
        }))
        .await;
        let mut places = Places::default();
        for (slot, place) in good(found)? {
            places.set(slot.id, Some(place));
        }
        places.write()
    }

    /// Events in the order of each shard's log, the logs merged by time. A shard that is new in the cursor
    /// is read from its oldest event.
    pub(super) async fn events(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        let slots = self.slots();
        let mut places = Places::read(after, alone(&slots))?;
        let awake = self.awake();
        let each = (limit / awake.len().max(1)).max(1);
        let from = &places;
        let logs = join_all(awake.into_iter().map(|slot| async move {
            let after = from.cursor(slot.id);
            let answer = slot.call(PATIENT, |store| async move { store.events(after.as_ref(), each).await });
            let answer = answer.await;
            (slot, answer)
        }))
        .await;
        let mut sources = Vec::new();
        for (slot, (events, next)) in good(logs)? {
            places.set(slot.id, Some(next));
            let ours = |event: Event| Event { at: slot.to_ours(event.at), ..event };
            let items = events.into_iter().map(ours).collect();
            sources.push(Source { slot, items, taken: 0, next: None });
        }
        let mut merged = merge(&mut sources, usize::MAX, |a: &Event, b: &Event| a.at.cmp(&b.at));
        // Every shard tells of a worker that all of them know: once is enough.
        let mut told = BTreeSet::new();
        merged.retain(|event| match (event.worker, event.job) {
            (Some(worker), None) => told.insert((worker, event.kind)),
            _ => true,
        });
        Ok((merged, places.write()?))
    }

    /// So many records of each shard.
    pub(super) async fn tail(&self, records: usize) -> Result<Option<Cursor>> {
        let found = self.ask_all(self.awake(), PATIENT, |store| async move { store.tail(records).await }).await;
        let places: BTreeMap<u16, Option<String>> =
            good(found)?.into_iter().filter_map(|(slot, tail)| Some((slot.id, Some(tail?.0)))).collect();
        // One that is not named is read from its oldest record.
        if places.is_empty() { Ok(None) } else { Places(places).write().map(Some) }
    }

    pub(super) async fn history(
        &self,
        run: RunId,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<(Vec<Event>, Cursor)> {
        let mut told = after.map_or_else(|| Ok(Told::default()), Told::read)?;
        let mut events = self.go_on_telling(run, &mut told, limit).await?;
        if events.is_empty() && self.land_what_is_on_its_way(run.shard()).await? {
            events = self.go_on_telling(run, &mut told, limit).await?;
        }
        Ok((events, told.write()?))
    }

    /// Asks the places of a run one after the other, until one has something to tell.
    async fn go_on_telling(&self, run: RunId, told: &mut Told, limit: usize) -> Result<Vec<Event>> {
        for slot in self.places(run.shard())? {
            let known = told.last.as_ref().filter(|(shard, _)| *shard == slot.id);
            // Where it was not told from it is told from its beginning, and what was told elsewhere is left out.
            let mut again = if known.is_some() { 0 } else { told.events };
            let mut place = known.map(|(_, place)| place.clone());
            let mut events = Vec::new();
            while events.len() < limit {
                let (from, most) = (place.as_ref(), if again > 0 { limit.max(LIST_BUDGET) } else { limit });
                let page = |store: Arc<dyn Store>| async move { store.history(run, from, most).await };
                let (page, next) = slot.call(PATIENT, page).await?;
                let read = page.len();
                events.extend(page.into_iter().skip(again));
                again = again.saturating_sub(read);
                place = Some(next);
                if read < most {
                    break;
                }
            }
            if !events.is_empty() {
                told.events += events.len();
                told.last = place.map(|place| (slot.id, place));
                return Ok(events);
            }
        }
        Ok(Vec::new())
    }

    pub(super) async fn stats(&self) -> Result<Vec<QueueStats>> {
        // Who works for some shards only wants to know what waits there.
        let slots = self.slots().into_iter().filter(|slot| self.is_ours(slot.id)).collect();
        let counted = self.ask_all(slots, PATIENT, |store| async move { store.stats().await }).await;
        let mut all: BTreeMap<Name, QueueStats> = BTreeMap::new();
        for (slot, answer) in counted {
            let stats = match answer {
                Ok(stats) => {
                    slot.remember_stats(&stats);
                    stats
                }
                // What was counted last is nearer to the truth than nothing.
                Err(error) if error.is_transient() => slot.last_stats().ok_or(error)?,
                Err(error) => return Err(error),
            };
            for one in stats {
                match all.get_mut(&one.name) {
                    Some(sum) => sum.add(&one),
                    None => drop(all.insert(one.name.clone(), one)),
                }
            }
        }
        Ok(all.into_values().collect())
    }

    pub(super) async fn queues(&self) -> Result<Vec<(Name, QueueSettings)>> {
        let asked = self.ask_all(self.slots(), PATIENT, |store| async move { store.queues().await }).await;
        let (mut all, mut answered, mut first) = (BTreeMap::new(), false, None);
        for (slot, answer) in asked {
            let queues = match answer {
                Ok(queues) => {
                    answered = true;
                    slot.remember_queues(&queues);
                    queues
                }
                Err(error) => {
                    let Some(queues) = slot.last_queues() else {
                        first.get_or_insert(error);
                        continue;
                    };
                    queues
                }
            };
            for (name, settings) in queues {
                super::settings::add(&mut all, name, settings);
            }
        }
        if answered { Ok(all.into_iter().collect()) } else { Err(first.unwrap_or_else(nobody)) }
    }

    pub(super) async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        let asked = self.ask_all(self.awake(), PATIENT, |store| async move { store.workers().await }).await;
        let mut all: BTreeMap<WorkerId, WorkerStatus> = BTreeMap::new();
        for (slot, workers) in good(asked)? {
            for one in workers {
                let one = WorkerStatus { expires_at: slot.to_ours(one.expires_at), ..one };
                match all.get_mut(&one.info.id) {
                    Some(sum) => {
                        sum.running += one.running;
                        sum.draining |= one.draining;
                        sum.expires_at = sum.expires_at.max(one.expires_at);
                    }
                    None => drop(all.insert(one.info.id, one)),
                }
            }
        }
        Ok(all.into_values().collect())
    }

    pub(super) async fn health(&self) -> Result<Health> {
        let slots = self.slots();
        let look = |store: Arc<dyn Store>| async move { Ok((store.health().await?, store.schedules().await?.0)) };
        let asked = self.ask_all(slots.clone(), PATIENT, look).await;
        let mut all = Health::default();
        let (mut servers, mut promises, mut settings) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, answer) in asked {
            match answer {
                Ok((health, theirs)) => {
                    slot.saw_clock(theirs, self.now());
                    all.warnings.extend(slot.odd_clock());
                    servers.push(format!("{}: {}", slot.id, health.server));
                    if !promises.contains(&health.durability) {
                        promises.push(health.durability);
                    }
                    settings.push((slot.id, health.settings));
                    all.schema = all.schema.max(health.schema);
                    let named = |warning: String| format!("shard {}: {warning}", slot.id);
                    all.warnings.extend(health.warnings.into_iter().map(named));
                    all.bytes = match (all.bytes, health.bytes) {
                        (Some(sum), Some(bytes)) => Some(sum + bytes),
                        (sum, bytes) => sum.or(bytes),
                    };
                }
                Err(error) => all.warnings.push(error.to_string()),
            }
        }
        if servers.is_empty() {
            return Err(StoreError::Unavailable(all.warnings.join("; ")));
        }
        all.server = format!("{} shards ({})", slots.len(), servers.join(", "));
        // Which shard promises which does not matter to whoever needs the weakest.
        all.durability = promises.join("; or, on other shards, ");
        all.settings = together(&settings);
        Ok(all)
    }
}

/// The newest of several shards. One that knows no more of its own by their birth, and may have more, ends
/// the list: below that its jobs would be missing among the others'.
fn together_by_birth(shards: Vec<Newest>, limit: usize) -> Newest {
    let mut end: Option<JobId> = None;
    for shard in shards.iter().filter(|shard| !shard.whole && shard.ids.len() < limit) {
        let Some(last) = shard.ids.last() else { return Newest::default() };
        end = end.max(Some(*last));
    }
    let whole = shards.iter().all(|shard| shard.whole);
    let all: BTreeSet<JobId> = shards.into_iter().flat_map(|shard| shard.ids).collect();
    let whole = whole && all.len() <= limit;
    let known = all.into_iter().rev().filter(|id| end.is_none_or(|end| *id >= end));
    Newest { ids: known.take(limit).collect(), whole }
}

/// Settings of several shards: what all have alike is said once.
fn together(shards: &[(u16, BTreeMap<String, String>)]) -> BTreeMap<String, String> {
    let names: BTreeSet<&String> = shards.iter().flat_map(|(_, settings)| settings.keys()).collect();
    let mut all = BTreeMap::new();
    for name in names {
        let told: Vec<(u16, &str)> =
            shards.iter().map(|(id, settings)| (*id, settings.get(name).map_or("not told", String::as_str))).collect();
        let first = told.first().map_or("", |(_, text)| *text);
        let text = if told.iter().all(|(_, text)| *text == first) {
            first.to_owned()
        } else {
            told.iter().map(|(id, text)| format!("{id}: {text}")).collect::<Vec<_>>().join("; ")
        };
        all.insert(name.clone(), text);
    }
    all
}

/// The only shard, if there is only one.
fn alone(slots: &[Arc<Slot>]) -> Option<u16> {
    slots.first().filter(|_| slots.len() == 1).map(|slot| slot.id)
}

/// The order of two jobs of one queue in a place: see [`Page`].
fn in_place(place: Place, a: &Stored, b: &Stored) -> Order {
    match place {
        Place::Pending => b.job.priority.cmp(&a.job.priority).then(a.job.id.cmp(&b.job.id)),
        Place::Suspect | Place::Parked => a.job.id.cmp(&b.job.id),
        Place::Scheduled | Place::Retrying | Place::Held | Place::Blocked | Place::Running => a.at.cmp(&b.at),
        Place::Dead | Place::Completed | Place::Cancelled => b.at.cmp(&a.at),
    }
}
