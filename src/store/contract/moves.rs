//! The exchange: moves with the right to make them, a run's part of a commit, and claims.

use std::sync::Arc;

use super::work::{Effects, RunRecord, entry};
use crate::domain::job::Settled;
use crate::domain::{Epoch, Event, Job, JobId, Ms, Name, Place, RunId, To, WorkerId, event::EventKind};

/// By what right a move is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Expect {
    /// The mover holds the lease with this epoch. Good until somebody takes the lease away.
    Lease(Epoch),
    /// The lease with this epoch has lapsed: its worker was silent for too long, or the job ran past
    /// its own expiry.
    Lapsed(Epoch),
    /// Nobody runs it: it is still in this place, with this `rev`.
    Idle(Place, u32),
}

/// One job's way from where it is to where it goes. The store writes the record as given, moves the
/// job, frees or takes its unique key, its place under its concurrency key and its ties to parents,
/// and logs the event.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Move {
    pub expect: Expect,
    pub to: To,
    /// The record from now on; its `queue` is the one the job is in.
    #[serde(with = "crate::store::wire::job")]
    pub job: Job,
    pub event: EventKind,
}
impl Move {
    /// Carries out what the domain decided.
    pub fn new(expect: Expect, settled: Settled) -> Move {
        Move { expect, to: settled.to, job: settled.job, event: settled.event }
    }

    /// What the event log keeps of it when it is applied.
    pub fn log_entry(&self) -> Event {
        let attempt = match self.to.place() {
            Some(place) => self.job.attempt(place.state()),
            None => self.job.failures,
        };
        let data = match self.event {
            EventKind::JobRetried | EventKind::JobDead | EventKind::JobCancelled => {
                self.job.error.as_ref().map(|error| error.class.clone())
            }
            _ => None,
        };
        Event { worker: self.job.worker, attempt: Some(attempt), data, ..entry(self.event, &self.job) }
    }
}

/// What became of one move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Moved {
    Applied,
    /// The right did not hold (any more): nothing was changed.
    Stale,
    /// The job was to live again, but this other one holds its unique key: nothing was changed.
    Conflict(JobId),
}

/// The run's part of a commit.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunCommit {
    pub run: RunId,
    /// For each move of the commit, in order, what the run is to learn if the move is applied.
    pub facts: Vec<Vec<u8>>,
    /// The advance that the caller computed from the run it knows and from `facts`.
    pub advance: Option<Advance>,
}

/// An advance rides on a commit if the run still is what the caller took it for.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Advance {
    /// The run's `rev` from which the effects were computed.
    pub from_rev: u64,
    /// Inbox entries up to and with this one were taken into account, and leave the inbox.
    pub drained: Option<u64>,
    pub effects: Effects,
}

/// One atomic item of an exchange.
///
/// If every move applies, and the run still has `from_rev`, then moves and effects are committed
/// together ([`RunAnswer::Advanced`]; what else waits in the inbox waits on, and the run stays dirty
/// for it). Otherwise the moves that apply are
/// committed, their facts go to the run's inbox, and the run is marked dirty
/// ([`RunAnswer::Inboxed`]); without any such fact nothing happens ([`RunAnswer::Contended`]).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Commit {
    pub moves: Vec<Move>,
    pub run: Option<RunCommit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RunAnswer {
    /// The commit had no part for a run.
    None,
    Advanced {
        /// The inbox still holds facts that were not drained: the run is dirty, and may be taken at once.
        more: bool,
    },
    Inboxed,
    /// The run has moved on and no fact was to be kept: read it again.
    Contended,
    /// There is no such run (any more); the moves were applied, the facts dropped.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Committed {
    /// One answer a move, in order. Fewer: see [`Committed::is_unanswered`].
    pub moves: Vec<Moved>,
    pub run: RunAnswer,
}

impl Committed {
    /// Nothing is known about the moves of this commit: its shard did not answer, though others did.
    /// Only an exchange that claims is answered so; the commit is to be sent again.
    pub fn is_unanswered(&self, commit: &Commit) -> bool {
        self.moves.len() < commit.moves.len()
    }
}

/// A wish for work.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Claim {
    pub worker: WorkerId,
    /// In order of preference. Paused and unknown queues give nothing.
    pub queues: Vec<Name>,
    /// At most [`Store::claim_batch`](super::Store::claim_batch).
    pub want: usize,
    /// The worker holds no lease at all, and so may be given a suspect.
    pub alone: bool,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Exchange {
    pub commits: Vec<Commit>,
    pub claim: Option<Claim>,
}

impl Exchange {
    /// One that claims and settles nothing.
    pub fn claiming(claim: Claim) -> Exchange {
        Exchange { commits: Vec::new(), claim: Some(claim) }
    }
}

/// A leased job. `job` is the record as it was when it waited; the worker notes the lease in its copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    pub job: Job,
    pub epoch: Epoch,
    /// The run the job is a step of, as it is at this moment. Steps of one run may share it.
    pub run: Option<Arc<RunRecord>>,
}

impl Claimed {
    /// Whether a claim of `want` jobs has emptied the lines that it asked, but for what a limit or a pause keeps there. A
    /// suspect, and what cannot be read and may be one, may have come before them.
    pub fn is_all(claimed: &[Claimed], want: usize) -> bool {
        let may_be_suspect = |one: &Claimed| one.job.is_suspect() || one.job.raw.is_some();
        claimed.len() < want && !claimed.iter().any(may_be_suspect)
    }
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Exchanged {
    /// The store's clock.
    pub now: Ms,
    pub commits: Vec<Committed>,
    #[serde(with = "crate::store::wire::claimed")]
    pub claimed: Vec<Claimed>,
    /// Suspects wait in the queues asked for, and were not given because the claim was not `alone`.
    pub suspects: bool,
    /// Runs wait for [`Store::take_dirty`](super::Store::take_dirty).
    pub dirty: bool,
    /// Jobs were asked to end, and have not ended yet: see [`Store::asked`](super::Store::asked).
    pub asked: bool,
    /// Parents of held jobs have ended: see [`Store::freed`](super::Store::freed).
    pub freed: bool,
    /// When the next scheduled or retrying job of the queues asked for, or the next timer of any
    /// run, is due.
    pub next_due: Option<Ms>,
}
