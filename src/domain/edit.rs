//! What an operator does to a job that nobody runs: change it, or take it out of the store. As in
//! `job`, the next record and its place are decided here, purely, and carried out by a store.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::EventKind;
use super::job::{Job, Settled};
use super::json::Json;
use super::place::{JobState, Place, To};
use super::time::Ms;

/// What an operator may change of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub payload: Json,
    pub priority: i8,
    pub max_retries: u32,
    /// Limit of one attempt, in milliseconds.
    pub timeout_ms: Option<u64>,
    pub metadata: BTreeMap<String, String>,
}

impl Job {
    /// Out of the store, by an operator. `None` while it runs: then somebody still has to settle it.
    pub fn delete(mut self, state: JobState, now: Ms) -> Option<Settled> {
        if state == JobState::Running {
            return None;
        }
        self.rev = self.rev.wrapping_add(1);
        self.updated_at = Some(now);
        Some(Settled { job: self, to: To::Gone, event: EventKind::JobDeleted })
    }

    /// An operator's change to a job that waits: it stays where it is, `due` from now where that has a
    /// time, and goes to the end of its line where it has none. `None` for a job that runs or has ended.
    pub fn edit(mut self, place: Place, due: Duration, edit: Edit, now: Ms) -> Option<Settled> {
        let to = match place {
            // A blocked job finds out anew whether its key has room.
            Place::Pending | Place::Blocked => To::Pending,
            Place::Suspect => To::Suspect,
            Place::Parked => To::Parked,
            Place::Scheduled => To::Scheduled(due),
            Place::Held => To::Held,
            Place::Retrying => To::Retrying(due),
            Place::Running | Place::Dead | Place::Completed | Place::Cancelled => return None,
        };
        self.apply(edit);
        self.rev = self.rev.wrapping_add(1);
        self.updated_at = Some(now);
        Some(Settled { job: self, to, event: EventKind::JobEdited })
    }

    /// What an operator may change of a job, as it is.
    pub fn editable(&self) -> Edit {
        Edit {
            payload: self.payload.clone(),
            priority: self.priority,
            max_retries: self.retry.max,
            timeout_ms: self.timeout_ms,
            metadata: self.metadata.clone(),
        }
    }

    /// Takes over an operator's change.
    pub fn apply(&mut self, edit: Edit) {
        self.payload = edit.payload;
        self.priority = edit.priority;
        self.retry.max = edit.max_retries;
        self.timeout_ms = edit.timeout_ms;
        self.metadata = edit.metadata;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JobId, Name};

    fn job() -> Job {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        Job::new(JobId::from_parts(Ms(1), Default::default(), 7), name("mail"), name("default"), Json::null())
    }

    #[test]
    fn an_operator_ends_removes_and_changes_what_nobody_runs() {
        let place = |state: JobState| Place::ALL.into_iter().find(|place| place.state() == state).expect("a place");
        for state in JobState::ALL {
            let ended = state.is_terminal();
            let cancelled = job().cancel(state, "by an operator", Ms(5));
            assert_eq!(cancelled.is_ok(), !ended, "{state}");
            if let Ok(settled) = cancelled {
                assert_eq!((settled.to, settled.job.finished_at, settled.job.rev), (To::Cancelled, Some(Ms(5)), 1));
            }
            assert_eq!(job().delete(state, Ms(5)).is_some(), state != JobState::Running, "{state}");
            let edit = Edit { priority: 7, ..job().editable() };
            let edited = job().edit(place(state), Duration::from_secs(3), edit, Ms(5));
            assert_eq!(edited.is_some(), !ended && state != JobState::Running, "{state}");
            if let Some(settled) = edited {
                assert_eq!(settled.to.place().map(Place::state), Some(state));
                assert_eq!((settled.job.priority, settled.job.rev), (7, 1));
            }
        }
    }

    #[test]
    fn what_is_changed_stays_in_its_place() {
        for (place, to) in [
            (Place::Held, To::Held),
            (Place::Parked, To::Parked),
            (Place::Suspect, To::Suspect),
            (Place::Blocked, To::Pending),
            (Place::Retrying, To::Retrying(Duration::from_secs(3))),
        ] {
            let edited = job().edit(place, Duration::from_secs(3), job().editable(), Ms(5)).expect("it waits");
            assert_eq!((edited.to, edited.event), (to, EventKind::JobEdited));
        }
    }
}
