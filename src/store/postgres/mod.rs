//! The PostgreSQL store. Each verb is a call or two of a function in the schema `goflow`, which
//! checks rights and moves records in one short transaction; what a record says is made and read
//! here, in the bytes of `codec`. It knows nothing of workflows and decides nothing about a job.
//!
//! ```text
//!  exchange ─→ goflow.exchange   plain settles (arrays) + due + claim: one statement, one commit
//!           ├→ goflow.settle_steps  before it in the same statement: settles of steps, and what their
//!           │                    runs make of them
//!           └→ goflow.commit ×n  each that is anything else, batches between them; one flight, one commit
//!  enqueue  ─→ goflow.enqueue    a batch (arrays), its answer kept for the producer
//!           └→ goflow.start_runs  behind it in the same statement: runs that touch no other
//!  hints    ←─ LISTEN            one direct connection of its own; a NOTIFY follows what is left for others
//! ```
//!
//! No session state anywhere else: unnamed statements, locks that end with the transaction. So a
//! transaction pooler may stand in between.

mod carry;
mod columns;
mod commit;
mod enqueue;
mod errors;
mod events;
mod exchange;
mod floors;
mod health;
mod hints;
mod lost;
mod names;
mod pool;
mod read;
mod runs;
mod schedules;
mod schema;
mod shared;
mod starts;
mod steps;
mod talk;
pub(in crate::store) mod tls;
mod upkeep;
mod verify;
mod within;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Pool;
use tokio::sync::watch;
use tokio_postgres::types::Type;

use self::columns::{job_id, run_id};
use self::floors::Floors;
use self::names::Names;
use self::pool::{Connection, DEADLINE, LONG_DEADLINE, Param, again};
pub use self::within::{Transaction, enqueue_in};
use crate::domain::{
    Event, EventKind, HolderId, JobId, Json, Ms, Name, QueueSettings, QueueStats, RunId, WorkerId, limits,
};
use crate::store::codec::encode;
use crate::store::contract::*;
use crate::store::url::hide_password;

/// How many jobs a claim gives. Whatever it brings, an exchange costs the server as much as 40 jobs or more.
const CLAIM: usize = 2 * limits::CLAIM_BATCH;

/// One hint for all who listen.
const WAKE: &str = "NOTIFY goflow";

/// A store in a PostgreSQL database, 12 or newer.
pub struct PostgresStore {
    shown: String,
    /// The ports that the URL names; none means the usual one.
    ports: Vec<u16>,
    pool: Pool,
    names: Names,
    floors: Floors,
    horizon: events::Horizon,
    probe_due: AtomicBool,
    probes: AtomicUsize,
    hints: watch::Sender<u64>,
    _listener: hints::Listener,
}

impl PostgresStore {
    /// Opens the database at a URL as libpq reads it, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the server is away, [`StoreError::Refused`] if it does not let
    /// us in or there is no such database, [`StoreError::TooNew`].
    pub async fn open(url: &str) -> Result<PostgresStore> {
        let (config, connector) = pool::config(url)?;
        let ports = config.get_ports().to_vec();
        let pool = pool::pool(config.clone(), connector.clone())?;
        let mut connection = Connection::take(&pool, LONG_DEADLINE).await?;
        again!(schema::migrate(&mut connection))?;
        drop(connection);
        let hints = watch::Sender::new(0);
        Ok(PostgresStore {
            shown: hide_password(url),
            ports,
            pool,
            names: Names::default(),
            floors: Floors::default(),
            horizon: events::Horizon::default(),
            probe_due: AtomicBool::new(false),
            probes: AtomicUsize::new(0),
            _listener: hints::Listener::start(config, connector, hints.clone()),
            hints,
        })
    }

    /// Tells this process.
    fn hint(&self) {
        self.hints.send_modify(|count| *count += 1);
    }

    /// Tells everybody. A hint that is lost is made up for by polling.
    async fn wake(&self, connection: &mut Connection) {
        self.hint();
        let told = connection
            .run(async |client| {
                client.simple_query(WAKE).await?;
                Ok(())
            })
            .await;
        if told.is_err() {
            tracing::debug!("a wake-up could not be sent");
        }
    }

    /// A later goflow may have migrated the database while this one runs: it must not go on as if
    /// the tables were still its own.
    async fn check_schema(&self) -> Result<()> {
        let mut connection = Connection::take(&self.pool, LONG_DEADLINE).await?;
        let found = again!(schema::version(&mut connection))?;
        if found > schema::KNOWN { Err(StoreError::TooNew { found, known: schema::KNOWN }) } else { Ok(()) }
    }

    /// What the server refuses, or does not know any more, may be so because the schema is newer.
    async fn explained<T: Send>(&self, result: Result<T>) -> Result<T> {
        if let Err(StoreError::Corrupt(_) | StoreError::Refused(_)) = &result
            && let Err(newer @ StoreError::TooNew { .. }) = self.check_schema().await
        {
            return Err(newer);
        }
        result
    }

    fn upkeep_due(&self) -> bool {
        self.probe_due.swap(false, Ordering::Relaxed)
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn describe(&self) -> String {
        self.shown.clone()
    }

    fn claim_batch(&self) -> usize {
        CLAIM
    }

    async fn enqueue(&self, batch: &Enqueue) -> Result<EnqueueAnswer> {
        self.explained(self.enqueue_batch(batch).await).await
    }

    async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged> {
        self.explained(self.exchange_batch(exchange).await).await
    }

    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Beat> {
        self.check_schema().await?;
        self.beat(beat).await
    }

    async fn farewell(&self, worker: WorkerId) -> Result<()> {
        self.strike_off(worker).await
    }

    async fn overdue(&self, parked: Duration, limit: usize) -> Result<Overdue> {
        self.find_overdue(parked, limit).await
    }

    async fn tick(&self, limit: usize) -> Result<Ticked> {
        self.fire(limit).await
    }

    async fn take_dirty(&self, limit: usize, hold: Duration) -> Result<Vec<RunWork>> {
        self.take(limit, hold).await
    }

    async fn trim(&self, retention: Retention, limit: usize) -> Result<Trimmed> {
        self.trim_all(retention, limit).await
    }

    async fn ask(&self, ids: &[JobId]) -> Result<Vec<bool>> {
        self.ask_jobs(ids).await
    }

    async fn asked(&self, worker: WorkerId, limit: usize) -> Result<Vec<Stored>> {
        self.list_asked(worker, limit).await
    }

    async fn note(&self, notes: &[Note]) -> Result<Vec<bool>> {
        self.take_notes(notes).await
    }

    async fn log(&self, id: JobId, after: u64) -> Result<JobLog> {
        self.read_log(id, after).await
    }

    async fn freed(&self, limit: usize) -> Result<Vec<Freed>> {
        self.list_freed(limit).await
    }

    async fn permits(&self, requests: &[PermitRequest]) -> Result<Vec<Vec<Duration>>> {
        self.give_permits(requests).await
    }

    async fn inform(&self, facts: &[(RunId, Vec<u8>)]) -> Result<Vec<bool>> {
        self.inform_runs(facts).await
    }

    async fn schedules(&self) -> Result<(Ms, Vec<ScheduleRecord>)> {
        self.list_schedules().await
    }

    async fn set_schedule(&self, commit: &ScheduleCommit) -> Result<Option<EnqueueAnswer>> {
        self.change_schedule(commit).await
    }

    async fn drain(&self, worker: WorkerId) -> Result<bool> {
        self.tell_to_drain(worker).await
    }

    async fn document(&self, name: &str) -> Result<Option<Document>> {
        self.get_document(name).await
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
        self.get_jobs(ids).await
    }

    async fn holders(&self, keys: &[String]) -> Result<Vec<Option<Holder>>> {
        self.key_holders(keys).await
    }

    async fn whole_run(&self, id: RunId) -> Result<Option<WholeRun>> {
        self.get_whole_run(id).await
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
        Ok(self.find_ids("job", part, limit).await?.into_iter().map(job_id).collect())
    }

    async fn newest(&self, before: Option<JobId>, limit: usize) -> Result<Newest> {
        Ok(Newest::of_all(self.newest_jobs(before, limit).await?, limit))
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<Stored>> {
        self.list_jobs(query).await
    }

    async fn stats(&self) -> Result<Vec<QueueStats>> {
        self.count().await
    }

    async fn queues(&self) -> Result<Vec<(Name, QueueSettings)>> {
        self.list_queues().await
    }

    async fn set_queue(&self, queue: &Name, settings: &QueueSettings) -> Result<()> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let (bytes, plain) = (encode(settings)?, encode(&QueueSettings::default())?);
        let of = |kind| columns::packed(&[Event { queue: Some(queue.clone()), ..Event::new(kind) }]);
        let turned = of(if settings.paused { EventKind::QueuePaused } else { EventKind::QueueResumed })?;
        let set = of(EventKind::QueueSet)?;
        let concurrency = settings.concurrency.map(columns::limit);
        let params: [Param<'_>; 7] = [
            (&queue.as_str(), Type::TEXT),
            (&settings.paused, Type::BOOL),
            (&concurrency, Type::INT4),
            (&bytes, Type::BYTEA),
            (&plain, Type::BYTEA),
            (&turned, Type::BYTEA),
            (&set, Type::BYTEA),
        ];
        again!(connection.rows("SELECT goflow.set_queue($1, $2, $3, $4, $5, $6, $7)", &params))?;
        self.wake(&mut connection).await;
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        self.list_workers().await
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>> {
        self.get_run(id).await
    }

    async fn run_work(&self, id: RunId) -> Result<Option<RunWork>> {
        self.get_run_work(id).await
    }

    async fn find_runs(&self, part: &str, limit: usize) -> Result<Vec<RunId>> {
        Ok(self.find_ids("run", part, limit).await?.into_iter().map(run_id).collect())
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        self.list_runs(query).await
    }

    async fn values(&self, run: RunId, keys: &[String]) -> Result<Vec<Option<Json>>> {
        self.get_values(run, keys).await
    }

    async fn history(&self, run: RunId, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        self.get_history(run, after, limit).await
    }

    async fn define(&self, definitions: &[Definition]) -> Result<()> {
        self.keep_definitions(definitions).await
    }

    async fn undefine(&self, kind: &str, name: &Name) -> Result<bool> {
        self.take_back(kind, name).await
    }

    async fn definition(&self, hash: &str) -> Result<Option<Definition>> {
        self.get_definition(hash).await
    }

    async fn definitions(&self, kind: &str) -> Result<Vec<Definition>> {
        self.list_definitions(kind).await
    }

    async fn tail(&self, records: usize) -> Result<Option<Cursor>> {
        self.tail_of_events(records).await
    }

    async fn events(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        self.read_events(after, limit).await
    }

    async fn since(&self, at: Ms) -> Result<Cursor> {
        self.events_since(at).await
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }

    async fn health(&self) -> Result<Health> {
        self.look_at_health().await
    }

    async fn verify(&self) -> Result<Vec<String>> {
        self.recount().await
    }
}
