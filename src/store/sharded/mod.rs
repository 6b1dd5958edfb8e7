//! A store over several stores. Each of them is a *shard*: one atomic key space, wherever it lies.
//! This module spreads work, asks all at once, and puts answers together; what happens on a shard is
//! the shard's own business, and nothing here looks into a record beyond its keys and links.
//!
//! ```text
//!  caller ──→ ShardedStore ──┬─→ Slot 0 ─→ any Store      deadline, back-off, clock of its own
//!                │           ├─→ Slot 1 ─→ any Store
//!                │           └─→ Slot 2 ─→ any Store
//!              keeper: reads the map on every shard each second, probes what is away, repairs
//! ```
//!
//! # Where things are
//!
//! * **An id names its shard** (`domain::id`). Whoever makes an id asks [`Store::birthplace`]; from then on
//!   every call about it is one request, to [`Map::route`] of its shard.
//! * **A job sits** with its run, else on the home of its partition key, unique key or concurrency key
//!   ([`Map::home`]: rendezvous over the active shards), else with its parent, else where the strategy
//!   says. Keys with the same part in braces are at home together. A job whose keys or parents lie on
//!   different shards is refused before anything is stored: one commit is one shard.
//! * **A schedule** lies where it was made, on the home of its name then; what it starts starts there.
//! * **Locks** lie on the home of their name, and stay where they are held when that changes. **Documents** lie
//!   on the lowest shard, which is never drained: see `shared`.
//! * **Permits** (rates) are given out by the home of their bucket, and while it is away by the next.
//! * **Definitions and settings of queues** are on every shard. A queue's limit is divided among them, so
//!   that no two shards have to agree before a claim.
//! * **The map** is on every shard; the highest epoch counts, and whoever sees a lower one mends it.
//!
//! # What a batch means
//!
//! (producer, sequence) counts on each shard. A batch is split by the ids in it, which is the same split
//! whenever it is sent; each part is one batch on its shard. If the answer of one part is lost, the whole
//! is answered [`StoreError::Unknown`] and sent again: parts that had arrived answer as before, the others
//! arrive. So a batch over shards is one batch, though it may for a while be there in part.
//!
//! # When a shard does not answer
//!
//! * It counts as away after the first call that failed or passed its deadline, and is then answered for
//!   at once; the keeper looks for it, mends its map and settings, and only then counts it as back.
//! * An exchange that claims is answered without it. Commits meant for it come back without answers for
//!   their moves ([`Committed::is_unanswered`]): the caller sends them again.
//! * A heartbeat is answered without it: its leases are told as they were last known, so that nobody ends
//!   a job for a shard that is cut off. A worker claims only from shards that know it.
//! * Its leases are not judged for some seconds after it is back.
//! * Work that belongs to it (keys, runs, parents) is refused as unavailable; other work goes elsewhere.
//! * Lists leave it out, and counters show what was last known.
//!
//! # Time
//!
//! Every shard judges by its own clock. Answers carry the caller's clock; moments on a shard's clock are
//! translated by the last known difference, if that is worth speaking of.

mod admin;
mod carry;
mod copies;
mod groups;
mod inboxes;
mod keeper;
mod leases;
mod looks;
mod map;
mod notices;
mod runs;
mod schedules;
mod settings;
mod shard;
mod shared;
mod transit;
mod upkeep;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;

pub use self::map::{BadStrategy, Entry, Map, State, Strategy};
pub use self::shard::Opener;

use self::inboxes::Inboxes;
use self::leases::Leases;
use self::shard::{PATIENT, PROMPT, Slot};
use super::contract::*;
use crate::domain::{
    Clock, Entropy, Event, Fence, HolderId, JobId, Json, Ms, Name, QueueSettings, QueueStats, RunId, Shard, WorkerId,
};

/// A view of the map holds for so long: each process looks every second, and a change gives all of them
/// [`CHANGE`].
const FRESH: Duration = Duration::from_millis(2_500);
/// How long a change of the map is known before it counts.
const CHANGE: Duration = Duration::from_secs(4);

/// What a sharded store is made with.
pub struct ShardedOptions {
    pub opener: Opener,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// The shards that this process works for; all, if nothing is said. It still sees every shard.
    pub only: Option<BTreeSet<u16>>,
}

pub struct ShardedStore {
    inner: Arc<Inner>,
    keeper: tokio::task::JoinHandle<()>,
}

impl Drop for ShardedStore {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

struct Inner {
    options: ShardedOptions,
    map: RwLock<Arc<Map>>,
    slots: RwLock<BTreeMap<u16, Arc<Slot>>>,
    /// Whose turn it is to be asked first.
    turn: AtomicUsize,
    leases: Leases,
    inboxes: Inboxes,
    /// Where each schedule lies, as seen last.
    schedules: Mutex<BTreeMap<Name, u16>>,
    /// What the fences of locks must be above whose home has changed and whose new home's clock is behind.
    floors: Mutex<BTreeMap<Name, Fence>>,
    hints: watch::Sender<u64>,
    /// Groups of runs that could not be carried, by their first run, and when that was seen.
    stuck: Mutex<BTreeMap<RunId, Instant>>,
    /// Groups that were not given away though nothing had changed, by their first run, with their revisions.
    refused: Mutex<BTreeMap<RunId, BTreeMap<RunId, u64>>>,
    /// When the map was last compared with what the shards say.
    compared: Mutex<Instant>,
}

/// The map that a store keeps, if it is a shard of several.
///
/// # Errors
/// The store's; [`StoreError::Corrupt`] for a map that cannot be read.
pub async fn map_of(store: &dyn Store) -> Result<Option<Map>> {
    Ok(notices::of(store).await?.map)
}

impl ShardedStore {
    /// Opens the shards of `map`, takes the newer map if one of them has it, and keeps it on all. A
    /// shard that cannot be reached now is opened later; one at least must be there.
    ///
    /// # Errors
    /// What keeps every shard from being opened; [`StoreError::Refused`] and the like of any, because
    /// time mends none of them; and a list that names a store in use as a new shard.
    pub async fn open(map: Map, options: ShardedOptions) -> Result<ShardedStore> {
        let inner = Arc::new(Inner {
            options,
            map: RwLock::new(Arc::new(Map { shards: Vec::new(), ..map.clone() })),
            slots: RwLock::default(),
            turn: AtomicUsize::new(0),
            leases: Leases::default(),
            inboxes: Inboxes::default(),
            schedules: Mutex::default(),
            floors: Mutex::default(),
            hints: watch::Sender::new(0),
            stuck: Mutex::default(),
            refused: Mutex::default(),
            compared: Mutex::new(Instant::now()),
        });
        inner.adopt(map);
        inner.first_look().await?;
        if inner.map().strategy == Strategy::LeastLoaded {
            // Whoever only enqueues something must know where the least waits.
            drop(inner.stats().await);
        }
        keeper::listen(&inner);
        let keeper = tokio::spawn(keeper::keep(Arc::downgrade(&inner)));
        Ok(ShardedStore { inner, keeper })
    }

    /// The map as it is known now.
    pub fn map(&self) -> Arc<Map> {
        self.inner.map()
    }
}

impl Inner {
    fn map(&self) -> Arc<Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The shards that are there, by number.
    fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Those of them that answer.
    fn awake(&self) -> Vec<Arc<Slot>> {
        self.slots().into_iter().filter(|slot| !slot.is_away()).collect()
    }

    /// Those that this process works for, one after the other in another order each time.
    fn ours(&self) -> Vec<Arc<Slot>> {
        let mut slots = self.slots();
        slots.retain(|slot| self.is_ours(slot.id) && !slot.is_away());
        if !slots.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % slots.len();
            slots.rotate_left(turn);
        }
        slots
    }

    fn is_ours(&self, id: u16) -> bool {
        self.options.only.as_ref().is_none_or(|only| only.contains(&id))
    }

    fn slot(&self, id: u16) -> Result<Arc<Slot>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(&id).cloned().ok_or_else(|| StoreError::Refused(format!("there is no shard {id}")))
    }

    /// The only shard there is, if there is only one: then nothing has to be put together.
    fn only_one(&self) -> Option<Arc<Slot>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        if slots.len() == 1 { slots.values().next().cloned() } else { None }
    }

    /// Where a record born on this shard may be, the likeliest first: while a shard is being emptied
    /// into another it may be on either, and on any further one if that is emptied too.
    fn places(&self, born: Shard) -> Result<Vec<Arc<Slot>>> {
        self.map().trail(born)?.into_iter().map(|id| self.slot(id)).collect()
    }

    /// Asks several shards at once.
    async fn ask_all<T, F>(
        &self,
        slots: Vec<Arc<Slot>>,
        limit: Duration,
        call: impl Fn(Arc<dyn Store>) -> F + Sync,
    ) -> Vec<(Arc<Slot>, Result<T>)>
    where
        F: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let call = &call;
        join_all(slots.into_iter().map(|slot| async move {
            let answer = slot.call(limit, call).await;
            (slot, answer)
        }))
        .await
    }

    /// Asks the places of a record one after the other, until one knows it.
    async fn look<T, F>(&self, born: Shard, call: impl Fn(Arc<dyn Store>) -> F + Sync) -> Result<Option<T>>
    where
        F: Future<Output = Result<Option<T>>> + Send,
        T: Send,
    {
        // It may be moved while it is looked for: then it is at the next place by the next look.
        for slot in self.places(born)? {
            if let Some(found) = slot.call(PATIENT, &call).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The same for what belongs to a run. One that is on its way lands first: then it is found.
    async fn look_for_run<T, F>(&self, run: RunId, call: impl Fn(Arc<dyn Store>) -> F + Sync) -> Result<Option<T>>
    where
        F: Future<Output = Result<Option<T>>> + Send,
        T: Send,
    {
        let found = self.look(run.shard(), &call).await?;
        if found.is_some() || !self.land_what_is_on_its_way(run.shard()).await? {
            return Ok(found);
        }
        self.look(run.shard(), &call).await
    }

    /// The map was not looked at for longer than a change of it takes.
    fn is_outdated(&self) -> bool {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > FRESH
    }

    fn now(&self) -> Ms {
        self.options.clock.now()
    }

    fn hint(&self) {
        self.hints.send_modify(|count| *count += 1);
    }
}

/// The good ones of several answers; the first error if there are none.
fn good<T>(answers: Vec<(Arc<Slot>, Result<T>)>) -> Result<Vec<(Arc<Slot>, T)>> {
    let mut good = Vec::with_capacity(answers.len());
    let mut first = None;
    for (slot, answer) in answers {
        match answer {
            Ok(answer) => good.push((slot, answer)),
            Err(error) => {
                if !error.is_transient() {
                    tracing::error!(shard = slot.id, %error, "a shard cannot be used");
                }
                first.get_or_insert(error);
            }
        }
    }
    match first {
        Some(error) if good.is_empty() => Err(error),
        _ => Ok(good),
    }
}

/// All of several answers, or the first error.
fn every<T>(answers: Vec<(Arc<Slot>, Result<T>)>) -> Result<Vec<(Arc<Slot>, T)>> {
    answers.into_iter().map(|(slot, answer)| Ok((slot, answer?))).collect()
}

/// No shard answers.
fn nobody() -> StoreError {
    StoreError::Unavailable("no shard answers".to_owned())
}

#[async_trait]
impl Store for ShardedStore {
    fn describe(&self) -> String {
        self.inner.slots().iter().map(|slot| slot.shown()).collect::<Vec<_>>().join(",")
    }

    fn shards(&self) -> Option<&dyn Shards> {
        Some(&*self.inner)
    }

    async fn placement(&self) -> Result<Option<Placement>> {
        Ok(Some(self.inner.placement()))
    }

    async fn holders(&self, keys: &[String]) -> Result<Vec<Option<Holder>>> {
        self.inner.holders(keys).await
    }

    fn birthplace(&self, near: Near<'_>) -> Shard {
        Shard(self.inner.birthplace(near))
    }

    async fn enqueue(&self, batch: &Enqueue) -> Result<EnqueueAnswer> {
        self.inner.enqueue(batch).await
    }

    async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged> {
        self.inner.exchange(exchange).await
    }

    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Beat> {
        self.inner.heartbeat(beat).await
    }

    async fn farewell(&self, worker: WorkerId) -> Result<()> {
        self.inner.farewell(worker).await
    }

    async fn overdue(&self, parked: Duration, limit: usize) -> Result<Overdue> {
        self.inner.overdue(parked, limit).await
    }

    async fn tick(&self, limit: usize) -> Result<Ticked> {
        self.inner.tick(limit).await
    }

    async fn take_dirty(&self, limit: usize, hold: Duration) -> Result<Vec<RunWork>> {
        self.inner.take_dirty(limit, hold).await
    }

    async fn trim(&self, retention: Retention, limit: usize) -> Result<Trimmed> {
        self.inner.trim(retention, limit).await
    }

    async fn ask(&self, ids: &[JobId]) -> Result<Vec<bool>> {
        self.inner.ask(ids).await
    }

    async fn asked(&self, worker: WorkerId, limit: usize) -> Result<Vec<Stored>> {
        self.inner.asked(worker, limit).await
    }

    async fn note(&self, notes: &[Note]) -> Result<Vec<bool>> {
        self.inner.note(notes).await
    }

    async fn log(&self, id: JobId, after: u64) -> Result<JobLog> {
        let has = |log: JobLog| (!log.chunks.is_empty() || log.truncated).then_some(log);
        let found = self.inner.look(id.shard(), |store| async move { Ok(has(store.log(id, after).await?)) }).await?;
        Ok(found.unwrap_or_default())
    }

    async fn freed(&self, limit: usize) -> Result<Vec<Freed>> {
        self.inner.freed(limit).await
    }

    async fn permits(&self, requests: &[PermitRequest]) -> Result<Vec<Vec<Duration>>> {
        self.inner.permits(requests).await
    }

    async fn inform(&self, facts: &[(RunId, Vec<u8>)]) -> Result<Vec<bool>> {
        self.inner.inform(facts).await
    }

    async fn schedules(&self) -> Result<(Ms, Vec<ScheduleRecord>)> {
        self.inner.schedules().await
    }

    async fn set_schedule(&self, commit: &ScheduleCommit) -> Result<Option<EnqueueAnswer>> {
        self.inner.set_schedule(commit).await
    }

    async fn drain(&self, worker: WorkerId) -> Result<bool> {
        let answers = self.inner.ask_all(self.inner.awake(), PATIENT, |store| async move { store.drain(worker).await });
        Ok(good(answers.await)?.into_iter().any(|(_, known)| known))
    }

    async fn document(&self, name: &str) -> Result<Option<Document>> {
        self.inner.document(name).await
    }

    async fn set_document(&self, change: &DocumentChange) -> Result<DocumentSet> {
        self.inner.set_document(change).await
    }

    async fn documents(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Document>> {
        self.inner.documents(prefix, after, limit).await
    }

    async fn acquire(&self, request: &LockRequest) -> Result<Acquired> {
        self.inner.acquire(request).await
    }

    async fn extend(&self, name: &Name, holder: HolderId, ttl: Duration) -> Result<Option<Grant>> {
        self.inner.extend(name, holder, ttl).await
    }

    async fn release(&self, name: &Name, holder: HolderId) -> Result<bool> {
        self.inner.release(name, holder).await
    }

    async fn locks(&self, after: Option<&Name>, limit: usize) -> Result<(Ms, Vec<LockRecord>)> {
        self.inner.locks(after, limit).await
    }

    async fn break_lock(&self, name: &Name, holder: Option<HolderId>) -> Result<Vec<LockHolder>> {
        self.inner.break_lock(name, holder).await
    }

    async fn get(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>> {
        self.inner.get(ids).await
    }

    async fn find(&self, part: &str, limit: usize) -> Result<Vec<JobId>> {
        self.inner.find(limit, |store| async move { store.find(part, limit).await }).await
    }

    async fn newest(&self, before: Option<JobId>, limit: usize) -> Result<Newest> {
        self.inner.newest(before, limit).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<Stored>> {
        self.inner.list(query).await
    }

    async fn stats(&self) -> Result<Vec<QueueStats>> {
        self.inner.stats().await
    }

    async fn queues(&self) -> Result<Vec<(Name, QueueSettings)>> {
        self.inner.queues().await
    }

    async fn set_queue(&self, queue: &Name, settings: &QueueSettings) -> Result<()> {
        self.inner.set_queue(queue, settings).await
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        self.inner.workers().await
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>> {
        self.inner.look_for_run(id, |store| async move { store.run(id).await }).await
    }

    async fn run_work(&self, id: RunId) -> Result<Option<RunWork>> {
        let here = |slot: Arc<Slot>| async move {
            let work = slot.call(PATIENT, |store| async move { store.run_work(id).await }).await?;
            self.inner.inboxes.read(&work, slot.id);
            Ok::<_, StoreError>(work)
        };
        for _ in 0..2 {
            for slot in self.inner.places(id.shard())? {
                if let Some(work) = here(slot).await? {
                    return Ok(Some(work));
                }
            }
            if !self.inner.land_what_is_on_its_way(id.shard()).await? {
                break;
            }
        }
        Ok(None)
    }

    async fn find_runs(&self, part: &str, limit: usize) -> Result<Vec<RunId>> {
        let ask = |store: Arc<dyn Store>| async move { store.find_runs(part, limit).await };
        let found = self.inner.find(limit, ask).await?;
        // It may be on its way.
        let mut landed = false;
        if found.is_empty() {
            for entry in self.inner.map().there().filter(|entry| entry.moved_to.is_some()) {
                landed |= self.inner.land_what_is_on_its_way(Shard(entry.id)).await?;
            }
        }
        if landed { self.inner.find(limit, ask).await } else { Ok(found) }
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        self.inner.runs(query).await
    }

    async fn values(&self, run: RunId, keys: &[String]) -> Result<Vec<Option<Json>>> {
        let some = |values: Vec<Option<Json>>| values.iter().any(Option::is_some).then_some(values);
        let look = |store: Arc<dyn Store>| async move { Ok(some(store.values(run, keys).await?)) };
        Ok(self.inner.look_for_run(run, look).await?.unwrap_or_else(|| vec![None; keys.len()]))
    }

    async fn history(&self, run: RunId, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        self.inner.history(run, after, limit).await
    }

    async fn define(&self, definitions: &[Definition]) -> Result<()> {
        self.inner.define(definitions).await
    }

    async fn undefine(&self, kind: &str, name: &Name) -> Result<bool> {
        self.inner.undefine(kind, name).await
    }

    async fn definition(&self, hash: &str) -> Result<Option<Definition>> {
        self.inner.definition(hash).await
    }

    async fn definitions(&self, kind: &str) -> Result<Vec<Definition>> {
        self.inner.definitions(kind).await
    }

    async fn since(&self, at: Ms) -> Result<Cursor> {
        self.inner.since(at).await
    }

    async fn tail(&self, records: usize) -> Result<Option<Cursor>> {
        self.inner.tail(records).await
    }

    async fn events(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        self.inner.events(after, limit).await
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.inner.hints.subscribe()
    }

    async fn health(&self) -> Result<Health> {
        self.inner.health().await
    }

    async fn verify(&self) -> Result<Vec<String>> {
        self.inner.verify().await
    }
}
