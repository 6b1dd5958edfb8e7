//! The recount: every table against every other, and every record against its columns, in one
//! snapshot. Each difference is a sentence.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use tokio_postgres::Client;
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{job_id, key, lane, limit, run_uuid, suspect};
use super::errors::Fault;
use super::pool::{Connection, LONG_DEADLINE, Param};
use crate::domain::Place;
use crate::store::codec::decode_job;
use crate::store::contract::Result;

/// Differences told of each kind: more would say nothing new.
const MOST: usize = 20;

/// The line, a row a job.
const LINE: &str =
    "(SELECT u.id, s.queue, s.lane, s.turn FROM goflow.waiting s, unnest(s.ids) WITH ORDINALITY AS u(id, nth)
    WHERE u.nth > s.taken AND u.id IS NOT NULL)";

/// Statements that find what must not be. Each gives sentences. `{line}` is [`LINE`].
const CHECKS: &[&str] = &[
    "SELECT 'queue ' || q.name || ' counts ' || coalesce(c.n, 0) || ' jobs in place ' || coalesce(c.place, r.place)::text
            || ' and has ' || coalesce(r.n, 0)
     FROM (SELECT queue, place, sum(n) AS n FROM goflow.delta GROUP BY queue, place HAVING sum(n) <> 0) c
     FULL JOIN (SELECT j.queue, CASE WHEN r.id IS NULL THEN j.place ELSE 'r' END AS place, count(*) AS n
                FROM goflow.job j LEFT JOIN goflow.lease r ON r.id = j.id GROUP BY 1, 2) r
          ON r.queue = c.queue AND r.place = c.place
     LEFT JOIN goflow.queue q ON q.id = coalesce(c.queue, r.queue)
     WHERE c.n IS DISTINCT FROM r.n",
    "SELECT 'job ' || w.id || ' has a turn but is not waiting' FROM {line} w
     LEFT JOIN goflow.job j ON j.id = w.id AND j.place = 'p' AND j.queue = w.queue AND j.lane = w.lane AND j.turn = w.turn
     WHERE j.id IS NULL",
    "SELECT 'job ' || r.id || ' has a lease but is not running' FROM goflow.lease r
     LEFT JOIN goflow.job j ON j.id = r.id AND j.place = 'p' WHERE j.id IS NULL",
    "SELECT 'job ' || id || ' has ' || count(*) || ' leases' FROM goflow.lease GROUP BY id HAVING count(*) > 1",
    "SELECT 'job ' || id || ' has ' || count(*) || ' turns' FROM {line} w GROUP BY id HAVING count(*) > 1",
    "SELECT 'turn ' || w.turn || ' of queue ' || q.name || ' is nobody''s' FROM goflow.waiting w
     JOIN goflow.queue q ON q.id = w.queue WHERE cardinality(array_remove(w.ids[w.taken + 1 :], NULL)) = 0",
    "SELECT 'the leases from epoch ' || b.block || ' are kept in a bad order' FROM goflow.leased b
     WHERE b.held = 0 OR b.block % 64 <> 1 OR cardinality(b.ids) > 64 OR cardinality(b.queues) <> cardinality(b.ids)
         OR cardinality(b.expires) <> cardinality(b.ids)",
    "SELECT 'job ' || j.id || CASE WHEN w.id IS NULL THEN ' is pending without a turn' ELSE ' is running and waiting' END
     FROM goflow.job j LEFT JOIN {line} w ON w.id = j.id LEFT JOIN goflow.lease r ON r.id = j.id
     WHERE j.place = 'p' AND (w.id IS NULL) = (r.id IS NULL)",
    "SELECT 'queue ' || q.name || ' does not know its lane ' || w.lane FROM
         (SELECT DISTINCT queue, lane FROM goflow.waiting) w JOIN goflow.queue q ON q.id = w.queue
     WHERE NOT EXISTS (SELECT FROM goflow.lane l WHERE l.queue = w.queue AND l.lane = w.lane)",
    "SELECT 'a unique key is held by ' || k.id || ', which is not live' FROM goflow.unique_key k
     LEFT JOIN goflow.job j ON j.id = k.id AND j.place NOT IN ('d', 'c', 'x') WHERE j.id IS NULL AND k.until IS NULL",
    "SELECT 'job ' || a.id || ' is asked to end and is not live' FROM goflow.ask a
     WHERE NOT EXISTS (SELECT FROM goflow.job j WHERE j.id = a.id AND j.place NOT IN ('d', 'c', 'x'))",
    "SELECT 'job ' || t.child || ' is tied to ' || t.parent || ' and is not held' FROM goflow.tie t
     WHERE NOT EXISTS (SELECT FROM goflow.job j WHERE j.id = t.child AND j.place = 'h')",
    "SELECT 'the tie of ' || t.child || ' to ' || t.parent || CASE WHEN t.loose THEN ' is loose, and the parent lives'
            ELSE ' is not loose, and the parent has ended' END FROM goflow.tie t
     LEFT JOIN goflow.job j ON j.id = t.parent AND j.place NOT IN ('d', 'c', 'x') WHERE t.loose = (j.id IS NOT NULL)",
    "SELECT 'the lease of ' || r.id || ' has another concurrency key than the job' FROM goflow.lease r
     JOIN goflow.job j ON j.id = r.id WHERE r.ckey IS DISTINCT FROM j.ckey",
    "SELECT 'job ' || c.id || ' is not there, but its log is' FROM
         (SELECT id FROM goflow.job_log UNION SELECT id FROM goflow.chunk) c
     WHERE NOT EXISTS (SELECT FROM goflow.job j WHERE j.id = c.id)",
    "SELECT 'lock ' || h.name || ' has ' || count(*) || ' holders in ' || l.slots || ' slots' FROM goflow.lock_holder h
     JOIN goflow.lock l ON l.name = h.name WHERE h.until > goflow.now_ms() GROUP BY h.name, l.slots
     HAVING count(*) > l.slots",
    "SELECT 'lock ' || h.name || ' is held and not known' FROM goflow.lock_holder h
     WHERE NOT EXISTS (SELECT FROM goflow.lock l WHERE l.name = h.name AND l.fence >= h.fence)",
    "SELECT 'run ' || g.run_id || ' has a place at a gate and is not live' FROM goflow.gate g
     WHERE NOT EXISTS (SELECT FROM goflow.run r WHERE r.id = g.run_id AND r.live)",
    "SELECT 'run ' || run_id || ' has an inbox but is not dirty' FROM (SELECT DISTINCT run_id FROM goflow.inbox) b
     WHERE NOT EXISTS (SELECT FROM goflow.dirty d WHERE d.run_id = b.run_id)",
    "SELECT 'run ' || t.run_id || ' is not there, but its ' || t.what || ' are' FROM
         (SELECT run_id, 'facts' AS what FROM goflow.inbox UNION SELECT run_id, 'timers' FROM goflow.timer
          UNION SELECT run_id, 'values' FROM goflow.value UNION SELECT run_id, 'events' FROM goflow.history
          UNION SELECT run_id, 'dirty marks' FROM goflow.dirty) t
     WHERE NOT EXISTS (SELECT FROM goflow.run r WHERE r.id = t.run_id)",
];

impl PostgresStore {
    pub(super) async fn recount(&self) -> Result<Vec<String>> {
        let mut connection = Connection::take(&self.pool, LONG_DEADLINE).await?;
        let found = connection
            .run(async |client| {
                client.simple_query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
                let found = look(client).await;
                client.simple_query("COMMIT").await?;
                found
            })
            .await?;
        Ok(found)
    }
}

async fn look(client: &Client) -> Result<Vec<String>, Fault> {
    let mut differences = Vec::new();
    for check in CHECKS {
        let check = check.replace("{line}", LINE);
        let sql = format!("SELECT found.sentence FROM ({check}) AS found(sentence) ORDER BY 1 LIMIT {MOST}");
        for row in client.query_typed(&sql, &[]).await? {
            differences.push(row.get::<_, Option<String>>(0).unwrap_or_else(|| "a queue is not there".to_owned()));
        }
    }
    let mut queues = BTreeMap::new();
    for row in client.query_typed("SELECT id, name FROM goflow.queue", &[]).await? {
        queues.insert(row.get::<_, i32>(0), row.get::<_, String>(1));
    }
    let sql = "SELECT j.id, j.queue, j.type, j.lane, j.rev, j.timeout_ms, j.run_id, j.place, j.body, k.key, j.suspect, j.ckey,
               j.climit FROM goflow.job j LEFT JOIN goflow.unique_key k ON k.id = j.id AND j.place NOT IN ('d', 'c', 'x')";
    let none: [Param<'_>; 0] = [];
    let mut rows = std::pin::pin!(client.query_typed_raw(sql, none).await?);
    let before = differences.len();
    while let Some(row) = rows.try_next().await? {
        if differences.len() - before < MOST {
            differences.extend(record_and_columns(&row, &queues));
        }
    }
    Ok(differences)
}

/// What a job's columns say otherwise than its record.
fn record_and_columns(row: &tokio_postgres::Row, queues: &BTreeMap<i32, String>) -> Vec<String> {
    let id = job_id(row.get(0));
    let job = match decode_job(id, row.get(8)) {
        Ok(job) => job,
        Err(error) => return vec![error.to_string()],
    };
    let Some(place) = Place::from_code(row.get::<_, i8>(7) as u8) else {
        return vec![format!("job {id} is in a place that does not exist")];
    };
    let its_lane: i16 = row.get(3);
    let waits_for = job.unique_key.as_deref().filter(|_| !place.state().is_terminal()).map(key);
    let run: Option<Uuid> = row.get(6);
    let concurrency = job.concurrency.as_ref();
    let checks = [
        ("queue", queues.get(&row.get::<_, i32>(1)).map(String::as_str) == Some(job.queue.as_str())),
        // A record that could not be read does not tell its type; the column still does.
        ("type", job.raw.is_some() || row.get::<_, &str>(2) == job.kind.as_str()),
        ("priority", its_lane == lane(job.priority) || its_lane == lane(job.priority) - 1),
        ("revision", row.get::<_, i64>(4) == i64::from(job.rev)),
        (
            "time-out",
            row.get::<_, Option<i64>>(5).map(|ms| ms as u64) == job.timeout_ms.map(|ms| ms.min(i64::MAX as u64 / 4)),
        ),
        ("run", run == job.link.as_ref().map(|link| run_uuid(link.run))),
        ("unique key", row.get::<_, Option<Vec<u8>>>(9) == waits_for),
        // Of a job that runs or has ended it does not matter, and an older schema did not say.
        (
            "suspicion",
            matches!(place, Place::Pending | Place::Dead | Place::Completed | Place::Cancelled)
                || row.get::<_, Option<bool>>(10) == suspect(&job),
        ),
        ("concurrency key", row.get::<_, Option<Vec<u8>>>(11) == concurrency.map(|own| key(&own.key))),
        ("concurrency limit", row.get::<_, Option<i32>>(12) == concurrency.map(|own| limit(own.limit))),
    ];
    let wrong = checks.into_iter().filter(|(_, agrees)| !agrees);
    wrong.map(|(what, _)| format!("job {id}: its {what} is not what its record says")).collect()
}
