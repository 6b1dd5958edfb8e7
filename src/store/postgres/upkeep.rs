//! What keeps the store in order: heartbeats, overdue work, trimming, and the cleaning that a busy
//! PostgreSQL does not get around to by itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::PostgresStore;
use super::columns::*;
use super::errors::Fault;
use super::pool::{Connection, DEADLINE, Param, again};
use super::read::{STORED, name, stored};
use crate::domain::time::millis;
use crate::domain::{Epoch, Event, EventKind, Ms, Name, Place, QueueSettings, WorkerId, limits};
use crate::store::codec::{decode, encode};
use crate::store::contract::*;

/// Counters are folded after so many probes of the line, and short-lived tables cleaned after so
/// many folds. Autovacuum comes once a minute at best, and a busy minute is millions of dead leases.
const PROBES_PER_FOLD: usize = 8;
const FOLDS_PER_VACUUM: usize = 8;

fn of_worker(kind: EventKind, worker: WorkerId) -> Result<Vec<u8>> {
    packed(&[Event { worker: Some(worker), ..Event::new(kind) }])
}

impl PostgresStore {
    pub(super) async fn beat(&self, beat: &Heartbeat) -> Result<Beat> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let id = worker_uuid(beat.info.id);
        let (info, lease) = (encode(&beat.info)?, millis(beat.lease).min(i64::MAX / 4));
        let types: Vec<&str> = beat.info.types.iter().map(|name| name.as_str()).collect();
        let started = of_worker(EventKind::WorkerStarted, beat.info.id)?;
        let params: [Param<'_>; 5] = [
            (&id, Type::UUID),
            (&info, Type::BYTEA),
            (&lease, Type::INT8),
            (&types, Type::TEXT_ARRAY),
            (&started, Type::BYTEA),
        ];
        let row = again!(connection.row("SELECT * FROM goflow.heartbeat($1, $2, $3, $4, $5)", &params))?;
        if row.get::<_, i32>("unparked") > 0 {
            self.wake(&mut connection).await;
        }
        let ids = row.get::<_, Option<Vec<Uuid>>>("ids").unwrap_or_default();
        let epochs = row.get::<_, Option<Vec<i64>>>("epochs").unwrap_or_default();
        let held = ids.into_iter().zip(epochs).map(|(id, epoch)| (job_id(id), Epoch(epoch as u64))).collect();
        Ok(Beat { now: Ms(row.get("now")), held, drain: row.get("drain") })
    }

    pub(super) async fn strike_off(&self, worker: WorkerId) -> Result<()> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let (id, stopped) = (worker_uuid(worker), of_worker(EventKind::WorkerStopped, worker)?);
        let params: [Param<'_>; 2] = [(&id, Type::UUID), (&stopped, Type::BYTEA)];
        again!(connection.rows("SELECT goflow.farewell($1, $2)", &params))?;
        Ok(())
    }

    pub(super) async fn find_overdue(&self, parked: Duration, limit: usize) -> Result<Overdue> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        Ok(self.try_overdue(&mut connection, parked, limit).await?)
    }

    async fn try_overdue(&self, connection: &mut Connection, parked: Duration, limit: usize) -> Result<Overdue, Fault> {
        let (most, parked) = (number(limit as u64), millis(parked));
        let row = connection.row("SELECT goflow.now_ms()", &[]).await?;
        let now: i64 = row.get(0);
        let sql = format!(
            "SELECT {STORED} FROM (SELECT r.* FROM goflow.lease r
                 LEFT JOIN goflow.worker w ON w.id = r.worker AND w.expires >= $1
                 WHERE w.id IS NULL OR r.expires < $1 ORDER BY r.epoch LIMIT $2) r,
             LATERAL (SELECT * FROM goflow.job j WHERE j.id = r.id LIMIT 1) j ORDER BY r.epoch"
        );
        let lapsed = connection.rows(&sql, &[(&now, Type::INT8), (&most, Type::INT8)]).await?;
        let sql = format!(
            "SELECT {STORED} FROM goflow.queue q, LATERAL (SELECT * FROM goflow.job j WHERE j.place = 'k'
                 AND j.queue = q.id AND j.at <= $1 - $2 ORDER BY j.at, j.turn LIMIT $3) j
             LEFT JOIN goflow.running r ON false ORDER BY j.at, j.turn LIMIT $3"
        );
        let params: [Param<'_>; 3] = [(&now, Type::INT8), (&parked, Type::INT8), (&most, Type::INT8)];
        let unhandled = connection.rows(&sql, &params).await?;
        let overdue = Overdue {
            now: Ms(now),
            lapsed: self.find_stored(connection, lapsed.iter().map(stored).collect::<Result<_>>()?).await?,
            unhandled: self.find_stored(connection, unhandled.iter().map(stored).collect::<Result<_>>()?).await?,
        };
        let silent = connection.rows("SELECT id FROM goflow.worker WHERE expires < $1", &[(&now, Type::INT8)]).await?;
        for row in silent {
            let id: Uuid = row.get(0);
            let lost = of_worker(EventKind::WorkerLost, worker_id(id))?;
            connection.rows("SELECT goflow.lose($1, $2)", &[(&id, Type::UUID), (&lost, Type::BYTEA)]).await?;
        }
        Ok(overdue)
    }

    pub(super) async fn trim_all(&self, retention: Retention, limit: usize) -> Result<Trimmed> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        Ok(self.try_trim(&mut connection, retention, limit).await?)
    }

    async fn try_trim(
        &self,
        connection: &mut Connection,
        retention: Retention,
        limit: usize,
    ) -> Result<Trimmed, Fault> {
        connection.rows("SELECT goflow.fold()", &[]).await?;
        let row = connection.row("SELECT goflow.now_ms()", &[]).await?;
        let now: i64 = row.get(0);
        let mut trimmed = Trimmed::default();
        let finished = [Place::Completed, Place::Cancelled].map(|place| code(place.code()));
        let sql = "SELECT q.name, q.id, q.settings FROM goflow.queue q
                   WHERE q.id IN (SELECT d.queue FROM goflow.delta d WHERE d.place = ANY ($1)) ORDER BY q.name";
        for row in connection.rows(sql, &[(&finished.to_vec(), Type::CHAR_ARRAY)]).await? {
            let (name, queue): (Name, i32) = (name(row.get(0))?, row.get(1));
            let settings: QueueSettings = row.get::<_, Option<&[u8]>>(2).map(decode).transpose()?.unwrap_or_default();
            let own = settings.retention.unwrap_or(retention);
            let (before, keep) = (now.saturating_sub(millis(own.age)), number(own.count as u64));
            let mut dropped = 0;
            for place in finished {
                let left = i32::try_from(limit - trimmed.jobs).unwrap_or(i32::MAX);
                let params: [Param<'_>; 5] = [
                    (&queue, Type::INT4),
                    (&place, Type::CHAR),
                    (&before, Type::INT8),
                    (&keep, Type::INT8),
                    (&left, Type::INT4),
                ];
                let row = connection.row("SELECT goflow.trim_jobs($1, $2, $3, $4, $5)", &params).await?;
                dropped += row.get::<_, i32>(0) as usize;
                trimmed.jobs += row.get::<_, i32>(0) as usize;
            }
            if dropped > 0 {
                let event = Event { queue: Some(name), ..Event::new(EventKind::QueueTrimmed) };
                let event = packed(&[Event { data: Some(format!("{dropped} finished jobs")), ..event }])?;
                let sql = "SELECT goflow.log($1, ARRAY[$2], NULL, NULL, NULL)";
                connection.rows(sql, &[(&now, Type::INT8), (&event, Type::BYTEA)]).await?;
            }
        }
        let most = i32::try_from(limit).unwrap_or(i32::MAX);
        let before = now.saturating_sub(millis(retention.age));
        let params: [Param<'_>; 2] = [(&before, Type::INT8), (&most, Type::INT4)];
        let row = connection.row("SELECT goflow.trim_runs($1, $2)", &params).await?;
        trimmed.runs = row.get::<_, i32>(0) as usize;
        let (producers, records) = (millis(limits::PRODUCER_MEMORY), limits::EVENT_RECORDS as i32);
        let params: [Param<'_>; 2] = [(&producers, Type::INT8), (&records, Type::INT4)];
        connection.rows("SELECT goflow.forget($1, $2)", &params).await?;
        connection.rows("SELECT goflow.forget_shared($1)", &[(&most, Type::INT4)]).await?;
        Ok(trimmed)
    }

    pub(super) async fn list_workers(&self) -> Result<Vec<WorkerStatus>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let sql = "SELECT w.info, w.expires, (SELECT count(*) FROM goflow.lease r WHERE r.worker = w.id), w.draining
                   FROM goflow.worker w ORDER BY w.id";
        let rows = connection.rows(sql, &[]).await.map_err(StoreError::from)?;
        let status = |row: &tokio_postgres::Row| {
            let running: i64 = row.get(2);
            Ok(WorkerStatus {
                info: decode(row.get(0))?,
                expires_at: Ms(row.get(1)),
                running: running as u64,
                draining: row.get(3),
            })
        };
        rows.iter().map(status).collect()
    }

    /// Follows an exchange now and then: looks how far the line has been consumed, folds counters,
    /// cleans the tables whose rows live for milliseconds.
    pub(super) async fn upkeep(&self, connection: &mut Connection) -> Result<(), Fault> {
        self.probe(connection).await?;
        let probes = self.probes.fetch_add(1, Ordering::Relaxed) + 1;
        if probes.is_multiple_of(PROBES_PER_FOLD) {
            connection.rows("SELECT goflow.fold()", &[]).await?;
        }
        if probes.is_multiple_of(PROBES_PER_FOLD * FOLDS_PER_VACUUM) {
            connection
                .run(async |client| {
                    // A role that does not own the tables gets a warning and no harm is done.
                    let tables = "goflow.leased, goflow.running, goflow.delta";
                    client.simple_query(&format!("VACUUM (SKIP_LOCKED, TRUNCATE false) {tables}")).await?;
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }
}
