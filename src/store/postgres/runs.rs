//! Runs, their timers, values and histories, and definitions, as the store sees them: bodies it
//! never looks into.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{key, number, run_id, run_uuid};
use super::events::unpack;
use super::exchange::record;
use super::pool::{Connection, DEADLINE, Param, again};
use crate::domain::time::millis;
use crate::domain::{Event, Json, Ms, Name, RunId, limits};
use crate::store::contract::*;

/// Records of a history that are read at once: at first, and at most.
const HISTORY: (i64, i64) = (16, 1_000);

const RECORD: &str = "SELECT id, rev, workflow, state, body FROM goflow.run";

fn read_record(row: &Row) -> Result<RunRecord> {
    record(run_id(row.get(0)), row.get(1), row.get(2), row.get(3), row.get(4))
}

/// A record, with the numbers and the facts of its inbox in two columns behind it.
fn read_work(row: &Row) -> Result<RunWork> {
    let seqs: Vec<i64> = row.get(5);
    let facts: Vec<Vec<u8>> = row.get(6);
    let inbox = seqs.into_iter().map(|seq| seq as u64).zip(facts).collect();
    Ok(RunWork { record: read_record(row)?, inbox })
}

impl PostgresStore {
    pub(super) async fn fire(&self, limit: usize) -> Result<Ticked> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let most = i32::try_from(limit).unwrap_or(i32::MAX);
        let row = again!(connection.row("SELECT * FROM goflow.tick($1)", &[(&most, Type::INT4)]))?;
        let fired = row.get::<_, i32>(0) as usize;
        if fired > 0 {
            self.wake(&mut connection).await;
        }
        Ok(Ticked { fired, next_due: row.get::<_, Option<i64>>(1).map(Ms) })
    }

    pub(super) async fn take(&self, limit: usize, hold: Duration) -> Result<Vec<RunWork>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let (most, hold) = (i32::try_from(limit).unwrap_or(i32::MAX), millis(hold).min(i64::MAX / 4));
        let entries = limits::DRAIN_BATCH as i32;
        let params: [Param<'_>; 3] = [(&most, Type::INT4), (&hold, Type::INT8), (&entries, Type::INT4)];
        let rows = again!(connection.rows("SELECT * FROM goflow.take_dirty($1, $2, $3)", &params))?;
        rows.iter().map(read_work).collect()
    }

    pub(super) async fn get_run_work(&self, id: RunId) -> Result<Option<RunWork>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let sql = "SELECT id, rev, workflow, state, body,
                ARRAY(SELECT b.seq FROM goflow.inbox b WHERE b.run_id = r.id ORDER BY b.seq LIMIT $2),
                ARRAY(SELECT b.fact FROM goflow.inbox b WHERE b.run_id = r.id ORDER BY b.seq LIMIT $2)
            FROM goflow.run r WHERE r.id = $1";
        let (id, entries) = (run_uuid(id), limits::DRAIN_BATCH as i64);
        let params: [Param<'_>; 2] = [(&id, Type::UUID), (&entries, Type::INT8)];
        let rows = connection.rows(sql, &params).await.map_err(StoreError::from)?;
        rows.first().map(read_work).transpose()
    }

    pub(super) async fn get_run(&self, id: RunId) -> Result<Option<RunRecord>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let sql = format!("{RECORD} WHERE id = $1");
        let rows = connection.rows(&sql, &[(&run_uuid(id), Type::UUID)]).await.map_err(StoreError::from)?;
        rows.first().map(read_record).transpose()
    }

    pub(super) async fn list_runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let before = match &query.after {
            None => Uuid::max(),
            Some(Cursor(text)) => {
                let bad = |_| StoreError::Refused(format!("`{text}` is not a cursor of this store"));
                run_uuid(text.parse::<RunId>().map_err(bad)?)
            }
        };
        let budget = query.budget.clamp(1, limits::LIST_BUDGET);
        let (live, most) = (!query.finished, budget as i64 + 1);
        let sql = format!("{RECORD} WHERE live = $1 AND id < $2 ORDER BY id DESC LIMIT $3");
        let params: [Param<'_>; 3] = [(&live, Type::BOOL), (&before, Type::UUID), (&most, Type::INT8)];
        let rows = connection.rows(&sql, &params).await.map_err(StoreError::from)?;
        let mut items = rows.iter().map(read_record).collect::<Result<Vec<_>>>()?;
        let more = items.len() > budget;
        items.truncate(budget);
        let next = items.last().filter(|_| more).map(|record| Cursor(record.id.to_string()));
        Ok(Page { items, next })
    }

    pub(super) async fn get_values(&self, run: RunId, keys: &[String]) -> Result<Vec<Option<Json>>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let keys: Vec<Vec<u8>> = keys.iter().map(|text| key(text)).collect();
        let sql = "SELECT v.value FROM unnest($2) WITH ORDINALITY AS u(key, ord)
                   LEFT JOIN goflow.value v ON v.run_id = $1 AND v.key = u.key ORDER BY u.ord";
        let params: [Param<'_>; 2] = [(&run_uuid(run), Type::UUID), (&keys, Type::BYTEA_ARRAY)];
        let rows = connection.rows(sql, &params).await.map_err(StoreError::from)?;
        let corrupt = |why: String| StoreError::Corrupt(format!("a value of run {run} cannot be read: {why}"));
        let read = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).map_err(|error| corrupt(error.to_string()))?;
            Json::parse(text, usize::MAX).map_err(|error| corrupt(error.to_string()))
        };
        rows.iter().map(|row| row.get::<_, Option<&[u8]>>(0).map(read).transpose()).collect()
    }

    pub(super) async fn get_history(
        &self,
        run: RunId,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<(Vec<Event>, Cursor)> {
        let mut from = after.map_or(Ok(0), Cursor::number)?;
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let sql = "SELECT at, events, seq FROM goflow.history WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let (mut events, mut most) = (Vec::new(), HISTORY.0);
        let id = run_uuid(run);
        loop {
            let params: [Param<'_>; 3] = [(&id, Type::UUID), (&from, Type::INT8), (&most, Type::INT8)];
            let rows = connection.rows(sql, &params).await.map_err(StoreError::from)?;
            let is_end = number(rows.len() as u64) < most;
            for row in rows {
                unpack(row.get(1), Ms(row.get(0)), &mut events)?;
                from = row.get(2);
                if events.len() >= limit {
                    return Ok((events, Cursor(from.to_string())));
                }
            }
            if is_end {
                return Ok((events, Cursor(from.to_string())));
            }
            most = (most * 4).min(HISTORY.1);
        }
    }

    pub(super) async fn keep_definitions(&self, definitions: &[Definition]) -> Result<()> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        // Of two with one kind and name the later is the current one: a statement may write a row once.
        let sql = "WITH given AS (
                       SELECT * FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS u(hash, kind, name, text, ord)
                   ), kept AS (
                       INSERT INTO goflow.definition (hash, kind, name, text)
                       SELECT DISTINCT ON (hash) hash, kind, name, text FROM given ORDER BY hash, ord DESC
                       ON CONFLICT (hash) DO NOTHING
                   )
                   INSERT INTO goflow.current_definition (kind, name, hash)
                   SELECT DISTINCT ON (kind, name) kind, name, hash FROM given ORDER BY kind, name, ord DESC
                   ON CONFLICT (kind, name) DO UPDATE SET hash = EXCLUDED.hash";
        let hashes: Vec<&str> = definitions.iter().map(|one| one.hash.as_str()).collect();
        let kinds: Vec<&str> = definitions.iter().map(|one| one.kind.as_str()).collect();
        let names: Vec<&str> = definitions.iter().map(|one| one.name.as_str()).collect();
        let texts: Vec<&[u8]> = definitions.iter().map(|one| one.text.as_bytes()).collect();
        let params: [Param<'_>; 4] = [
            (&hashes, Type::TEXT_ARRAY),
            (&kinds, Type::TEXT_ARRAY),
            (&names, Type::TEXT_ARRAY),
            (&texts, Type::BYTEA_ARRAY),
        ];
        again!(connection.rows(sql, &params))?;
        Ok(())
    }

    pub(super) async fn take_back(&self, kind: &str, name: &Name) -> Result<bool> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let sql = "DELETE FROM goflow.current_definition WHERE kind = $1 AND name = $2 RETURNING hash";
        let params: [Param<'_>; 2] = [(&kind, Type::TEXT), (&name.as_str(), Type::TEXT)];
        Ok(!again!(connection.rows(sql, &params))?.is_empty())
    }

    pub(super) async fn get_definition(&self, hash: &str) -> Result<Option<Definition>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let sql = "SELECT kind, name, hash, text FROM goflow.definition WHERE hash = $1";
        let rows = connection.rows(sql, &[(&hash, Type::TEXT)]).await.map_err(StoreError::from)?;
        rows.first().map(read_definition).transpose()
    }

    pub(super) async fn list_definitions(&self, kind: &str) -> Result<Vec<Definition>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let sql = "SELECT d.kind, d.name, d.hash, d.text FROM goflow.current_definition c
                   JOIN goflow.definition d ON d.hash = c.hash WHERE c.kind = $1 ORDER BY c.name";
        let rows = connection.rows(sql, &[(&kind, Type::TEXT)]).await.map_err(StoreError::from)?;
        rows.iter().map(read_definition).collect()
    }
}

fn read_definition(row: &Row) -> Result<Definition> {
    let (kind, name, hash): (String, &str, String) = (row.get(0), row.get(1), row.get(2));
    let corrupt = |what: &str| StoreError::Corrupt(format!("definition {hash} has a bad {what}"));
    let name = name.parse().map_err(|_| corrupt("name"))?;
    let text = String::from_utf8(row.get(3)).map_err(|_| corrupt("text"))?;
    Ok(Definition { kind, name, hash, text })
}
