//! The default store: one SQLite file, shared by any number of processes on one machine, nothing to
//! set up. Writes go through one writer thread a process ([`writer`]), reads through connections of
//! their own ([`read`]), wake-ups between processes through datagrams ([`wake`]).
//!
//! | file | what for |
//! |---|---|
//! | `NAME` `NAME-wal` `NAME-shm` | the database, its log, and the log's index |
//! | `NAME-wake/PID-N.sock` | the socket of a process that waits for work |
//! | `NAME-wake/reserve` | room for settles when the disk is full ([`space`]) |
//!
//! An acknowledged write survives a power cut: write-ahead log, synchronous=FULL. The machine's clock
//! is the store's clock, read once a transaction. This module knows the contract and hands each call
//! to the file that carries it out.

mod care;
mod carry;
mod commit;
mod events;
mod fault;
mod limits;
mod list;
mod open;
mod read;
mod row;
mod runs;
mod schedules;
mod schema;
mod shared;
mod space;
mod talk;
mod tx;
mod verify;
mod wake;
mod work;
mod writer;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::params;
use tokio::sync::watch;

use self::fault::{Fault, name_file};
use self::row::{CommitRow, NewRunRow};
use self::wake::{Bells, Ear, Folder};
use self::work::{Batch, NewRow};
use self::writer::{Desk, Writer};
use super::codec;
use super::contract::*;
use crate::domain::{Clock, Event, HolderId, JobId, Json, Ms, Name, QueueSettings, QueueStats, RunId, WorkerId};

/// What can be set on a SQLite store.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// How long a transaction waits for other processes before the call is answered
    /// [`StoreError::Unavailable`].
    pub busy: Duration,
    /// Look-ups at the same time.
    pub readers: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        SqliteOptions { busy: Duration::from_secs(30), readers: 4 }
    }
}

/// A store in a SQLite file.
pub struct SqliteStore {
    file: PathBuf,
    clock: Arc<dyn Clock>,
    writer: Writer,
    readers: read::Readers,
    hints: watch::Sender<u64>,
    folder: Folder,
    ear: Mutex<Option<Ear>>,
}

impl SqliteStore {
    /// Opens the file, and makes it and its folder if they are missing. Blocks for some milliseconds,
    /// longer if another process migrates the file.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a network file system, missing rights or a SQLite older than
    /// 3.51.3; [`StoreError::Corrupt`] for a file that is no database or another program's, which is
    /// left as it is; [`StoreError::TooNew`]; [`StoreError::Full`]; [`StoreError::Unavailable`].
    pub fn open(path: &Path, clock: Arc<dyn Clock>, options: SqliteOptions) -> Result<SqliteStore> {
        let shown = path.display().to_string();
        let file = open::prepare_file(path)?;
        let named = |fault: Fault| name_file(fault.into_error(), &shown);
        let mut conn = open::writer(&file, options.busy).map_err(named)?;
        schema::look(&mut conn, &shown).map_err(named)?;
        open::set_up_writer(&mut conn, options.busy).map_err(named)?;
        schema::migrate(&mut conn, &shown).map_err(named)?;
        let folder = Folder::new(make_folder(&file)?);
        let hints = watch::Sender::new(0);
        let desk = Desk {
            conn,
            clock: Arc::clone(&clock),
            space: space::Space::new(folder.path().join("reserve")),
            bells: Bells::new(folder.clone()),
            hints: hints.clone(),
            path: shown.clone(),
        };
        let writer = Writer::start(desk)?;
        let readers = read::Readers::new(file.clone(), shown, options.busy, options.readers);
        Ok(SqliteStore { file, clock, writer, readers, hints, folder, ear: Mutex::default() })
    }
}

/// The folder for sockets and the reserve, for its owner only.
fn make_folder(file: &Path) -> Result<PathBuf> {
    let mut name = file.as_os_str().to_owned();
    name.push("-wake");
    let folder = PathBuf::from(name);
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if !folder.is_dir() => Err(StoreError::Refused(format!("{}: {error}", folder.display()))),
        _ => Ok(folder),
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn describe(&self) -> String {
        format!("sqlite:{}", self.file.display())
    }

    async fn enqueue(&self, batch: &Enqueue) -> Result<EnqueueAnswer> {
        let batch = Batch {
            producer: batch.producer,
            sequence: batch.sequence,
            jobs: batch.jobs.iter().map(NewRow::new).collect::<Result<_>>()?,
            runs: batch.runs.iter().map(NewRunRow::new).collect::<Result<_>>()?,
        };
        let size = batch.jobs.len() + batch.runs.len();
        self.writer.submit(size, true, move |tx| tx.enqueue(&batch)).await
    }

    async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged> {
        let commits = exchange.commits.iter().map(CommitRow::new).collect::<Result<Vec<_>>>()?;
        let claim = exchange.claim.clone();
        let moves: usize = commits.iter().map(|commit| commit.moves.len()).sum();
        let size = moves + claim.as_ref().map_or(0, |claim| claim.want);
        let work = move |tx: &mut tx::Tx<'_>| {
            let mut answer = Exchanged { now: tx.now, ..Exchanged::default() };
            for commit in &commits {
                let committed = tx.commit(commit)?;
                answer.commits.push(committed);
            }
            let mut leased = Vec::new();
            if let Some(claim) = &claim {
                for name in &claim.queues {
                    if let Some((queue, _)) = tx.known_queue(name) {
                        tx.promote(queue)?;
                    }
                }
                leased = tx.claim(claim)?;
                (answer.suspects, answer.next_due) = tx.outlook(claim)?;
            }
            answer.dirty = tx.is_dirty()?;
            answer.asked = tx.any(tx::Rare::Asks)? && tx.is_asked()?;
            answer.freed = tx.any(tx::Rare::Ties)? && tx.is_freed()?;
            Ok((answer, leased))
        };
        let (mut answer, leased) = self.writer.submit(size, false, work).await?;
        for work::Leased { id, queue, epoch, body, run } in leased {
            let mut job = codec::read_job(id, &body);
            if codec::is_lost(&job) {
                job.queue = queue;
            }
            answer.claimed.push(Claimed { job, epoch, run });
        }
        Ok(answer)
    }

    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Beat> {
        let beat = beat.clone();
        self.writer.submit(1, false, move |tx| tx.heartbeat(&beat)).await
    }

    async fn farewell(&self, worker: WorkerId) -> Result<()> {
        self.writer.submit(1, false, move |tx| tx.farewell(worker)).await
    }

    async fn overdue(&self, parked: Duration, limit: usize) -> Result<Overdue> {
        let now = self.clock.now();
        let (overdue, lost) = self.readers.read(move |conn| read::overdue(conn, now, parked, limit)).await?;
        if lost {
            self.writer.submit(1, false, |tx| tx.strike_lost()).await?;
        }
        Ok(overdue)
    }

    async fn tick(&self, limit: usize) -> Result<Ticked> {
        self.writer.submit(limit, false, move |tx| tx.tick(limit)).await
    }

    async fn take_dirty(&self, limit: usize, hold: Duration) -> Result<Vec<RunWork>> {
        self.writer.submit(limit, false, move |tx| tx.take_dirty(limit, hold)).await
    }

    async fn trim(&self, retention: Retention, limit: usize) -> Result<Trimmed> {
        self.writer.submit(limit, false, move |tx| tx.trim(retention, limit)).await
    }

    async fn ask(&self, ids: &[JobId]) -> Result<Vec<bool>> {
        let ids = ids.to_vec();
        self.writer.submit(ids.len(), false, move |tx| tx.ask(&ids)).await
    }

    async fn asked(&self, worker: WorkerId, limit: usize) -> Result<Vec<Stored>> {
        let now = self.clock.now();
        self.readers.read(move |conn| talk::asked(conn, now, worker, limit)).await
    }

    async fn note(&self, notes: &[Note]) -> Result<Vec<bool>> {
        let notes = notes.to_vec();
        self.writer.submit(notes.len(), false, move |tx| tx.note(&notes)).await
    }

    async fn log(&self, id: JobId, after: u64) -> Result<JobLog> {
        self.readers.read(move |conn| talk::log(conn, id, after)).await
    }

    async fn freed(&self, limit: usize) -> Result<Vec<Freed>> {
        self.readers.read(move |conn| talk::freed(conn, limit)).await
    }

    async fn permits(&self, requests: &[PermitRequest]) -> Result<Vec<Vec<Duration>>> {
        let requests = requests.to_vec();
        self.writer.submit(requests.len(), false, move |tx| tx.permits(&requests)).await
    }

    async fn inform(&self, facts: &[(RunId, Vec<u8>)]) -> Result<Vec<bool>> {
        let facts = facts.to_vec();
        let tell = move |tx: &mut tx::Tx<'_>| facts.iter().map(|(run, fact)| tx.tell(*run, fact)).collect();
        self.writer.submit(1, true, tell).await
    }

    async fn schedules(&self) -> Result<(Ms, Vec<ScheduleRecord>)> {
        let now = self.clock.now();
        Ok((now, self.readers.read(schedules::all).await?))
    }

    async fn set_schedule(&self, commit: &ScheduleCommit) -> Result<Option<EnqueueAnswer>> {
        let change = schedules::Change::new(commit)?;
        self.writer.submit(1, true, move |tx| tx.set_schedule(&change)).await
    }

    async fn drain(&self, worker: WorkerId) -> Result<bool> {
        self.writer.submit(1, false, move |tx| tx.drain(worker)).await
    }

    async fn document(&self, name: &str) -> Result<Option<Document>> {
        let (name, now) = (name.to_owned(), self.clock.now());
        self.readers.read(move |conn| shared::document(conn, &name, now)).await
    }

    async fn set_document(&self, change: &DocumentChange) -> Result<DocumentSet> {
        change.check()?;
        let change = change.clone();
        self.writer.submit(1, change.body.is_some(), move |tx| tx.set_document(&change)).await
    }

    async fn documents(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Document>> {
        let (prefix, after, now) = (prefix.to_owned(), after.map(str::to_owned), self.clock.now());
        self.readers.read(move |conn| shared::documents(conn, &prefix, after.as_deref(), limit, now)).await
    }

    async fn acquire(&self, request: &LockRequest) -> Result<Acquired> {
        request.check()?;
        let request = request.clone();
        self.writer.submit(1, true, move |tx| tx.acquire(&request)).await
    }

    async fn extend(&self, name: &Name, holder: HolderId, ttl: Duration) -> Result<Option<Grant>> {
        let name = name.clone();
        self.writer.submit(1, false, move |tx| tx.extend(&name, holder, ttl)).await
    }

    async fn release(&self, name: &Name, holder: HolderId) -> Result<bool> {
        let name = name.clone();
        let ended = self.writer.submit(1, false, move |tx| tx.end_grants(&name, Some(holder), false)).await?;
        Ok(!ended.is_empty())
    }

    async fn locks(&self, after: Option<&Name>, limit: usize) -> Result<(Ms, Vec<LockRecord>)> {
        let (after, now) = (after.cloned(), self.clock.now());
        let locks = self.readers.read(move |conn| shared::locks(conn, after.as_ref(), limit, now)).await?;
        Ok((now, locks))
    }

    async fn break_lock(&self, name: &Name, holder: Option<HolderId>) -> Result<Vec<LockHolder>> {
        let name = name.clone();
        self.writer.submit(1, false, move |tx| tx.end_grants(&name, holder, true)).await
    }

    async fn get(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>> {
        let ids = ids.to_vec();
        self.readers.read(move |conn| read::get(conn, &ids)).await
    }

    async fn holders(&self, keys: &[String]) -> Result<Vec<Option<Holder>>> {
        let (keys, now) = (keys.to_vec(), self.clock.now());
        self.readers.read(move |conn| read::holders(conn, &keys, now)).await
    }

    async fn whole_run(&self, id: RunId) -> Result<Option<WholeRun>> {
        self.readers.read(move |conn| carry::whole_run(conn, id)).await
    }

    async fn take_runs(&self, take: &TakeRuns) -> Result<bool> {
        take.mark().check()?;
        let take = take.clone();
        self.writer.submit(take.runs.len(), false, move |tx| tx.take_runs(&take)).await
    }

    async fn put_runs(&self, put: &PutRuns) -> Result<bool> {
        let put = put.clone();
        let items = put.runs.iter().map(WholeRun::items).sum();
        self.writer.submit(items, true, move |tx| tx.put_runs(&put)).await
    }

    async fn keep_log(&self, id: JobId, rev: u32, log: &JobLog) -> Result<bool> {
        let log = log.clone();
        self.writer.submit(1, true, move |tx| tx.keep_log(id, rev, &log)).await
    }

    async fn find(&self, part: &str, limit: usize) -> Result<Vec<JobId>> {
        let part = part.to_owned();
        self.readers.read(move |conn| read::find_jobs(conn, &part, limit)).await
    }

    async fn newest(&self, before: Option<JobId>, limit: usize) -> Result<Newest> {
        Ok(Newest::of_all(self.readers.read(move |conn| list::newest(conn, before, limit)).await?, limit))
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<Stored>> {
        let query = query.clone();
        self.readers.read(move |conn| list::list(conn, &query)).await
    }

    async fn stats(&self) -> Result<Vec<QueueStats>> {
        let now = self.clock.now();
        self.readers.read(move |conn| read::stats(conn, now)).await
    }

    async fn queues(&self) -> Result<Vec<(Name, QueueSettings)>> {
        let queues = self.readers.read(tx::read_queues).await?;
        Ok(queues.into_iter().map(|(_, name, settings)| (name, settings)).collect())
    }

    async fn set_queue(&self, queue: &Name, settings: &QueueSettings) -> Result<()> {
        let (queue, settings) = (queue.clone(), settings.clone());
        self.writer.submit(1, false, move |tx| tx.change_queue(&queue, &settings)).await
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        self.readers.read(read::workers).await
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>> {
        self.readers.read(move |conn| runs::read_run(conn, id)).await
    }

    async fn run_work(&self, id: RunId) -> Result<Option<RunWork>> {
        self.readers.read(move |conn| runs::read_run_work(conn, id)).await
    }

    async fn find_runs(&self, part: &str, limit: usize) -> Result<Vec<RunId>> {
        let part = part.to_owned();
        self.readers.read(move |conn| read::find_runs(conn, &part, limit)).await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        let query = query.clone();
        self.readers.read(move |conn| read::runs(conn, &query)).await
    }

    async fn values(&self, run: RunId, keys: &[String]) -> Result<Vec<Option<Json>>> {
        let keys = keys.to_vec();
        self.readers.read(move |conn| read::values(conn, run, &keys)).await
    }

    async fn history(&self, run: RunId, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        let from = after.map_or(Ok(0), Cursor::number)?;
        let (events, turn) = self.readers.read(move |conn| read::history(conn, run, from, limit)).await?;
        Ok((events, Cursor(turn.to_string())))
    }

    async fn define(&self, definitions: &[Definition]) -> Result<()> {
        let definitions = definitions.to_vec();
        self.writer.submit(definitions.len(), true, move |tx| tx.define(&definitions)).await
    }

    async fn undefine(&self, kind: &str, name: &Name) -> Result<bool> {
        let (kind, name) = (kind.to_owned(), name.clone());
        self.writer.submit(1, false, move |tx| tx.undefine(&kind, &name)).await
    }

    async fn definition(&self, hash: &str) -> Result<Option<Definition>> {
        let hash = hash.to_owned();
        self.readers.read(move |conn| read::definition_of(conn, &hash)).await
    }

    async fn definitions(&self, kind: &str) -> Result<Vec<Definition>> {
        let kind = kind.to_owned();
        self.readers.read(move |conn| read::definitions(conn, &kind)).await
    }

    async fn events(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        let from = after.map_or(Ok(0), Cursor::number)?;
        let (events, position) = self.readers.read(move |conn| read::events(conn, from, limit)).await?;
        Ok((events, Cursor(position.to_string())))
    }

    async fn since(&self, at: Ms) -> Result<Cursor> {
        let position = self.readers.read(move |conn| read::events_since(conn, at)).await?;
        Ok(Cursor(position.to_string()))
    }

    async fn tail(&self, records: usize) -> Result<Option<Cursor>> {
        let position = self.readers.read(move |conn| read::tail(conn, records)).await?;
        Ok(position.map(|position| Cursor(position.to_string())))
    }

    /// The first call binds the socket at which other processes ring.
    fn hints(&self) -> watch::Receiver<u64> {
        let mut ear = self.ear.lock().unwrap_or_else(PoisonError::into_inner);
        if ear.is_none() {
            *ear = Ear::listen(&self.folder, self.hints.clone());
        }
        self.hints.subscribe()
    }

    async fn health(&self) -> Result<Health> {
        let mut warnings: Vec<String> = open::rights_warning(&self.file).into_iter().collect();
        let listens = self.ear.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if !listens && !wake::can_listen(&self.folder) {
            let folder = self.folder.path().display();
            warnings
                .push(format!("no socket can be bound in {folder}: work of other processes is seen after a second"));
        }
        let (schema, bytes) = self
            .readers
            .read(|conn| {
                let sql = "SELECT user_version, (page_count - freelist_count) * page_size FROM pragma_user_version, \
                           pragma_page_count, pragma_freelist_count, pragma_page_size";
                Ok(conn.query_row(sql, params![], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?)
            })
            .await?;
        Ok(Health {
            server: format!("SQLite {}", rusqlite::version()),
            durability: "an acknowledged write survives a power cut: WAL with synchronous=FULL".to_owned(),
            schema,
            warnings,
            bytes: u64::try_from(bytes).ok(),
            settings: [("persistence".to_owned(), "journal_mode WAL, synchronous FULL".to_owned())].into(),
        })
    }

    async fn verify(&self) -> Result<Vec<String>> {
        self.readers.read(verify::verify).await
    }
}
