//! What a shard must be able to do so that runs can be carried to another: give all that it keeps of one,
//! take some out as they were seen, and put them in elsewhere, once. It knows no shards.

use serde::{Deserialize, Serialize};

use super::shared::DocumentChange;
use super::work::RunRecord;
use crate::domain::{Event, Json, Ms, RunId};

/// A run with all that is kept of it. Its jobs are not part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WholeRun {
    pub record: RunRecord,
    /// When it ended, by the store's clock.
    pub finished: Option<Ms>,
    /// Its place under its concurrency key; none once it has ended.
    pub gate: Option<GatePlace>,
    /// What waits in its inbox, oldest first.
    pub inbox: Vec<(u64, Vec<u8>)>,
    /// Key, when it is due, and fact of each timer.
    pub timers: Vec<(String, Ms, Vec<u8>)>,
    pub values: Vec<(String, Json)>,
    /// Its own history, in order: events that came at once, under their time.
    pub history: Vec<(Ms, Vec<Event>)>,
}

/// Where a run stands at its gate: see [`Gate`](super::Gate).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatePlace {
    pub key: String,
    pub limit: u32,
    pub go: Vec<u8>,
    /// It was let in; else it waits.
    pub inside: bool,
    /// In this order those of one key have come.
    pub turn: i64,
}

/// A run as somebody has seen it. All that is kept of it changes with one of the two numbers, and no two
/// states of a run have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenRun {
    pub id: RunId,
    pub rev: u64,
    /// The number of the last entry of its inbox; 0 for an empty one.
    pub last: u64,
}

/// Runs to take out of a store, and a document to write over in the same step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeRuns {
    pub runs: Vec<SeenRun>,
    pub mark: String,
    /// The revision that the document must have (0: there must be none): whoever deletes it forbids the taking,
    /// however late that comes, because no revision is given twice.
    pub from_rev: u64,
    pub body: Vec<u8>,
}

/// Runs to put into a store, and a document to delete in the same step.
#[derive(Clone, Debug, PartialEq)]
pub struct PutRuns {
    /// Those that wait at a gate, in their order.
    pub runs: Vec<WholeRun>,
    pub copy: String,
    /// The revision that the document must have.
    pub rev: u64,
}

impl TakeRuns {
    /// The change that writes the document.
    pub fn mark(&self) -> DocumentChange {
        let (name, body) = (self.mark.clone(), Some(self.body.clone()));
        DocumentChange { name, from_rev: self.from_rev, body, keep: None }
    }
}

impl PutRuns {
    /// The change that deletes the document.
    pub fn unmark(&self) -> DocumentChange {
        DocumentChange { name: self.copy.clone(), from_rev: self.rev, body: None, keep: None }
    }
}

impl WholeRun {
    pub fn seen(&self) -> SeenRun {
        let last = self.inbox.last().map_or(0, |(seq, _)| *seq);
        SeenRun { id: self.record.id, rev: self.record.rev, last }
    }

    /// How many things are kept of it.
    pub fn items(&self) -> usize {
        let events: usize = self.history.iter().map(|(_, events)| events.len()).sum();
        1 + self.inbox.len() + self.timers.len() + self.values.len() + events
    }

    /// Adds an event that came at this time.
    pub fn tell(&mut self, at: Ms, event: Event) {
        match self.history.last_mut() {
            Some((last, events)) if *last == at => events.push(event),
            _ => self.history.push((at, vec![event])),
        }
    }
}
