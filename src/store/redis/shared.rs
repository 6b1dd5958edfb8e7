//! Documents and locks: what the scripts are given, and what their answers mean. Documents lie in a hash,
//! with their names in a sorted set beside it; a lock is one record with all its grants.

use std::time::Duration;

use redis::{Cmd, Value, cmd};

use super::pack::{self, Defaults, FOREVER, Reader};
use super::{RedisStore, reply, write};
use crate::domain::time::millis;
use crate::domain::{Fence, HolderId, Ms, Name, limits};
use crate::store::contract::*;

/// Documents that are looked at in one round trip.
const PAGE: usize = 500;

fn ms(time: Duration) -> i64 {
    millis(time).min(FOREVER / 4)
}

fn document(name: String, record: &[u8]) -> Result<Document> {
    let mut reader = Reader(record);
    let (rev, until) = (reader.u64()?, reader.u64()?);
    let until = (until > 0).then(|| Ms(i64::try_from(until).unwrap_or(i64::MAX)));
    Ok(Document { name, rev, body: reader.0.to_vec(), until })
}

/// The number of slots, and the grants.
fn lock(name: &Name, record: &[u8]) -> Result<LockRecord> {
    let mut reader = Reader(record);
    let slots = reader.u32()?;
    let mut holders = Vec::new();
    while !reader.0.is_empty() {
        let id = HolderId::from_bytes(reader.id()?);
        let (fence, since, until) = (Fence(reader.u64()?), reader.ms()?, reader.ms()?);
        let length = usize::from(reader.u16()?);
        holders.push(LockHolder { id, about: reader.text(length)?, fence, since, until });
    }
    Ok(LockRecord { name: name.clone(), slots, holders })
}

/// What a look at the clock answered.
fn clock(answer: Value) -> Result<Ms> {
    let parts = reply::array(answer)?;
    let part = |at: usize| parts.get(at).map_or_else(|| Err(reply::odd()), reply::int);
    Ok(Ms(part(0)? * 1_000 + part(1)? / 1_000))
}

impl RedisStore {
    pub(super) async fn read_document(&self, name: &str) -> Result<Option<Document>> {
        Ok(self.read_documents(&[name.to_owned()]).await?.pop())
    }

    /// Those of these names that are there, in the same order.
    async fn read_documents(&self, names: &[String]) -> Result<Vec<Document>> {
        let mut look = redis::Pipeline::new();
        look.cmd("TIME");
        look.add_command(cmd("HMGET").arg(self.keys.documents()).arg(names).to_owned());
        let [now, records] = super::read::two(self.link.pipeline(&look).await?)?;
        let now = clock(now)?;
        let mut found = Vec::new();
        for (name, record) in names.iter().zip(reply::array(records)?) {
            if let Some(record) = reply::maybe_bytes(record)? {
                found.push(document(name.clone(), &record)?);
            }
        }
        found.retain(|document| document.until.is_none_or(|until| until > now));
        Ok(found)
    }

    pub(super) async fn list_documents(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>> {
        // Names are text, in which there is no such byte.
        let end = [b"(", prefix.as_bytes(), b"\xff"].concat();
        let mut from = match after.filter(|after| *after >= prefix) {
            Some(after) => format!("({after}"),
            None => format!("[{prefix}"),
        };
        let mut found = Vec::new();
        while found.len() < limit {
            let mut page = cmd("ZRANGEBYLEX");
            page.arg(self.keys.document_names()).arg(from).arg(&end).arg("LIMIT").arg(0).arg(PAGE);
            let names = reply::array(self.link.command(&page).await?)?;
            let names = names.into_iter().map(reply::text).collect::<Result<Vec<_>>>()?;
            let Some(last) = names.last() else { break };
            from = format!("({last}");
            found.extend(self.read_documents(&names).await?);
            if names.len() < PAGE {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    pub(super) async fn change_document(&self, change: &DocumentChange) -> Result<DocumentSet> {
        let keys = &self.keys;
        let mut call = write::DOCUMENT.call(4);
        call.arg(keys.documents()).arg(keys.document_names()).arg(keys.document_ends()).arg(keys.counters());
        call.arg(&change.name).arg(&change.from_rev.to_be_bytes()[..]);
        match change.keep {
            Some(keep) => call.arg(ms(keep)),
            None => call.arg(""),
        };
        call.arg(i32::from(change.body.is_some())).arg(change.body.as_deref().unwrap_or_default());
        let answer = self.link.script(&write::DOCUMENT, &call).await?;
        let [done, record] = super::read::two(reply::array(answer)?)?;
        let record = reply::bytes(record)?;
        if reply::int(&done)? == 1 {
            return Ok(DocumentSet::Done(Reader(&record).u64()?));
        }
        let kept = (!record.is_empty()).then(|| document(change.name.clone(), &record)).transpose()?;
        Ok(DocumentSet::Changed(kept))
    }

    fn lock_call(&self, verb: &str, name: &Name, holder: Option<HolderId>, ttl: Duration) -> Cmd {
        let keys = &self.keys;
        let mut call = write::LOCK.call(5);
        call.arg(keys.locks()).arg(keys.lock_ends()).arg(keys.counters()).arg(keys.hint()).arg(keys.events());
        call.arg(verb).arg(name.as_str());
        call.arg(holder.as_ref().map_or(&[][..], |holder| &holder.as_bytes()[..])).arg(ms(ttl).max(1));
        call
    }

    async fn ask_lock(&self, name: &Name, call: &Cmd) -> Result<(u8, Ms, LockRecord)> {
        let mut parts = reply::array(self.link.script(&write::LOCK, call).await?)?.into_iter();
        let mut next = || parts.next().ok_or_else(reply::odd);
        let code = reply::bytes(next()?)?.first().copied().ok_or_else(reply::odd)?;
        let now = Ms(reply::int(&next()?)?);
        let record = reply::bytes(next()?)?;
        let record = if record.is_empty() { vec![0; 4] } else { record };
        Ok((code, now, lock(name, &record)?))
    }

    pub(super) async fn take_lock(&self, request: &LockRequest) -> Result<Acquired> {
        let mut call = self.lock_call("acquire", &request.name, Some(request.holder), request.ttl);
        call.arg(request.slots).arg(&request.about);
        let (code, now, lock) = self.ask_lock(&request.name, &call).await?;
        match code {
            b'g' => grant(now, &lock).map(Acquired::Granted).ok_or_else(reply::odd),
            b'h' => Ok(Acquired::Held { now, lock }),
            b's' => Ok(Acquired::OtherSlots { now, lock }),
            _ => Err(reply::odd()),
        }
    }

    pub(super) async fn prolong_lock(&self, name: &Name, holder: HolderId, ttl: Duration) -> Result<Option<Grant>> {
        let mut call = self.lock_call("extend", name, Some(holder), ttl);
        call.arg(1).arg("");
        let (_, now, lock) = self.ask_lock(name, &call).await?;
        Ok(grant(now, &lock))
    }

    /// Ends one grant, or all of a name.
    pub(super) async fn end_grants(
        &self,
        name: &Name,
        holder: Option<HolderId>,
        broken: bool,
    ) -> Result<Vec<LockHolder>> {
        let mut call = self.lock_call(if broken { "break" } else { "release" }, name, holder, Duration::ZERO);
        let event = pack::event(&lock_broken(name, holder), &Defaults::default());
        call.arg(1).arg("").arg(limits::EVENT_RECORDS).arg(event);
        Ok(self.ask_lock(name, &call).await?.2.holders)
    }

    pub(super) async fn list_locks(&self, after: Option<&Name>, limit: usize) -> Result<(Ms, Vec<LockRecord>)> {
        let mut look = redis::Pipeline::new();
        look.cmd("TIME");
        look.add_command(cmd("HGETALL").arg(self.keys.locks()).to_owned());
        let [now, all] = super::read::two(self.link.pipeline(&look).await?)?;
        let now = clock(now)?;
        let mut locks = Vec::new();
        for (name, record) in reply::pairs(all)? {
            let text = String::from_utf8_lossy(&name);
            let name: Name = text.parse().map_err(|_| StoreError::Corrupt(format!("`{text}` is kept as a lock")))?;
            let mut lock = lock(&name, &record)?;
            lock.holders.retain(|holder| holder.until > now);
            if !lock.holders.is_empty() && after.is_none_or(|after| name > *after) {
                locks.push(lock);
            }
        }
        locks.sort_by(|a, b| a.name.cmp(&b.name));
        locks.truncate(limit);
        Ok((now, locks))
    }

    /// Removes documents and locks whose time is over.
    pub(super) async fn forget_shared(&self, limit: usize) -> Result<()> {
        let keys = &self.keys;
        let mut call = write::OVER.call(5);
        call.arg(keys.documents()).arg(keys.document_names()).arg(keys.document_ends());
        call.arg(keys.locks()).arg(keys.lock_ends()).arg(limit);
        self.link.script(&write::OVER, &call).await.map(drop)
    }

    /// `verify`: names beside what they are names of, and more grants than slots.
    pub(super) async fn compare_shared(&self, found: &mut Vec<String>) -> Result<()> {
        let mut named = self.walk("ZRANGE", &self.keys.document_names()).await?;
        let mut kept: Vec<Vec<u8>> = self.scan(&self.keys.documents()).await?.into_keys().collect();
        named.sort();
        kept.sort();
        kept.dedup();
        if named != kept {
            found.push(format!("{} documents are kept and {} are named", kept.len(), named.len()));
        }
        for name in self.walk("ZRANGE", &self.keys.document_ends()).await? {
            if kept.binary_search(&name).is_err() {
                found.push(format!("document {} has an end and is not kept", String::from_utf8_lossy(&name)));
            }
        }
        for lock in self.list_locks(None, usize::MAX).await?.1 {
            if lock.holders.len() > lock.slots as usize {
                let LockRecord { name, slots, holders } = lock;
                found.push(format!("lock {name} has {} holders in {slots} slots", holders.len()));
            }
        }
        Ok(())
    }
}

/// The one grant of an answer.
fn grant(now: Ms, lock: &LockRecord) -> Option<Grant> {
    lock.holders.first().map(|own| Grant { fence: own.fence, now, until: own.until })
}
