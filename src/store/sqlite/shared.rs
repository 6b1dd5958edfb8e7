//! Documents and locks. Grants and documents whose time is over stay in their tables until somebody
//! needs their place or they are trimmed; every look passes them by. It knows names and times, not what
//! they are for.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::Fault;
use super::read::text;
use super::tx::{Tx, parse_name};
use crate::domain::{Fence, HolderId, Ms, Name};
use crate::store::{
    Acquired, Document, DocumentChange, DocumentSet, Grant, LockHolder, LockRecord, LockRequest, lock_broken,
};

fn read_document(row: &Row<'_>) -> rusqlite::Result<Document> {
    let until: Option<i64> = row.get(2)?;
    let rev: i64 = row.get(1)?;
    Ok(Document { name: row.get(0)?, rev: rev as u64, until: until.map(Ms), body: row.get(3)? })
}

pub(super) fn document(conn: &Connection, name: &str, now: Ms) -> Result<Option<Document>, Fault> {
    let mut get = conn.prepare_cached(
        "SELECT name, rev, until, body FROM documents WHERE name = ?1 AND (until IS NULL OR until > ?2)",
    )?;
    Ok(get.query_row(params![name, now.0], read_document).optional()?)
}

pub(super) fn documents(
    conn: &Connection,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    now: Ms,
) -> Result<Vec<Document>, Fault> {
    let mut list = conn.prepare_cached(
        "SELECT name, rev, until, body FROM documents WHERE name >= ?1 AND name > ?2
             AND (until IS NULL OR until > ?3) ORDER BY name",
    )?;
    let mut found = Vec::new();
    // Everything has a name, so nothing is lost behind an empty one.
    let mut rows = list.query(params![prefix, after.unwrap_or_default(), now.0])?;
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let document = read_document(row)?;
        if !document.name.starts_with(prefix) {
            break;
        }
        found.push(document);
    }
    Ok(found)
}

pub(super) fn locks(conn: &Connection, after: Option<&Name>, limit: usize, now: Ms) -> Result<Vec<LockRecord>, Fault> {
    let mut list = conn.prepare_cached(
        "SELECT holder, about, fence, since, until, name, slots FROM locks WHERE name > ?1 AND until > ?2
         ORDER BY name, fence",
    )?;
    let mut found: Vec<LockRecord> = Vec::new();
    let mut rows = list.query(params![after.map_or("", Name::as_str), now.0])?;
    while let Some(row) = rows.next()? {
        let (name, slots, holder) = (parse_name(text(row, 5)?)?, row.get(6)?, read_holder(row)?);
        let full = found.len() == limit;
        match found.last_mut().filter(|lock| lock.name == name) {
            Some(lock) => lock.holders.push(holder),
            None if full => break,
            None => found.push(LockRecord { name, slots, holders: vec![holder] }),
        }
    }
    Ok(found)
}

fn read_holder(row: &Row<'_>) -> rusqlite::Result<LockHolder> {
    let fence: i64 = row.get(2)?;
    Ok(LockHolder {
        id: HolderId::from_bytes(row.get(0)?),
        about: row.get(1)?,
        fence: Fence(fence as u64),
        since: Ms(row.get(3)?),
        until: Ms(row.get(4)?),
    })
}

impl Tx<'_> {
    fn mark(&self, name: &str) -> Result<u64, Fault> {
        let mut get = self.conn.prepare_cached("SELECT value FROM marks WHERE name = ?1")?;
        Ok(get.query_row([name], |row| row.get::<_, i64>(0))? as u64)
    }

    fn set_mark(&self, name: &str, value: u64) -> Result<(), Fault> {
        self.conn
            .prepare_cached("UPDATE marks SET value = ?2 WHERE name = ?1")?
            .execute(params![name, value as i64])?;
        Ok(())
    }

    pub(super) fn set_document(&mut self, change: &DocumentChange) -> Result<DocumentSet, Fault> {
        let kept = document(self.conn, &change.name, self.now)?;
        if kept.as_ref().map_or(0, |kept| kept.rev) != change.from_rev {
            return Ok(DocumentSet::Changed(kept));
        }
        let Some(body) = &change.body else {
            self.conn.prepare_cached("DELETE FROM documents WHERE name = ?1")?.execute([&change.name])?;
            return Ok(DocumentSet::Done(0));
        };
        let rev = self.mark("document")? + 1;
        self.set_mark("document", rev)?;
        let until = change.keep.map(|keep| self.now.after(keep).0);
        let mut keep = self
            .conn
            .prepare_cached("INSERT OR REPLACE INTO documents(name, rev, until, body) VALUES (?1, ?2, ?3, ?4)")?;
        keep.execute(params![change.name, rev as i64, until, body])?;
        Ok(DocumentSet::Done(rev))
    }

    /// Those who hold a lock now, by fence, and its slots.
    fn holders(&self, name: &Name) -> Result<(u32, Vec<LockHolder>), Fault> {
        let mut list = self.conn.prepare_cached(
            "SELECT holder, about, fence, since, until, slots FROM locks WHERE name = ?1 AND until > ?2 ORDER BY fence",
        )?;
        let mut rows = list.query(params![name.as_str(), self.now.0])?;
        let (mut slots, mut holders) = (0, Vec::new());
        while let Some(row) = rows.next()? {
            slots = row.get(5)?;
            holders.push(read_holder(row)?);
        }
        Ok((slots, holders))
    }

    fn prolong(&self, name: &Name, holder: HolderId, until: Ms) -> Result<(), Fault> {
        let mut set = self.conn.prepare_cached("UPDATE locks SET until = ?3 WHERE name = ?1 AND holder = ?2")?;
        set.execute(params![name.as_str(), holder.as_bytes(), until.0])?;
        Ok(())
    }

    pub(super) fn acquire(&mut self, request: &LockRequest) -> Result<Acquired, Fault> {
        let (now, name) = (self.now, &request.name);
        let until = now.after(request.ttl);
        let (slots, holders) = self.holders(name)?;
        if let Some(own) = holders.iter().find(|one| one.id == request.holder) {
            let until = own.until.max(until);
            self.prolong(name, own.id, until)?;
            return Ok(Acquired::Granted(Grant { fence: own.fence, now, until }));
        }
        if !holders.is_empty() && slots != request.slots {
            return Ok(Acquired::OtherSlots { now, lock: LockRecord { name: name.clone(), slots, holders } });
        }
        if holders.len() >= request.slots as usize {
            return Ok(Acquired::Held { now, lock: LockRecord { name: name.clone(), slots, holders } });
        }
        let mut over = self.conn.prepare_cached("DELETE FROM locks WHERE name = ?1 AND until <= ?2")?;
        over.execute(params![name.as_str(), now.0])?;
        let fence = Fence::after(self.mark("fence")?, now);
        self.set_mark("fence", fence.0)?;
        let mut add = self.conn.prepare_cached(
            "INSERT INTO locks(name, holder, slots, about, fence, since, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let LockRequest { holder, slots, about, .. } = request;
        add.execute(params![name.as_str(), holder.as_bytes(), slots, about, fence.0 as i64, now.0, until.0])?;
        Ok(Acquired::Granted(Grant { fence, now, until }))
    }

    pub(super) fn extend(&mut self, name: &Name, holder: HolderId, ttl: Duration) -> Result<Option<Grant>, Fault> {
        let (_, holders) = self.holders(name)?;
        let Some(own) = holders.iter().find(|one| one.id == holder) else { return Ok(None) };
        let until = self.now.after(ttl);
        self.prolong(name, holder, until)?;
        Ok(Some(Grant { fence: own.fence, now: self.now, until }))
    }

    /// Ends one grant, or all of a name.
    pub(super) fn end_grants(
        &mut self,
        name: &Name,
        holder: Option<HolderId>,
        broken: bool,
    ) -> Result<Vec<LockHolder>, Fault> {
        let (_, mut holders) = self.holders(name)?;
        holders.retain(|one| holder.is_none_or(|holder| one.id == holder));
        for one in &holders {
            let mut end = self.conn.prepare_cached("DELETE FROM locks WHERE name = ?1 AND holder = ?2")?;
            end.execute(params![name.as_str(), one.id.as_bytes()])?;
        }
        if !holders.is_empty() {
            self.wake();
            if broken {
                self.log(lock_broken(name, holder));
            }
        }
        Ok(holders)
    }

    /// Removes documents and grants whose time is over.
    pub(super) fn forget_shared(&mut self, limit: usize) -> Result<(), Fault> {
        for sql in [
            "DELETE FROM documents WHERE name IN (SELECT name FROM documents WHERE until <= ?1 LIMIT ?2)",
            "DELETE FROM locks WHERE (name, holder) IN (SELECT name, holder FROM locks WHERE until <= ?1 LIMIT ?2)",
        ] {
            self.conn.prepare_cached(sql)?.execute(params![self.now.0, limit as i64])?;
        }
        Ok(())
    }
}
