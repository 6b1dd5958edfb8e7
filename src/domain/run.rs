//! The states of a run and of its steps, and the tables between them. What a run is made of lives
//! in `workflow`; here are only the words and the laws.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($state:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($state,)* }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$state,)*];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$state => $text,)* }
            }

            pub fn parse(word: &str) -> Option<$name> {
                match word { $($text => Some($name::$state),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// The states of a run.
    RunState {
        Pending = "pending",
        Running = "running",
        Paused = "paused",
        Compensating = "compensating",
        Completed = "completed",
        Failed = "failed",
        Compensated = "compensated",
        Cancelled = "cancelled",
    }
}

words! {
    /// The states of a step.
    StepState {
        Pending = "pending",
        Running = "running",
        Retrying = "retrying",
        Waiting = "waiting",
        Completed = "completed",
        Failed = "failed",
        Skipped = "skipped",
        Cancelled = "cancelled",
        Compensating = "compensating",
        Compensated = "compensated",
    }
}

impl RunState {
    pub fn is_terminal(self) -> bool {
        matches!(self, RunState::Completed | RunState::Failed | RunState::Compensated | RunState::Cancelled)
    }
}

impl StepState {
    /// Whether the step's forward work is over.
    pub fn has_ended(self) -> bool {
        !matches!(self, StepState::Pending | StepState::Running | StepState::Retrying | StepState::Waiting)
    }
}

/// What can happen to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunEvent {
    Start,
    /// Every step has ended and none failed.
    Complete,
    /// A step failed and nothing is to be undone.
    Fail,
    /// A step failed, or the run was cancelled, and there are completed steps to undo.
    Compensate,
    /// The last undo is done.
    Undone,
    /// An undo is owed that could not be done.
    Owe,
    Cancel,
    Pause,
    Resume,
}

impl RunEvent {
    pub const ALL: [RunEvent; 9] = [
        RunEvent::Start,
        RunEvent::Complete,
        RunEvent::Fail,
        RunEvent::Compensate,
        RunEvent::Undone,
        RunEvent::Owe,
        RunEvent::Cancel,
        RunEvent::Pause,
        RunEvent::Resume,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {state} run cannot {event:?}")]
pub struct IllegalRunEvent {
    pub state: RunState,
    pub event: RunEvent,
}

impl RunState {
    /// The table. Every pair that is not here is an error.
    pub fn next(self, event: RunEvent) -> Result<RunState, IllegalRunEvent> {
        use RunEvent as E;
        use RunState as S;
        Ok(match (self, event) {
            (S::Pending, E::Start) | (S::Paused, E::Resume) => S::Running,
            (S::Pending | S::Running, E::Pause) => S::Paused,
            (S::Running, E::Complete) => S::Completed,
            (S::Running, E::Fail) => S::Failed,
            (S::Running | S::Paused, E::Compensate) => S::Compensating,
            (S::Compensating, E::Undone) => S::Compensated,
            (S::Compensating, E::Owe) => S::Failed,
            (S::Pending | S::Running | S::Paused | S::Compensating, E::Cancel) => S::Cancelled,
            (state, event) => return Err(IllegalRunEvent { state, event }),
        })
    }
}

/// What can happen to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepEvent {
    Start,
    Wait,
    Retry,
    Complete,
    Fail,
    Skip,
    Cancel,
    Undo,
    Undone,
    /// Its undo failed for good: the step stays as it was and the undo is owed.
    UndoFailed,
}

impl StepEvent {
    pub const ALL: [StepEvent; 10] = [
        StepEvent::Start,
        StepEvent::Wait,
        StepEvent::Retry,
        StepEvent::Complete,
        StepEvent::Fail,
        StepEvent::Skip,
        StepEvent::Cancel,
        StepEvent::Undo,
        StepEvent::Undone,
        StepEvent::UndoFailed,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {state} step cannot {event:?}")]
pub struct IllegalStepEvent {
    pub state: StepState,
    pub event: StepEvent,
}

impl StepState {
    /// The table. Every pair that is not here is an error.
    pub fn next(self, event: StepEvent) -> Result<StepState, IllegalStepEvent> {
        use StepEvent as E;
        use StepState as S;
        Ok(match (self, event) {
            (S::Pending, E::Start) | (S::Retrying, E::Start) => S::Running,
            (S::Pending, E::Wait) => S::Waiting,
            (S::Running, E::Retry) => S::Retrying,
            (S::Running | S::Retrying | S::Waiting, E::Complete) => S::Completed,
            (S::Pending | S::Running | S::Retrying | S::Waiting, E::Fail) => S::Failed,
            (S::Pending, E::Skip) => S::Skipped,
            (S::Pending | S::Running | S::Retrying | S::Waiting, E::Cancel) => S::Cancelled,
            // With `scope: attempted` a step whose outcome is unknown is undone too.
            (S::Completed | S::Failed | S::Cancelled, E::Undo) => S::Compensating,
            (S::Compensating, E::Undone) => S::Compensated,
            (S::Compensating, E::UndoFailed) => S::Failed,
            (state, event) => return Err(IllegalStepEvent { state, event }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_run_stays_as_it_is() {
        let mut legal = 0;
        for state in RunState::ALL {
            for event in RunEvent::ALL {
                match state.next(event) {
                    Ok(next) => {
                        legal += 1;
                        assert!(!state.is_terminal(), "{state} {event:?} {next}");
                    }
                    Err(error) => assert_eq!(error, IllegalRunEvent { state: *state, event }),
                }
            }
        }
        assert_eq!(legal, 14);
    }

    #[test]
    fn every_step_pair_is_known_or_refused() {
        let mut legal = Vec::new();
        for state in StepState::ALL {
            for event in StepEvent::ALL {
                match state.next(event) {
                    Ok(next) => legal.push((*state, event, next)),
                    Err(error) => assert_eq!(error, IllegalStepEvent { state: *state, event }),
                }
            }
        }
        assert_eq!(legal.len(), 21);
        // A completed step never runs again.
        assert!(legal.iter().all(|(from, _, to)| *from != StepState::Completed || *to == StepState::Compensating));
    }
}
