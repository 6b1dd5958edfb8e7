//! Commits: the rights of all moves are checked first, then everything is written. It runs on the
//! writer thread; why a job moves was decided long before.

use rusqlite::{OptionalExtension, params};

use super::fault::Fault;
use super::row::{CommitRow, MoveRow};
use super::tx::{Spot, Tx, parse_place};
use crate::domain::{Epoch, Place};
use crate::store::{Committed, Expect, Moved, RunAnswer};

/// What a move found: where the job is now.
enum Found {
    Lease { epoch: i64, n: i64, queue: i64 },
    Idle(Spot),
}

impl Tx<'_> {
    pub(super) fn commit(&mut self, commit: &CommitRow) -> Result<Committed, Fault> {
        let mut found = Vec::with_capacity(commit.moves.len());
        let mut moves = Vec::with_capacity(commit.moves.len());
        for (place, step) in commit.moves.iter().enumerate() {
            let twice = commit.moves[..place].iter().any(|before| before.row.id == step.row.id);
            let (moved, spot) = if twice { (Moved::Stale, None) } else { self.judge(step)? };
            moves.push(moved);
            found.push(spot);
        }
        let run = match &commit.run {
            None => RunAnswer::None,
            Some(part) => self.commit_run(part, &moves)?,
        };
        if run != RunAnswer::Contended {
            for (step, spot) in commit.moves.iter().zip(found) {
                let Some(spot) = spot else { continue };
                self.log(step.event.clone());
                self.carry_out(step, spot)?;
            }
        }
        Ok(Committed { moves, run })
    }

    fn judge(&mut self, step: &MoveRow) -> Result<(Moved, Option<Found>), Fault> {
        let found = match step.expect {
            Expect::Lease(epoch) => self.leased(step, epoch, false)?,
            Expect::Lapsed(epoch) => self.leased(step, epoch, true)?,
            Expect::Idle(place, rev) => self.idle(step, place, rev)?,
        };
        let Some(found) = found else { return Ok((Moved::Stale, None)) };
        if let Some(key) = &step.row.unique
            && !step.to.frees_unique()
            && let Some(holder) = self.holder(key)?
            && holder != step.row.id
        {
            return Ok((Moved::Conflict(holder), None));
        }
        Ok((Moved::Applied, Some(found)))
    }

    fn leased(&mut self, step: &MoveRow, epoch: Epoch, lapsed: bool) -> Result<Option<Found>, Fault> {
        let epoch = epoch.0 as i64;
        let mut rows = self.hot.lease.query([epoch])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        if row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)? != step.row.id.as_bytes() {
            return Ok(None);
        }
        if lapsed {
            let expires: Option<i64> = row.get(4)?;
            let worker: [u8; 16] = row.get(3)?;
            let mut alive = self.conn.prepare_cached("SELECT 1 FROM workers WHERE id = ?1 AND expires >= ?2")?;
            let silent = !alive.exists(params![worker, self.now.0])?;
            if !silent && expires.is_none_or(|expires| expires >= self.now.0) {
                return Ok(None);
            }
        }
        Ok(Some(Found::Lease { epoch, n: row.get(0)?, queue: row.get(2)? }))
    }

    fn idle(&self, step: &MoveRow, place: Place, rev: u32) -> Result<Option<Found>, Fault> {
        let mut get = self.conn.prepare_cached("SELECT n, queue, place, rank, turn, rev FROM jobs WHERE id = ?1")?;
        let mut rows = get.query([step.row.id.as_bytes()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (n, queue, rank, turn) = (row.get(0)?, row.get(1)?, row.get(3)?, row.get(4)?);
        let spot = Spot { n, queue, place: parse_place(row.get(2)?)?, rank, turn };
        let same_queue = self.known_queue(&step.row.queue).is_some_and(|(id, _)| id == queue);
        if spot.place != place || row.get::<_, u32>(5)? != rev || !same_queue {
            return Ok(None);
        }
        Ok(is_in_line(self.conn, spot)?.then_some(Found::Idle(spot)))
    }

    fn carry_out(&mut self, step: &MoveRow, found: Found) -> Result<(), Fault> {
        let (n, place) = match found {
            Found::Lease { epoch, n, queue } => {
                self.hot.end_lease.execute([epoch])?;
                self.count(queue, Place::Running, -1);
                self.drop_progress(step.row.id)?;
                (n, Place::Running)
            }
            Found::Idle(spot) => {
                self.leave(spot)?;
                (spot.n, spot.place)
            }
        };
        let key = self.key_of(n, place)?;
        self.put(n, &step.row, step.to)?;
        match key {
            Some(key) => self.call_up(&key),
            None => Ok(()),
        }
    }
}

/// Whether a job waits where its row says. One that does not, runs.
pub(super) fn is_in_line(conn: &rusqlite::Connection, spot: Spot) -> Result<bool, Fault> {
    let mut get =
        conn.prepare_cached("SELECT job FROM line WHERE queue = ?1 AND place = ?2 AND rank = ?3 AND turn = ?4")?;
    let job: Option<i64> =
        get.query_row(params![spot.queue, spot.place.code(), spot.rank, spot.turn], |row| row.get(0)).optional()?;
    Ok(job == Some(spot.n))
}
