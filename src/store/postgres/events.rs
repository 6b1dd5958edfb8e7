//! The event log's reader. Positions are drawn before commits are done, so a record may appear below
//! one that is already seen; a reader therefore stops at the first record whose horizon has not
//! passed, and never skips anything.

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{job_id, number, worker_id};
use super::pool::{Connection, DEADLINE};
use crate::domain::{Event, EventKind, Ms};
use crate::store::codec::decode;
use crate::store::contract::{Cursor, Result, StoreError};

/// Records read at once: each may hold the events of a thousand jobs.
const RECORDS: i64 = 128;

/// Adds a packed list of events.
pub(super) fn unpack(bytes: &[u8], at: Ms, events: &mut Vec<Event>) -> Result<()> {
    let packed: Vec<Event> = decode(bytes)?;
    events.extend(packed.into_iter().map(|event| Event { at, ..event }));
    Ok(())
}

impl PostgresStore {
    pub(super) async fn read_events(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        let mut from = match after {
            None => 0,
            Some(Cursor(text)) => text
                .parse::<i64>()
                .map_err(|_| StoreError::Refused(format!("`{text}` is not a cursor of this store")))?,
        };
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let sql = "SELECT position, at, events, worker, claimed, claimed_queues,
                          horizon <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                   FROM goflow.event WHERE position > $1 ORDER BY position LIMIT $2";
        let most = number(limit as u64).clamp(1, RECORDS);
        let rows = connection.rows(sql, &[(&from, Type::INT8), (&most, Type::INT8)]).await.map_err(StoreError::from)?;
        let mut events: Vec<Event> = Vec::new();
        for row in rows {
            if !row.get::<_, bool>(6) {
                break;
            }
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
                    self.names.refresh(&mut connection).await.map_err(StoreError::from)?;
                }
                let started = Event::new(EventKind::JobStarted);
                record.push(Event { at, job: Some(job_id(id)), queue: self.names.name(queue), worker, ..started });
            }
            if !events.is_empty() && events.len() + record.len() > limit {
                break;
            }
            events.append(&mut record);
            from = row.get(0);
        }
        Ok((events, Cursor(from.to_string())))
    }
}
