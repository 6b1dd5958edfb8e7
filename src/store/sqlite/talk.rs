//! What is said to and by jobs: asks to end, progress and logs, the end of parents, drains. Changes
//! are on the writer thread, look-ups on the readers'.

use rusqlite::{Connection, OptionalExtension, params};

use super::commit::is_in_line;
use super::fault::Fault;
use super::read::{all_leases, blob, idle, running};
use super::tx::{Rare, Spot, Tx, parse_place};
use crate::domain::limits::LOG_BYTES;
use crate::domain::{Epoch, Event, EventKind, JobId, Ms, Place, WorkerId};
use crate::store::codec;
use crate::store::{Freed, JobLog, LogChunk, Note, StoreError, Stored};

impl Tx<'_> {
    pub(super) fn ask(&mut self, ids: &[JobId]) -> Result<Vec<bool>, Fault> {
        let mut asked = Vec::with_capacity(ids.len());
        for id in ids {
            let lives = self.is_live(*id)?;
            if lives {
                let mut mark = self.conn.prepare_cached("INSERT OR IGNORE INTO asks(id) VALUES (?1)")?;
                mark.execute([id.as_bytes()])?;
                self.is_used(Rare::Asks);
                self.wake();
            }
            asked.push(lives);
        }
        Ok(asked)
    }

    fn is_live(&self, id: JobId) -> Result<bool, Fault> {
        let mut get = self.conn.prepare_cached("SELECT n, queue, place, rank, turn FROM jobs WHERE id = ?1")?;
        let mut rows = get.query([id.as_bytes()])?;
        let Some(row) = rows.next()? else { return Ok(false) };
        let place = parse_place(row.get(2)?)?;
        let spot = Spot { n: row.get(0)?, queue: row.get(1)?, place, rank: row.get(3)?, turn: row.get(4)? };
        // The row of one that runs still names a place that it has left; none of those is an end.
        Ok(!place.state().is_terminal() || !is_in_line(self.conn, spot)?)
    }

    pub(super) fn no_longer_asked(&mut self, id: JobId) -> Result<(), Fault> {
        if self.any(Rare::Asks)? {
            self.conn.prepare_cached("DELETE FROM asks WHERE id = ?1")?.execute([id.as_bytes()])?;
        }
        Ok(())
    }

    pub(super) fn is_asked(&self) -> Result<bool, Fault> {
        Ok(self.conn.prepare_cached("SELECT 1 FROM asks LIMIT 1")?.exists(())?)
    }

    /// What is kept beside a job goes with it.
    pub(super) fn forget(&mut self, id: JobId) -> Result<(), Fault> {
        self.no_longer_asked(id)?;
        if self.any(Rare::Logs)? {
            self.conn.prepare_cached("DELETE FROM logs WHERE id = ?1")?.execute([id.as_bytes()])?;
            self.conn.prepare_cached("DELETE FROM log_sizes WHERE id = ?1")?.execute([id.as_bytes()])?;
        }
        Ok(())
    }

    pub(super) fn drop_progress(&mut self, id: JobId) -> Result<(), Fault> {
        if self.any(Rare::Progress)? {
            self.conn.prepare_cached("DELETE FROM progress WHERE id = ?1")?.execute([id.as_bytes()])?;
        }
        Ok(())
    }

    pub(super) fn note(&mut self, notes: &[Note]) -> Result<Vec<bool>, Fault> {
        notes.iter().map(|note| self.note_one(note)).collect()
    }

    fn note_one(&mut self, note: &Note) -> Result<bool, Fault> {
        let mut held = self.conn.prepare_cached("SELECT queue, worker FROM running WHERE epoch = ?1 AND id = ?2")?;
        let held = held.query_row(params![note.epoch.0 as i64, note.id.as_bytes()], |row| {
            Ok((row.get::<_, i64>(0)?, WorkerId::from_bytes(row.get(1)?)))
        });
        let Some((queue, worker)) = held.optional()? else { return Ok(false) };
        if let Some(progress) = &note.progress {
            let mut keep = self.conn.prepare_cached("INSERT OR REPLACE INTO progress(id, progress) VALUES (?1, ?2)")?;
            keep.execute(params![note.id.as_bytes(), codec::encode(progress)?])?;
            self.is_used(Rare::Progress);
            let queue = Some(self.queue_name(queue)?);
            let told = Event { job: Some(note.id), queue, ..Event::new(EventKind::JobProgress) };
            self.log(Event { worker: Some(worker), data: Some(progress.to_string()), ..told });
        }
        if !note.log.is_empty() {
            self.append_log(note)?;
        }
        Ok(true)
    }

    fn append_log(&mut self, note: &Note) -> Result<(), Fault> {
        let (id, added) = (note.id.as_bytes(), note.log.len() as i64);
        let mut grow = self.conn.prepare_cached(
            "INSERT INTO log_sizes(id, last, bytes) VALUES (?1, 1, ?2)
             ON CONFLICT(id) DO UPDATE SET last = last + 1, bytes = bytes + excluded.bytes RETURNING last, bytes",
        )?;
        let (last, mut bytes): (i64, i64) = grow.query_row(params![id, added], |row| Ok((row.get(0)?, row.get(1)?)))?;
        drop(grow);
        self.is_used(Rare::Logs);
        let mut add =
            self.conn.prepare_cached("INSERT INTO logs(id, seq, at, epoch, text) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        add.execute(params![id, last, self.now.0, note.epoch.0 as i64, note.log])?;
        drop(add);
        while bytes > LOG_BYTES as i64 {
            let mut drop_first = self.conn.prepare_cached(
                "DELETE FROM logs WHERE id = ?1 AND seq = (SELECT min(seq) FROM logs WHERE id = ?1)
                 RETURNING octet_length(text)",
            )?;
            let gone: i64 = drop_first.query_row([id], |row| row.get(0))?;
            bytes -= gone;
        }
        let mut keep = self.conn.prepare_cached("UPDATE log_sizes SET bytes = ?2 WHERE id = ?1")?;
        keep.execute(params![id, bytes])?;
        Ok(())
    }

    /// Ties a held job to its parents.
    pub(super) fn tie(&mut self, child: i64, parents: &[JobId]) -> Result<(), Fault> {
        for parent in parents {
            let mut tie = self.conn.prepare_cached("INSERT OR IGNORE INTO ties(parent, child) VALUES (?1, ?2)")?;
            tie.execute(params![parent.as_bytes(), child])?;
            self.is_used(Rare::Ties);
            if !self.is_live(*parent)? {
                self.has_ended(*parent)?;
            }
        }
        Ok(())
    }

    pub(super) fn untie(&mut self, child: i64) -> Result<(), Fault> {
        let mut untie = self.conn.prepare_cached("DELETE FROM ties WHERE child = ?1 RETURNING parent")?;
        let parents = untie.query_map([child], |row| row.get::<_, [u8; 16]>(0))?;
        let parents = parents.collect::<rusqlite::Result<Vec<_>>>()?;
        for parent in parents {
            let mut done = self.conn.prepare_cached(
                "DELETE FROM ended WHERE parent = ?1 AND NOT EXISTS (SELECT 1 FROM ties WHERE parent = ?1)",
            )?;
            done.execute([parent])?;
        }
        Ok(())
    }

    /// A job has ended, or is not kept any more: those that are held for it are free.
    pub(super) fn has_ended(&mut self, id: JobId) -> Result<(), Fault> {
        if self.any(Rare::Ties)? {
            let mut mark = self.conn.prepare_cached(
                "INSERT OR IGNORE INTO ended(parent) SELECT ?1 WHERE EXISTS (SELECT 1 FROM ties WHERE parent = ?1)",
            )?;
            if mark.execute([id.as_bytes()])? > 0 {
                self.wake();
            }
        }
        Ok(())
    }

    /// A job lives, perhaps again: it is waited for.
    pub(super) fn lives(&mut self, id: JobId) -> Result<(), Fault> {
        if self.any(Rare::Ties)? {
            self.conn.prepare_cached("DELETE FROM ended WHERE parent = ?1")?.execute([id.as_bytes()])?;
        }
        Ok(())
    }

    pub(super) fn is_freed(&self) -> Result<bool, Fault> {
        Ok(self.conn.prepare_cached("SELECT 1 FROM ended LIMIT 1")?.exists(())?)
    }

    pub(super) fn drain(&mut self, worker: WorkerId) -> Result<bool, Fault> {
        let mut get = self.conn.prepare_cached("SELECT draining FROM workers WHERE id = ?1")?;
        let draining: Option<bool> = get.query_row([worker.as_bytes()], |row| row.get(0)).optional()?;
        if draining == Some(false) {
            self.conn.prepare_cached("UPDATE workers SET draining = 1 WHERE id = ?1")?.execute([worker.as_bytes()])?;
            self.log(Event { worker: Some(worker), ..Event::new(EventKind::WorkerDraining) });
        }
        Ok(draining.is_some())
    }
}

/// Adds what jobs tell, and whether they were asked to end.
pub(super) fn add_talk<'s>(conn: &Connection, jobs: impl Iterator<Item = &'s mut Stored>) -> Result<(), Fault> {
    let any = |table: &str| -> Result<bool, Fault> {
        Ok(conn.prepare_cached(&format!("SELECT 1 FROM {table} LIMIT 1"))?.exists(())?)
    };
    let (asks, progress) = (any("asks")?, any("progress")?);
    if !asks && !progress {
        return Ok(());
    }
    let mut asked = conn.prepare_cached("SELECT 1 FROM asks WHERE id = ?1")?;
    let mut told = conn.prepare_cached("SELECT progress FROM progress WHERE id = ?1")?;
    for stored in jobs {
        stored.asked = asks && asked.exists([stored.job.id.as_bytes()])?;
        if progress && stored.place == Place::Running {
            let mut rows = told.query([stored.job.id.as_bytes()])?;
            stored.progress = match rows.next()? {
                Some(row) => Some(codec::decode(blob(row, 0)?)?),
                None => None,
            };
        }
    }
    Ok(())
}

/// Jobs that were asked to end, and that this worker can end.
pub(super) fn asked(conn: &Connection, now: Ms, worker: WorkerId, limit: usize) -> Result<Vec<Stored>, Fault> {
    let leases = all_leases(conn)?;
    let mut silent = conn.prepare_cached("SELECT 1 FROM workers WHERE id = ?1 AND expires >= ?2")?;
    let mut own = conn.prepare_cached("SELECT 1 FROM running WHERE epoch = ?1 AND expires < ?2")?;
    let mut all = conn.prepare_cached(
        "SELECT jobs.n, jobs.queue, jobs.place, jobs.rank, jobs.turn, jobs.id, jobs.body
         FROM asks CROSS JOIN jobs ON jobs.id = asks.id ORDER BY asks.id",
    )?;
    let mut rows = all.query(())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if found.len() == limit {
            break;
        }
        let place = parse_place(row.get(2)?)?;
        let spot = Spot { n: row.get(0)?, queue: row.get(1)?, place, rank: row.get(3)?, turn: row.get(4)? };
        let id = JobId::from_bytes(row.get(5)?);
        match leases.get(&spot.n) {
            None => found.push(idle(conn, spot, id, blob(row, 6)?)?),
            Some(lease) => {
                let lapsed = !silent.exists(params![lease.worker.as_bytes(), now.0])?
                    || own.exists(params![lease.epoch.0 as i64, now.0])?;
                if lease.worker == worker || lapsed {
                    found.push(running(conn, id, blob(row, 6)?, lease.clone())?);
                }
            }
        }
    }
    add_talk(conn, found.iter_mut())?;
    Ok(found)
}

pub(super) fn log(conn: &Connection, id: JobId, after: u64) -> Result<JobLog, Fault> {
    let mut first = conn.prepare_cached("SELECT min(seq) FROM logs WHERE id = ?1")?;
    let first: Option<i64> = first.query_row([id.as_bytes()], |row| row.get(0))?;
    let mut read =
        conn.prepare_cached("SELECT seq, at, epoch, text FROM logs WHERE id = ?1 AND seq > ?2 ORDER BY seq")?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let chunks = read.query_map(params![id.as_bytes(), after], |row| {
        let (seq, epoch) = (row.get::<_, i64>(0)? as u64, Epoch(row.get::<_, i64>(2)? as u64));
        Ok(LogChunk { seq, at: Ms(row.get(1)?), epoch, text: row.get(3)? })
    })?;
    // The first chunk ever has the number 1.
    Ok(JobLog { chunks: chunks.collect::<rusqlite::Result<_>>()?, truncated: first.is_some_and(|seq| seq > 1) })
}

/// Parents that have ended, with at most `limit` jobs that are held for them.
pub(super) fn freed(conn: &Connection, limit: usize) -> Result<Vec<Freed>, Fault> {
    let mut all = conn.prepare_cached(
        "SELECT ended.parent, parents.place, jobs.n, jobs.queue, jobs.place, jobs.rank, jobs.turn, jobs.id, jobs.body
         FROM ended CROSS JOIN ties ON ties.parent = ended.parent CROSS JOIN jobs ON jobs.n = ties.child
             LEFT JOIN jobs parents ON parents.id = ended.parent
         ORDER BY ended.parent, jobs.n LIMIT ?1",
    )?;
    let mut rows = all.query([limit as i64])?;
    let mut freed: Vec<Freed> = Vec::new();
    while let Some(row) = rows.next()? {
        let parent = JobId::from_bytes(row.get(0)?);
        if freed.last().is_none_or(|last| last.parent != parent) {
            let state = match row.get::<_, Option<u8>>(1)? {
                Some(code) => Some(parse_place(code)?.state()),
                None => None,
            };
            freed.push(Freed { parent, state, children: Vec::new() });
        }
        let place = parse_place(row.get(4)?)?;
        let spot = Spot { n: row.get(2)?, queue: row.get(3)?, place, rank: row.get(5)?, turn: row.get(6)? };
        let child = idle(conn, spot, JobId::from_bytes(row.get(7)?), blob(row, 8)?)?;
        freed
            .last_mut()
            .ok_or_else(|| StoreError::Corrupt("a child without a parent".to_owned()))?
            .children
            .push(child);
    }
    for one in &mut freed {
        add_talk(conn, one.children.iter_mut())?;
    }
    Ok(freed)
}
