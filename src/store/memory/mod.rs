//! The reference store: the contract in the plainest words, in this process only. The other backends
//! are held against it by the contract suite and by random differential tests, and the simulation
//! runs on it. Everything lies under one lock; nothing here waits but a claim that stands by.

mod carry;
mod commit;
mod jobs;
mod room;
mod runs;
mod schedules;
mod shared;
mod talk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use super::contract::*;
use crate::domain::limits;
use crate::domain::{
    Clock, Event, EventKind, HolderId, Job, JobId, Json, Ms, Name, Place, ProducerId, Progress, QueueSettings,
    QueueStats, RunId, To, WorkerId,
};

/// A store that lives as long as its last handle.
pub struct MemoryStore {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    /// One channel a listener: a channel with several wakes them in random order, and the simulation
    /// must replay.
    hints: Mutex<Hints>,
}

/// A job with its place. `key` orders it there: see [`State::key`].
struct Kept {
    job: Job,
    place: Place,
    at: Ms,
    key: (i64, i64),
    lease: Option<Lease>,
    /// The job's own expiry while it runs.
    expires: Option<Ms>,
}

struct KeptRun {
    record: RunRecord,
    inbox: BTreeMap<u64, Vec<u8>>,
    values: BTreeMap<String, Json>,
    timers: BTreeMap<String, (Ms, Vec<u8>)>,
    history: Vec<Event>,
    finished: Option<Ms>,
    gate: Option<Gate>,
}

/// The holder of a unique key, and until when the key is taken even if the holder ends.
struct Taken {
    by: JobId,
    until: Option<Ms>,
}

/// The runs of a concurrency key: those that live, and those that wait, in order.
#[derive(Default)]
struct Gated {
    inside: BTreeSet<RunId>,
    waiting: Vec<RunId>,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<JobId, Kept>,
    /// Which jobs are where, in order.
    index: BTreeMap<(Name, Place, i64, i64), JobId>,
    queues: BTreeMap<Name, QueueSettings>,
    unique: BTreeMap<String, Taken>,
    /// Parent and held child.
    ties: BTreeSet<(JobId, JobId)>,
    asks: BTreeSet<JobId>,
    progress: BTreeMap<JobId, Progress>,
    logs: BTreeMap<JobId, JobLog>,
    /// The number of each bucket of permits, in microseconds.
    buckets: BTreeMap<String, i64>,
    gates: BTreeMap<String, Gated>,
    schedules: BTreeMap<Name, ScheduleRecord>,
    documents: BTreeMap<String, Document>,
    document_rev: u64,
    locks: BTreeMap<Name, LockRecord>,
    fence: u64,
    draining: BTreeSet<WorkerId>,
    workers: BTreeMap<WorkerId, (WorkerInfo, Ms)>,
    producers: BTreeMap<ProducerId, (u64, Ms, EnqueueAnswer)>,
    runs: BTreeMap<RunId, KeptRun>,
    dirty: BTreeMap<RunId, Ms>,
    definitions: BTreeMap<String, Definition>,
    current: BTreeMap<(String, Name), String>,
    /// Packed records: one a call, with the time of the call.
    log: BTreeMap<u64, (Ms, Vec<Event>)>,
    log_next: u64,
    epoch: u64,
    inbox_next: u64,
    seq_back: i64,
    seq_front: i64,
}

impl MemoryStore {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        MemoryStore { state: Mutex::new(State::default()), clock, hints: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held is a bug that its own test shows; the data is still whole
        // enough to be looked at.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hint(&self) {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        hints.count += 1;
        let count = hints.count;
        hints.listeners.retain(|listener| listener.send(count).is_ok());
    }
}

/// Who wants to know of new work. Each has a channel of their own, so that they are woken in an order
/// that does not change from one simulation to the next; all are told the same number, so that one who
/// asks again knows whether there was a hint in between.
#[derive(Default)]
struct Hints {
    count: u64,
    listeners: Vec<watch::Sender<u64>>,
}

/// Whether nothing that an exchange brought is left for others: jobs alone, in lines that its own claim has emptied.
fn all_given(exchange: &Exchange, answer: &Exchanged) -> bool {
    let Some(claim) = &exchange.claim else { return false };
    let only_jobs = |effects: &Effects| {
        effects.runs.is_empty()
            && effects.tell.is_empty()
            && effects.timers.is_empty()
            && effects.cancel.is_empty()
            && effects.jobs.iter().all(|job| !job.is_suspect() && claim.queues.contains(&job.queue))
    };
    // The end of a job with a concurrency key may let another one go, wherever that is.
    let ends = |step: &Move| {
        step.job.concurrency.is_none() && step.to.place().is_some_and(|place| place.state().is_terminal())
    };
    Claimed::is_all(&answer.claimed, claim.want)
        && !answer.dirty
        && exchange.commits.iter().all(|commit| {
            let advance = commit.run.as_ref().and_then(|part| part.advance.as_ref());
            commit.moves.iter().all(ends) && advance.is_none_or(|advance| only_jobs(&advance.effects))
        })
}

impl State {
    fn log(&mut self, now: Ms, events: Vec<Event>) {
        if !events.is_empty() {
            self.log_next += 1;
            self.log.insert(self.log_next, (now, events));
        }
    }

    fn know_queue(&mut self, queue: &Name) {
        if !self.queues.contains_key(queue) {
            self.queues.insert(queue.clone(), QueueSettings::default());
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory:".to_owned()
    }

    async fn enqueue(&self, batch: &Enqueue) -> Result<EnqueueAnswer> {
        let answer = self.state().enqueue(batch, self.clock.now())?;
        self.hint();
        Ok(answer)
    }

    async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged> {
        let answer = self.state().exchange(exchange, self.clock.now());
        if !exchange.commits.is_empty() && !all_given(exchange, &answer) {
            self.hint();
        }
        Ok(answer)
    }

    fn stands_by(&self) -> bool {
        true
    }

    async fn stand_by(&self, claim: &Claim, since: Ms, at_most: Duration) -> Result<Option<Exchanged>> {
        let until = Instant::now() + at_most;
        let mut hints = self.hints();
        let written = || self.state().log.values().next_back().is_some_and(|(at, _)| *at >= since);
        while !written() && tokio::time::timeout_at(until, hints.changed()).await.is_ok() {}
        if !self.state().workers.contains_key(&claim.worker) {
            return Ok(None);
        }
        self.exchange(&Exchange::claiming(claim.clone())).await.map(Some)
    }

    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Beat> {
        let now = self.clock.now();
        let (answer, unparked) = self.state().heartbeat(beat, now);
        if unparked {
            self.hint();
        }
        Ok(answer)
    }

    async fn farewell(&self, worker: WorkerId) -> Result<()> {
        let now = self.clock.now();
        let mut state = self.state();
        state.draining.remove(&worker);
        if state.workers.remove(&worker).is_some() {
            let stopped = Event { worker: Some(worker), ..Event::new(EventKind::WorkerStopped) };
            state.log(now, vec![stopped]);
        }
        Ok(())
    }

    async fn overdue(&self, parked: Duration, limit: usize) -> Result<Overdue> {
        Ok(self.state().overdue(parked, limit, self.clock.now()))
    }

    async fn tick(&self, limit: usize) -> Result<Ticked> {
        let ticked = self.state().tick(limit, self.clock.now());
        if ticked.fired > 0 {
            self.hint();
        }
        Ok(ticked)
    }

    async fn take_dirty(&self, limit: usize, hold: Duration) -> Result<Vec<RunWork>> {
        Ok(self.state().take_dirty(limit, hold, self.clock.now()))
    }

    async fn trim(&self, retention: Retention, limit: usize) -> Result<Trimmed> {
        Ok(self.state().trim(retention, limit, self.clock.now()))
    }

    async fn get(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>> {
        let state = self.state();
        Ok(ids.iter().map(|id| state.jobs.get(id).map(|kept| state.stored(kept))).collect())
    }

    async fn holders(&self, keys: &[String]) -> Result<Vec<Option<Holder>>> {
        let (state, now) = (self.state(), self.clock.now());
        let rest = |key: &String| {
            state.unique.get(key).and_then(|taken| taken.until).map_or(Duration::ZERO, |until| until.since(now))
        };
        let holder = |key: &String| state.holder(key, now).map(|job| Holder { job, rest: rest(key) });
        Ok(keys.iter().map(holder).collect())
    }

    async fn whole_run(&self, id: RunId) -> Result<Option<WholeRun>> {
        Ok(self.state().whole_run(id))
    }

    async fn take_runs(&self, take: &TakeRuns) -> Result<bool> {
        let change = take.mark();
        change.check()?;
        Ok(self.state().take_runs(take, &change, self.clock.now()))
    }

    async fn put_runs(&self, put: &PutRuns) -> Result<bool> {
        let done = self.state().put_runs(put, self.clock.now());
        self.hint();
        Ok(done)
    }

    async fn keep_log(&self, id: JobId, rev: u32, log: &JobLog) -> Result<bool> {
        Ok(self.state().keep_log(id, rev, log))
    }

    async fn ask(&self, ids: &[JobId]) -> Result<Vec<bool>> {
        let asked = self.state().ask(ids);
        self.hint();
        Ok(asked)
    }

    async fn asked(&self, worker: WorkerId, limit: usize) -> Result<Vec<Stored>> {
        Ok(self.state().asked(worker, limit, self.clock.now()))
    }

    async fn note(&self, notes: &[Note]) -> Result<Vec<bool>> {
        Ok(self.state().note(notes, self.clock.now()))
    }

    async fn log(&self, id: JobId, after: u64) -> Result<JobLog> {
        let mut log = self.state().logs.get(&id).cloned().unwrap_or_default();
        log.chunks.retain(|chunk| chunk.seq > after);
        Ok(log)
    }

    async fn freed(&self, limit: usize) -> Result<Vec<Freed>> {
        Ok(self.state().freed(limit))
    }

    async fn permits(&self, requests: &[PermitRequest]) -> Result<Vec<Vec<Duration>>> {
        Ok(self.state().permits(requests, self.clock.now()))
    }

    async fn inform(&self, facts: &[(RunId, Vec<u8>)]) -> Result<Vec<bool>> {
        let now = self.clock.now();
        let mut state = self.state();
        let told = facts.iter().map(|(run, fact)| state.inbox(*run, fact.clone(), now)).collect();
        drop(state);
        self.hint();
        Ok(told)
    }

    async fn schedules(&self) -> Result<(Ms, Vec<ScheduleRecord>)> {
        Ok((self.clock.now(), self.state().schedules.values().cloned().collect()))
    }

    async fn set_schedule(&self, commit: &ScheduleCommit) -> Result<Option<EnqueueAnswer>> {
        let answer = self.state().set_schedule(commit, self.clock.now());
        self.hint();
        Ok(answer)
    }

    async fn drain(&self, worker: WorkerId) -> Result<bool> {
        Ok(self.state().drain(worker, self.clock.now()))
    }

    async fn document(&self, name: &str) -> Result<Option<Document>> {
        Ok(self.state().document(name, self.clock.now()))
    }

    async fn set_document(&self, change: &DocumentChange) -> Result<DocumentSet> {
        change.check()?;
        Ok(self.state().set_document(change, self.clock.now()))
    }

    async fn documents(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Document>> {
        Ok(self.state().list_documents(prefix, after, limit, self.clock.now()))
    }

    async fn acquire(&self, request: &LockRequest) -> Result<Acquired> {
        request.check()?;
        Ok(self.state().acquire(request, self.clock.now()))
    }

    async fn extend(&self, name: &Name, holder: HolderId, ttl: Duration) -> Result<Option<Grant>> {
        Ok(self.state().extend(name, holder, ttl, self.clock.now()))
    }

    async fn release(&self, name: &Name, holder: HolderId) -> Result<bool> {
        let released = !self.state().end_grants(name, Some(holder), self.clock.now()).is_empty();
        self.hint();
        Ok(released)
    }

    async fn locks(&self, after: Option<&Name>, limit: usize) -> Result<(Ms, Vec<LockRecord>)> {
        let now = self.clock.now();
        Ok((now, self.state().list_locks(after, limit, now)))
    }

    async fn break_lock(&self, name: &Name, holder: Option<HolderId>) -> Result<Vec<LockHolder>> {
        let now = self.clock.now();
        let mut state = self.state();
        let broken = state.end_grants(name, holder, now);
        if !broken.is_empty() {
            state.log(now, vec![lock_broken(name, holder)]);
        }
        drop(state);
        self.hint();
        Ok(broken)
    }

    async fn find(&self, part: &str, limit: usize) -> Result<Vec<JobId>> {
        let state = self.state();
        let matches = |id: &&JobId| id.to_string().replace('-', "").contains(part);
        Ok(state.jobs.keys().filter(matches).take(limit).copied().collect())
    }

    async fn newest(&self, before: Option<JobId>, limit: usize) -> Result<Newest> {
        let state = self.state();
        let ids = state.jobs.keys().rev().skip_while(|id| before.is_some_and(|before| **id >= before));
        Ok(Newest::of_all(ids.take(limit).copied().collect(), limit))
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<Stored>> {
        self.state().list(query)
    }

    async fn stats(&self) -> Result<Vec<QueueStats>> {
        Ok(self.state().stats(self.clock.now()))
    }

    async fn queues(&self) -> Result<Vec<(Name, QueueSettings)>> {
        Ok(self.state().queues.iter().map(|(name, settings)| (name.clone(), settings.clone())).collect())
    }

    async fn set_queue(&self, queue: &Name, settings: &QueueSettings) -> Result<()> {
        let now = self.clock.now();
        let mut state = self.state();
        state.know_queue(queue);
        let before = state.queues.insert(queue.clone(), settings.clone()).unwrap_or_default();
        let kind = match (before.paused, settings.paused) {
            (false, true) => Some(EventKind::QueuePaused),
            (true, false) => Some(EventKind::QueueResumed),
            _ if before != *settings => Some(EventKind::QueueSet),
            _ => None,
        };
        if let Some(kind) = kind {
            state.log(now, vec![Event { queue: Some(queue.clone()), ..Event::new(kind) }]);
        }
        drop(state);
        self.hint();
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        let state = self.state();
        let running = |worker: WorkerId| {
            let holds = |kept: &&Kept| kept.lease.as_ref().is_some_and(|lease| lease.worker == worker);
            state.jobs.values().filter(holds).count() as u64
        };
        let status = |(info, expires_at): &(WorkerInfo, Ms)| WorkerStatus {
            info: info.clone(),
            expires_at: *expires_at,
            running: running(info.id),
            draining: state.draining.contains(&info.id),
        };
        Ok(state.workers.values().map(status).collect())
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>> {
        Ok(self.state().runs.get(&id).map(|kept| kept.record.clone()))
    }

    async fn run_work(&self, id: RunId) -> Result<Option<RunWork>> {
        Ok(self.state().runs.get(&id).map(runs::work))
    }

    async fn find_runs(&self, part: &str, limit: usize) -> Result<Vec<RunId>> {
        let state = self.state();
        let matches = |id: &&RunId| id.to_string().replace('-', "").contains(part);
        Ok(state.runs.keys().filter(matches).take(limit).copied().collect())
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        self.state().list_runs(query)
    }

    async fn values(&self, run: RunId, keys: &[String]) -> Result<Vec<Option<Json>>> {
        let state = self.state();
        let values = state.runs.get(&run).map(|kept| &kept.values);
        Ok(keys.iter().map(|key| values.and_then(|values| values.get(key).cloned())).collect())
    }

    async fn history(&self, run: RunId, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        let from = parse_cursor::<1>(after)?.map_or(0, |[from]| usize::try_from(from).unwrap_or(0));
        let state = self.state();
        let left = state.runs.get(&run).map(|kept| kept.history.iter().skip(from));
        let events: Vec<Event> = left.into_iter().flatten().take(limit).cloned().collect();
        let cursor = Cursor((from + events.len()).to_string());
        Ok((events, cursor))
    }

    async fn define(&self, definitions: &[Definition]) -> Result<()> {
        let mut state = self.state();
        for definition in definitions {
            state.definitions.insert(definition.hash.clone(), definition.clone());
            state.current.insert((definition.kind.clone(), definition.name.clone()), definition.hash.clone());
        }
        Ok(())
    }

    async fn undefine(&self, kind: &str, name: &Name) -> Result<bool> {
        Ok(self.state().current.remove(&(kind.to_owned(), name.clone())).is_some())
    }

    async fn definition(&self, hash: &str) -> Result<Option<Definition>> {
        Ok(self.state().definitions.get(hash).cloned())
    }

    async fn definitions(&self, kind: &str) -> Result<Vec<Definition>> {
        let state = self.state();
        let of_kind = state.current.iter().filter(|((its_kind, _), _)| its_kind == kind);
        Ok(of_kind.filter_map(|(_, hash)| state.definitions.get(hash).cloned()).collect())
    }

    async fn events(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        let mut from = parse_cursor::<1>(after)?.map_or(0, |[position]| position as u64);
        let state = self.state();
        let mut events = Vec::new();
        for (position, (at, record)) in state.log.range(from + 1..) {
            if !events.is_empty() && events.len() + record.len() > limit {
                break;
            }
            events.extend(record.iter().map(|event| Event { at: *at, ..event.clone() }));
            from = *position;
        }
        Ok((events, Cursor(from.to_string())))
    }

    async fn since(&self, at: Ms) -> Result<Cursor> {
        let state = self.state();
        let end = state.log.last_key_value().map_or(0, |(position, _)| *position);
        let first = state.log.iter().rev().take_while(|(_, (written, _))| *written >= at).last();
        Ok(Cursor(first.map_or(end, |(position, _)| position - 1).to_string()))
    }

    async fn tail(&self, records: usize) -> Result<Option<Cursor>> {
        Ok(self.state().log.keys().rev().nth(records).map(|position| Cursor(position.to_string())))
    }

    fn hints(&self) -> watch::Receiver<u64> {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, receiver) = watch::channel(hints.count);
        hints.listeners.retain(|listener| !listener.is_closed());
        hints.listeners.push(sender);
        receiver
    }

    async fn health(&self) -> Result<Health> {
        Ok(Health {
            server: "memory".to_owned(),
            durability: "nothing survives the end of this process".to_owned(),
            schema: 1,
            warnings: Vec::new(),
            bytes: None,
            settings: [("persistence".to_owned(), "none".to_owned())].into(),
        })
    }

    async fn verify(&self) -> Result<Vec<String>> {
        Ok(self.state().verify())
    }
}

/// Reads a cursor of `N` numbers joined by dots.
fn parse_cursor<const N: usize>(cursor: Option<&Cursor>) -> Result<Option<[i64; N]>> {
    let Some(Cursor(text)) = cursor else { return Ok(None) };
    let bad = || StoreError::Refused(format!("`{text}` is not a cursor of this store"));
    let mut numbers = [0; N];
    let mut parts = text.splitn(N, '.');
    for number in &mut numbers {
        *number = parts.next().and_then(|part| part.parse().ok()).ok_or_else(bad)?;
    }
    Ok(Some(numbers))
}

impl State {
    fn stored(&self, kept: &Kept) -> Stored {
        Stored {
            job: kept.job.clone(),
            place: kept.place,
            at: kept.at,
            lease: kept.lease.clone(),
            progress: self.progress.get(&kept.job.id).cloned(),
            asked: self.asks.contains(&kept.job.id),
        }
    }
}
