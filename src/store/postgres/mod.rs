//! The PostgreSQL store. Each verb is a call or two of a function in the schema `goflow`, which
//! checks rights and moves records in one short transaction; what a record says is made and read
//! here, in the bytes of `codec`. It knows nothing of workflows and decides nothing about a job.
//!
//! ```text
//!  exchange ─→ goflow.exchange   plain settles (arrays) + due + claim: one statement, one commit
//!           ├→ goflow.settle_steps  before it in the same statement: settles of steps, and what their
//!           │                    runs make of them
//!           └→ goflow.commit ×n  everything else, one flight, one commit
//!  enqueue  ─→ goflow.enqueue    a batch (arrays), its answer kept for the producer
//!  hints    ←─ LISTEN            one direct connection of its own; a NOTIFY follows each batch
//! ```
//!
//! No session state anywhere else: unnamed statements, locks that end with the transaction. So a
//! transaction pooler may stand in between.

mod columns;
mod commit;
mod enqueue;
mod errors;
mod events;
mod exchange;
mod floors;
mod health;
mod hints;
mod names;
mod pool;
mod read;
mod runs;
mod schema;
mod steps;
mod upkeep;
mod verify;

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
use crate::domain::{Event, EventKind, JobId, Json, Name, QueueSettings, QueueStats, RunId, WorkerId};
use crate::store::codec::encode;
use crate::store::contract::*;
use crate::store::url::hide_password;

/// One hint for all who listen.
const WAKE: &str = "NOTIFY goflow";

/// A store in a PostgreSQL database, 12 or newer.
pub struct PostgresStore {
    shown: String,
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
        let config = pool::config(url)?;
        let pool = pool::pool(config.clone())?;
        let mut connection = Connection::take(&pool, LONG_DEADLINE).await?;
        again!(schema::migrate(&mut connection))?;
        drop(connection);
        let hints = watch::Sender::new(0);
        Ok(PostgresStore {
            shown: hide_password(url),
            pool,
            names: Names::default(),
            floors: Floors::default(),
            horizon: events::Horizon::default(),
            probe_due: AtomicBool::new(false),
            probes: AtomicUsize::new(0),
            _listener: hints::Listener::start(config, hints.clone()),
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

    fn upkeep_due(&self) -> bool {
        self.probe_due.swap(false, Ordering::Relaxed)
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn describe(&self) -> String {
        self.shown.clone()
    }

    async fn enqueue(&self, batch: &Enqueue) -> Result<EnqueueAnswer> {
        self.enqueue_batch(batch).await
    }

    async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged> {
        self.exchange_batch(exchange).await
    }

    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Beat> {
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

    async fn get(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>> {
        self.get_jobs(ids).await
    }

    async fn find(&self, part: &str, limit: usize) -> Result<Vec<JobId>> {
        Ok(self.find_ids("job", part, limit).await?.into_iter().map(job_id).collect())
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
        let bytes = encode(settings)?;
        let kind = if settings.paused { EventKind::QueuePaused } else { EventKind::QueueResumed };
        let event = columns::packed(&[Event { queue: Some(queue.clone()), ..Event::new(kind) }])?;
        let params: [Param<'_>; 4] = [
            (&queue.as_str(), Type::TEXT),
            (&settings.paused, Type::BOOL),
            (&bytes, Type::BYTEA),
            (&event, Type::BYTEA),
        ];
        again!(connection.rows("SELECT goflow.set_queue($1, $2, $3, $4)", &params))?;
        self.wake(&mut connection).await;
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        self.list_workers().await
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>> {
        self.get_run(id).await
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

    async fn history(&self, run: RunId) -> Result<Vec<Event>> {
        self.get_history(run).await
    }

    async fn define(&self, definitions: &[Definition]) -> Result<()> {
        self.keep_definitions(definitions).await
    }

    async fn definition(&self, hash: &str) -> Result<Option<Definition>> {
        self.get_definition(hash).await
    }

    async fn definitions(&self, kind: &str) -> Result<Vec<Definition>> {
        self.list_definitions(kind).await
    }

    async fn events(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        self.read_events(after, limit).await
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
