//! The states of a job, the places where a store keeps it, and the table between them.
//!
//! ```text
//!             ┌──────────── due ────────────┐
//!  scheduled ─┘→ pending ── claim ─→ running ── complete ─→ completed
//!                  ↑ ↑ └─ cancel ─→ cancelled ←─ cancel ─┤
//!                  │ └─── release, crash, park ──────────┤
//!               retrying ←───────── fail ────────────────┤
//!                 dead   ←── exhaust, poison, bury ──────┘
//! ```

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The states of a job, as the outside reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Scheduled,
    Pending,
    Running,
    Retrying,
    Dead,
    Completed,
    Cancelled,
}

impl JobState {
    pub const ALL: [JobState; 7] = [
        JobState::Scheduled,
        JobState::Pending,
        JobState::Running,
        JobState::Retrying,
        JobState::Dead,
        JobState::Completed,
        JobState::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Scheduled => "scheduled",
            JobState::Pending => "pending",
            JobState::Running => "running",
            JobState::Retrying => "retrying",
            JobState::Dead => "dead",
            JobState::Completed => "completed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// Reads a state by its own name or by the name another system gives it.
    pub fn parse(word: &str) -> Option<JobState> {
        Some(match word {
            "scheduled" | "delayed" => JobState::Scheduled,
            "pending" | "queued" | "waiting" => JobState::Pending,
            "running" | "active" | "processing" => JobState::Running,
            "retrying" | "retry" => JobState::Retrying,
            "dead" | "failed" => JobState::Dead,
            "completed" | "done" => JobState::Completed,
            "cancelled" | "canceled" => JobState::Cancelled,
            _ => return None,
        })
    }

    /// Terminal is final: only an operator's retry begins a new life.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobState::Dead | JobState::Completed | JobState::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What can happen to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobEvent {
    /// Its time has come.
    Due,
    /// A worker leased it.
    Claim,
    /// Its handler succeeded.
    Complete,
    /// Its handler failed and may try again.
    Fail,
    /// Its handler failed and may not try again.
    Exhaust,
    /// Its handler, or the rate limit of its type, puts it off to a later time.
    Snooze,
    /// Its worker gave it back unfinished.
    Release,
    /// Its worker died.
    Crash,
    /// Its worker died once too often.
    Poison,
    /// Its worker does not know its type.
    Park,
    /// Nobody came who knows its type.
    Bury,
    /// An operator ended it.
    Cancel,
    /// An operator gave it a new life.
    Requeue,
}

impl JobEvent {
    pub const ALL: [JobEvent; 13] = [
        JobEvent::Due,
        JobEvent::Claim,
        JobEvent::Complete,
        JobEvent::Fail,
        JobEvent::Exhaust,
        JobEvent::Snooze,
        JobEvent::Release,
        JobEvent::Crash,
        JobEvent::Poison,
        JobEvent::Park,
        JobEvent::Bury,
        JobEvent::Cancel,
        JobEvent::Requeue,
    ];
}

/// A pair of state and event that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {state} job cannot {event:?}")]
pub struct IllegalJobEvent {
    pub state: JobState,
    pub event: JobEvent,
}

impl JobState {
    /// The table. Every pair that is not here is an error.
    pub fn next(self, event: JobEvent) -> Result<JobState, IllegalJobEvent> {
        use JobEvent as E;
        use JobState as S;
        Ok(match (self, event) {
            (S::Scheduled | S::Retrying, E::Due) => S::Pending,
            (S::Pending, E::Claim) => S::Running,
            (S::Running, E::Complete) => S::Completed,
            (S::Running, E::Fail) => S::Retrying,
            (S::Running, E::Snooze) => S::Scheduled,
            (S::Running, E::Exhaust | E::Poison) => S::Dead,
            (S::Running, E::Release | E::Crash | E::Park) => S::Pending,
            (S::Pending, E::Bury) => S::Dead,
            (S::Scheduled | S::Pending | S::Running | S::Retrying, E::Cancel) => S::Cancelled,
            (S::Dead | S::Cancelled, E::Requeue) => S::Pending,
            (state, event) => return Err(IllegalJobEvent { state, event }),
        })
    }
}

/// Where a store keeps a job. Several places are one state to the outside: a pending job waits in its
/// queue's line, or alone after a crash, or parked until a worker comes that knows its type, or
/// blocked until another job of its concurrency key ends; a scheduled one waits for its time, or is
/// held until its parents have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Place {
    Scheduled,
    Held,
    Pending,
    Suspect,
    Parked,
    Blocked,
    Running,
    Retrying,
    Dead,
    Completed,
    Cancelled,
}

impl Place {
    pub const ALL: [Place; 11] = [
        Place::Running,
        Place::Retrying,
        Place::Suspect,
        Place::Pending,
        Place::Parked,
        Place::Blocked,
        Place::Scheduled,
        Place::Held,
        Place::Dead,
        Place::Completed,
        Place::Cancelled,
    ];

    pub fn state(self) -> JobState {
        match self {
            Place::Scheduled | Place::Held => JobState::Scheduled,
            Place::Pending | Place::Suspect | Place::Parked | Place::Blocked => JobState::Pending,
            Place::Running => JobState::Running,
            Place::Retrying => JobState::Retrying,
            Place::Dead => JobState::Dead,
            Place::Completed => JobState::Completed,
            Place::Cancelled => JobState::Cancelled,
        }
    }

    /// One byte for records.
    pub fn code(self) -> u8 {
        match self {
            Place::Scheduled => b's',
            Place::Held => b'h',
            Place::Pending => b'p',
            Place::Suspect => b'u',
            Place::Parked => b'k',
            Place::Blocked => b'b',
            Place::Running => b'r',
            Place::Retrying => b't',
            Place::Dead => b'd',
            Place::Completed => b'c',
            Place::Cancelled => b'x',
        }
    }

    pub fn from_code(code: u8) -> Option<Place> {
        Place::ALL.into_iter().find(|place| place.code() == code)
    }
}

/// Where a move takes a job. Delays count from the store's own now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum To {
    /// The end of its queue's line, within its priority. A job with crashes goes to
    /// [`To::Suspect`] instead: see [`Job::is_suspect`](super::job::Job::is_suspect).
    Pending,
    /// The head of its queue's line, within its priority: what was given back unstarted. A job with
    /// crashes goes to [`To::Suspect`] instead.
    Front,
    /// The end of the line of those that are leased alone.
    Suspect,
    Scheduled(Duration),
    /// Among those that wait for their parents (`Job::after`) to end.
    Held,
    Retrying(Duration),
    Parked,
    Dead,
    Completed,
    Cancelled,
    /// Out of the store.
    Gone,
}

impl To {
    /// The place it arrives at; `None` for a job that is deleted.
    pub fn place(self) -> Option<Place> {
        Some(match self {
            To::Pending | To::Front => Place::Pending,
            To::Suspect => Place::Suspect,
            To::Scheduled(_) => Place::Scheduled,
            To::Held => Place::Held,
            To::Retrying(_) => Place::Retrying,
            To::Parked => Place::Parked,
            To::Dead => Place::Dead,
            To::Completed => Place::Completed,
            To::Cancelled => Place::Cancelled,
            To::Gone => return None,
        })
    }

    /// Whether the job's unique key becomes free with this move.
    pub fn frees_unique(self) -> bool {
        self.place().is_none_or(|place| place.state().is_terminal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_these_pairs_and_no_others() {
        let mut legal = Vec::new();
        for state in JobState::ALL {
            for event in JobEvent::ALL {
                match state.next(event) {
                    Ok(next) => legal.push(format!("{state} {event:?} {next}")),
                    Err(error) => assert_eq!(error, IllegalJobEvent { state, event }),
                }
            }
        }
        let expected = "scheduled Due pending, scheduled Cancel cancelled, pending Claim running, pending Bury dead, \
             pending Cancel cancelled, running Complete completed, running Fail retrying, running Exhaust dead, \
             running Snooze scheduled, \
             running Release pending, running Crash pending, running Poison dead, running Park pending, \
             running Cancel cancelled, retrying Due pending, retrying Cancel cancelled, dead Requeue pending, \
             cancelled Requeue pending";
        assert_eq!(legal.join(", "), expected);
    }

    #[test]
    fn every_place_has_its_code() {
        for place in Place::ALL {
            assert_eq!(Place::from_code(place.code()), Some(place));
        }
        assert_eq!(Place::from_code(b'?'), None);
    }
}
