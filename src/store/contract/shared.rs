//! What processes share apart from jobs: documents, changed by whoever saw them last, and locks with
//! fencing numbers. A lock and a semaphore are one thing with one or with several slots. Neither
//! knows what it is used for.

use std::time::Duration;

use super::error::{Result, StoreError};
use crate::domain::limits::{DOCUMENT_BYTES, HOLDER_BYTES, KEY_BYTES, LOCK_SLOTS};
use crate::domain::{Event, EventKind, Fence, HolderId, Ms, Name};

/// A small thing kept under a name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Document {
    pub name: String,
    /// Rises with every change, and is never given twice to documents of one name: one that was
    /// deleted and made anew is another one.
    pub rev: u64,
    pub body: Vec<u8>,
    /// From when on it is as if it were not there.
    pub until: Option<Ms>,
}

/// One change of a document.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DocumentChange {
    /// 1 to [`KEY_BYTES`] bytes.
    pub name: String,
    /// The `rev` that was seen; 0: there must be none of this name.
    pub from_rev: u64,
    /// At most [`DOCUMENT_BYTES`]; `None` deletes it.
    pub body: Option<Vec<u8>>,
    /// How long it is kept from the store's now; `None`: until it is changed.
    pub keep: Option<Duration>,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum DocumentSet {
    /// It has this `rev` now; 0: it is gone.
    Done(u64),
    /// It is not as it was seen: nothing was changed. After a lost answer this may be one's own change.
    Changed(Option<Document>),
}

impl DocumentChange {
    /// # Errors
    /// [`StoreError::Refused`] beyond the bounds.
    pub fn check(&self) -> Result<()> {
        let length = self.name.len();
        if length == 0 || length > KEY_BYTES {
            return Err(StoreError::Refused(format!(
                "a document's name has 1 to {KEY_BYTES} bytes, this one has {length}"
            )));
        }
        match &self.body {
            Some(body) if body.len() > DOCUMENT_BYTES => Err(StoreError::Refused(format!(
                "document {} has {} bytes, at most {DOCUMENT_BYTES} are kept",
                self.name,
                body.len()
            ))),
            _ => Ok(()),
        }
    }
}

/// A wish to hold a lock.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LockRequest {
    pub name: Name,
    /// New for each wish. The same again gets the grant it has, prolonged if it would end sooner.
    pub holder: HolderId,
    /// For people: who that is. At most [`HOLDER_BYTES`].
    pub about: String,
    /// How many may hold it at once: 1 is a lock, more a semaphore. At most [`LOCK_SLOTS`]. The number
    /// is that of those who hold it; nobody gets in with another one until all of them are out.
    pub slots: u32,
    /// How long it holds from the store's now without being extended.
    pub ttl: Duration,
}

impl LockRequest {
    /// # Errors
    /// [`StoreError::Refused`] beyond the bounds.
    pub fn check(&self) -> Result<()> {
        let refused = |text: String| Err(StoreError::Refused(text));
        if !(1..=LOCK_SLOTS).contains(&self.slots) {
            return refused(format!("a semaphore has 1 to {LOCK_SLOTS} slots, not {}", self.slots));
        }
        if self.about.len() > HOLDER_BYTES {
            return refused(format!("a holder says at most {HOLDER_BYTES} bytes about itself"));
        }
        if self.about.contains('\0') {
            return refused("what a holder says about itself has no zero byte".to_owned());
        }
        if self.ttl < Duration::from_millis(1) {
            return refused("a lock is held for a millisecond at least".to_owned());
        }
        Ok(())
    }
}

/// The right to be inside, until a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Grant {
    pub fence: Fence,
    /// The store's now, and when the grant ends unless it is extended.
    pub now: Ms,
    pub until: Ms,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Acquired {
    Granted(Grant),
    /// All slots are taken.
    Held {
        now: Ms,
        lock: LockRecord,
    },
    /// Those who hold it have another number of slots.
    OtherSlots {
        now: Ms,
        lock: LockRecord,
    },
}

/// A lock that is held. What nobody holds is not kept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LockRecord {
    pub name: Name,
    pub slots: u32,
    /// By fence.
    pub holders: Vec<LockHolder>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LockHolder {
    pub id: HolderId,
    pub about: String,
    pub fence: Fence,
    pub since: Ms,
    pub until: Ms,
}

impl LockRecord {
    /// When the first slot becomes free if nobody extends or releases.
    pub fn first_end(&self) -> Option<Ms> {
        self.holders.iter().map(|holder| holder.until).min()
    }
}

/// What the event log keeps of a break.
pub fn lock_broken(name: &Name, holder: Option<HolderId>) -> Event {
    let data = holder.map_or_else(|| name.to_string(), |holder| format!("{name}, holder {holder}"));
    Event { data: Some(data), ..Event::new(EventKind::LockBroken) }
}
