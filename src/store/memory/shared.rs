//! Documents and locks in the reference store.

use super::*;
use crate::domain::Fence;

impl State {
    pub(super) fn document(&self, name: &str, now: Ms) -> Option<Document> {
        let lives = |document: &&Document| document.until.is_none_or(|until| until > now);
        self.documents.get(name).filter(lives).cloned()
    }

    pub(super) fn set_document(&mut self, change: &DocumentChange, now: Ms) -> DocumentSet {
        let kept = self.document(&change.name, now);
        if kept.as_ref().map_or(0, |kept| kept.rev) != change.from_rev {
            return DocumentSet::Changed(kept);
        }
        let Some(body) = &change.body else {
            self.documents.remove(&change.name);
            return DocumentSet::Done(0);
        };
        self.document_rev += 1;
        let (name, rev, until) = (change.name.clone(), self.document_rev, change.keep.map(|keep| now.after(keep)));
        self.documents.insert(name.clone(), Document { name, rev, body: body.clone(), until });
        DocumentSet::Done(rev)
    }

    pub(super) fn list_documents(&self, prefix: &str, after: Option<&str>, limit: usize, now: Ms) -> Vec<Document> {
        let lives = |document: &&Document| document.until.is_none_or(|until| until > now);
        let behind = |document: &&Document| after.is_none_or(|after| document.name.as_str() > after);
        let of_prefix = self.documents.range(prefix.to_owned()..).map(|(_, document)| document);
        let of_prefix = of_prefix.take_while(|document| document.name.starts_with(prefix));
        of_prefix.filter(lives).filter(behind).take(limit).cloned().collect()
    }

    /// The lock with those who hold it now.
    fn lock(&mut self, name: &Name, now: Ms) -> Option<&mut LockRecord> {
        let lock = self.locks.get_mut(name)?;
        lock.holders.retain(|holder| holder.until > now);
        Some(lock)
    }

    pub(super) fn acquire(&mut self, request: &LockRequest, now: Ms) -> Acquired {
        let LockRequest { name, holder, about, slots, ttl } = request;
        let fence = Fence::after(self.fence, now);
        let until = now.after(*ttl);
        let empty = || LockRecord { name: name.clone(), slots: *slots, holders: Vec::new() };
        let lock = self.locks.entry(name.clone()).or_insert_with(empty);
        lock.holders.retain(|holder| holder.until > now);
        if let Some(own) = lock.holders.iter_mut().find(|one| one.id == *holder) {
            own.until = own.until.max(until);
            return Acquired::Granted(Grant { fence: own.fence, now, until: own.until });
        }
        if !lock.holders.is_empty() && lock.slots != *slots {
            return Acquired::OtherSlots { now, lock: lock.clone() };
        }
        if lock.holders.len() >= *slots as usize {
            return Acquired::Held { now, lock: lock.clone() };
        }
        lock.slots = *slots;
        lock.holders.push(LockHolder { id: *holder, about: about.clone(), fence, since: now, until });
        self.fence = fence.0;
        Acquired::Granted(Grant { fence, now, until })
    }

    pub(super) fn extend(&mut self, name: &Name, holder: HolderId, ttl: Duration, now: Ms) -> Option<Grant> {
        let own = self.lock(name, now)?.holders.iter_mut().find(|one| one.id == holder)?;
        own.until = now.after(ttl);
        Some(Grant { fence: own.fence, now, until: own.until })
    }

    /// Ends one grant, or all.
    pub(super) fn end_grants(&mut self, name: &Name, holder: Option<HolderId>, now: Ms) -> Vec<LockHolder> {
        let Some(lock) = self.lock(name, now) else { return Vec::new() };
        let meant = |one: &LockHolder| holder.is_none_or(|holder| one.id == holder);
        let (ended, left) = std::mem::take(&mut lock.holders).into_iter().partition(meant);
        lock.holders = left;
        if lock.holders.is_empty() {
            self.locks.remove(name);
        }
        ended
    }

    pub(super) fn list_locks(&self, after: Option<&Name>, limit: usize, now: Ms) -> Vec<LockRecord> {
        let held = |lock: &LockRecord| {
            let holders: Vec<_> = lock.holders.iter().filter(|holder| holder.until > now).cloned().collect();
            (!holders.is_empty()).then(|| LockRecord { holders, ..lock.clone() })
        };
        let behind = |lock: &&LockRecord| after.is_none_or(|after| lock.name > *after);
        self.locks.values().filter(behind).filter_map(held).take(limit).collect()
    }
}
