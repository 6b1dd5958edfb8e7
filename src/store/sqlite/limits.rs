//! Limits, on the writer thread: room in a queue, concurrency keys of jobs, gates of runs, permits.
//! How many may run is given; who is to go first is the order of the line.

use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use super::fault::Fault;
use super::tx::{Rare, Spot, Tx};
use crate::domain::{Concurrency, Place, To};
use crate::store::{Gate, PermitRequest};

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const BLOCKED: u8 = 2;

impl Tx<'_> {
    /// How many more jobs of a queue may run.
    pub(super) fn room(&self, queue: i64) -> Result<usize, Fault> {
        match self.settings(queue).and_then(|settings| settings.concurrency) {
            None => Ok(usize::MAX),
            Some(most) => Ok(usize::try_from(i64::from(most) - self.counted(queue, Place::Running)?).unwrap_or(0)),
        }
    }

    pub(super) fn add_keyed(&mut self, spot: Spot, concurrency: &Concurrency) -> Result<(), Fault> {
        let mut add = self
            .conn
            .prepare_cached("INSERT INTO keyed(job, key, most, state, rank, turn) VALUES (?1, ?2, ?3, ?4, 0, 0)")?;
        add.execute(params![spot.n, concurrency.key, concurrency.limit, WAITING])?;
        self.is_used(Rare::Keyed);
        Ok(())
    }

    pub(super) fn drop_keyed(&mut self, n: i64) -> Result<(), Fault> {
        if self.any(Rare::Keyed)? {
            self.conn.prepare_cached("DELETE FROM keyed WHERE job = ?1")?.execute([n])?;
        }
        Ok(())
    }

    fn set_keyed(&self, n: i64, state: u8, (rank, turn): (i64, i64)) -> Result<(), Fault> {
        let mut set = self.conn.prepare_cached("UPDATE keyed SET state = ?2, rank = ?3, turn = ?4 WHERE job = ?1")?;
        set.execute(params![n, state, rank, turn])?;
        Ok(())
    }

    fn running_under(&self, key: &str) -> Result<i64, Fault> {
        let mut count = self.conn.prepare_cached("SELECT count(*) FROM keyed WHERE key = ?1 AND state = ?2")?;
        Ok(count.query_row(params![key, RUNNING], |row| row.get(0))?)
    }

    /// Takes a place under the job's key. `false` if there is none.
    pub(super) fn start_keyed(&mut self, n: i64) -> Result<bool, Fault> {
        let mut get = self.conn.prepare_cached("SELECT key, most FROM keyed WHERE job = ?1")?;
        let found: Option<(String, i64)> = get.query_row([n], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((key, most)) = found else { return Ok(true) };
        if self.running_under(&key)? >= most {
            return Ok(false);
        }
        self.set_keyed(n, RUNNING, (0, 0))?;
        Ok(true)
    }

    /// Sets a job aside that was just taken out of the line.
    pub(super) fn block(&mut self, n: i64, queue: i64, priority: i8) -> Result<(), Fault> {
        let (rank, turn) = self.key(To::Pending, priority);
        let place = Place::Blocked;
        let mut shift = self.conn.prepare_cached("UPDATE jobs SET place = ?2, rank = ?3, turn = ?4 WHERE n = ?1")?;
        shift.execute(params![n, place.code(), rank, turn])?;
        self.set_keyed(n, BLOCKED, (rank, turn))?;
        self.enter(Spot { n, queue, place, rank, turn })
    }

    /// The key under which a job held, or waited for, a place: what leaves may let another one go.
    pub(super) fn key_of(&mut self, n: i64, place: Place) -> Result<Option<String>, Fault> {
        if !matches!(place, Place::Running | Place::Pending | Place::Suspect) || !self.any(Rare::Keyed)? {
            return Ok(None);
        }
        let mut get = self.conn.prepare_cached("SELECT key FROM keyed WHERE job = ?1")?;
        Ok(get.query_row([n], |row| row.get(0)).optional()?)
    }

    /// Lets the first blocked job of a key go to the front of its queue, if there is room.
    pub(super) fn call_up(&mut self, key: &str) -> Result<(), Fault> {
        let mut first = self.conn.prepare_cached(
            "SELECT keyed.job, keyed.most, jobs.queue, jobs.rank, jobs.turn, jobs.priority, jobs.flags
             FROM keyed CROSS JOIN jobs ON jobs.n = keyed.job
             WHERE keyed.key = ?1 AND keyed.state = ?2 ORDER BY keyed.rank, keyed.turn LIMIT 1",
        )?;
        let found = first.query_row(params![key, BLOCKED], |row| {
            let (queue, rank, turn) = (row.get(2)?, row.get(3)?, row.get(4)?);
            let spot = Spot { n: row.get(0)?, queue, place: Place::Blocked, rank, turn };
            Ok((spot, row.get::<_, i64>(1)?, row.get(5)?, row.get(6)?))
        });
        let Some((spot, most, priority, flags)) = found.optional()? else { return Ok(()) };
        if self.running_under(key)? < most {
            self.set_keyed(spot.n, WAITING, (0, 0))?;
            self.shift(spot, priority, flags, To::Front)?;
        }
        Ok(())
    }

    pub(super) fn permits(&mut self, requests: &[PermitRequest]) -> Result<Vec<Vec<Duration>>, Fault> {
        let now = self.now.0.saturating_mul(1_000);
        let mut answers = Vec::with_capacity(requests.len());
        for PermitRequest { bucket, rate, count } in requests {
            let mut get = self.conn.prepare_cached("SELECT next FROM buckets WHERE name = ?1")?;
            let mut next: i64 = get.query_row([bucket], |row| row.get(0)).optional()?.unwrap_or(0);
            let mut waits = Vec::new();
            for _ in 0..*count {
                let (after, wait) = rate.reserve(next, now);
                next = after;
                waits.push(wait);
            }
            let mut keep = self.conn.prepare_cached("INSERT OR REPLACE INTO buckets(name, next) VALUES (?1, ?2)")?;
            keep.execute(params![bucket, next])?;
            answers.push(waits);
        }
        Ok(answers)
    }

    /// Whether a new run would be let in at once.
    pub(super) fn has_room(&mut self, gate: &Gate) -> Result<bool, Fault> {
        let mut count =
            self.conn.prepare_cached("SELECT count(*) FILTER (WHERE inside), count(*) FROM gates WHERE key = ?1")?;
        let (inside, all): (i64, i64) = count.query_row([&gate.key], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(inside == all && inside < i64::from(gate.limit))
    }

    pub(super) fn wait_at(&mut self, run: i64, gate: &Gate) -> Result<(), Fault> {
        let turn = self.next_turn();
        let mut add = self
            .conn
            .prepare_cached("INSERT INTO gates(run, key, most, inside, turn, go) VALUES (?1, ?2, ?3, 0, ?4, ?5)")?;
        add.execute(params![run, gate.key, gate.limit, turn, gate.go])?;
        self.is_used(Rare::Gates);
        Ok(())
    }

    /// Lets runs in, first come first in, as long as the first one waiting has room.
    pub(super) fn admit(&mut self, key: &str) -> Result<(), Fault> {
        loop {
            let mut first = self.conn.prepare_cached(
                "SELECT run, go FROM gates WHERE key = ?1 AND NOT inside
                     AND most > (SELECT count(*) FROM gates WHERE key = ?1 AND inside)
                     AND turn = (SELECT min(turn) FROM gates WHERE key = ?1 AND NOT inside)",
            )?;
            let found: Option<(i64, Vec<u8>)> =
                first.query_row([key], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let Some((run, go)) = found else { return Ok(()) };
            self.conn.prepare_cached("UPDATE gates SET inside = 1 WHERE run = ?1")?.execute([run])?;
            self.inbox(run, &go)?;
        }
    }

    /// A run that has ended holds no place under its key, and waits for none.
    pub(super) fn leave_gate(&mut self, run: i64) -> Result<(), Fault> {
        let mut leave = self.conn.prepare_cached("DELETE FROM gates WHERE run = ?1 RETURNING key")?;
        let key: Option<String> = leave.query_row([run], |row| row.get(0)).optional()?;
        match key {
            Some(key) => self.admit(&key),
            None => Ok(()),
        }
    }
}
