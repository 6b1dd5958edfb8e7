//! Look-ups. They run on connections of their own, on blocking threads, each in one read transaction:
//! in WAL mode they see a whole commit or nothing of it, and never wait for the writer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use tokio::sync::Semaphore;

use super::commit::is_in_line;
use super::fault::{Fault, name_file};
use super::open;
use super::runs::run_record;
use super::tx::{Spot, parse_name, parse_place, read_queues};
use crate::domain::time::millis;
use crate::domain::{Epoch, Event, Job, JobId, Json, Ms, Place, QueueStats, RunId, WorkerId};
use crate::store::codec;
use crate::store::{
    Cursor, Definition, Holder, Lease, Overdue, Page, Result, RunQuery, RunRecord, StoreError, Stored, WorkerStatus,
};

/// Who holds each of these unique keys.
pub(super) fn holders(conn: &Connection, keys: &[String], now: Ms) -> Result<Vec<Option<Holder>>, Fault> {
    let mut get = conn.prepare_cached("SELECT id, until FROM uniques WHERE key = ?1 AND (live OR until > ?2)")?;
    let mut holder = |key: &String| {
        let read = |row: &Row<'_>| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, Option<i64>>(1)?));
        let found = get.query_row(params![key, now.0], read).optional()?;
        let rest = |until: Option<i64>| until.map_or(Duration::ZERO, |until| Ms(until).since(now));
        Ok(found.map(|(id, until)| Holder { job: JobId::from_bytes(id), rest: rest(until) }))
    };
    keys.iter().map(&mut holder).collect()
}

/// A few connections that are lent to one look-up at a time.
pub(super) struct Readers {
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
}

struct Pool {
    file: PathBuf,
    shown: String,
    busy: Duration,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(file: PathBuf, shown: String, busy: Duration, most: usize) -> Readers {
        let pool = Arc::new(Pool { file, shown, busy, idle: Mutex::default() });
        Readers { pool, permits: Arc::new(Semaphore::new(most.max(1))) }
    }

    /// Runs `look` in a read transaction.
    pub(super) async fn read<T, F>(&self, look: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let closed = |_| StoreError::Unavailable("the store is closing".to_owned());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        let pool = Arc::clone(&self.pool);
        let looked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            pool.look(look).map_err(|fault| name_file(fault.into_error(), &pool.shown))
        });
        looked.await.unwrap_or_else(|error| Err(StoreError::Unavailable(format!("a look-up ended early: {error}"))))
    }
}

impl Pool {
    fn look<T>(&self, look: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let lent = idle().pop();
        let mut conn = match lent {
            Some(conn) => conn,
            None => open::reader(&self.file, self.busy)?,
        };
        let tx = conn.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let found = look(&tx)?;
        // Nothing was written: ending it cannot fail in a way that matters.
        drop(tx);
        idle().push(conn);
        Ok(found)
    }
}

pub(super) fn blob<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r [u8], Fault> {
    Ok(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?)
}

pub(super) fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, Fault> {
    Ok(row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?)
}

/// A job's record; of one that cannot be read, what the columns beside it tell.
fn job(conn: &Connection, id: JobId, body: &[u8]) -> Result<Job, Fault> {
    let mut job = codec::read_job(id, body);
    if codec::is_lost(&job) {
        let mut get = conn.prepare_cached(
            "SELECT queues.name, jobs.rev FROM jobs JOIN queues ON queues.id = jobs.queue WHERE jobs.id = ?1",
        )?;
        let mut rows = get.query([id.as_bytes()])?;
        if let Some(row) = rows.next()? {
            (job.queue, job.rev) = (parse_name(text(row, 0)?)?, row.get(1)?);
        }
    }
    Ok(job)
}

/// An idle job as it is kept, from its spot.
pub(super) fn idle(conn: &Connection, spot: Spot, id: JobId, body: &[u8]) -> Result<Stored, Fault> {
    let at = match spot.place {
        Place::Pending | Place::Suspect | Place::Blocked => Ms(0),
        _ => Ms(spot.rank),
    };
    Ok(Stored::idle(job(conn, id, body)?, spot.place, at))
}

pub(super) fn running(conn: &Connection, id: JobId, body: &[u8], lease: Lease) -> Result<Stored, Fault> {
    Ok(Stored::leased(job(conn, id, body)?, lease))
}

/// Reads the columns epoch, worker, since from `first` on.
pub(super) fn lease(row: &Row<'_>, first: usize) -> Result<Lease, Fault> {
    let (epoch, worker, since) = (row.get::<_, i64>(first)? as u64, row.get(first + 1)?, row.get(first + 2)?);
    Ok(Lease { worker: WorkerId::from_bytes(worker), epoch: Epoch(epoch), since: Ms(since) })
}

pub(super) fn get(conn: &Connection, ids: &[JobId]) -> Result<Vec<Option<Stored>>, Fault> {
    let mut leases: Option<BTreeMap<i64, Lease>> = None;
    let mut get = conn.prepare_cached("SELECT n, queue, place, rank, turn, body FROM jobs WHERE id = ?1")?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let mut rows = get.query([id.as_bytes()])?;
        let Some(row) = rows.next()? else {
            found.push(None);
            continue;
        };
        let place = parse_place(row.get(2)?)?;
        let spot = Spot { n: row.get(0)?, queue: row.get(1)?, place, rank: row.get(3)?, turn: row.get(4)? };
        if is_in_line(conn, spot)? {
            found.push(Some(idle(conn, spot, *id, blob(row, 5)?)?));
            continue;
        }
        // What runs is bounded and found by epoch only: an index by job would cost every claim.
        let leases = match &mut leases {
            Some(leases) => leases,
            none => none.insert(all_leases(conn)?),
        };
        let lease = leases.get(&spot.n).cloned();
        let lease = lease.ok_or_else(|| StoreError::Corrupt(format!("job {id} is in no place")))?;
        found.push(Some(running(conn, *id, blob(row, 5)?, lease)?));
    }
    super::talk::add_talk(conn, found.iter_mut().flatten())?;
    Ok(found)
}

pub(super) fn all_leases(conn: &Connection) -> Result<BTreeMap<i64, Lease>, Fault> {
    let mut all = conn.prepare_cached("SELECT job, epoch, worker, since FROM running")?;
    let mut rows = all.query(())?;
    let mut leases = BTreeMap::new();
    while let Some(row) = rows.next()? {
        leases.insert(row.get(0)?, lease(row, 1)?);
    }
    Ok(leases)
}

/// Ids whose text contains `part`, from a table with an index on its ids.
fn find(conn: &Connection, sql: &str, part: &str, limit: usize) -> Result<Vec<[u8; 16]>, Fault> {
    let mut find = conn.prepare_cached(sql)?;
    let found = find.query_map(params![part, limit as i64], |row| row.get(0))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn find_jobs(conn: &Connection, part: &str, limit: usize) -> Result<Vec<JobId>, Fault> {
    let sql = "SELECT id FROM jobs WHERE instr(lower(hex(id)), ?1) > 0 ORDER BY id LIMIT ?2";
    Ok(find(conn, sql, part, limit)?.into_iter().map(JobId::from_bytes).collect())
}

pub(super) fn find_runs(conn: &Connection, part: &str, limit: usize) -> Result<Vec<RunId>, Fault> {
    let sql = "SELECT id FROM runs WHERE instr(lower(hex(id)), ?1) > 0 ORDER BY id LIMIT ?2";
    Ok(find(conn, sql, part, limit)?.into_iter().map(RunId::from_bytes).collect())
}

pub(super) fn stats(conn: &Connection, now: Ms) -> Result<Vec<QueueStats>, Fault> {
    let mut counts: BTreeMap<(i64, Place), u64> = BTreeMap::new();
    let mut read = conn.prepare_cached("SELECT queue, place, jobs FROM counts")?;
    let mut rows = read.query(())?;
    while let Some(row) = rows.next()? {
        let jobs = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
        counts.insert((row.get(0)?, parse_place(row.get(1)?)?), jobs);
    }
    let mut head = conn.prepare_cached(
        "SELECT jobs.id FROM line CROSS JOIN jobs ON jobs.n = line.job
         WHERE line.queue = ?1 AND line.place = ?2 ORDER BY line.rank, line.turn LIMIT 1",
    )?;
    let mut stats = Vec::new();
    for (queue, name, settings) in read_queues(conn)? {
        let count = |place| counts.get(&(queue, place)).copied().unwrap_or(0);
        let mut heads = head.query(params![queue, Place::Pending.code()])?;
        let oldest = match heads.next()? {
            Some(row) => Some(millis(now.since(JobId::from_bytes(row.get(0)?).created_at()))),
            None => None,
        };
        stats.push(QueueStats {
            paused: settings.paused,
            scheduled: count(Place::Scheduled) + count(Place::Held),
            pending: [Place::Pending, Place::Suspect, Place::Parked, Place::Blocked].map(count).iter().sum(),
            running: count(Place::Running),
            retrying: count(Place::Retrying),
            dead: count(Place::Dead),
            completed: count(Place::Completed),
            cancelled: count(Place::Cancelled),
            parked: count(Place::Parked),
            oldest_pending_ms: oldest,
            name,
        });
    }
    Ok(stats)
}

pub(super) fn workers(conn: &Connection) -> Result<Vec<WorkerStatus>, Fault> {
    let mut held: BTreeMap<[u8; 16], u64> = BTreeMap::new();
    let mut leases = conn.prepare_cached("SELECT worker, count(*) FROM running GROUP BY worker")?;
    for row in leases.query_map((), |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))? {
        let (worker, jobs) = row?;
        held.insert(worker, u64::try_from(jobs).unwrap_or(0));
    }
    let mut all = conn.prepare_cached("SELECT id, expires, info, draining FROM workers ORDER BY id")?;
    let mut rows = all.query(())?;
    let mut workers = Vec::new();
    while let Some(row) = rows.next()? {
        let running = held.get(&row.get::<_, [u8; 16]>(0)?).copied().unwrap_or(0);
        workers.push(WorkerStatus {
            info: codec::decode(blob(row, 2)?)?,
            expires_at: Ms(row.get(1)?),
            running,
            draining: row.get(3)?,
        });
    }
    Ok(workers)
}

/// What reapers must look after, and whether there are workers to strike off.
pub(super) fn overdue(conn: &Connection, now: Ms, parked: Duration, limit: usize) -> Result<(Overdue, bool), Fault> {
    let mut lapsed = conn.prepare_cached(
        "SELECT running.id, jobs.body, running.epoch, running.worker, running.since
         FROM running CROSS JOIN jobs ON jobs.n = running.job LEFT JOIN workers ON workers.id = running.worker
         WHERE workers.id IS NULL OR workers.expires < ?1 OR running.expires < ?1
         ORDER BY running.id LIMIT ?2",
    )?;
    let mut rows = lapsed.query(params![now.0, limit as i64])?;
    let mut overdue = Overdue { now, ..Overdue::default() };
    while let Some(row) = rows.next()? {
        overdue.lapsed.push(running(conn, JobId::from_bytes(row.get(0)?), blob(row, 1)?, lease(row, 2)?)?);
    }
    let mut long = conn.prepare_cached(
        "SELECT line.job, line.rank, line.turn, jobs.id, jobs.body
         FROM line CROSS JOIN jobs ON jobs.n = line.job
         WHERE line.queue = ?1 AND line.place = ?2 AND line.rank <= ?3 ORDER BY line.rank, line.turn LIMIT ?4",
    )?;
    let before = now.0.saturating_sub(millis(parked));
    for (queue, _, _) in read_queues(conn)? {
        let left = limit - overdue.unhandled.len();
        let mut rows = long.query(params![queue, Place::Parked.code(), before, left as i64])?;
        while let Some(row) = rows.next()? {
            let spot = Spot { n: row.get(0)?, queue, place: Place::Parked, rank: row.get(1)?, turn: row.get(2)? };
            overdue.unhandled.push(idle(conn, spot, JobId::from_bytes(row.get(3)?), blob(row, 4)?)?);
        }
    }
    overdue.unhandled.sort_by_key(|stored| stored.job.id);
    let lost = conn.prepare_cached("SELECT 1 FROM workers WHERE expires < ?1")?.exists([now.0])?;
    Ok((overdue, lost))
}

pub(super) fn runs(conn: &Connection, query: &RunQuery) -> Result<Page<RunRecord>, Fault> {
    let before = match &query.after {
        None => [0xff; 16],
        Some(Cursor(text)) => {
            let bad = |_| Fault::Refused(StoreError::Refused(format!("`{text}` is not a cursor of this store")));
            *text.parse::<RunId>().map_err(bad)?.as_bytes()
        }
    };
    let budget = query.budget.clamp(1, crate::domain::limits::LIST_BUDGET);
    let mut list = conn.prepare_cached(
        "SELECT id, workflow, state, rev, body FROM runs WHERE terminal = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
    )?;
    let mut rows = list.query(params![query.finished, before, budget as i64 + 1])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(run_record(row)?);
    }
    let more = items.len() > budget;
    items.truncate(budget);
    let next = items.last().filter(|_| more).map(|record| Cursor(record.id.to_string()));
    Ok(Page { items, next })
}

/// The history of a run behind a turn, and the turn that it ends with.
pub(super) fn history(conn: &Connection, run: RunId, mut from: i64, limit: usize) -> Result<(Vec<Event>, i64), Fault> {
    let mut read = conn.prepare_cached(
        "SELECT history.at, history.events, history.turn FROM runs CROSS JOIN history ON history.run = runs.n
         WHERE runs.id = ?1 AND history.turn > ?2 ORDER BY history.turn",
    )?;
    let mut rows = read.query((run.as_bytes(), from))?;
    let mut events = Vec::new();
    while events.len() < limit
        && let Some(row) = rows.next()?
    {
        let (at, record): (i64, Vec<Event>) = (row.get(0)?, codec::decode(blob(row, 1)?)?);
        events.extend(record.into_iter().map(|event| Event { at: Ms(at), ..event }));
        from = row.get(2)?;
    }
    Ok((events, from))
}

/// Events after a position, whole records only, at most `limit` unless one record has more.
pub(super) fn events(conn: &Connection, mut from: i64, limit: usize) -> Result<(Vec<Event>, i64), Fault> {
    let mut read =
        conn.prepare_cached("SELECT position, at, record FROM events WHERE position > ?1 ORDER BY position")?;
    let mut rows = read.query([from])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let record = super::events::unpack(blob(row, 2)?, Ms(row.get(1)?))?;
        if !events.is_empty() && events.len() + record.len() > limit {
            break;
        }
        events.extend(record);
        from = row.get(0)?;
    }
    Ok((events, from))
}

/// The position behind what was written before `at`, found by halving: times rise with positions.
pub(super) fn events_since(conn: &Connection, at: Ms) -> Result<i64, Fault> {
    let ends = "SELECT coalesce(min(position), 1), coalesce(max(position), 0) + 1 FROM events";
    let (mut low, mut high): (i64, i64) = conn.query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut next =
        conn.prepare_cached("SELECT position, at FROM events WHERE position >= ?1 ORDER BY position LIMIT 1")?;
    while low < high {
        let middle = low + (high - low) / 2;
        let (position, written): (i64, i64) = next.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if written < at.0 {
            low = position + 1;
        } else {
            high = middle;
        }
    }
    Ok(low - 1)
}

/// The position that so many records follow.
pub(super) fn tail(conn: &Connection, records: usize) -> Result<Option<i64>, Fault> {
    let mut last = conn.prepare_cached("SELECT position FROM events ORDER BY position DESC LIMIT 1 OFFSET ?1")?;
    Ok(last.query_row([i64::try_from(records).unwrap_or(i64::MAX)], |row| row.get(0)).optional()?)
}

pub(super) fn values(conn: &Connection, run: RunId, keys: &[String]) -> Result<Vec<Option<Json>>, Fault> {
    let mut get = conn.prepare_cached(
        "SELECT vals.value FROM runs CROSS JOIN vals ON vals.run = runs.n WHERE runs.id = ?1 AND vals.key = ?2",
    )?;
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        let mut rows = get.query(params![run.as_bytes(), key])?;
        values.push(match rows.next()? {
            None => None,
            Some(row) => {
                Some(Json::parse(text(row, 0)?, usize::MAX).map_err(|error| {
                    StoreError::Corrupt(format!("value {key:?} of run {run} cannot be read: {error}"))
                })?)
            }
        });
    }
    Ok(values)
}

pub(super) fn definition_of(conn: &Connection, hash: &str) -> Result<Option<Definition>, Fault> {
    let mut get = conn.prepare_cached("SELECT kind, name, hash, text FROM definitions WHERE hash = ?1")?;
    let mut rows = get.query([hash])?;
    rows.next()?.map(definition).transpose()
}

pub(super) fn definitions(conn: &Connection, kind: &str) -> Result<Vec<Definition>, Fault> {
    let mut all = conn.prepare_cached(
        "SELECT definitions.kind, definitions.name, definitions.hash, definitions.text
         FROM current CROSS JOIN definitions ON definitions.hash = current.hash
         WHERE current.kind = ?1 ORDER BY current.name",
    )?;
    let mut rows = all.query([kind])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(definition(row)?);
    }
    Ok(found)
}

fn definition(row: &Row<'_>) -> Result<Definition, Fault> {
    let name = parse_name(text(row, 1)?)?;
    Ok(Definition { kind: row.get(0)?, name, hash: row.get(2)?, text: row.get(3)? })
}
