//! `list`: one page of one place, by the index that keeps the order. It knows cursors and spots.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::read::{blob, idle, lease, running};
use super::talk::add_talk;
use super::tx::{Spot, read_queues};
use crate::domain::limits::LIST_BUDGET;
use crate::domain::{JobId, Name, Place};
use crate::store::{Cursor, ListQuery, Page, StoreError, Stored};

/// An item and its place in the order.
type Entry = ((i64, i64), Stored);

pub(super) fn list(conn: &Connection, query: &ListQuery) -> Result<Page<Stored>, Fault> {
    let budget = query.budget.clamp(1, LIST_BUDGET);
    let after = query.after.as_ref().map(parse).transpose()?;
    let mut page = Page { items: Vec::new(), next: None };
    let mut last = None;
    for (queue, name, _) in read_queues(conn)? {
        if query.queue.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let from = match &after {
            Some((before, _)) if *before > name => continue,
            Some((before, key)) if *before == name => Some(*key),
            _ => None,
        };
        // One more than there is room for tells whether there is a next page.
        let room = budget - page.items.len() + 1;
        let mut entries = entries(conn, queue, query.place, from, room)?;
        add_talk(conn, entries.iter_mut().map(|(_, stored)| stored))?;
        for (key, stored) in entries {
            if page.items.len() == budget {
                page.next = last;
                return Ok(page);
            }
            page.items.push(stored);
            last = Some(Cursor(format!("{name} {}.{}", key.0, key.1)));
        }
    }
    Ok(page)
}

/// By the index of ids, which begin with the time of birth.
pub(super) fn newest(conn: &Connection, before: Option<JobId>, limit: usize) -> Result<Vec<JobId>, Fault> {
    // Greater than every id.
    let end = before.map_or_else(|| vec![0xff; 17], |id| id.as_bytes().to_vec());
    let mut select = conn.prepare_cached("SELECT id FROM jobs WHERE id < ?1 ORDER BY id DESC LIMIT ?2")?;
    let ids = select.query_map(params![end, limit as i64], |row| row.get(0))?;
    Ok(ids.map(|id| id.map(JobId::from_bytes)).collect::<rusqlite::Result<_>>()?)
}

fn parse(cursor: &Cursor) -> Result<(Name, (i64, i64)), Fault> {
    let Cursor(text) = cursor;
    let parts = text.split_once(' ').and_then(|(name, key)| Some((name, key.split_once('.')?)));
    let parsed =
        parts.and_then(|(name, (rank, turn))| Some((name.parse().ok()?, (rank.parse().ok()?, turn.parse().ok()?))));
    parsed.ok_or_else(|| Fault::Refused(StoreError::Refused(format!("`{text}` is not a cursor of this store"))))
}

fn entries(
    conn: &Connection,
    queue: i64,
    place: Place,
    from: Option<(i64, i64)>,
    room: usize,
) -> Result<Vec<Entry>, Fault> {
    let mut found = Vec::new();
    let room = room as i64;
    if place == Place::Running {
        let mut select = conn.prepare_cached(
            "SELECT running.epoch, running.worker, running.since, running.id, jobs.body
             FROM running CROSS JOIN jobs ON jobs.n = running.job
             WHERE running.queue = ?1 AND running.epoch > ?2 ORDER BY running.epoch LIMIT ?3",
        )?;
        let mut rows = select.query(params![queue, from.map_or(0, |(epoch, _)| epoch), room])?;
        while let Some(row) = rows.next()? {
            let stored = running(conn, JobId::from_bytes(row.get(3)?), blob(row, 4)?, lease(row, 0)?)?;
            found.push(((row.get(0)?, 0), stored));
        }
        return Ok(found);
    }
    let latest_first = place.state().is_terminal();
    let sql = match latest_first {
        true => {
            "SELECT line.job, line.rank, line.turn, jobs.id, jobs.body
             FROM line CROSS JOIN jobs ON jobs.n = line.job
             WHERE line.queue = ?1 AND line.place = ?2 AND (line.rank, line.turn) < (?3, ?4)
             ORDER BY line.rank DESC, line.turn DESC LIMIT ?5"
        }
        false => {
            "SELECT line.job, line.rank, line.turn, jobs.id, jobs.body
             FROM line CROSS JOIN jobs ON jobs.n = line.job
             WHERE line.queue = ?1 AND line.place = ?2 AND (line.rank, line.turn) > (?3, ?4)
             ORDER BY line.rank, line.turn LIMIT ?5"
        }
    };
    let start = if latest_first { (i64::MAX, i64::MAX) } else { (i64::MIN, i64::MIN) };
    let (rank, turn) = from.unwrap_or(start);
    let mut select = conn.prepare_cached(sql)?;
    let mut rows = select.query(params![queue, place.code(), rank, turn, room])?;
    while let Some(row) = rows.next()? {
        let spot = Spot { n: row.get(0)?, queue, place, rank: row.get(1)?, turn: row.get(2)? };
        let stored = idle(conn, spot, JobId::from_bytes(row.get(3)?), blob(row, 4)?)?;
        found.push(((spot.rank, spot.turn), stored));
    }
    Ok(found)
}
