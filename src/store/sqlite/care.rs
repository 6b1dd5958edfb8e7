//! What keeps the store in order, on the writer thread: workers and their leases, parked jobs that
//! are wanted again, retention, settings, definitions.

use rusqlite::params;

use super::fault::Fault;
use super::tx::{Spot, Tx};
use crate::domain::limits::{EVENT_RECORDS, PRODUCER_MEMORY};
use crate::domain::time::millis;
use crate::domain::{Epoch, Event, EventKind, JobId, Ms, Name, Place, QueueSettings, To, WorkerId};
use crate::store::codec;
use crate::store::{Beat, Definition, Heartbeat, Retention, Trimmed};

impl Tx<'_> {
    pub(super) fn heartbeat(&mut self, beat: &Heartbeat) -> Result<Beat, Fault> {
        let id = beat.info.id;
        let known = self.conn.prepare_cached("SELECT 1 FROM workers WHERE id = ?1")?.exists([id.as_bytes()])?;
        if !known {
            self.log(Event { worker: Some(id), ..Event::new(EventKind::WorkerStarted) });
        }
        let mut keep = self.conn.prepare_cached(
            "INSERT INTO workers(id, expires, info) VALUES (?1, ?2, ?3)
             ON CONFLICT(id) DO UPDATE SET expires = excluded.expires, info = excluded.info RETURNING draining",
        )?;
        let kept = params![id.as_bytes(), self.now.after(beat.lease).0, codec::encode(&beat.info)?];
        let drain = keep.query_row(kept, |row| row.get(0))?;
        self.unpark(&beat.info.types)?;
        let mut held = self.conn.prepare_cached("SELECT id, epoch FROM running WHERE worker = ?1 ORDER BY id")?;
        let held = held.query_map([id.as_bytes()], |row| {
            Ok((JobId::from_bytes(row.get(0)?), Epoch(row.get::<_, i64>(1)? as u64)))
        })?;
        Ok(Beat { now: self.now, held: held.collect::<rusqlite::Result<_>>()?, drain })
    }

    /// Brings parked jobs of these types back to the head of their lines.
    fn unpark(&mut self, types: &[Name]) -> Result<(), Fault> {
        let mut wanted: Vec<(Spot, i8, u8)> = Vec::new();
        for kind in types {
            let mut parked = self.conn.prepare_cached(
                "SELECT parked.rank, parked.turn, parked.job, jobs.queue, jobs.priority, jobs.flags
                 FROM parked CROSS JOIN jobs ON jobs.n = parked.job WHERE parked.kind = ?1",
            )?;
            let mut rows = parked.query([kind.as_str()])?;
            while let Some(row) = rows.next()? {
                let (rank, turn, n, queue) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
                wanted.push((Spot { n, queue, place: Place::Parked, rank, turn }, row.get(4)?, row.get(5)?));
            }
        }
        wanted.sort_by_key(|(spot, _, _)| (spot.rank, spot.turn));
        wanted.dedup_by_key(|(spot, _, _)| spot.n);
        // The one parked first shall be the first out, so it is the last one put in front.
        for (spot, priority, flags) in wanted.into_iter().rev() {
            self.shift(spot, priority, flags, To::Front)?;
        }
        Ok(())
    }

    pub(super) fn farewell(&mut self, worker: WorkerId) -> Result<(), Fault> {
        let mut strike = self.conn.prepare_cached("DELETE FROM workers WHERE id = ?1")?;
        if strike.execute([worker.as_bytes()])? > 0 {
            self.log(Event { worker: Some(worker), ..Event::new(EventKind::WorkerStopped) });
        }
        Ok(())
    }

    /// Strikes off the workers that have been silent for too long.
    pub(super) fn strike_lost(&mut self) -> Result<(), Fault> {
        let mut lost = self.conn.prepare_cached("SELECT id FROM workers WHERE expires < ?1 ORDER BY id")?;
        let lost = lost.query_map([self.now.0], |row| row.get::<_, [u8; 16]>(0))?;
        for worker in lost.collect::<rusqlite::Result<Vec<_>>>()? {
            self.conn.prepare_cached("DELETE FROM workers WHERE id = ?1")?.execute([worker])?;
            let worker = Some(WorkerId::from_bytes(worker));
            self.log(Event { worker, ..Event::new(EventKind::WorkerLost) });
        }
        Ok(())
    }

    pub(super) fn trim(&mut self, retention: Retention, limit: usize) -> Result<Trimmed, Fault> {
        let mut trimmed = Trimmed::default();
        let now = self.now.0;
        let before = |age| Ms(now.saturating_sub(millis(age)));
        for (name, queue) in self.queue_ids() {
            let keep = self.settings(queue).and_then(|settings| settings.retention).unwrap_or(retention);
            let mut dropped = 0;
            for place in [Place::Completed, Place::Cancelled] {
                let left = limit.saturating_sub(trimmed.jobs);
                let removed = self.trim_place(queue, place, before(keep.age), keep.count, left)?;
                dropped += removed;
                trimmed.jobs += removed;
            }
            if dropped > 0 {
                let data = Some(format!("{dropped} finished jobs"));
                self.log(Event { queue: Some(name), data, ..Event::new(EventKind::QueueTrimmed) });
            }
        }
        trimmed.runs = self.trim_runs(before(retention.age), limit)?;
        self.conn.prepare_cached("DELETE FROM uniques WHERE NOT live AND until <= ?1")?.execute([self.now.0])?;
        let forgotten = self.now.0.saturating_sub(millis(PRODUCER_MEMORY));
        self.conn.prepare_cached("DELETE FROM producers WHERE at <= ?1")?.execute([forgotten])?;
        let mut forget =
            self.conn.prepare_cached("DELETE FROM events WHERE position <= (SELECT max(position) FROM events) - ?1")?;
        forget.execute([EVENT_RECORDS as i64])?;
        self.forget_shared(limit)?;
        Ok(trimmed)
    }

    /// Removes the oldest of a place, as long as there are more than `count` or they are older than
    /// `before`.
    fn trim_place(&mut self, queue: i64, place: Place, before: Ms, count: usize, limit: usize) -> Result<usize, Fault> {
        let kept = usize::try_from(self.counted(queue, place)?).unwrap_or(0);
        let mut surplus = kept.saturating_sub(count);
        let mut oldest = self.conn.prepare_cached(
            "SELECT line.job, line.rank, line.turn, jobs.id FROM line CROSS JOIN jobs ON jobs.n = line.job
             WHERE line.queue = ?1 AND line.place = ?2 ORDER BY line.rank, line.turn LIMIT ?3",
        )?;
        let oldest = oldest.query_map(params![queue, place.code(), limit as i64], |row| {
            let spot = Spot { n: row.get(0)?, queue, place, rank: row.get(1)?, turn: row.get(2)? };
            Ok((spot, JobId::from_bytes(row.get(3)?)))
        })?;
        let mut removed = 0;
        for (spot, id) in oldest.collect::<rusqlite::Result<Vec<_>>>()? {
            if surplus == 0 && spot.rank > before.0 {
                break;
            }
            self.leave(spot)?;
            self.conn.prepare_cached("DELETE FROM jobs WHERE n = ?1")?.execute([spot.n])?;
            self.has_ended(id)?;
            self.forget(id)?;
            surplus = surplus.saturating_sub(1);
            removed += 1;
        }
        Ok(removed)
    }

    pub(super) fn change_queue(&mut self, name: &Name, settings: &QueueSettings) -> Result<(), Fault> {
        let (_, before) = self.set_queue(name, settings)?;
        let kind = match (before.paused, settings.paused) {
            (false, true) => Some(EventKind::QueuePaused),
            (true, false) => Some(EventKind::QueueResumed),
            _ if before != *settings => Some(EventKind::QueueSet),
            _ => None,
        };
        if let Some(kind) = kind {
            self.log(Event { queue: Some(name.clone()), ..Event::new(kind) });
        }
        self.wake();
        Ok(())
    }

    pub(super) fn undefine(&mut self, kind: &str, name: &Name) -> Result<bool, Fault> {
        let mut take = self.conn.prepare_cached("DELETE FROM current WHERE kind = ?1 AND name = ?2")?;
        Ok(take.execute(params![kind, name.as_str()])? > 0)
    }

    pub(super) fn define(&mut self, definitions: &[Definition]) -> Result<(), Fault> {
        for Definition { kind, name, hash, text } in definitions {
            let mut keep = self
                .conn
                .prepare_cached("INSERT OR REPLACE INTO definitions(hash, kind, name, text) VALUES (?1, ?2, ?3, ?4)")?;
            keep.execute(params![hash, kind, name.as_str(), text])?;
            let mut point =
                self.conn.prepare_cached("INSERT OR REPLACE INTO current(kind, name, hash) VALUES (?1, ?2, ?3)")?;
            point.execute(params![kind, name.as_str(), hash])?;
        }
        Ok(())
    }
}
