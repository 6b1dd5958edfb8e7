//! Names of the keys. All of a shard's keys lie under one hash tag, so that a cluster keeps them on one
//! node, and every script is told each key it may touch. Scripts know them by these names in capitals.

use super::topology;
use crate::domain::{Name, Place, Shard};

/// Keys a shard has once, in the order of `KEYS`.
pub const SHARD: [&str; 27] = [
    "jobs",
    "running",
    "unique",
    "queues",
    "producers",
    "workers",
    "events",
    "counters",
    "runs",
    "live",
    "finished",
    "inbox",
    "dirty",
    "timers",
    "facts",
    "values",
    "history",
    "hint",
    "ended",
    "asked",
    "progress",
    "ties",
    "freed",
    "keyed",
    "gates",
    "logs",
    "until",
];
/// Keys each queue has, in the order of `KEYS`.
pub const QUEUE: [&str; 12] = [
    "line",
    "prio",
    "suspect",
    "parked",
    "tombs",
    "scheduled",
    "retrying",
    "dead",
    "completed",
    "cancelled",
    "held",
    "blocked",
];

/// A queue's structures that are not the place of the same name.
#[derive(Clone, Copy)]
pub enum Part {
    Line = 0,
    Prio = 1,
    Suspect = 2,
    Parked = 3,
    Tombs = 4,
}

pub struct Keys {
    tag: String,
    slot: u16,
    shard: Vec<String>,
}

/// What all keys of a shard have in braces.
pub fn tag(shard: Shard) -> String {
    format!("gf:{}", shard.0)
}

impl Keys {
    pub fn new(shard: Shard) -> Self {
        let slot = topology::slot_of(tag(shard).as_bytes());
        let tag = format!("{{{}}}:", tag(shard));
        let shard = SHARD.iter().map(|name| format!("{tag}{name}")).collect();
        Keys { tag, slot, shard }
    }

    /// The slot of a cluster in which they all lie.
    pub fn slot(&self) -> u16 {
        self.slot
    }

    /// Every key that the shard has once.
    pub fn all(&self) -> &[String] {
        &self.shard
    }

    /// Every key that a queue has.
    pub fn of_queue(&self, queue: &Name) -> impl Iterator<Item = String> {
        QUEUE.iter().map(move |part| format!("{}{part}:{queue}", self.tag))
    }

    pub fn part(&self, queue: &Name, part: Part) -> String {
        format!("{}{}:{queue}", self.tag, QUEUE[part as usize])
    }

    /// The sorted set of a place that is one.
    pub fn sorted(&self, queue: &Name, place: Place) -> Option<String> {
        let part = match place {
            Place::Scheduled => 5,
            Place::Retrying => 6,
            Place::Dead => 7,
            Place::Completed => 8,
            Place::Cancelled => 9,
            Place::Held => 10,
            Place::Blocked => 11,
            Place::Pending | Place::Suspect | Place::Parked | Place::Running => return None,
        };
        Some(format!("{}{}:{queue}", self.tag, QUEUE[part]))
    }

    fn named(&self, index: usize) -> &str {
        &self.shard[index]
    }

    pub fn jobs(&self) -> &str {
        self.named(0)
    }
    pub fn running(&self) -> &str {
        self.named(1)
    }
    pub fn unique(&self) -> &str {
        self.named(2)
    }
    pub fn queues(&self) -> &str {
        self.named(3)
    }
    pub fn workers(&self) -> &str {
        self.named(5)
    }
    pub fn events(&self) -> &str {
        self.named(6)
    }
    pub fn runs(&self) -> &str {
        self.named(8)
    }
    pub fn live(&self) -> &str {
        self.named(9)
    }
    pub fn finished(&self) -> &str {
        self.named(10)
    }
    pub fn inbox(&self) -> &str {
        self.named(11)
    }
    pub fn timers(&self) -> &str {
        self.named(13)
    }
    pub fn facts(&self) -> &str {
        self.named(14)
    }
    pub fn values(&self) -> &str {
        self.named(15)
    }
    pub fn history(&self) -> &str {
        self.named(16)
    }
    /// The channel of hints: a channel, passed like a key.
    pub fn hint(&self) -> &str {
        self.named(17)
    }
    pub fn ended(&self) -> &str {
        self.named(18)
    }

    pub fn asked(&self) -> &str {
        self.named(19)
    }
    pub fn progress(&self) -> &str {
        self.named(20)
    }
    pub fn ties(&self) -> &str {
        self.named(21)
    }
    pub fn freed(&self) -> &str {
        self.named(22)
    }
    pub fn keyed(&self) -> &str {
        self.named(23)
    }
    pub fn gates(&self) -> &str {
        self.named(24)
    }
    pub fn logs(&self) -> &str {
        self.named(25)
    }

    pub fn schema(&self) -> String {
        format!("{}schema", self.tag)
    }
    /// Which life of the server was seen last.
    pub fn server(&self) -> String {
        format!("{}server", self.tag)
    }
    pub fn definitions(&self) -> String {
        format!("{}definitions", self.tag)
    }
    pub fn current(&self) -> String {
        format!("{}current", self.tag)
    }
    /// Workers that were told to take no more work.
    pub fn draining(&self) -> String {
        format!("{}draining", self.tag)
    }
    pub fn buckets(&self) -> String {
        format!("{}buckets", self.tag)
    }
    pub fn counters(&self) -> &str {
        self.named(7)
    }
    pub fn documents(&self) -> String {
        format!("{}documents", self.tag)
    }
    /// Names of documents, by their bytes.
    pub fn document_names(&self) -> String {
        format!("{}document_names", self.tag)
    }
    /// Names of documents by when their time is over.
    pub fn document_ends(&self) -> String {
        format!("{}document_ends", self.tag)
    }
    pub fn locks(&self) -> String {
        format!("{}locks", self.tag)
    }
    /// Names of locks by when their last grant ends.
    pub fn lock_ends(&self) -> String {
        format!("{}lock_ends", self.tag)
    }
    pub fn schedules(&self) -> String {
        format!("{}schedules", self.tag)
    }
}
