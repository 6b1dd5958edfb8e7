//! The store on Redis, Valkey or DragonflyDB. Whatever changes something is one Lua script, which the
//! server runs alone and whole: `scripts/`. Plain commands only look.
//!
//! ```text
//!  jobs     hash  id → header, record        line:Q      list   ids of priority 0, in turn
//!  running  hash  id → worker, epoch, …      prio:Q      zset   ids of other priorities
//!  unique   hash  key → id                   suspect:Q   list   ids to be leased alone
//!  runs     hash  id → rev, state, body      parked:Q    zset   type, position, id; by bytes
//!  inbox    zset  run, position, fact        tombs:Q     set    ids whose first entry in line is void
//!  dirty    zset  run, when it is free       scheduled:Q, retrying:Q        zset  ids by due time
//!  events   stream, one record a call        dead:Q, completed:Q, cancelled:Q zset  ids by time
//!  progress hash  id → epoch, progress       held:Q, blocked:Q           zset  ids by time
//!  asked    zset  ids                        ties     zset  child and parent, both ways; by bytes
//!  freed    zset  parents that have ended    keyed    zset  concurrency keys and their jobs; by bytes
//!  logs     zset  job, number, text          gates    zset  keys of runs and their runs; by bytes
//!  until    zset  unique keys by time        draining set, buckets hash, schedules hash
//!  documents hash, document_names zset by bytes, document_ends zset by time
//!  locks    hash  name → slots, grants       lock_ends zset  names by time
//! ```
//!
//! A record is written by moves only: a job that became due or was claimed still has the record it
//! had before, and is where the indexes say. What a crash of the server cuts off is always the end of
//! the history, whole scripts at a time, so the structures agree with each other afterwards
//! (see [`health::mend_log`] for what that takes).

pub mod address;
mod answers;
mod beside;
mod carry;
mod connection;
mod health;
mod hints;
mod keys;
mod list;
mod lua;
mod pack;
mod read;
mod reply;
mod report;
mod runs;
mod shared;
mod standby;
mod talk;
mod tls;
mod topology;
mod verify;
mod whereabouts;
mod write;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use redis::cmd;
use tokio::sync::watch;

use super::codec;
use super::contract::*;
use crate::domain::time::millis;
use crate::domain::{
    Event, EventKind, HolderId, JobId, Json, Ms, Name, QueueSettings, QueueStats, RunId, Shard, WorkerId, limits,
};
use connection::Link;
use health::Server;
use hints::Hints;
use keys::Keys;
use standby::Waits;
use write::{CHUNK, Right};

/// How a store on Redis is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisOptions {
    /// Which shard's keys it uses; several may share a server.
    pub shard: Shard,
    /// Take a server that may throw data away when its memory is full.
    pub allow_eviction: bool,
}

/// Key spaces for more shards of a cluster, behind those that are taken: each on the node that has the fewest.
///
/// # Errors
/// Those of asking the cluster for its nodes.
pub async fn more_spaces(url: &str, mut taken: Vec<u16>, count: usize) -> Result<Vec<u16>> {
    let link = Link::new(url, &Keys::new(Shard::default()))?;
    let ranges = link.whereabouts().ranges().await?;
    for _ in 0..count {
        taken.push(topology::next_space(&ranges, &taken)?);
    }
    Ok(taken)
}

pub struct RedisStore {
    link: Arc<Link>,
    keys: Arc<Keys>,
    hints: Hints,
    waits: Waits,
    /// Where the last trim stopped looking at producers.
    forgetting: Mutex<String>,
}

impl RedisStore {
    /// Connects, and looks whether the server can be trusted with jobs.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a URL that is none, credentials that do not do, a replica, or a server that
    /// may evict; [`StoreError::TooNew`]; otherwise those of the connection.
    pub async fn open(url: &str, options: RedisOptions) -> Result<Self> {
        let keys = Arc::new(Keys::new(options.shard));
        let link = Arc::new(Link::new(url, &keys)?);
        let server = Server::ask(&link).await?;
        if let Some(policy) = server.evicts().filter(|_| !options.allow_eviction) {
            return Err(StoreError::Refused(format!(
                "{} has maxmemory-policy {policy}, under which it throws jobs away when its memory is full: \
                 set it to noeviction (CONFIG SET maxmemory-policy noeviction), or insist with --allow-eviction",
                link.shown()
            )));
        }
        if link.whereabouts().is_fixed() && matches!(server.fact("role"), Some("slave" | "replica")) {
            return Err(StoreError::Refused(format!(
                "{} is a replica, which takes no writes: name its master, or the sentinels that know it \
                 (redis+sentinel://)",
                link.shown()
            )));
        }
        for warning in server.warnings() {
            tracing::warn!(store = link.shown(), "{warning}");
        }
        health::check_schema(&link, &keys).await?;
        health::mend_log(&link, &keys, &server).await?;
        let hints = Hints::when_wanted(link.clone(), keys.clone());
        let waits = Waits::default();
        Ok(RedisStore { link, keys, hints, waits, forgetting: Mutex::new("0".to_owned()) })
    }

    /// A claimed job whose record cannot be read does not tell its queue; its lease does.
    async fn name_lost(&self, mut answer: Exchanged) -> Result<Exchanged> {
        for claimed in answer.claimed.iter_mut().filter(|claimed| codec::is_lost(&claimed.job)) {
            let get = self.link.command(cmd("HGET").arg(self.keys.running()).arg(claimed.job.id.as_bytes())).await?;
            if let Some(lease) = reply::maybe_bytes(get)? {
                claimed.job.queue = pack::read_lease(&lease)?.queue;
            }
        }
        Ok(answer)
    }

    /// Names of all queues, for scripts that look into each.
    async fn queue_names(&self) -> Result<Vec<Name>> {
        Ok(self.read_queues().await?.into_iter().map(|(name, _)| name).collect())
    }

    /// The parts of a batch, each a call. They are sent at once and arrive in order; a part before
    /// which one is missing is turned away by the script, and sent again here.
    async fn enqueue_parts(&self, batch: &Enqueue) -> Result<Vec<Enqueued>> {
        let mut parts: Vec<(&[NewJob], &[NewRun])> = Vec::new();
        parts.extend(batch.jobs.chunks(CHUNK).map(|jobs| (jobs, &[][..])));
        parts.extend(batch.runs.chunks(CHUNK).map(|runs| (&[][..], runs)));
        let mut answers = Vec::new();
        let mut done = 0;
        while done < parts.len() {
            let mut calls = Vec::with_capacity(parts.len() - done);
            for (number, (jobs, runs)) in parts.iter().enumerate().skip(done) {
                calls.push(write::enqueue(&self.keys, batch, number, jobs, runs)?);
            }
            let sent = join_all(calls.iter().map(|call| self.link.script(&write::ENQUEUE, call))).await;
            let before = done;
            for answer in sent {
                let codes = reply::bytes(answer?)?;
                match &codes[..] {
                    b"<" => {
                        let Enqueue { sequence, producer, .. } = batch;
                        return Err(StoreError::Refused(format!(
                            "batch {sequence} of producer {producer} came after a later one"
                        )));
                    }
                    b">" => break,
                    codes => answers.extend(answers::read_enqueued(codes)?),
                }
                done += 1;
            }
            if done == before {
                return Err(StoreError::Unavailable("the server turned a part of a batch away".to_owned()));
            }
        }
        Ok(answers)
    }
}

#[async_trait]
impl Store for RedisStore {
    fn describe(&self) -> String {
        self.link.shown().to_owned()
    }

    async fn enqueue(&self, batch: &Enqueue) -> Result<EnqueueAnswer> {
        let mut jobs = self.enqueue_parts(batch).await?;
        if jobs.len() != batch.jobs.len() + batch.runs.len() {
            return Err(StoreError::Refused(format!(
                "batch {} of producer {} was another batch before",
                batch.sequence, batch.producer
            )));
        }
        let runs = jobs.split_off(batch.jobs.len());
        Ok(EnqueueAnswer { jobs, runs })
    }

    async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged> {
        let mut more: Vec<Name> = Vec::new();
        // Only jobs with a concurrency key can want more queues; each turn names one more at least.
        loop {
            let call = write::exchange(&self.keys, exchange, &more, Right::Anybody)?;
            let answer = self.link.script(&write::EXCHANGE, &call).await?;
            match answers::read_wanted(&answer) {
                None => return self.name_lost(answers::read_exchange(exchange, answer)?).await,
                Some(names) => {
                    let known = more.len();
                    for name in names {
                        if !more.contains(&name) {
                            more.push(name);
                        }
                    }
                    if more.len() == known {
                        return Err(reply::odd());
                    }
                }
            }
        }
    }

    /// Where replicas have to keep a lease before it counts, nothing is given that is not asked for.
    fn stands_by(&self) -> bool {
        self.link.whereabouts().address.replicas == 0 && !self.waits.are_refused()
    }

    async fn stand_by(&self, claim: &Claim, since: Ms, at_most: Duration) -> Result<Option<Exchanged>> {
        match self.waits.claim(&self.link, &self.keys, claim, since, at_most).await? {
            Some(answer) => self.name_lost(answer).await.map(Some),
            None => Ok(None),
        }
    }

    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Beat> {
        let queues = self.queue_names().await?;
        let worker = beat.info.id;
        let hello = Event { worker: Some(worker), ..Event::new(EventKind::WorkerStarted) };
        let queue_keys = queues.iter().collect::<Vec<_>>();
        let mut call = write::call_with(&write::HEARTBEAT, &self.keys, &queue_keys, Some(self.keys.draining()));
        call.arg(worker.as_bytes()).arg(millis(beat.lease).min(pack::FOREVER / 4)).arg(codec::encode(&beat.info)?);
        call.arg(limits::EVENT_RECORDS).arg(pack::event(&hello, &pack::Defaults::default())).arg(queues.len());
        for kind in &beat.info.types {
            call.arg(kind.as_str());
        }
        let mut parts = reply::array(self.link.script(&write::HEARTBEAT, &call).await?)?.into_iter();
        let mut next = || parts.next().ok_or_else(reply::odd);
        let (now, held, drain) = (next()?, reply::bytes(next()?)?, reply::int(&next()?)? == 1);
        let mut reader = pack::Reader(&held);
        let mut leases = Vec::with_capacity(held.len() / 24);
        while !reader.0.is_empty() {
            leases.push((JobId::from_bytes(reader.id()?), crate::domain::Epoch(reader.u64()?)));
        }
        leases.sort();
        Ok(Beat { now: Ms(reply::int(&now)?), held: leases, drain })
    }

    async fn farewell(&self, worker: WorkerId) -> Result<()> {
        let goodbye = Event { worker: Some(worker), ..Event::new(EventKind::WorkerStopped) };
        let mut call = write::call_with(&write::FAREWELL, &self.keys, &[], Some(self.keys.draining()));
        call.arg(worker.as_bytes()).arg(limits::EVENT_RECORDS);
        call.arg(pack::event(&goodbye, &pack::Defaults::default()));
        self.link.script(&write::FAREWELL, &call).await.map(drop)
    }

    async fn overdue(&self, parked: Duration, limit: usize) -> Result<Overdue> {
        let queues = self.queue_names().await?;
        let queue_keys = queues.iter().collect::<Vec<_>>();
        let mut call = write::call_with(&write::OVERDUE, &self.keys, &queue_keys, Some(self.keys.draining()));
        call.arg(millis(parked).min(pack::FOREVER / 4)).arg(limit.min(1_000)).arg(queues.len());
        call.arg(limits::EVENT_RECORDS).arg(pack::event_before_worker(&Event::new(EventKind::WorkerLost)));
        let mut parts = reply::array(self.link.script(&write::OVERDUE, &call).await?)?.into_iter();
        let mut next = || parts.next().ok_or_else(reply::odd);
        let now = Ms(reply::int(&next()?)?);
        verify::read_overdue(now, next()?, next()?, next()?, next()?, next()?)
    }

    async fn tick(&self, limit: usize) -> Result<Ticked> {
        let mut call = write::call(&write::TICK, &self.keys, &[]);
        call.arg(limit);
        let [fired, due] = read::two(reply::array(self.link.script(&write::TICK, &call).await?)?)?;
        let next_due = Some(reply::int(&due)?).filter(|due| *due >= 0).map(Ms);
        Ok(Ticked { fired: reply::int(&fired)?.max(0) as usize, next_due })
    }

    async fn take_dirty(&self, limit: usize, hold: Duration) -> Result<Vec<RunWork>> {
        let mut call = write::call(&write::DIRTY, &self.keys, &[]);
        call.arg(limit).arg(millis(hold).min(pack::FOREVER / 4)).arg(limits::DRAIN_BATCH);
        answers::read_dirty(self.link.script(&write::DIRTY, &call).await?)
    }

    async fn trim(&self, retention: Retention, limit: usize) -> Result<Trimmed> {
        let mut trimmed = Trimmed::default();
        let within = |age: Duration| millis(age).min(pack::FOREVER / 4);
        for (queue, settings) in self.read_queues().await? {
            if trimmed.jobs >= limit {
                break;
            }
            let keep = settings.retention.unwrap_or(retention);
            let event = Event { queue: Some(queue.clone()), ..Event::new(EventKind::QueueTrimmed) };
            // Short scripts: others wait while one runs.
            loop {
                let want = (limit - trimmed.jobs).min(1_000);
                let mut call = write::call(&write::TRIM, &self.keys, &[&queue]);
                call.arg(within(keep.age)).arg(keep.count).arg(want).arg(limits::EVENT_RECORDS);
                call.arg(pack::event_before_text(&event));
                let dropped = reply::int(&self.link.script(&write::TRIM, &call).await?)?.max(0) as usize;
                trimmed.jobs += dropped;
                if dropped < want || trimmed.jobs >= limit {
                    break;
                }
            }
        }
        let from = self.forgetting.lock().map(|from| from.clone()).unwrap_or_else(|_| "0".to_owned());
        let mut call = write::call(&write::FORGET, &self.keys, &[]);
        call.arg(within(retention.age)).arg(limit).arg(millis(limits::PRODUCER_MEMORY)).arg(from);
        let [runs, next] = read::two(reply::array(self.link.script(&write::FORGET, &call).await?)?)?;
        if let Ok(mut from) = self.forgetting.lock() {
            *from = reply::text(next)?;
        }
        trimmed.runs = reply::int(&runs)?.max(0) as usize;
        self.forget_shared(limit).await?;
        Ok(trimmed)
    }

    async fn ask(&self, ids: &[JobId]) -> Result<Vec<bool>> {
        self.ask_to_end(ids).await
    }

    async fn asked(&self, worker: WorkerId, limit: usize) -> Result<Vec<Stored>> {
        self.read_asked(worker, limit).await
    }

    async fn note(&self, notes: &[Note]) -> Result<Vec<bool>> {
        self.keep_notes(notes).await
    }

    async fn log(&self, id: JobId, after: u64) -> Result<JobLog> {
        self.read_log(id, after).await
    }

    async fn freed(&self, limit: usize) -> Result<Vec<Freed>> {
        self.read_freed(limit).await
    }

    async fn permits(&self, requests: &[PermitRequest]) -> Result<Vec<Vec<Duration>>> {
        self.give_permits(requests).await
    }

    async fn inform(&self, facts: &[(RunId, Vec<u8>)]) -> Result<Vec<bool>> {
        self.tell_runs(facts).await
    }

    async fn schedules(&self) -> Result<(Ms, Vec<ScheduleRecord>)> {
        self.read_schedules().await
    }

    async fn set_schedule(&self, commit: &ScheduleCommit) -> Result<Option<EnqueueAnswer>> {
        self.change_schedule(commit).await
    }

    async fn drain(&self, worker: WorkerId) -> Result<bool> {
        let event = Event { worker: Some(worker), ..Event::new(EventKind::WorkerDraining) };
        let mut call = write::call_with(&write::DRAIN, &self.keys, &[], Some(self.keys.draining()));
        call.arg(worker.as_bytes()).arg(limits::EVENT_RECORDS).arg(pack::event(&event, &pack::Defaults::default()));
        Ok(reply::int(&self.link.script(&write::DRAIN, &call).await?)? == 1)
    }

    async fn document(&self, name: &str) -> Result<Option<Document>> {
        self.read_document(name).await
    }

    async fn set_document(&self, change: &DocumentChange) -> Result<DocumentSet> {
        change.check()?;
        self.change_document(change).await
    }

    async fn documents(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Document>> {
        self.list_documents(prefix, after, limit).await
    }

    async fn acquire(&self, request: &LockRequest) -> Result<Acquired> {
        request.check()?;
        self.take_lock(request).await
    }

    async fn extend(&self, name: &Name, holder: HolderId, ttl: Duration) -> Result<Option<Grant>> {
        self.prolong_lock(name, holder, ttl).await
    }

    async fn release(&self, name: &Name, holder: HolderId) -> Result<bool> {
        Ok(!self.end_grants(name, Some(holder), false).await?.is_empty())
    }

    async fn locks(&self, after: Option<&Name>, limit: usize) -> Result<(Ms, Vec<LockRecord>)> {
        self.list_locks(after, limit).await
    }

    async fn break_lock(&self, name: &Name, holder: Option<HolderId>) -> Result<Vec<LockHolder>> {
        self.end_grants(name, holder, true).await
    }

    async fn get(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>> {
        self.read_jobs(ids).await
    }

    async fn holders(&self, keys: &[String]) -> Result<Vec<Option<Holder>>> {
        self.key_holders(keys).await
    }

    async fn whole_run(&self, id: RunId) -> Result<Option<WholeRun>> {
        self.read_whole_run(id).await
    }

    async fn take_runs(&self, take: &TakeRuns) -> Result<bool> {
        self.carry_away(take).await
    }

    async fn put_runs(&self, put: &PutRuns) -> Result<bool> {
        self.carry_here(put).await
    }

    async fn keep_log(&self, id: JobId, rev: u32, log: &JobLog) -> Result<bool> {
        self.replace_log(id, rev, log).await
    }

    async fn find(&self, part: &str, limit: usize) -> Result<Vec<JobId>> {
        let ids = self.scan_ids(self.keys.jobs(), part, limit).await?;
        Ok(ids.into_iter().map(JobId::from_bytes).collect())
    }

    async fn newest(&self, before: Option<JobId>, limit: usize) -> Result<Newest> {
        self.read_newest(before, limit).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<Stored>> {
        self.read_list(query).await
    }

    async fn stats(&self) -> Result<Vec<QueueStats>> {
        self.read_stats().await
    }

    async fn queues(&self) -> Result<Vec<(Name, QueueSettings)>> {
        self.read_queues().await
    }

    async fn set_queue(&self, queue: &Name, settings: &QueueSettings) -> Result<()> {
        let mut call = write::call(&write::SET_QUEUE, &self.keys, &[]);
        call.arg(queue.as_str()).arg(pack::settings(settings)?).arg(pack::settings(&QueueSettings::default())?);
        call.arg(limits::EVENT_RECORDS);
        for kind in [EventKind::QueuePaused, EventKind::QueueResumed, EventKind::QueueSet] {
            let event = Event { queue: Some(queue.clone()), ..Event::new(kind) };
            call.arg(pack::event(&event, &pack::Defaults::default()));
        }
        self.link.script(&write::SET_QUEUE, &call).await.map(drop)
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        self.read_workers().await
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>> {
        self.read_run(id).await
    }

    async fn run_work(&self, id: RunId) -> Result<Option<RunWork>> {
        self.read_run_work(id).await
    }

    async fn find_runs(&self, part: &str, limit: usize) -> Result<Vec<RunId>> {
        let ids = self.scan_ids(self.keys.runs(), part, limit).await?;
        Ok(ids.into_iter().map(RunId::from_bytes).collect())
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        self.read_runs(query).await
    }

    async fn values(&self, run: RunId, keys: &[String]) -> Result<Vec<Option<Json>>> {
        self.read_values(run, keys).await
    }

    async fn history(&self, run: RunId, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        self.read_history(run, after, limit).await
    }

    async fn define(&self, definitions: &[Definition]) -> Result<()> {
        let mut call = write::DEFINE.call(2);
        call.arg(self.keys.definitions()).arg(self.keys.current());
        for definition in definitions {
            for arg in RedisStore::definition_args(definition)? {
                call.arg(arg);
            }
        }
        self.link.script(&write::DEFINE, &call).await.map(drop)
    }

    async fn undefine(&self, kind: &str, name: &Name) -> Result<bool> {
        let mut call = write::UNDEFINE.call(1);
        call.arg(self.keys.current()).arg(format!("{kind}\0{name}"));
        Ok(reply::int(&self.link.script(&write::UNDEFINE, &call).await?)? == 1)
    }

    async fn definition(&self, hash: &str) -> Result<Option<Definition>> {
        self.read_definition(hash).await
    }

    async fn definitions(&self, kind: &str) -> Result<Vec<Definition>> {
        self.read_definitions(kind).await
    }

    async fn since(&self, at: Ms) -> Result<Cursor> {
        self.events_since(at).await
    }

    async fn tail(&self, records: usize) -> Result<Option<Cursor>> {
        self.tail_of_events(records).await
    }

    async fn events(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        self.read_events(after, limit).await
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.receiver()
    }

    async fn health(&self) -> Result<Health> {
        self.look_at_health().await
    }

    async fn verify(&self) -> Result<Vec<String>> {
        self.compare_twice().await
    }
}
