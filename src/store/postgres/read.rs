//! Looking: jobs by id, lists by index, counters. Nothing here changes anything.

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{job_id, job_uuid, key as column_key, number, worker_id};
use super::pool::{Connection, DEADLINE, LONG_DEADLINE, Param};
use crate::domain::time::millis;
use crate::domain::{Epoch, JobId, Ms, Name, Place, QueueSettings, QueueStats, limits};
use crate::store::codec::{decode, read_job};
use crate::store::contract::*;
use std::time::Duration;

/// What [`stored`] reads, of a job `j` and its lease `r`.
pub(super) const STORED: &str = "j.id, j.body, j.place, j.at, r.epoch, r.worker, r.since, r.progress,
    EXISTS (SELECT FROM goflow.ask k WHERE k.id = j.id) AS asked";

/// The lease of a job `j`, if it has one. A job that is in the line or has ended has none: then the leases are not
/// looked through.
pub(super) const ITS_LEASE: &str = "LEFT JOIN LATERAL (SELECT * FROM goflow.lease l WHERE l.id = j.id AND j.place = 'p'
    AND NOT EXISTS (SELECT FROM goflow.waiting w WHERE w.queue = j.queue AND w.lane = j.lane AND w.turn = j.turn
        AND j.id = ANY (w.ids[w.taken + 1 :]))) r ON true";

/// How many jobs a stretch of the line has at most, and how many turns it takes up.
const STRETCH: i64 = 64;

/// A place by its letter.
pub(super) fn place_of(id: JobId, letter: i8) -> Result<Place> {
    let unknown = || StoreError::Corrupt(format!("job {id} is in the unknown place {letter}"));
    Place::from_code(letter as u8).ok_or_else(unknown)
}

pub(super) fn stored(row: &Row) -> Result<Stored> {
    let id = job_id(row.get(0));
    let job = read_job(id, row.get(1));
    let place = place_of(id, row.get(2))?;
    let asked = row.get(8);
    let Some(epoch) = row.get::<_, Option<i64>>(4) else {
        return Ok(Stored { asked, ..Stored::idle(job, place, Ms(row.get(3))) });
    };
    let (worker, since): (Uuid, i64) = (row.get(5), row.get(6));
    let lease = Lease { worker: worker_id(worker), epoch: Epoch(epoch as u64), since: Ms(since) };
    let progress = row.get::<_, Option<&[u8]>>(7).map(decode).transpose()?;
    Ok(Stored { asked, progress, ..Stored::leased(job, lease) })
}

impl PostgresStore {
    pub(super) async fn get_jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let uuids: Vec<Uuid> = ids.iter().copied().map(job_uuid).collect();
        let sql = format!(
            "SELECT {STORED} FROM goflow.job j
             {ITS_LEASE}
             WHERE j.id = ANY ($1)"
        );
        let rows = connection.rows(&sql, &[(&uuids, Type::UUID_ARRAY)]).await.map_err(StoreError::from)?;
        let found = self.find_stored(&mut connection, rows.iter().map(stored).collect::<Result<_>>()?).await?;
        Ok(ids.iter().map(|id| found.iter().find(|stored| stored.job.id == *id).cloned()).collect())
    }

    pub(super) async fn key_holders(&self, keys: &[String]) -> Result<Vec<Option<Holder>>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| column_key(key)).collect();
        let sql = "SELECT k.id, greatest(coalesce(k.until - goflow.now_ms(), 0), 0) FROM unnest($1) WITH ORDINALITY AS asked(key, nth)
                   LEFT JOIN goflow.unique_key k ON k.key = asked.key AND (
                       coalesce(k.until > goflow.now_ms(), true)
                       OR EXISTS (SELECT FROM goflow.job j WHERE j.id = k.id AND j.place NOT IN ('d', 'c', 'x')))
                   ORDER BY asked.nth";
        let rows = connection.rows(sql, &[(&keys, Type::BYTEA_ARRAY)]).await.map_err(StoreError::from)?;
        let rest = |row: &Row| Duration::from_millis(u64::try_from(row.get::<_, i64>(1)).unwrap_or_default());
        let holder = |row: &Row| Some(Holder { job: job_id(row.get::<_, Option<Uuid>>(0)?), rest: rest(row) });
        Ok(rows.iter().map(holder).collect())
    }

    pub(super) async fn find_ids(&self, table: &str, part: &str, limit: usize) -> Result<Vec<Uuid>> {
        let mut connection = Connection::take(&self.pool, LONG_DEADLINE).await?;
        let (part, most) = (part.replace('-', ""), number(limit as u64));
        let sql = format!(
            "SELECT id FROM goflow.{table} WHERE position($1 IN encode(uuid_send(id), 'hex')) > 0 ORDER BY id LIMIT $2"
        );
        let rows = connection.rows(&sql, &[(&part, Type::TEXT), (&most, Type::INT8)]).await;
        Ok(rows.map_err(StoreError::from)?.iter().map(|row| row.get(0)).collect())
    }

    pub(super) async fn newest_jobs(&self, before: Option<JobId>, limit: usize) -> Result<Vec<JobId>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let (before, most) = (before.map(job_uuid), number(limit as u64));
        // As two statements, so that each is a walk along the index.
        let sql = match before {
            Some(_) => "SELECT id FROM goflow.job WHERE id < $1 ORDER BY id DESC LIMIT $2",
            None => "SELECT id FROM goflow.job WHERE $1::uuid IS NULL ORDER BY id DESC LIMIT $2",
        };
        let rows = connection.rows(sql, &[(&before, Type::UUID), (&most, Type::INT8)]).await;
        Ok(rows.map_err(StoreError::from)?.iter().map(|row| job_id(row.get(0))).collect())
    }

    pub(super) async fn list_jobs(&self, query: &ListQuery) -> Result<Page<Stored>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let budget = query.budget.clamp(1, limits::LIST_BUDGET);
        let latest_first = matches!(query.place, Place::Dead | Place::Completed | Place::Cancelled);
        let (after, a, b) = match &query.after {
            None if latest_first => (None, i64::MAX, i64::MAX),
            None => (None, LOWEST, LOWEST),
            Some(cursor) => parse(cursor).map(|(queue, a, b)| (Some(queue), a, b))?,
        };
        let only = query.queue.as_ref().map(Name::as_str);
        let most = budget as i64 + 1;
        let params: [Param<'_>; 5] =
            [(&after, Type::TEXT), (&a, Type::INT8), (&b, Type::INT8), (&only, Type::TEXT), (&most, Type::INT8)];
        let rows = connection.rows(&statement(query.place, latest_first), &params).await.map_err(StoreError::from)?;
        let items = self.find_stored(&mut connection, rows.iter().map(stored).collect::<Result<_>>()?).await?;
        let mut page = Page { items, next: None };
        if page.items.len() > budget {
            page.items.truncate(budget);
            let last = &rows[budget - 1];
            let (queue, a, b): (&str, i64, i64) = (last.get(9), last.get(10), last.get(11));
            page.next = Some(Cursor(format!("{queue} {a}.{b}")));
        }
        Ok(page)
    }

    pub(super) async fn count(&self) -> Result<Vec<QueueStats>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let sql = "SELECT q.name, q.paused, (SELECT array_remove(w.ids[w.taken + 1 :], NULL) FROM goflow.waiting w
                              WHERE w.queue = q.id ORDER BY w.queue, w.lane, w.turn LIMIT 1),
                          d.places, d.counts, goflow.now_ms()
                   FROM goflow.queue q LEFT JOIN
                       (SELECT s.queue, array_agg(s.place) AS places, array_agg(s.n) AS counts FROM
                           (SELECT queue, place, sum(n)::bigint AS n FROM goflow.delta GROUP BY queue, place) s
                        GROUP BY s.queue) d ON d.queue = q.id
                   ORDER BY q.name";
        let rows = connection.rows(sql, &[]).await.map_err(StoreError::from)?;
        rows.iter().map(stats).collect()
    }

    pub(super) async fn list_queues(&self) -> Result<Vec<(Name, QueueSettings)>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let rows = connection.rows("SELECT name, settings FROM goflow.queue ORDER BY name", &[]).await;
        let read = |row: &Row| {
            let settings = row.get::<_, Option<&[u8]>>(1).map(decode).transpose()?.unwrap_or_default();
            Ok((name(row.get(0))?, settings))
        };
        rows.map_err(StoreError::from)?.iter().map(read).collect()
    }
}

pub(super) fn name(text: &str) -> Result<Name> {
    text.parse().map_err(|error| StoreError::Corrupt(format!("a queue has a bad name: {error}")))
}

fn stats(row: &Row) -> Result<QueueStats> {
    let mut stats = QueueStats::empty(name(row.get(0))?);
    stats.paused = row.get(1);
    let now = Ms(row.get(5));
    let head: Option<Vec<Uuid>> = row.get(2);
    stats.oldest_pending_ms = head.unwrap_or_default().first().map(|id| millis(now.since(job_id(*id).created_at())));
    let places: Vec<i8> = row.get::<_, Option<_>>(3).unwrap_or_default();
    let counts: Vec<i64> = row.get::<_, Option<_>>(4).unwrap_or_default();
    for (letter, count) in places.into_iter().zip(counts) {
        let count = count.max(0) as u64;
        // A leased job is counted under `r`, never under a place of its record.
        match Place::from_code(letter as u8) {
            Some(Place::Scheduled | Place::Held) => stats.scheduled += count,
            Some(Place::Pending | Place::Suspect | Place::Blocked) => stats.pending += count,
            Some(Place::Parked) => {
                stats.pending += count;
                stats.parked += count;
            }
            Some(Place::Running) => stats.running += count,
            Some(Place::Retrying) => stats.retrying += count,
            Some(Place::Dead) => stats.dead += count,
            Some(Place::Completed) => stats.completed += count,
            Some(Place::Cancelled) => stats.cancelled += count,
            None => return Err(StoreError::Corrupt(format!("a counter has the unknown place {letter}"))),
        }
    }
    Ok(stats)
}

/// Below every turn, time and epoch, and with room below it.
const LOWEST: i64 = i64::MIN / 2;

/// One page of a place, queue after queue. Bounds are given as values for every queue, so that the
/// index goes straight to them.
fn statement(place: Place, latest_first: bool) -> String {
    let letter = char::from(place.code());
    let (sign, edge, order) = if latest_first { ("<", i64::MAX, "DESC") } else { (">", LOWEST, "ASC") };
    let bound = |param: &str| format!("CASE WHEN q.name = $1 THEN {param} ELSE '{edge}'::bigint END");
    let (a, b) = (bound("$2"), bound("$3"));
    let rows = match place {
        Place::Pending => format!(
            // A job's own turn is that of its stretch and its place there. So many stretches have enough jobs,
            // though of some that begin before the bound none may come.
            "SELECT {STORED}, u.lane::bigint AS a, u.turn AS b FROM (
                 SELECT u.id, w.lane, w.turn + u.nth - 1 AS turn FROM (
                     SELECT * FROM goflow.waiting w
                     WHERE w.queue = q.id AND (w.lane, w.turn) > (greatest({a}, -32768)::smallint, {b} - {STRETCH})
                     ORDER BY w.lane, w.turn LIMIT $5 + {STRETCH}) w, unnest(w.ids) WITH ORDINALITY AS u(id, nth)
                 WHERE u.nth > w.taken AND u.id IS NOT NULL
                     AND (w.lane, w.turn + u.nth - 1) > (greatest({a}, -32768)::smallint, {b})
                 ORDER BY 2, 3 LIMIT $5) u
             JOIN goflow.job j ON j.id = u.id LEFT JOIN goflow.running r ON false ORDER BY a, b"
        ),
        Place::Running => format!(
            "SELECT {STORED}, r.epoch AS a, 0::bigint AS b FROM goflow.lease r JOIN goflow.job j ON j.id = r.id
             WHERE r.queue = q.id AND r.epoch > {a} ORDER BY r.epoch LIMIT $5"
        ),
        _ => format!(
            "SELECT {STORED}, j.at AS a, j.turn AS b FROM goflow.job j LEFT JOIN goflow.running r ON false
             WHERE j.place = '{letter}' AND j.queue = q.id AND (j.at, j.turn) {sign} ({a}, {b})
             ORDER BY j.at {order}, j.turn {order} LIMIT $5"
        ),
    };
    format!(
        "SELECT s.id, s.body, s.place, s.at, s.epoch, s.worker, s.since, s.progress, s.asked, q.name, s.a, s.b
         FROM (SELECT id, name FROM goflow.queue WHERE ($1::text IS NULL OR name >= $1) AND ($4::text IS NULL OR name = $4)
               ORDER BY name) q, LATERAL ({rows}) s
         ORDER BY q.name, s.a {order}, s.b {order} LIMIT $5"
    )
}

fn parse(Cursor(text): &Cursor) -> Result<(String, i64, i64)> {
    let read = || {
        let (queue, numbers) = text.split_once(' ')?;
        let (a, b) = numbers.split_once('.')?;
        Some((queue.parse::<Name>().ok()?.as_str().to_owned(), a.parse().ok()?, b.parse().ok()?))
    };
    read().ok_or_else(|| StoreError::Refused(format!("`{text}` is not a cursor of this store")))
}
