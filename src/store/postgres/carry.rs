//! Runs and logs that come from another store or go to one. A change is a transaction of plain statements:
//! a run's row is the lock of everything that belongs to it, as everywhere. It knows no shards.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{job_uuid, key, limit, number, packed, run_uuid};
use super::errors::Fault;
use super::events::unpack;
use super::exchange::record;
use super::pool::{Connection, LONG_DEADLINE, Param, again};
use crate::domain::{Epoch, Event, JobId, Json, Ms, RunId, limits};
use crate::store::contract::*;

/// How a key begins that is kept as a digest, and how long it is then.
const DIGEST: (&[u8], usize) = (b"sha256:", 39);

/// A key as it was given.
fn given(run: RunId, bytes: Vec<u8>) -> Result<String> {
    if bytes.len() == DIGEST.1 && bytes.starts_with(DIGEST.0) {
        return Err(StoreError::Refused(format!(
            "run {run} has a key that is kept as a digest: it cannot be given away"
        )));
    }
    String::from_utf8(bytes).map_err(|_| StoreError::Corrupt(format!("a key of run {run} is not text")))
}

/// Ends a transaction: it is kept if it has done what it was to do.
async fn in_one(client: &Client, work: impl AsyncFnOnce(&Client) -> Result<bool, Fault>) -> Result<bool, Fault> {
    client.simple_query("BEGIN").await?;
    let done = work(client).await;
    client.simple_query(if matches!(done, Ok(true)) { "COMMIT" } else { "ROLLBACK" }).await?;
    done
}

async fn set_document(client: &Client, change: &DocumentChange) -> Result<bool, Fault> {
    let params: [Param<'_>; 3] =
        [(&change.name.as_bytes(), Type::BYTEA), (&number(change.from_rev), Type::INT8), (&change.body, Type::BYTEA)];
    let sql = "SELECT done FROM goflow.set_document($1, $2, $3, NULL)";
    Ok(client.query_typed_one(sql, &params).await?.get(0))
}

impl PostgresStore {
    /// The inbox is looked at first: what is read afterwards either goes with it, or is not as it was seen.
    pub(super) async fn get_whole_run(&self, id: RunId) -> Result<Option<WholeRun>> {
        let mut connection = Connection::take(&self.pool, LONG_DEADLINE).await?;
        let uuid = run_uuid(id);
        let of: [Param<'_>; 1] = [(&uuid, Type::UUID)];
        let mut rows = async |sql: &str| connection.rows(sql, &of).await.map_err(StoreError::from);
        let inbox = rows("SELECT seq, fact FROM goflow.inbox WHERE run_id = $1 ORDER BY seq").await?;
        let found = rows("SELECT id, rev, workflow, state, body, finished FROM goflow.run WHERE id = $1").await?;
        let gates = rows("SELECT key, most, go, inside, seq FROM goflow.gate WHERE run_id = $1").await?;
        let timers = rows("SELECT key, due, fact FROM goflow.timer WHERE run_id = $1 ORDER BY key").await?;
        let values = rows("SELECT key, value FROM goflow.value WHERE run_id = $1 ORDER BY key").await?;
        let history = rows("SELECT at, events FROM goflow.history WHERE run_id = $1 ORDER BY seq").await?;
        let Some(row) = found.first() else { return Ok(None) };
        let gate = |row: &Row| {
            let (limit, go, inside, turn): (i32, _, _, _) = (row.get(1), row.get(2), row.get(3), row.get(4));
            let limit = limit.unsigned_abs();
            Ok::<_, StoreError>(GatePlace { key: given(id, row.get(0))?, limit, go, inside, turn })
        };
        let timer = |row: &Row| Ok((given(id, row.get(0))?, Ms(row.get(1)), row.get(2)));
        let value = |row: &Row| {
            let broken = || StoreError::Corrupt(format!("a value of run {id} is not JSON"));
            let text = std::str::from_utf8(row.get(1)).map_err(|_| broken())?;
            Ok((given(id, row.get(0))?, Json::parse(text, usize::MAX).map_err(|_| broken())?))
        };
        let events = |row: &Row| {
            let mut events: Vec<Event> = Vec::new();
            unpack(row.get(1), Ms(0), &mut events)?;
            Ok((Ms(row.get(0)), events))
        };
        Ok(Some(WholeRun {
            record: record(super::columns::run_id(row.get(0)), row.get(1), row.get(2), row.get(3), row.get(4))?,
            finished: row.get::<_, Option<i64>>(5).map(Ms),
            gate: gates.first().map(gate).transpose()?,
            inbox: inbox.iter().map(|row| (row.get::<_, i64>(0) as u64, row.get(1))).collect(),
            timers: timers.iter().map(timer).collect::<Result<_>>()?,
            values: values.iter().map(value).collect::<Result<_>>()?,
            history: history.iter().map(events).collect::<Result<_>>()?,
        }))
    }

    pub(super) async fn carry_away(&self, take: &TakeRuns) -> Result<bool> {
        take.mark().check()?;
        let mut connection = Connection::take(&self.pool, LONG_DEADLINE).await?;
        again!(connection.run(async |client| in_one(client, async |client| take_out(client, take).await).await))
    }

    pub(super) async fn carry_here(&self, put: &PutRuns) -> Result<bool> {
        let mut connection = Connection::take(&self.pool, LONG_DEADLINE).await?;
        let done =
            again!(connection.run(async |client| in_one(client, async |client| put_in(client, put).await).await));
        self.wake(&mut connection).await;
        done
    }

    pub(super) async fn replace_log(&self, id: JobId, rev: u32, log: &JobLog) -> Result<bool> {
        let mut connection = Connection::take(&self.pool, LONG_DEADLINE).await?;
        let log = log.bounded(limits::LOG_BYTES);
        let log = &log;
        again!(
            connection.run(async |client| in_one(client, async |client| write_log(client, id, rev, log).await).await)
        )
    }
}

async fn take_out(client: &Client, take: &TakeRuns) -> Result<bool, Fault> {
    let ids: Vec<Uuid> = take.runs.iter().map(|seen| run_uuid(seen.id)).collect();
    let of: [Param<'_>; 1] = [(&ids, Type::UUID_ARRAY)];
    let lock = "SELECT id, rev FROM goflow.run WHERE id = ANY ($1) ORDER BY id FOR UPDATE";
    let revs: BTreeMap<Uuid, i64> =
        client.query_typed(lock, &of).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    let look = "SELECT run_id, max(seq) FROM goflow.inbox WHERE run_id = ANY ($1) GROUP BY run_id";
    let last: BTreeMap<Uuid, i64> =
        client.query_typed(look, &of).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    let as_seen = |seen: &SeenRun| {
        let id = run_uuid(seen.id);
        revs.get(&id) == Some(&number(seen.rev)) && last.get(&id).copied().unwrap_or(0) == number(seen.last)
    };
    if !take.runs.iter().all(as_seen) {
        return Ok(false);
    }
    client.query_typed("SELECT goflow.lock_limits()", &[]).await?;
    let others = "SELECT g.run_id FROM goflow.gate g
                  WHERE g.key = ANY (ARRAY(SELECT own.key FROM goflow.gate own WHERE own.run_id = ANY ($1)))
                      AND NOT g.run_id = ANY ($1) LIMIT 1";
    if !client.query_typed(others, &of).await?.is_empty() || !set_document(client, &take.mark()).await? {
        return Ok(false);
    }
    for table in ["inbox", "timer", "value", "history", "dirty", "gate"] {
        client.query_typed(&format!("DELETE FROM goflow.{table} WHERE run_id = ANY ($1)"), &of).await?;
    }
    client.query_typed("DELETE FROM goflow.run WHERE id = ANY ($1)", &of).await?;
    Ok(true)
}

async fn put_in(client: &Client, put: &PutRuns) -> Result<bool, Fault> {
    if !set_document(client, &put.unmark()).await? {
        return Ok(false);
    }
    // `Epoch::above_others`, by the clock here. Blocks are drawn whole: whoever draws one at this moment has
    // one below or one above. They begin at one more than a multiple of their length, as the floor is one.
    let raise = "SELECT setval('goflow.epoch', f.floor + 1)
                 FROM goflow.epoch e, (SELECT (goflow.now_ms() + $1) * $2 AS floor) f WHERE e.last_value < f.floor";
    client.query_typed(raise, &[(&Epoch::AHEAD_MS, Type::INT8), (&Epoch::A_MS, Type::INT8)]).await?;
    for whole in &put.runs {
        if !put_run(client, whole).await? {
            return Ok(false);
        }
    }
    let keys: Vec<Vec<u8>> = put.runs.iter().filter_map(|whole| Some(key(&whole.gate.as_ref()?.key))).collect();
    if !keys.is_empty() {
        let params: [Param<'_>; 1] = [(&keys, Type::BYTEA_ARRAY)];
        let admit =
            "SELECT goflow.admit(goflow.now_ms(), k.key) FROM (SELECT DISTINCT key FROM unnest($1) AS u(key)) k";
        client.query_typed(admit, &params).await?;
    }
    Ok(true)
}

/// Puts one run in; false if it is kept already.
async fn put_run(client: &Client, whole: &WholeRun) -> Result<bool, Fault> {
    let RunRecord { id, workflow, state, rev, body } = &whole.record;
    let (id, rev, live) = (run_uuid(*id), number(*rev), !state.is_terminal());
    let finished = whole.finished.map(|at| at.0);
    let (workflow, state) = (workflow.as_str(), state.as_str());
    let params: [Param<'_>; 7] = [
        (&id, Type::UUID),
        (&rev, Type::INT8),
        (&finished, Type::INT8),
        (&live, Type::BOOL),
        (&workflow, Type::TEXT),
        (&state, Type::TEXT),
        (body, Type::BYTEA),
    ];
    let add = "INSERT INTO goflow.run (id, rev, finished, live, workflow, state, body)
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING RETURNING id";
    if client.query_typed(add, &params).await?.is_empty() {
        return Ok(false);
    }
    if let Some(gate) = &whole.gate {
        client.query_typed("SELECT goflow.lock_limits()", &[]).await?;
        let params: [Param<'_>; 5] = [
            (&id, Type::UUID),
            (&key(&gate.key), Type::BYTEA),
            (&gate.inside, Type::BOOL),
            (&limit(gate.limit), Type::INT4),
            (&gate.go, Type::BYTEA),
        ];
        let wait = "INSERT INTO goflow.gate (run_id, key, seq, inside, most, go)
                    VALUES ($1, $2, nextval('goflow.fact'), $3, $4, $5)";
        client.query_typed(wait, &params).await?;
    }
    let keys: Vec<Vec<u8>> = whole.values.iter().map(|(text, _)| key(text)).collect();
    let values: Vec<&[u8]> = whole.values.iter().map(|(_, value)| value.as_str().as_bytes()).collect();
    let params: [Param<'_>; 3] = [(&id, Type::UUID), (&keys, Type::BYTEA_ARRAY), (&values, Type::BYTEA_ARRAY)];
    let keep =
        "INSERT INTO goflow.value (run_id, key, value) SELECT $1, u.key, u.value FROM unnest($2, $3) AS u(key, value)";
    client.query_typed(keep, &params).await?;
    let keys: Vec<Vec<u8>> = whole.timers.iter().map(|(text, ..)| key(text)).collect();
    let due: Vec<i64> = whole.timers.iter().map(|(_, due, _)| due.0).collect();
    let facts: Vec<&[u8]> = whole.timers.iter().map(|(.., fact)| fact.as_slice()).collect();
    let params: [Param<'_>; 4] =
        [(&id, Type::UUID), (&keys, Type::BYTEA_ARRAY), (&due, Type::INT8_ARRAY), (&facts, Type::BYTEA_ARRAY)];
    let set = "INSERT INTO goflow.timer (run_id, key, due, fact)
               SELECT $1, u.key, u.due, u.fact FROM unnest($2, $3, $4) AS u(key, due, fact)";
    client.query_typed(set, &params).await?;
    let at: Vec<i64> = whole.history.iter().map(|(at, _)| at.0).collect();
    let events = whole.history.iter().map(|(_, events)| packed(events)).collect::<Result<Vec<_>>>()?;
    let params: [Param<'_>; 3] = [(&id, Type::UUID), (&at, Type::INT8_ARRAY), (&events, Type::BYTEA_ARRAY)];
    // Numbers are drawn in the order of the list.
    let keep = "INSERT INTO goflow.history (run_id, seq, at, events)
                SELECT $1, nextval('goflow.fact'), o.at, o.events FROM (
                    SELECT u.at, u.events FROM unnest($2, $3) WITH ORDINALITY AS u(at, events, ord) ORDER BY u.ord) o";
    client.query_typed(keep, &params).await?;
    if !whole.inbox.is_empty() {
        let facts: Vec<(RunId, Vec<u8>)> =
            whole.inbox.iter().map(|(_, fact)| (whole.record.id, fact.clone())).collect();
        super::starts::tell(client, &facts).await?;
    }
    Ok(true)
}

async fn write_log(client: &Client, id: JobId, rev: u32, log: &JobLog) -> Result<bool, Fault> {
    let id = job_uuid(id);
    let of: [Param<'_>; 2] = [(&id, Type::UUID), (&i64::from(rev), Type::INT8)];
    let look = "SELECT id FROM goflow.job WHERE id = $1 AND rev = $2 AND place = 's' FOR UPDATE";
    if client.query_typed(look, &of).await?.is_empty() {
        return Ok(false);
    }
    client.query_typed("SELECT goflow.forget_jobs(ARRAY[$1])", &[(&id, Type::UUID)]).await?;
    let Some(last) = log.chunks.last() else { return Ok(true) };
    let bytes: usize = log.chunks.iter().map(|chunk| chunk.text.len()).sum();
    let params: [Param<'_>; 4] = [
        (&id, Type::UUID),
        (&number(bytes as u64), Type::INT8),
        (&number(last.seq), Type::INT8),
        (&log.truncated, Type::BOOL),
    ];
    let head = "INSERT INTO goflow.job_log (id, bytes, seq, truncated) VALUES ($1, $2, $3, $4)";
    client.query_typed(head, &params).await?;
    let seqs: Vec<i64> = log.chunks.iter().map(|chunk| number(chunk.seq)).collect();
    let at: Vec<i64> = log.chunks.iter().map(|chunk| chunk.at.0).collect();
    let epochs: Vec<i64> = log.chunks.iter().map(|chunk| number(chunk.epoch.0)).collect();
    let texts: Vec<&[u8]> = log.chunks.iter().map(|chunk| chunk.text.as_bytes()).collect();
    let params: [Param<'_>; 5] = [
        (&id, Type::UUID),
        (&seqs, Type::INT8_ARRAY),
        (&at, Type::INT8_ARRAY),
        (&epochs, Type::INT8_ARRAY),
        (&texts, Type::BYTEA_ARRAY),
    ];
    let keep = "INSERT INTO goflow.chunk (id, seq, at, epoch, text)
                SELECT $1, u.seq, u.at, u.epoch, u.text FROM unnest($2, $3, $4, $5) AS u(seq, at, epoch, text)";
    client.query_typed(keep, &params).await?;
    Ok(true)
}
