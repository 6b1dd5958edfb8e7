//! Schedules: a change and what it starts are one transaction, and happen only to who saw the last
//! one. What a schedule's body says is not known here.

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::Fault;
use super::read::text;
use super::row::NewRunRow;
use super::tx::{Tx, parse_name};
use super::work::NewRow;
use crate::domain::{Event, JobId, Ms, Name, RunId};
use crate::store::{EnqueueAnswer, Result as StoreResult, ScheduleCommit, ScheduleRecord};

/// A change made ready for the writer.
pub(super) struct Change {
    name: Name,
    from_rev: i64,
    next: Option<(Option<Ms>, Vec<u8>)>,
    jobs: Vec<NewRow>,
    runs: Vec<NewRunRow>,
    cancel: Vec<JobId>,
    tell: Vec<(RunId, Vec<u8>)>,
    events: Vec<Event>,
}

impl Change {
    pub(super) fn new(commit: &ScheduleCommit) -> StoreResult<Change> {
        Ok(Change {
            name: commit.name.clone(),
            from_rev: commit.from_rev as i64,
            next: commit.next.clone(),
            jobs: commit.jobs.iter().map(NewRow::new).collect::<StoreResult<_>>()?,
            runs: commit.runs.iter().map(NewRunRow::new).collect::<StoreResult<_>>()?,
            cancel: commit.cancel.clone(),
            tell: commit.tell.clone(),
            events: commit.events.clone(),
        })
    }
}

impl Tx<'_> {
    pub(super) fn set_schedule(&mut self, change: &Change) -> Result<Option<EnqueueAnswer>, Fault> {
        let name = change.name.as_str();
        let mut get = self.conn.prepare_cached("SELECT rev FROM schedules WHERE name = ?1")?;
        let rev: Option<i64> = get.query_row([name], |row| row.get(0)).optional()?;
        if rev.unwrap_or(0) != change.from_rev {
            return Ok(None);
        }
        match &change.next {
            Some((due, body)) => {
                let mut keep = self
                    .conn
                    .prepare_cached("INSERT OR REPLACE INTO schedules(name, rev, due, body) VALUES (?1, ?2, ?3, ?4)")?;
                keep.execute(params![name, change.from_rev + 1, due.map(|due| due.0), body])?;
            }
            None => {
                self.conn.prepare_cached("DELETE FROM schedules WHERE name = ?1")?.execute([name])?;
            }
        }
        for event in &change.events {
            self.log(event.clone());
        }
        let answer = self.add_all(&change.jobs, &change.runs)?;
        self.ask(&change.cancel)?;
        for (run, fact) in &change.tell {
            self.tell(*run, fact)?;
        }
        self.wake();
        Ok(Some(answer))
    }
}

/// Every schedule, by name.
pub(super) fn all(conn: &Connection) -> Result<Vec<ScheduleRecord>, Fault> {
    let mut all = conn.prepare_cached("SELECT name, rev, due, body FROM schedules ORDER BY name")?;
    let mut rows = all.query(())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(ScheduleRecord {
            name: parse_name(text(row, 0)?)?,
            rev: row.get::<_, i64>(1)? as u64,
            due: row.get::<_, Option<i64>>(2)?.map(Ms),
            body: row.get(3)?,
        });
    }
    Ok(found)
}
