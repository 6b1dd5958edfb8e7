//! Runs and logs that come from another store or go to one. Changes are on the writer thread, the look is
//! on the readers'. It moves bytes between tables and the contract's types, and knows no shards.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::commit::is_in_line;
use super::fault::Fault;
use super::read::blob;
use super::runs::run_record;
use super::tx::{Rare, Spot, Tx, parse_place};
use crate::domain::limits::LOG_BYTES;
use crate::domain::{Event, JobId, Json, Ms, Place, RunId};
use crate::store::codec;
use crate::store::{DocumentSet, GatePlace, JobLog, PutRuns, RunRecord, SeenRun, StoreError, TakeRuns, WholeRun};

/// Everything that is kept under a run's number.
const OF_RUN: [&str; 7] = [
    "DELETE FROM inbox WHERE run = ?1",
    "DELETE FROM dirty WHERE run = ?1",
    "DELETE FROM vals WHERE run = ?1",
    "DELETE FROM timers WHERE run = ?1",
    "DELETE FROM history WHERE run = ?1",
    "DELETE FROM gates WHERE run = ?1",
    "DELETE FROM runs WHERE n = ?1",
];

fn all<T>(
    conn: &Connection,
    sql: &str,
    n: i64,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut get = conn.prepare_cached(sql)?;
    let mut rows = get.query([n])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

pub(super) fn whole_run(conn: &Connection, id: RunId) -> Result<Option<WholeRun>, Fault> {
    let mut get = conn.prepare_cached("SELECT id, workflow, state, rev, body, n, finished FROM runs WHERE id = ?1")?;
    let mut rows = get.query([id.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (record, n, finished): (RunRecord, i64, Option<i64>) = (run_record(row)?, row.get(5)?, row.get(6)?);
    let gate = all(conn, "SELECT key, most, go, inside, turn FROM gates WHERE run = ?1", n, |row| {
        let (key, limit, go) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(GatePlace { key, limit, go, inside: row.get(3)?, turn: row.get(4)? })
    })?;
    let inbox = all(conn, "SELECT seq, fact FROM inbox WHERE run = ?1 ORDER BY seq", n, |row| {
        Ok((row.get::<_, i64>(0)? as u64, row.get(1)?))
    })?;
    let timers = all(conn, "SELECT key, due, fact FROM timers WHERE run = ?1 ORDER BY key", n, |row| {
        Ok((row.get(0)?, Ms(row.get(1)?), row.get(2)?))
    })?;
    let values = all(conn, "SELECT key, value FROM vals WHERE run = ?1 ORDER BY key", n, |row| {
        let (key, text): (String, String) = (row.get(0)?, row.get(1)?);
        let broken = |_| StoreError::Corrupt(format!("value `{key}` of run {id} is not JSON"));
        let value = Json::parse(&text, usize::MAX).map_err(broken)?;
        Ok((key, value))
    })?;
    let history = all(conn, "SELECT at, events FROM history WHERE run = ?1 ORDER BY turn", n, |row| {
        let events: Vec<Event> = codec::decode(blob(row, 1)?)?;
        Ok((Ms(row.get(0)?), events))
    })?;
    let gate = gate.into_iter().next();
    Ok(Some(WholeRun { record, finished: finished.map(Ms), gate, inbox, timers, values, history }))
}

impl Tx<'_> {
    /// The number of a run that still is as it was seen.
    fn as_seen(&self, seen: &SeenRun) -> Result<Option<i64>, Fault> {
        let mut get = self.conn.prepare_cached(
            "SELECT n FROM runs WHERE id = ?1 AND rev = ?2
                 AND ?3 = coalesce((SELECT max(seq) FROM inbox WHERE inbox.run = runs.n), 0)",
        )?;
        let last = i64::try_from(seen.last).unwrap_or(i64::MAX);
        let found = get.query_row(params![seen.id.as_bytes(), seen.rev as i64, last], |row| row.get(0));
        Ok(found.optional()?)
    }

    pub(super) fn take_runs(&mut self, take: &TakeRuns) -> Result<bool, Fault> {
        let mut taken = Vec::with_capacity(take.runs.len());
        for seen in &take.runs {
            let Some(n) = self.as_seen(seen)? else { return Ok(false) };
            taken.push(n);
        }
        for n in &taken {
            let mut others = self.conn.prepare_cached(
                "SELECT run FROM gates WHERE key = (SELECT own.key FROM gates own WHERE own.run = ?1)",
            )?;
            let others = others.query_map([n], |row| row.get::<_, i64>(0))?;
            for other in others {
                if !taken.contains(&other?) {
                    return Ok(false);
                }
            }
        }
        if matches!(self.set_document(&take.mark())?, DocumentSet::Changed(_)) {
            return Ok(false);
        }
        for n in taken {
            for table in OF_RUN {
                self.conn.prepare_cached(table)?.execute([n])?;
            }
        }
        Ok(true)
    }

    pub(super) fn put_runs(&mut self, put: &PutRuns) -> Result<bool, Fault> {
        for whole in &put.runs {
            if self.run_number(whole.record.id)?.is_some() {
                return Ok(false);
            }
        }
        if matches!(self.set_document(&put.unmark())?, DocumentSet::Changed(_)) {
            return Ok(false);
        }
        self.raise_epoch();
        for whole in &put.runs {
            self.put_run(whole)?;
        }
        for gate in put.runs.iter().filter_map(|whole| whole.gate.as_ref()) {
            self.admit(&gate.key)?;
        }
        self.wake();
        Ok(true)
    }

    fn put_run(&mut self, whole: &WholeRun) -> Result<(), Fault> {
        let RunRecord { id, workflow, state, rev, body } = &whole.record;
        let mut add = self.conn.prepare_cached(
            "INSERT INTO runs(id, workflow, state, rev, terminal, finished, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let (terminal, finished) = (state.is_terminal(), whole.finished.map(|at| at.0));
        let (workflow, state) = (workflow.as_str(), state.as_str());
        let n = add.insert(params![id.as_bytes(), workflow, state, *rev as i64, terminal, finished, body])?;
        if let Some(GatePlace { key, limit, go, inside, turn: _ }) = &whole.gate {
            let turn = self.next_turn();
            let mut wait = self.conn.prepare_cached(
                "INSERT INTO gates(run, key, most, inside, turn, go) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            wait.execute(params![n, key, limit, inside, turn, go])?;
            self.is_used(Rare::Gates);
        }
        for (key, value) in &whole.values {
            let mut keep = self.conn.prepare_cached("INSERT INTO vals(run, key, value) VALUES (?1, ?2, ?3)")?;
            keep.execute(params![n, key, value.as_str()])?;
        }
        for (key, due, fact) in &whole.timers {
            let mut set =
                self.conn.prepare_cached("INSERT INTO timers(run, key, due, fact) VALUES (?1, ?2, ?3, ?4)")?;
            set.execute(params![n, key, due.0, fact])?;
        }
        for (at, events) in &whole.history {
            let turn = self.next_turn();
            let mut keep =
                self.conn.prepare_cached("INSERT INTO history(run, turn, at, events) VALUES (?1, ?2, ?3, ?4)")?;
            keep.execute(params![n, turn, at.0, codec::encode(events)?])?;
        }
        for (_, fact) in &whole.inbox {
            self.inbox(n, fact)?;
        }
        Ok(())
    }

    pub(super) fn keep_log(&mut self, id: JobId, rev: u32, log: &JobLog) -> Result<bool, Fault> {
        let mut get = self.conn.prepare_cached("SELECT n, queue, place, rank, turn, rev FROM jobs WHERE id = ?1")?;
        let mut rows = get.query([id.as_bytes()])?;
        let Some(row) = rows.next()? else { return Ok(false) };
        let place = parse_place(row.get(2)?)?;
        let spot = Spot { n: row.get(0)?, queue: row.get(1)?, place, rank: row.get(3)?, turn: row.get(4)? };
        if place != Place::Scheduled || row.get::<_, u32>(5)? != rev || !is_in_line(self.conn, spot)? {
            return Ok(false);
        }
        for table in ["DELETE FROM logs WHERE id = ?1", "DELETE FROM log_sizes WHERE id = ?1"] {
            self.conn.prepare_cached(table)?.execute([id.as_bytes()])?;
        }
        let log = log.bounded(LOG_BYTES);
        let Some(last) = log.chunks.last() else { return Ok(true) };
        let bytes: usize = log.chunks.iter().map(|chunk| chunk.text.len()).sum();
        let mut size = self.conn.prepare_cached("INSERT INTO log_sizes(id, last, bytes) VALUES (?1, ?2, ?3)")?;
        size.execute(params![id.as_bytes(), last.seq as i64, bytes as i64])?;
        self.is_used(Rare::Logs);
        for chunk in &log.chunks {
            let mut add =
                self.conn.prepare_cached("INSERT INTO logs(id, seq, at, epoch, text) VALUES (?1, ?2, ?3, ?4, ?5)")?;
            add.execute(params![id.as_bytes(), chunk.seq as i64, chunk.at.0, chunk.epoch.0 as i64, chunk.text])?;
        }
        Ok(true)
    }
}
