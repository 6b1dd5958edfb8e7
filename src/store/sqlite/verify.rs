//! `verify`: counts everything anew and holds each index against the records. It reads everything
//! and changes nothing.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::commit::is_in_line;
use super::fault::Fault;
use super::read::blob;
use super::tx::{Spot, parse_place, read_queues};
use crate::domain::{JobId, Place};
use crate::store::codec;

/// Each difference in a sentence.
pub(super) fn verify(conn: &Connection) -> Result<Vec<String>, Fault> {
    let mut differences = pages(conn)?;
    // Of a file whose pages are broken nothing else can be believed.
    if differences.is_empty() {
        counts(conn, &mut differences)?;
        jobs(conn, &mut differences)?;
        for (sql, sentence) in STRAYS {
            strays(conn, sql, sentence, &mut differences)?;
        }
    }
    Ok(differences)
}

/// What must not exist: a query that gives one text for each, and the sentence around it.
const STRAYS: [(&str, &str); 19] = [
    (
        "SELECT printf('%d in queue %d', line.job, line.queue) FROM line LEFT JOIN jobs ON jobs.n = line.job
         WHERE jobs.n IS NULL OR (jobs.queue, jobs.place, jobs.rank, jobs.turn)
             IS NOT (line.queue, line.place, line.rank, line.turn)",
        "a line holds job number {} that is not there",
    ),
    (
        "SELECT running.epoch FROM running LEFT JOIN jobs ON jobs.n = running.job
         WHERE jobs.n IS NULL OR jobs.id IS NOT running.id OR jobs.queue IS NOT running.queue",
        "the lease with epoch {} is of no job",
    ),
    ("SELECT job FROM running GROUP BY job HAVING count(*) > 1", "job number {} has more than one lease"),
    ("SELECT running.epoch FROM running, state WHERE running.epoch > state.epoch", "epoch {} was never given out"),
    (
        "SELECT parked.job FROM parked LEFT JOIN jobs ON jobs.n = parked.job
         WHERE jobs.n IS NULL OR (jobs.place, jobs.rank, jobs.turn) IS NOT (107, parked.rank, parked.turn)",
        "job number {} is parked by its type and not in its queue",
    ),
    (
        "SELECT n FROM jobs WHERE place = 107 AND n NOT IN (SELECT job FROM parked)
             AND n NOT IN (SELECT job FROM running)",
        "job number {} is parked in its queue and not by its type",
    ),
    (
        "SELECT key FROM uniques LEFT JOIN jobs ON jobs.id = uniques.id
         WHERE uniques.live
             AND (jobs.id IS NULL OR (jobs.place IN (99, 100, 120) AND jobs.n NOT IN (SELECT job FROM running)))",
        "the unique key {} is held by a job that is not live",
    ),
    (
        "SELECT DISTINCT run FROM inbox WHERE run NOT IN (SELECT run FROM dirty)",
        "run number {} has an inbox and is not marked dirty",
    ),
    ("SELECT DISTINCT run FROM inbox WHERE run NOT IN (SELECT n FROM runs)", "an inbox is of no run ({})"),
    ("SELECT run FROM dirty WHERE run NOT IN (SELECT n FROM runs)", "a dirty mark is of no run ({})"),
    ("SELECT DISTINCT run FROM timers WHERE run NOT IN (SELECT n FROM runs)", "a timer is of no run ({})"),
    (
        "SELECT ties.child FROM ties LEFT JOIN jobs ON jobs.n = ties.child WHERE jobs.place IS NOT 104",
        "job number {} is tied to a parent and not held",
    ),
    (
        "SELECT lower(hex(ties.parent)) FROM ties LEFT JOIN jobs ON jobs.id = ties.parent
         WHERE (ties.parent IN (SELECT parent FROM ended)) IS NOT
             (jobs.id IS NULL OR (jobs.place IN (99, 100, 120) AND jobs.n NOT IN (SELECT job FROM running)))",
        "the end of parent {} is not noted as it is",
    ),
    (
        "SELECT lower(hex(asks.id)) FROM asks LEFT JOIN jobs ON jobs.id = asks.id
         WHERE jobs.id IS NULL OR (jobs.place IN (99, 100, 120) AND jobs.n NOT IN (SELECT job FROM running))",
        "job {} is asked to end and is not live",
    ),
    (
        "SELECT keyed.job FROM keyed LEFT JOIN jobs ON jobs.n = keyed.job
         WHERE jobs.n IS NULL OR keyed.state IS NOT CASE
             WHEN keyed.job IN (SELECT job FROM running) THEN 1 WHEN jobs.place = 98 THEN 2 ELSE 0 END",
        "job number {} is not where its concurrency key says",
    ),
    (
        "SELECT gates.run FROM gates LEFT JOIN runs ON runs.n = gates.run WHERE runs.n IS NULL OR runs.terminal",
        "run number {} holds or awaits a place under its key and is not live",
    ),
    (
        "SELECT kind || ' ' || name FROM current WHERE hash NOT IN (SELECT hash FROM definitions)",
        "the current definition of {} is not kept",
    ),
    (
        "SELECT name FROM locks WHERE until > (SELECT max(since) FROM locks) GROUP BY name
         HAVING count(*) > min(slots) OR min(slots) <> max(slots)",
        "lock {} has more holders than slots",
    ),
    (
        "SELECT fence FROM locks WHERE fence > (SELECT value FROM marks WHERE name = 'fence')",
        "fence {} was never given out",
    ),
];

fn strays(conn: &Connection, sql: &str, sentence: &str, differences: &mut Vec<String>) -> Result<(), Fault> {
    let mut select = conn.prepare(sql)?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        let what = match row.get_ref(0)? {
            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
            other => other.as_str().map_err(rusqlite::Error::from)?.to_owned(),
        };
        differences.push(sentence.replace("{}", &what));
    }
    Ok(())
}

/// SQLite's own view of its pages and indexes.
fn pages(conn: &Connection) -> Result<Vec<String>, Fault> {
    let mut check = conn.prepare("PRAGMA integrity_check(20)")?;
    let found = check.query_map((), |row| row.get::<_, String>(0))?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found.into_iter().filter(|line| line != "ok").map(|line| format!("sqlite: {line}")).collect())
}

fn counts(conn: &Connection, differences: &mut Vec<String>) -> Result<(), Fault> {
    let mut tally: BTreeMap<(i64, u8), (i64, i64)> = BTreeMap::new();
    let running = Place::Running.code();
    for (sql, kept) in [
        ("SELECT queue, place, jobs FROM counts".to_owned(), true),
        ("SELECT queue, place, count(*) FROM line GROUP BY queue, place".to_owned(), false),
        (format!("SELECT queue, {running}, count(*) FROM running GROUP BY queue"), false),
    ] {
        let mut select = conn.prepare(&sql)?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            let (counted, found) = tally.entry((row.get(0)?, row.get(1)?)).or_default();
            *(if kept { counted } else { found }) += row.get::<_, i64>(2)?;
        }
    }
    let names: BTreeMap<i64, String> =
        read_queues(conn)?.into_iter().map(|(id, name, _)| (id, name.to_string())).collect();
    for ((queue, place), (counted, found)) in tally.into_iter().filter(|(_, (counted, found))| counted != found) {
        let name = names.get(&queue).cloned().unwrap_or_else(|| format!("number {queue}"));
        let place = parse_place(place)?;
        differences.push(format!("queue {name}: {counted} jobs counted in {place:?}, {found} found"));
    }
    Ok(())
}

/// Each record can be read, is in one place, and is what the columns beside it say.
fn jobs(conn: &Connection, differences: &mut Vec<String>) -> Result<(), Fault> {
    let queues: BTreeMap<i64, _> = read_queues(conn)?.into_iter().map(|(id, name, _)| (id, name)).collect();
    let mut leased = conn.prepare("SELECT job FROM running")?;
    let leased = leased.query_map((), |row| row.get::<_, i64>(0))?;
    let leased = leased.collect::<rusqlite::Result<std::collections::BTreeSet<_>>>()?;
    let mut all = conn.prepare("SELECT n, id, queue, place, rank, turn, priority, rev, body FROM jobs")?;
    let mut holder = conn.prepare("SELECT id FROM uniques WHERE key = ?1")?;
    let mut rows = all.query(())?;
    while let Some(row) = rows.next()? {
        let id = JobId::from_bytes(row.get(1)?);
        let place = parse_place(row.get(3)?)?;
        let spot = Spot { n: row.get(0)?, queue: row.get(2)?, place, rank: row.get(4)?, turn: row.get(5)? };
        let (waits, runs) = (is_in_line(conn, spot)?, leased.contains(&spot.n));
        if waits == runs {
            let places = if waits { "both waits and runs" } else { "is in no place" };
            differences.push(format!("job {id} {places}"));
        }
        let job = match codec::decode_job(id, blob(row, 8)?) {
            Ok(job) => job,
            Err(error) => {
                differences.push(error.to_string());
                continue;
            }
        };
        let same = queues.get(&spot.queue) == Some(&job.queue)
            && row.get::<_, i8>(6)? == job.priority
            && row.get::<_, u32>(7)? == job.rev;
        if !same {
            differences.push(format!("job {id} is indexed by what its record does not say"));
        }
        if let Some(key) = job.unique_key.filter(|_| runs || !place.state().is_terminal())
            && !holder.exists(rusqlite::params![key])?
        {
            differences.push(format!("job {id} is live and does not hold its unique key {key:?}"));
        }
    }
    Ok(())
}
