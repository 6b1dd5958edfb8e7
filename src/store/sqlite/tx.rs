//! One transaction of the writer, and the moves between places that everything is made of. What is
//! counted and logged is gathered here and written once at the end, however many requests share the
//! transaction. It knows places and turns, not why a job moves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::events::Pack;
use super::fault::Fault;
use super::row::Row;
use crate::domain::{Epoch, Event, JobId, Ms, Name, Place, QueueSettings, To};
use crate::store::StoreError;
use crate::store::codec;

/// Queues by name and number. Kept from one transaction to the next, and read anew when another
/// process changed a queue.
#[derive(Default)]
pub(super) struct Queues {
    ids: HashMap<Name, i64>,
    known: BTreeMap<i64, (Name, QueueSettings)>,
    version: Option<i64>,
}

/// Where a job is: its row in `jobs` and the key of its row in `line`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub n: i64,
    pub queue: i64,
    pub place: Place,
    pub rank: i64,
    pub turn: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    back: i64,
    front: i64,
    epoch: i64,
    settings: i64,
}

/// The statements of the hot path, looked up once a transaction instead of once a job.
pub(super) struct Hot<'c> {
    pub lease: CachedStatement<'c>,
    pub end_lease: CachedStatement<'c>,
    add: CachedStatement<'c>,
    put: CachedStatement<'c>,
    enter: CachedStatement<'c>,
}

pub(super) struct Tx<'c> {
    pub conn: &'c Connection,
    pub now: Ms,
    pub hot: Hot<'c>,
    queues: &'c mut Queues,
    state: State,
    begun: State,
    counts: BTreeMap<(i64, u8), i64>,
    log: Pack,
    wake: bool,
    /// Queues whose lines have got jobs that nobody was given yet.
    fresh: BTreeSet<i64>,
    rare: [Option<bool>; 6],
}

/// Tables that are mostly empty: they are looked into only where they are not.
#[derive(Clone, Copy)]
pub(super) enum Rare {
    Asks,
    Ties,
    Logs,
    Gates,
    Keyed,
    Progress,
}

/// Flags of a job's row.
pub(super) const SUSPECT: u8 = 1;
pub(super) const KEYED: u8 = 2;

impl<'c> Tx<'c> {
    pub(super) fn begin(conn: &'c Connection, now: Ms, queues: &'c mut Queues) -> Result<Tx<'c>, Fault> {
        let state = conn.prepare_cached("SELECT back, front, epoch, settings FROM state")?.query_row((), |row| {
            Ok(State { back: row.get(0)?, front: row.get(1)?, epoch: row.get(2)?, settings: row.get(3)? })
        })?;
        if queues.version != Some(state.settings) {
            *queues = Queues::read(conn)?;
            queues.version = Some(state.settings);
        }
        let (counts, log, fresh) = (BTreeMap::new(), Pack::default(), BTreeSet::new());
        let hot = Hot::prepare(conn)?;
        Ok(Tx { conn, now, hot, queues, state, begun: state, counts, log, wake: false, fresh, rare: [None; 6] })
    }

    /// Writes what was gathered. Whether somebody may find new work.
    pub(super) fn finish(self) -> Result<bool, Fault> {
        let mut add = self.conn.prepare_cached(
            "INSERT INTO counts(queue, place, jobs) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs",
        )?;
        for ((queue, place), change) in self.counts.into_iter().filter(|(_, change)| *change != 0) {
            add.execute(params![queue, place, change])?;
        }
        if let Some(record) = self.log.into_record()? {
            let mut log = self.conn.prepare_cached("INSERT INTO events(at, record) VALUES (?1, ?2)")?;
            log.execute(params![self.now.0, record])?;
        }
        if self.state != self.begun {
            let State { back, front, epoch, settings } = self.state;
            let mut keep =
                self.conn.prepare_cached("UPDATE state SET back = ?1, front = ?2, epoch = ?3, settings = ?4")?;
            keep.execute(params![back, front, epoch, settings])?;
            self.queues.version = Some(settings);
        }
        Ok(self.wake || !self.fresh.is_empty())
    }

    /// Whether there is anything in a table; looked up once a transaction.
    pub(super) fn any(&mut self, table: Rare) -> Result<bool, Fault> {
        if let Some(known) = self.rare[table as usize] {
            return Ok(known);
        }
        let sql = match table {
            Rare::Asks => "SELECT EXISTS (SELECT 1 FROM asks)",
            Rare::Ties => "SELECT EXISTS (SELECT 1 FROM ties)",
            Rare::Logs => "SELECT EXISTS (SELECT 1 FROM log_sizes)",
            Rare::Gates => "SELECT EXISTS (SELECT 1 FROM gates)",
            Rare::Keyed => "SELECT EXISTS (SELECT 1 FROM keyed)",
            Rare::Progress => "SELECT EXISTS (SELECT 1 FROM progress)",
        };
        let any = self.conn.prepare_cached(sql)?.query_row((), |row| row.get(0))?;
        self.rare[table as usize] = Some(any);
        Ok(any)
    }

    /// Something was put into a table.
    pub(super) fn is_used(&mut self, table: Rare) {
        self.rare[table as usize] = Some(true);
    }

    /// Somebody may find new work after this.
    pub(super) fn wake(&mut self) {
        self.wake = true;
    }

    /// A claim has taken all that waited in a line.
    pub(super) fn is_emptied(&mut self, queue: i64) {
        self.fresh.remove(&queue);
    }

    pub(super) fn log(&mut self, event: Event) {
        self.log.push(event);
    }

    /// The last number given out by [`Tx::next_turn`] rises for ever; inboxes use it too.
    pub(super) fn next_turn(&mut self) -> i64 {
        self.state.back += 1;
        self.state.back
    }

    /// The leases that are given from now on come after those of other stores.
    pub(super) fn raise_epoch(&mut self) {
        self.state.epoch = self.state.epoch.max(Epoch::above_others(self.now).0 as i64);
    }

    pub(super) fn next_epoch(&mut self) -> i64 {
        self.state.epoch += 1;
        self.state.epoch
    }

    pub(super) fn count(&mut self, queue: i64, place: Place, change: i64) {
        *self.counts.entry((queue, place.code())).or_default() += change;
    }

    /// The kept number of jobs in a place, with what this transaction changes.
    pub(super) fn counted(&self, queue: i64, place: Place) -> Result<i64, Fault> {
        let mut get = self.conn.prepare_cached("SELECT jobs FROM counts WHERE queue = ?1 AND place = ?2")?;
        let kept: Option<i64> = get.query_row((queue, place.code()), |row| row.get(0)).optional()?;
        Ok(kept.unwrap_or(0) + self.counts.get(&(queue, place.code())).copied().unwrap_or(0))
    }

    pub(super) fn known_queue(&self, name: &Name) -> Option<(i64, bool)> {
        let id = self.queues.ids.get(name)?;
        let (_, settings) = self.queues.known.get(id)?;
        Some((*id, settings.paused))
    }

    pub(super) fn settings(&self, queue: i64) -> Option<&QueueSettings> {
        self.queues.known.get(&queue).map(|(_, settings)| settings)
    }

    pub(super) fn queue_name(&self, id: i64) -> Result<Name, Fault> {
        let known = self.queues.known.get(&id).map(|(name, _)| name.clone());
        known.ok_or_else(|| StoreError::Corrupt(format!("queue {id} has no name")).into())
    }

    pub(super) fn queue_ids(&self) -> Vec<(Name, i64)> {
        let mut ids: Vec<_> = self.queues.ids.iter().map(|(name, id)| (name.clone(), *id)).collect();
        ids.sort();
        ids
    }

    /// The queue's number; a new name gets one.
    pub(super) fn queue(&mut self, name: &Name) -> Result<i64, Fault> {
        if let Some(id) = self.queues.ids.get(name) {
            return Ok(*id);
        }
        self.set_queue(name, &QueueSettings::default()).map(|(id, _)| id)
    }

    /// Keeps settings; gives the number of the queue and what its settings were.
    pub(super) fn set_queue(&mut self, name: &Name, settings: &QueueSettings) -> Result<(i64, QueueSettings), Fault> {
        let bytes = codec::encode(settings)?;
        let known = self.queues.ids.get(name).copied();
        let id = match known {
            Some(id) => {
                let mut set = self.conn.prepare_cached("UPDATE queues SET settings = ?2 WHERE id = ?1")?;
                set.execute(params![id, bytes])?;
                id
            }
            None => {
                let mut add = self.conn.prepare_cached("INSERT INTO queues(name, settings) VALUES (?1, ?2)")?;
                add.insert(params![name.as_str(), bytes])?
            }
        };
        self.state.settings += 1;
        self.queues.ids.insert(name.clone(), id);
        let before = self.queues.known.insert(id, (name.clone(), settings.clone()));
        Ok((id, before.map(|(_, settings)| settings).unwrap_or_default()))
    }

    /// The key under which a job is put into a place: by priority and turn where jobs wait to be
    /// claimed, by time elsewhere.
    pub(super) fn key(&mut self, to: To, priority: i8) -> (i64, i64) {
        let turn = if to == To::Front {
            self.state.front -= 1;
            self.state.front
        } else {
            self.next_turn()
        };
        match to {
            To::Pending | To::Front => (-i64::from(priority), turn),
            To::Suspect => (0, turn),
            To::Scheduled(delay) | To::Retrying(delay) => (self.now.after(delay).0, turn),
            To::Held | To::Parked | To::Dead | To::Completed | To::Cancelled | To::Gone => (self.now.0, turn),
        }
    }

    pub(super) fn exists(&self, id: JobId) -> Result<bool, Fault> {
        Ok(self.conn.prepare_cached("SELECT 1 FROM jobs WHERE id = ?1")?.exists([id.as_bytes()])?)
    }

    /// The job that holds a unique key: it lives, or the time of the key is not over.
    pub(super) fn holder(&self, key: &str) -> Result<Option<JobId>, Fault> {
        let mut get = self.conn.prepare_cached("SELECT id FROM uniques WHERE key = ?1 AND (live OR until > ?2)")?;
        Ok(get.query_row(params![key, self.now.0], |row| row.get::<_, [u8; 16]>(0)).optional()?.map(JobId::from_bytes))
    }

    /// Adds a job. `false` if one with its id is kept: then nothing was changed.
    pub(super) fn add(&mut self, row: &Row, to: To) -> Result<bool, Fault> {
        let to = apart(to, row.suspect);
        let Some(place) = to.place() else { return Ok(true) };
        let queue = self.queue(&row.queue)?;
        let (rank, turn) = self.key(to, row.priority);
        let added = self.hot.add.execute(params![
            row.id.as_bytes(),
            queue,
            place.code(),
            rank,
            turn,
            row.priority,
            row.rev,
            row.timeout_ms,
            row.run.as_ref().map(|run| run.as_bytes()),
            row.body,
            flags(row)
        ])?;
        if added == 0 {
            return Ok(false);
        }
        let spot = Spot { n: self.conn.last_insert_rowid(), queue, place, rank, turn };
        self.arrive(spot, row, to)?;
        Ok(true)
    }

    /// Writes a job's record anew and puts it into a place; it must have left the one before.
    pub(super) fn put(&mut self, n: i64, row: &Row, to: To) -> Result<(), Fault> {
        let to = apart(to, row.suspect);
        let Some(place) = to.place() else {
            self.conn.prepare_cached("DELETE FROM jobs WHERE n = ?1")?.execute([n])?;
            self.free_unique(row)?;
            self.drop_keyed(n)?;
            self.has_ended(row.id)?;
            return self.forget(row.id);
        };
        let queue = self.queue(&row.queue)?;
        let (rank, turn) = self.key(to, row.priority);
        self.hot.put.execute(params![
            n,
            queue,
            place.code(),
            rank,
            turn,
            row.priority,
            row.rev,
            row.timeout_ms,
            row.run.as_ref().map(|run| run.as_bytes()),
            row.body,
            flags(row)
        ])?;
        self.drop_keyed(n)?;
        self.arrive(Spot { n, queue, place, rank, turn }, row, to)
    }

    fn arrive(&mut self, spot: Spot, row: &Row, to: To) -> Result<(), Fault> {
        self.enter(spot)?;
        if spot.place == Place::Parked {
            let mut park =
                self.conn.prepare_cached("INSERT INTO parked(kind, rank, turn, job) VALUES (?1, ?2, ?3, ?4)")?;
            park.execute(params![row.kind.as_str(), spot.rank, spot.turn, spot.n])?;
        }
        if to.frees_unique() {
            self.free_unique(row)?;
            self.has_ended(row.id)?;
            return self.no_longer_asked(row.id);
        }
        self.lives(row.id)?;
        if spot.place == Place::Held {
            self.tie(spot.n, &row.after)?;
        }
        if let Some(concurrency) = &row.concurrency {
            self.add_keyed(spot, concurrency)?;
        }
        if let Some(key) = &row.unique {
            let mut take = self.conn.prepare_cached(
                "INSERT INTO uniques(key, id) VALUES (?1, ?2) ON CONFLICT(key) DO UPDATE
                 SET until = CASE WHEN id = excluded.id THEN until END, id = excluded.id, live = 1",
            )?;
            take.execute(params![key, row.id.as_bytes()])?;
        }
        Ok(())
    }

    /// A unique key stays taken until then, whatever becomes of its job.
    pub(super) fn hold_unique(&self, key: &str, until: Ms) -> Result<(), Fault> {
        let mut hold = self.conn.prepare_cached("UPDATE uniques SET until = ?2 WHERE key = ?1")?;
        hold.execute(params![key, until.0])?;
        Ok(())
    }

    fn free_unique(&self, row: &Row) -> Result<(), Fault> {
        if let Some(key) = &row.unique {
            let mut free = self
                .conn
                .prepare_cached("DELETE FROM uniques WHERE key = ?1 AND id = ?2 AND coalesce(until <= ?3, true)")?;
            if free.execute(params![key, row.id.as_bytes(), self.now.0])? == 0 {
                let mut end = self.conn.prepare_cached("UPDATE uniques SET live = 0 WHERE key = ?1 AND id = ?2")?;
                end.execute(params![key, row.id.as_bytes()])?;
            }
        }
        Ok(())
    }

    pub(super) fn enter(&mut self, spot: Spot) -> Result<(), Fault> {
        self.hot.enter.execute(params![spot.queue, spot.place.code(), spot.rank, spot.turn, spot.n])?;
        self.count(spot.queue, spot.place, 1);
        if spot.place == Place::Pending {
            self.fresh.insert(spot.queue);
        } else {
            self.wake |= !spot.place.state().is_terminal();
        }
        Ok(())
    }

    /// Takes an idle job out of its place. `false` if it is not there: it runs.
    pub(super) fn leave(&mut self, spot: Spot) -> Result<bool, Fault> {
        let mut leave =
            self.conn.prepare_cached("DELETE FROM line WHERE queue = ?1 AND place = ?2 AND rank = ?3 AND turn = ?4")?;
        let left = leave.execute(params![spot.queue, spot.place.code(), spot.rank, spot.turn])?;
        if left == 0 {
            return Ok(false);
        }
        if spot.place == Place::Parked {
            // Few are ever parked, and the kind lies in the body.
            let mut leave = self.conn.prepare_cached("DELETE FROM parked WHERE rank = ?1 AND turn = ?2")?;
            leave.execute([spot.rank, spot.turn])?;
        }
        if spot.place == Place::Held {
            self.untie(spot.n)?;
        }
        self.count(spot.queue, spot.place, -1);
        Ok(true)
    }

    /// Moves an idle job without touching its record: what is due, or parked or blocked and wanted again.
    pub(super) fn shift(&mut self, from: Spot, priority: i8, flags: u8, to: To) -> Result<(), Fault> {
        let to = apart(to, flags & SUSPECT != 0);
        let Some(place) = to.place() else { return Ok(()) };
        self.leave(from)?;
        let (rank, turn) = self.key(to, priority);
        let mut shift = self.conn.prepare_cached("UPDATE jobs SET place = ?2, rank = ?3, turn = ?4 WHERE n = ?1")?;
        shift.execute(params![from.n, place.code(), rank, turn])?;
        self.enter(Spot { place, rank, turn, ..from })
    }
}

/// Where a job goes: one with crashes enters the line of suspects wherever it would enter the other.
fn apart(to: To, suspect: bool) -> To {
    if suspect && matches!(to, To::Pending | To::Front) { To::Suspect } else { to }
}

fn flags(row: &Row) -> u8 {
    u8::from(row.suspect) * SUSPECT + u8::from(row.concurrency.is_some()) * KEYED
}

impl<'c> Hot<'c> {
    fn prepare(conn: &'c Connection) -> Result<Hot<'c>, Fault> {
        Ok(Hot {
            lease: conn.prepare_cached("SELECT job, id, queue, worker, expires FROM running WHERE epoch = ?1")?,
            end_lease: conn.prepare_cached("DELETE FROM running WHERE epoch = ?1")?,
            add: conn.prepare_cached(
                "INSERT INTO jobs(id, queue, place, rank, turn, priority, rev, timeout, run, body, flags)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT(id) DO NOTHING",
            )?,
            put: conn.prepare_cached(
                "UPDATE jobs SET queue = ?2, place = ?3, rank = ?4, turn = ?5, priority = ?6, rev = ?7, timeout = ?8,
                     run = ?9, body = ?10, flags = ?11 WHERE n = ?1",
            )?,
            enter: conn
                .prepare_cached("INSERT INTO line(queue, place, rank, turn, job) VALUES (?1, ?2, ?3, ?4, ?5)")?,
        })
    }
}

impl Queues {
    fn read(conn: &Connection) -> Result<Queues, Fault> {
        let mut queues = Queues::default();
        for (id, name, settings) in read_queues(conn)? {
            queues.ids.insert(name.clone(), id);
            queues.known.insert(id, (name, settings));
        }
        Ok(queues)
    }
}

/// All queues by name.
pub(super) fn read_queues(conn: &Connection) -> Result<Vec<(i64, Name, QueueSettings)>, Fault> {
    let mut all = conn.prepare_cached("SELECT id, name, settings FROM queues ORDER BY name")?;
    let mut rows = all.query(())?;
    let mut queues = Vec::new();
    while let Some(row) = rows.next()? {
        let name = parse_name(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?;
        queues.push((row.get(0)?, name, codec::decode(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?)?));
    }
    Ok(queues)
}

/// Reads a place's column.
pub(super) fn parse_place(code: u8) -> Result<Place, Fault> {
    Place::from_code(code).ok_or_else(|| StoreError::Corrupt(format!("{code} is no place")).into())
}

pub(super) fn parse_name(text: &str) -> Result<Name, Fault> {
    text.parse().map_err(|error| StoreError::Corrupt(format!("a kept name: {error}")).into())
}
