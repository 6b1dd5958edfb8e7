//! What is said to and by running jobs: asks, notes and logs, ends of parents, permits, facts, drains.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::columns::*;
use super::errors::Fault;
use super::pool::{Connection, DEADLINE, Param, again};
use super::read::{ITS_LEASE, STORED, name, place_of, stored};
use super::{PostgresStore, starts};
use crate::domain::{Epoch, Event, EventKind, JobId, Ms, Name, RunId, WorkerId, limits};
use crate::store::codec::encode;
use crate::store::contract::*;

impl PostgresStore {
    pub(super) async fn ask_jobs(&self, ids: &[JobId]) -> Result<Vec<bool>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let uuids: Vec<Uuid> = ids.iter().copied().map(job_uuid).collect();
        let row = again!(connection.row("SELECT goflow.ask($1)", &[(&uuids, Type::UUID_ARRAY)]))?;
        self.wake(&mut connection).await;
        let live: Vec<Uuid> = row.get(0);
        Ok(uuids.iter().map(|id| live.contains(id)).collect())
    }

    pub(super) async fn list_asked(&self, worker: WorkerId, limit: usize) -> Result<Vec<Stored>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let sql = format!(
            "SELECT {STORED} FROM goflow.ask a JOIN goflow.job j ON j.id = a.id
             {ITS_LEASE}
             WHERE r.epoch IS NULL OR r.worker = $1 OR goflow.lapsed(goflow.now_ms(), r.worker, r.expires)
             ORDER BY a.id LIMIT $2"
        );
        let (worker, most) = (worker_uuid(worker), number(limit as u64));
        let rows = connection.rows(&sql, &[(&worker, Type::UUID), (&most, Type::INT8)]).await;
        rows.map_err(StoreError::from)?.iter().map(stored).collect()
    }

    pub(super) async fn take_notes(&self, notes: &[Note]) -> Result<Vec<bool>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        again!(connection.run(async |client| in_one(client, notes).await))
    }

    pub(super) async fn read_log(&self, id: JobId, after: u64) -> Result<JobLog> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let id = job_uuid(id);
        let sql = "SELECT l.truncated, c.seq, c.at, c.epoch, c.text FROM goflow.job_log l
                   LEFT JOIN goflow.chunk c ON c.id = l.id AND c.seq > $2 WHERE l.id = $1 ORDER BY c.seq";
        let params: [Param<'_>; 2] = [(&id, Type::UUID), (&number(after), Type::INT8)];
        let rows = connection.rows(sql, &params).await.map_err(StoreError::from)?;
        let chunk = |row: &Row| {
            let seq: i64 = row.get::<_, Option<i64>>(1)?;
            let text = String::from_utf8_lossy(row.get(4)).into_owned();
            Some(LogChunk { seq: seq as u64, at: Ms(row.get(2)), epoch: Epoch(row.get::<_, i64>(3) as u64), text })
        };
        Ok(JobLog {
            chunks: rows.iter().filter_map(chunk).collect(),
            truncated: rows.first().is_some_and(|row| row.get(0)),
        })
    }

    pub(super) async fn list_freed(&self, limit: usize) -> Result<Vec<Freed>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let sql = format!(
            "SELECT {STORED}, t.parent, p.place
             FROM (SELECT * FROM goflow.tie WHERE loose ORDER BY parent, child LIMIT $1) t
             JOIN goflow.job j ON j.id = t.child LEFT JOIN goflow.running r ON false
             LEFT JOIN goflow.job p ON p.id = t.parent ORDER BY t.parent, t.child"
        );
        let rows = connection.rows(&sql, &[(&number(limit as u64), Type::INT8)]).await.map_err(StoreError::from)?;
        let mut freed: Vec<Freed> = Vec::new();
        for row in &rows {
            let parent = job_id(row.get("parent"));
            let letter: Option<i8> = row.get(10);
            let state = letter.map(|letter| place_of(parent, letter)).transpose()?.map(|place| place.state());
            let child = stored(row)?;
            match freed.last_mut().filter(|last| last.parent == parent) {
                Some(last) => last.children.push(child),
                None => freed.push(Freed { parent, state, children: vec![child] }),
            }
        }
        Ok(freed)
    }

    pub(super) async fn give_permits(&self, requests: &[PermitRequest]) -> Result<Vec<Vec<Duration>>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let names: Vec<Vec<u8>> = requests.iter().map(|request| key(&request.bucket)).collect();
        let intervals: Vec<i64> = requests.iter().map(|request| request.rate.interval_us()).collect();
        let tolerances: Vec<i64> = requests.iter().map(|request| request.rate.tolerance_us()).collect();
        let counts: Vec<i32> = requests.iter().map(|request| super::columns::limit(request.count)).collect();
        let params: [Param<'_>; 4] = [
            (&names, Type::BYTEA_ARRAY),
            (&intervals, Type::INT8_ARRAY),
            (&tolerances, Type::INT8_ARRAY),
            (&counts, Type::INT4_ARRAY),
        ];
        let rows = again!(connection.rows("SELECT * FROM goflow.permits($1, $2, $3, $4)", &params))?;
        let waits = |row: &Row| {
            let waits: Vec<i64> = row.get(1);
            (row.get::<_, i64>(0), waits.into_iter().map(|us| Duration::from_micros(us.unsigned_abs())).collect())
        };
        // They were given in the order of their names.
        let given: BTreeMap<i64, Vec<Duration>> = rows.iter().map(waits).collect();
        Ok(given.into_values().collect())
    }

    pub(super) async fn inform_runs(&self, facts: &[(RunId, Vec<u8>)]) -> Result<Vec<bool>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let told = again!(connection.run(async |client| starts::tell(client, facts).await))?;
        self.wake(&mut connection).await;
        Ok(facts.iter().map(|(run, _)| told.contains(&run_uuid(*run))).collect())
    }

    pub(super) async fn tell_to_drain(&self, worker: WorkerId) -> Result<bool> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let event = packed(&[Event { worker: Some(worker), ..Event::new(EventKind::WorkerDraining) }])?;
        let params: [Param<'_>; 2] = [(&worker_uuid(worker), Type::UUID), (&event, Type::BYTEA)];
        Ok(again!(connection.row("SELECT goflow.drain($1, $2)", &params))?.get(0))
    }
}

/// A lease under which something is told: worker and queue.
type Teller = (Uuid, Name);

async fn in_one(client: &Client, notes: &[Note]) -> Result<Vec<bool>, Fault> {
    client.simple_query("BEGIN").await?;
    let done = note_down(client, notes).await;
    client.simple_query(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    done
}

async fn note_down(client: &Client, notes: &[Note]) -> Result<Vec<bool>, Fault> {
    let epochs: Vec<i64> = notes.iter().map(|note| number(note.epoch.0)).collect();
    let params: [Param<'_>; 1] = [(&epochs, Type::INT8_ARRAY)];
    let rows = client.query_typed("SELECT epoch, id, worker, queue FROM goflow.noted($1)", &params).await?;
    let mut leases: BTreeMap<(i64, Uuid), Teller> = BTreeMap::new();
    for row in &rows {
        leases.insert((row.get(0), row.get(1)), (row.get(2), name(row.get(3))?));
    }
    let lease = |note: &Note| leases.get(&(number(note.epoch.0), job_uuid(note.id)));
    let held: Vec<(&Note, &Teller)> = notes.iter().filter_map(|note| Some((note, lease(note)?))).collect();
    if !held.is_empty() {
        write_notes(client, &held).await?;
    }
    Ok(notes.iter().map(|note| lease(note).is_some()).collect())
}

async fn write_notes(client: &Client, held: &[(&Note, &Teller)]) -> Result<(), Fault> {
    let ids: Vec<Uuid> = held.iter().map(|(note, _)| job_uuid(note.id)).collect();
    let epochs: Vec<i64> = held.iter().map(|(note, _)| number(note.epoch.0)).collect();
    let progress = held.iter().map(|(note, _)| note.progress.as_ref().map(encode).transpose());
    let progress: Vec<Option<Vec<u8>>> = progress.collect::<Result<_>>()?;
    let texts: Vec<Option<&[u8]>> =
        held.iter().map(|(note, _)| Some(note.log.as_bytes()).filter(|text| !text.is_empty())).collect();
    let event = |(note, (worker, queue)): &(&Note, &Teller)| {
        let told = Event { job: Some(note.id), queue: Some(queue.clone()), ..Event::new(EventKind::JobProgress) };
        let data = Some(note.progress.as_ref()?.to_string());
        Some(Event { worker: Some(worker_id(*worker)), data, ..told })
    };
    let events: Vec<Event> = held.iter().filter_map(event).collect();
    let events = if events.is_empty() { None } else { Some(packed(&events)?) };
    let most = limits::LOG_BYTES as i64;
    let params: [Param<'_>; 6] = [
        (&ids, Type::UUID_ARRAY),
        (&epochs, Type::INT8_ARRAY),
        (&progress, Type::BYTEA_ARRAY),
        (&texts, Type::BYTEA_ARRAY),
        (&events, Type::BYTEA),
        (&most, Type::INT8),
    ];
    client.query_typed("SELECT goflow.note($1, $2, $3, $4, $5, $6)", &params).await?;
    Ok(())
}
