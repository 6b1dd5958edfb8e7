//! Documents and locks: each verb is one call of a function in `schema/shared.sql`.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{limit, number, packed};
use super::pool::{Connection, DEADLINE, Param, again};
use super::read::name;
use crate::domain::time::millis;
use crate::domain::{Fence, HolderId, Ms, Name};
use crate::store::contract::*;

fn ms(time: Duration) -> i64 {
    millis(time).min(i64::MAX / 4)
}

fn uuid(holder: HolderId) -> Uuid {
    Uuid::from_bytes(*holder.as_bytes())
}

fn document(row: &Row) -> Document {
    Document {
        name: String::from_utf8_lossy(row.get("name")).into_owned(),
        rev: row.get::<_, i64>("rev") as u64,
        until: row.get::<_, Option<i64>>("until").map(Ms),
        body: row.get("body"),
    }
}

fn holder(row: &Row) -> LockHolder {
    LockHolder {
        id: HolderId::from_bytes(*row.get::<_, Uuid>("holder").as_bytes()),
        about: row.get("about"),
        fence: Fence(row.get::<_, i64>("fence") as u64),
        since: Ms(row.get("since")),
        until: Ms(row.get("until")),
    }
}

impl PostgresStore {
    pub(super) async fn get_document(&self, name: &str) -> Result<Option<Document>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let sql = "SELECT d.name, d.rev, d.until, d.body FROM goflow.document d
                   WHERE d.name = $1 AND (d.until IS NULL OR d.until > goflow.now_ms())";
        let rows = connection.rows(sql, &[(&name.as_bytes(), Type::BYTEA)]).await.map_err(StoreError::from)?;
        Ok(rows.first().map(document))
    }

    pub(super) async fn change_document(&self, change: &DocumentChange) -> Result<DocumentSet> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let keep = change.keep.map(ms);
        let params: [Param<'_>; 4] = [
            (&change.name.as_bytes(), Type::BYTEA),
            (&number(change.from_rev), Type::INT8),
            (&change.body, Type::BYTEA),
            (&keep, Type::INT8),
        ];
        let row = again!(connection.row("SELECT * FROM goflow.set_document($1, $2, $3, $4)", &params))?;
        let rev = row.get::<_, Option<i64>>("rev").map(|rev| rev as u64);
        if row.get("done") {
            return Ok(DocumentSet::Done(rev.unwrap_or(0)));
        }
        let kept = rev.map(|rev| Document {
            name: change.name.clone(),
            rev,
            until: row.get::<_, Option<i64>>("until").map(Ms),
            body: row.get("body"),
        });
        Ok(DocumentSet::Changed(kept))
    }

    pub(super) async fn list_documents(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        // Names are text, in which there is no such byte.
        let end = [prefix.as_bytes(), b"\xff"].concat();
        let sql = "SELECT d.name, d.rev, d.until, d.body FROM goflow.document d
                   WHERE d.name >= $1 AND d.name > $2 AND d.name < $3
                       AND (d.until IS NULL OR d.until > goflow.now_ms()) ORDER BY d.name LIMIT $4";
        let params: [Param<'_>; 4] = [
            (&prefix.as_bytes(), Type::BYTEA),
            (&after.unwrap_or_default().as_bytes(), Type::BYTEA),
            (&end, Type::BYTEA),
            (&number(limit as u64), Type::INT8),
        ];
        let rows = connection.rows(sql, &params).await.map_err(StoreError::from)?;
        Ok(rows.iter().map(document).collect())
    }

    pub(super) async fn take_lock(&self, request: &LockRequest) -> Result<Acquired> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let params: [Param<'_>; 5] = [
            (&request.name.as_str(), Type::TEXT),
            (&uuid(request.holder), Type::UUID),
            (&request.about, Type::TEXT),
            (&limit(request.slots), Type::INT4),
            (&ms(request.ttl), Type::INT8),
        ];
        let rows = again!(connection.rows("SELECT * FROM goflow.acquire($1, $2, $3, $4, $5)", &params))?;
        let odd = || StoreError::Corrupt("PostgreSQL tells of no grant: is the schema intact?".to_owned());
        let first = rows.first().ok_or_else(odd)?;
        let now = Ms(first.get("now"));
        let lock = LockRecord {
            name: request.name.clone(),
            slots: first.get::<_, i32>("slots") as u32,
            holders: rows.iter().map(holder).collect(),
        };
        match first.get::<_, i8>("code") as u8 {
            b'g' => {
                let own = lock.holders.first().ok_or_else(odd)?;
                Ok(Acquired::Granted(Grant { fence: own.fence, now, until: own.until }))
            }
            b's' => Ok(Acquired::OtherSlots { now, lock }),
            _ => Ok(Acquired::Held { now, lock }),
        }
    }

    pub(super) async fn prolong_lock(&self, name: &Name, holder: HolderId, ttl: Duration) -> Result<Option<Grant>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let params: [Param<'_>; 3] =
            [(&name.as_str(), Type::TEXT), (&uuid(holder), Type::UUID), (&ms(ttl), Type::INT8)];
        let rows = again!(connection.rows("SELECT * FROM goflow.extend($1, $2, $3)", &params))?;
        Ok(rows.first().map(|row| Grant {
            fence: Fence(row.get::<_, i64>("fence") as u64),
            now: Ms(row.get("now")),
            until: Ms(row.get("until")),
        }))
    }

    /// Ends one grant, or all of a name.
    pub(super) async fn end_grants(&self, name: &Name, one: Option<HolderId>, broken: bool) -> Result<Vec<LockHolder>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let event = if broken { Some(packed(&[lock_broken(name, one)])?) } else { None };
        let params: [Param<'_>; 3] =
            [(&name.as_str(), Type::TEXT), (&one.map(uuid), Type::UUID), (&event, Type::BYTEA)];
        let rows = again!(connection.rows("SELECT * FROM goflow.end_grants($1, $2, $3)", &params))?;
        if !rows.is_empty() {
            self.wake(&mut connection).await;
        }
        Ok(rows.iter().map(holder).collect())
    }

    pub(super) async fn list_locks(&self, after: Option<&Name>, limit: usize) -> Result<(Ms, Vec<LockRecord>)> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let row = connection.row("SELECT goflow.now_ms()", &[]).await.map_err(StoreError::from)?;
        let now: i64 = row.get(0);
        let sql = "SELECT l.slots, h.* FROM (SELECT l.name, l.slots FROM goflow.lock l WHERE l.name > $1 AND EXISTS
                       (SELECT FROM goflow.lock_holder h WHERE h.name = l.name AND h.until > $2)
                       ORDER BY l.name LIMIT $3) l
                   JOIN goflow.lock_holder h ON h.name = l.name AND h.until > $2 ORDER BY h.name, h.fence";
        let params: [Param<'_>; 3] =
            [(&after.map_or("", Name::as_str), Type::TEXT), (&now, Type::INT8), (&number(limit as u64), Type::INT8)];
        let mut locks: Vec<LockRecord> = Vec::new();
        for row in connection.rows(sql, &params).await.map_err(StoreError::from)? {
            let name = name(row.get("name"))?;
            match locks.last_mut().filter(|lock| lock.name == name) {
                Some(lock) => lock.holders.push(holder(&row)),
                None => {
                    let slots = row.get::<_, i32>("slots") as u32;
                    locks.push(LockRecord { name, slots, holders: vec![holder(&row)] });
                }
            }
        }
        Ok((Ms(now), locks))
    }
}
