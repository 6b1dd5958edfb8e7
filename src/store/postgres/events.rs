//! The event log's reader. Positions are drawn before commits are done, so a record may still appear
//! below one that is already seen. A reader looks how far the log goes, draws a transaction number,
//! and reads up to there only when every transaction below that number has ended: whoever drew a
//! lower position has a lower number. Nothing is ever skipped.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{job_id, number, worker_id};
use super::errors::Fault;
use super::pool::{Connection, DEADLINE, Param};
use crate::domain::{Event, EventKind, Ms};
use crate::store::codec::decode;
use crate::store::contract::{Cursor, Result, StoreError};

/// Records read at once, first and at most: each may hold the events of a thousand jobs, or one event.
const FIRST_RECORDS: i64 = 4;
const RECORDS: i64 = 128;

/// How far the log is whole.
#[derive(Default)]
pub(super) struct Horizon(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// Nothing can appear any more at or below this position.
    whole: i64,
    /// A position, and the transaction number below which all must have ended for it to be whole.
    proposed: Option<(i64, i64)>,
}

impl Horizon {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All transactions below this number have ended.
    fn ended(&self, below: i64) {
        let mut seen = self.seen();
        if let Some((position, _)) = seen.proposed.take_if(|(_, number)| *number <= below) {
            seen.whole = seen.whole.max(position);
        }
    }
}

/// Adds a packed list of events.
pub(super) fn unpack(bytes: &[u8], at: Ms, events: &mut Vec<Event>) -> Result<()> {
    let packed: Vec<Event> = decode(bytes)?;
    events.extend(packed.into_iter().map(|event| Event { at, ..event }));
    Ok(())
}

impl PostgresStore {
    /// Up to which position the log may be read.
    async fn whole(&self, connection: &mut Connection) -> Result<i64, Fault> {
        let sql = "SELECT coalesce(max(position), 0), pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                   FROM goflow.event";
        let row = connection.row(sql, &[]).await?;
        let end: i64 = row.get(0);
        self.horizon.ended(row.get(1));
        let open = {
            let seen = self.horizon.seen();
            seen.proposed.is_none() && end > seen.whole
        };
        if open {
            // Drawn after the end was seen, and so above everybody who could have drawn a lower position.
            let row = connection.row("SELECT pg_current_xact_id()::text::bigint", &[]).await?;
            self.horizon.seen().proposed.get_or_insert((end, row.get(0)));
            let row = connection.row("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint", &[]).await?;
            self.horizon.ended(row.get(0));
        }
        Ok(self.horizon.seen().whole)
    }

    /// The position behind what was written before `at`, found by halving: times rise with positions. Never
    /// beyond what is whole.
    pub(super) async fn events_since(&self, at: Ms) -> Result<Cursor> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let whole = self.whole(&mut connection).await?;
        let ends = "SELECT coalesce(min(position), 1), coalesce(max(position), 0) + 1 FROM goflow.event";
        let row = connection.row(ends, &[]).await.map_err(StoreError::from)?;
        let (mut low, mut high): (i64, i64) = (row.get(0), row.get(1));
        while low < high {
            let middle = low + (high - low) / 2;
            let sql = "SELECT position, at FROM goflow.event WHERE position >= $1 ORDER BY position LIMIT 1";
            let rows = connection.rows(sql, &[(&middle, Type::INT8)]).await.map_err(StoreError::from)?;
            match rows.first() {
                Some(row) if row.get::<_, i64>(1) < at.0 => low = row.get::<_, i64>(0) + 1,
                _ => high = middle,
            }
        }
        Ok(Cursor((low - 1).min(whole).to_string()))
    }

    pub(super) async fn tail_of_events(&self, records: usize) -> Result<Option<Cursor>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        // What is not whole yet comes after the place.
        let whole = self.whole(&mut connection).await?;
        let sql = "SELECT position FROM goflow.event WHERE position <= $2 ORDER BY position DESC OFFSET $1 LIMIT 1";
        let params: [Param<'_>; 2] = [(&number(records as u64), Type::INT8), (&whole, Type::INT8)];
        let rows = connection.rows(sql, &params).await.map_err(StoreError::from)?;
        Ok(rows.first().map(|row| Cursor(row.get::<_, i64>(0).to_string())))
    }

    pub(super) async fn read_events(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        let mut from = after.map_or(Ok(0), Cursor::number)?;
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let whole = self.whole(&mut connection).await?;
        let sql = "SELECT position, at, events, worker, claimed, claimed_queues
                   FROM goflow.event WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3";
        let mut events: Vec<Event> = Vec::new();
        let mut most = FIRST_RECORDS;
        loop {
            let params: [Param<'_>; 3] = [(&from, Type::INT8), (&whole, Type::INT8), (&most, Type::INT8)];
            let rows = connection.rows(sql, &params).await.map_err(StoreError::from)?;
            let is_end = number(rows.len() as u64) < most;
            for row in rows {
                let mut record = self.record(&row, &mut connection).await?;
                if !events.is_empty() && events.len() + record.len() > limit {
                    return Ok((events, Cursor(from.to_string())));
                }
                events.append(&mut record);
                from = row.get(0);
            }
            if is_end || events.len() >= limit {
                return Ok((events, Cursor(from.to_string())));
            }
            most = (most * 4).min(RECORDS);
        }
    }

    /// The events of one record.
    async fn record(&self, row: &Row, connection: &mut Connection) -> Result<Vec<Event>> {
        let at = Ms(row.get(1));
        let mut record = Vec::new();
        for packed in row.get::<_, Option<Vec<&[u8]>>>(2).unwrap_or_default() {
            unpack(packed, at, &mut record)?;
        }
        let worker = row.get::<_, Option<Uuid>>(3).map(worker_id);
        let claimed = row.get::<_, Option<Vec<Uuid>>>(4).unwrap_or_default();
        let queues = row.get::<_, Option<Vec<i32>>>(5).unwrap_or_default();
        for (id, queue) in claimed.into_iter().zip(queues) {
            if self.names.name(queue).is_none() {
                self.names.refresh(connection).await.map_err(StoreError::from)?;
            }
            let started = Event::new(EventKind::JobStarted);
            record.push(Event { at, job: Some(job_id(id)), queue: self.names.name(queue), worker, ..started });
        }
        Ok(record)
    }
}
