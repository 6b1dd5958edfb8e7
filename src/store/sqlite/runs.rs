//! Runs: effects, inboxes, dirty marks and timers, on the writer thread. A run's body and its facts
//! are bytes here; what they mean is the workflow's business.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::Fault;
use super::row::{EffectsRow, NewRunRow, RunPart};
use super::tx::{Rare, Tx, parse_name};
use crate::domain::limits::DRAIN_BATCH;
use crate::domain::{Ms, RunId, RunState, To};
use crate::store::{Enqueued, Moved, RunAnswer, RunRecord, RunWork, StoreError, Ticked};

/// Reads the columns id, workflow, state, rev, body.
pub(super) fn run_record(row: &Row<'_>) -> Result<RunRecord, Fault> {
    let state = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
    let state = RunState::parse(state).ok_or_else(|| StoreError::Corrupt(format!("{state:?} is no state of a run")))?;
    Ok(RunRecord {
        id: RunId::from_bytes(row.get(0)?),
        workflow: parse_name(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?,
        state,
        rev: row.get::<_, i64>(3)? as u64,
        body: row.get(4)?,
    })
}

pub(super) fn read_run(conn: &Connection, id: RunId) -> Result<Option<RunRecord>, Fault> {
    let mut get = conn.prepare_cached("SELECT id, workflow, state, rev, body FROM runs WHERE id = ?1")?;
    let mut rows = get.query([id.as_bytes()])?;
    rows.next()?.map(run_record).transpose()
}

/// The record is read first: an inbox that is newer than it does no harm.
pub(super) fn read_run_work(conn: &Connection, id: RunId) -> Result<Option<RunWork>, Fault> {
    let mut get = conn.prepare_cached("SELECT id, workflow, state, rev, body, n FROM runs WHERE id = ?1")?;
    let mut rows = get.query([id.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (record, n) = (run_record(row)?, row.get(5)?);
    Ok(Some(RunWork { record, inbox: head_of_inbox(conn, n)? }))
}

fn head_of_inbox(conn: &Connection, run: i64) -> Result<Vec<(u64, Vec<u8>)>, Fault> {
    let mut read = conn.prepare_cached("SELECT seq, fact FROM inbox WHERE run = ?1 ORDER BY seq LIMIT ?2")?;
    let facts =
        read.query_map(params![run, DRAIN_BATCH as i64], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))?;
    Ok(facts.collect::<rusqlite::Result<_>>()?)
}

impl Tx<'_> {
    pub(super) fn start_run(&mut self, new: &NewRunRow) -> Result<Enqueued, Fault> {
        let effects = &new.effects;
        let RunRecord { id, workflow, state, rev, body } = &effects.record;
        if let Some(gate) = new.gate.as_ref().filter(|gate| gate.reject.is_some())
            && !self.has_room(gate)?
        {
            let kept = self.run_number(*id)?.is_some();
            return Ok(if kept { Enqueued::Exists } else { Enqueued::Busy });
        }
        let mut add = self.conn.prepare_cached(
            "INSERT INTO runs(id, workflow, state, rev, terminal, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT(id) DO NOTHING",
        )?;
        let (terminal, rev) = (state.is_terminal(), *rev as i64);
        let added = add.execute(params![id.as_bytes(), workflow.as_str(), state.as_str(), rev, terminal, body])?;
        if added == 0 {
            return Ok(Enqueued::Exists);
        }
        let n = self.conn.last_insert_rowid();
        if terminal {
            self.write_record(n, &effects.record)?;
        }
        if let Some(gate) = &new.gate {
            self.wait_at(n, gate)?;
        }
        self.apply(n, effects)?;
        if let Some(gate) = &new.gate {
            self.admit(&gate.key)?;
        }
        Ok(Enqueued::Created)
    }

    pub(super) fn run_number(&self, id: RunId) -> Result<Option<i64>, Fault> {
        let mut get = self.conn.prepare_cached("SELECT n FROM runs WHERE id = ?1")?;
        Ok(get.query_row([id.as_bytes()], |row| row.get(0)).optional()?)
    }

    /// Puts a fact into a run's inbox. `false` if there is no such run.
    pub(super) fn tell(&mut self, id: RunId, fact: &[u8]) -> Result<bool, Fault> {
        match self.run_number(id)? {
            Some(n) => self.inbox(n, fact).map(|()| true),
            None => Ok(false),
        }
    }

    fn write_record(&self, n: i64, record: &RunRecord) -> Result<(), Fault> {
        let mut write = self.conn.prepare_cached(
            "UPDATE runs SET workflow = ?2, state = ?3, rev = ?4, terminal = ?5, body = ?6,
                 finished = CASE WHEN ?5 THEN coalesce(finished, ?7) END WHERE n = ?1",
        )?;
        let (state, terminal) = (record.state.as_str(), record.state.is_terminal());
        let workflow = record.workflow.as_str();
        write.execute(params![n, workflow, state, record.rev as i64, terminal, record.body, self.now.0])?;
        Ok(())
    }

    /// Carries out what an advance wants, beside the run's record.
    fn apply(&mut self, n: i64, effects: &EffectsRow) -> Result<(), Fault> {
        for (key, value) in &effects.values {
            let mut keep = self
                .conn
                .prepare_cached("INSERT INTO vals(run, key, value) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?;
            keep.execute(params![n, key, value.as_str()])?;
        }
        for key in &effects.drop_timers {
            self.conn.prepare_cached("DELETE FROM timers WHERE run = ?1 AND key = ?2")?.execute(params![n, key])?;
        }
        for timer in &effects.timers {
            let mut set = self
                .conn
                .prepare_cached("INSERT OR REPLACE INTO timers(run, key, due, fact) VALUES (?1, ?2, ?3, ?4)")?;
            set.execute(params![n, timer.key, self.now.after(timer.delay).0, timer.fact])?;
            self.wake();
        }
        if effects.record.state.is_terminal() {
            self.conn.prepare_cached("DELETE FROM timers WHERE run = ?1")?.execute([n])?;
        }
        if let Some(history) = &effects.history {
            let turn = self.next_turn();
            let mut keep =
                self.conn.prepare_cached("INSERT INTO history(run, turn, at, events) VALUES (?1, ?2, ?3, ?4)")?;
            keep.execute(params![n, turn, self.now.0, history])?;
        }
        for event in &effects.events {
            self.log(event.clone());
        }
        for row in &effects.jobs {
            self.add(row, To::Pending)?;
        }
        self.ask(&effects.cancel)?;
        for new in &effects.runs {
            let refused = new.gate.as_ref().and_then(|gate| gate.reject.as_deref());
            if self.start_run(new)? == Enqueued::Busy
                && let Some(fact) = refused
            {
                self.inbox(n, fact)?;
            }
        }
        for (run, fact) in &effects.tell {
            self.tell(*run, fact)?;
        }
        if effects.record.state.is_terminal() && self.any(Rare::Gates)? {
            self.leave_gate(n)?;
        }
        Ok(())
    }

    /// The run's part of a commit, given what became of its moves.
    pub(super) fn commit_run(&mut self, part: &RunPart, moves: &[Moved]) -> Result<RunAnswer, Fault> {
        let mut get = self.conn.prepare_cached("SELECT n, rev FROM runs WHERE id = ?1")?;
        let kept = get.query_row([part.run.as_bytes()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        let Some((n, rev)) = kept.optional()? else { return Ok(RunAnswer::Gone) };
        if let Some(advance) = &part.advance
            && moves.iter().all(|moved| *moved == Moved::Applied)
            && rev as u64 == advance.from_rev
        {
            let mut drain = self.conn.prepare_cached("DELETE FROM inbox WHERE run = ?1 AND seq <= ?2")?;
            drain.execute(params![n, i64::try_from(advance.drained).unwrap_or(i64::MAX)])?;
            self.write_record(n, &advance.effects.record)?;
            self.apply(n, &advance.effects)?;
            // Also what its own effects have told it.
            let more = self.conn.prepare_cached("SELECT 1 FROM inbox WHERE run = ?1")?.exists([n])?;
            if more {
                let mut mark =
                    self.conn.prepare_cached("INSERT OR REPLACE INTO dirty(run, hidden_until) VALUES (?1, ?2)")?;
                mark.execute([n, self.now.0])?;
                self.wake();
            } else {
                self.conn.prepare_cached("DELETE FROM dirty WHERE run = ?1")?.execute([n])?;
            }
            return Ok(RunAnswer::Advanced { more });
        }
        let mut kept = false;
        for (fact, _) in part.facts.iter().zip(moves).filter(|(_, moved)| **moved == Moved::Applied) {
            self.inbox(n, fact)?;
            kept = true;
        }
        Ok(if kept { RunAnswer::Inboxed } else { RunAnswer::Contended })
    }

    pub(super) fn inbox(&mut self, run: i64, fact: &[u8]) -> Result<(), Fault> {
        let seq = self.next_turn();
        let mut keep = self.conn.prepare_cached("INSERT INTO inbox(run, seq, fact) VALUES (?1, ?2, ?3)")?;
        keep.execute(params![run, seq, fact])?;
        let mut mark =
            self.conn.prepare_cached("INSERT INTO dirty(run, hidden_until) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
        mark.execute([run, self.now.0])?;
        self.wake();
        Ok(())
    }

    pub(super) fn is_dirty(&self) -> Result<bool, Fault> {
        Ok(self.conn.prepare_cached("SELECT 1 FROM dirty WHERE hidden_until <= ?1 LIMIT 1")?.exists([self.now.0])?)
    }

    pub(super) fn take_dirty(&mut self, limit: usize, hold: Duration) -> Result<Vec<RunWork>, Fault> {
        let mut ready = self.conn.prepare_cached(
            "SELECT runs.id, runs.workflow, runs.state, runs.rev, runs.body, runs.n
             FROM dirty CROSS JOIN runs ON runs.n = dirty.run
             WHERE dirty.hidden_until <= ?1 ORDER BY dirty.hidden_until, runs.id LIMIT ?2",
        )?;
        let mut rows = ready.query(params![self.now.0, limit as i64])?;
        let mut work = Vec::new();
        while let Some(row) = rows.next()? {
            work.push((row.get::<_, i64>(5)?, RunWork { record: run_record(row)?, inbox: Vec::new() }));
        }
        drop(rows);
        for (n, taken) in &mut work {
            taken.inbox = head_of_inbox(self.conn, *n)?;
            let mut hide = self.conn.prepare_cached("UPDATE dirty SET hidden_until = ?2 WHERE run = ?1")?;
            hide.execute([*n, self.now.after(hold).0])?;
        }
        Ok(work.into_iter().map(|(_, taken)| taken).collect())
    }

    pub(super) fn next_timer(&self) -> Result<Option<i64>, Fault> {
        Ok(self.conn.prepare_cached("SELECT min(due) FROM timers")?.query_row((), |row| row.get(0))?)
    }

    pub(super) fn tick(&mut self, limit: usize) -> Result<Ticked, Fault> {
        let mut due = self.conn.prepare_cached(
            "SELECT timers.due, runs.id, timers.key, timers.run, timers.fact
             FROM timers CROSS JOIN runs ON runs.n = timers.run
             WHERE timers.due <= ?1 ORDER BY timers.due LIMIT ?2",
        )?;
        type Due = (i64, Vec<u8>, String, i64, Vec<u8>);
        let rows = due.query_map(params![self.now.0, limit as i64], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?;
        let mut due: Vec<Due> = rows.collect::<rusqlite::Result<_>>()?;
        due.sort();
        for (_, _, key, run, fact) in &due {
            self.conn.prepare_cached("DELETE FROM timers WHERE run = ?1 AND key = ?2")?.execute(params![run, key])?;
            self.inbox(*run, fact)?;
        }
        Ok(Ticked { fired: due.len(), next_due: self.next_timer()?.map(Ms) })
    }

    /// Removes finished runs that are older than `before`, at most `limit`.
    pub(super) fn trim_runs(&mut self, before: Ms, limit: usize) -> Result<usize, Fault> {
        let mut old = self.conn.prepare_cached(
            "SELECT n FROM runs WHERE finished IS NOT NULL AND finished <= ?1 ORDER BY finished LIMIT ?2",
        )?;
        let old = old.query_map(params![before.0, limit as i64], |row| row.get(0))?;
        let old: Vec<i64> = old.collect::<rusqlite::Result<_>>()?;
        for n in &old {
            for table in [
                "DELETE FROM inbox WHERE run = ?1",
                "DELETE FROM dirty WHERE run = ?1",
                "DELETE FROM vals WHERE run = ?1",
                "DELETE FROM timers WHERE run = ?1",
                "DELETE FROM history WHERE run = ?1",
                "DELETE FROM runs WHERE n = ?1",
            ] {
                self.conn.prepare_cached(table)?.execute([n])?;
            }
        }
        Ok(old.len())
    }
}
