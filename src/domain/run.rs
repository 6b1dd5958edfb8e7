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
    /// An operator tries a failed run again where it failed.
    Retry,
    /// An operator has owed undos tried again.
    RetryUndo,
    /// The run that called it compensates: what was completed is undone.
    Undo,
}

impl RunEvent {
    pub const ALL: [RunEvent; 12] = [
        RunEvent::Start,
        RunEvent::Complete,
        RunEvent::Fail,
        RunEvent::Compensate,
        RunEvent::Undone,
        RunEvent::Owe,
        RunEvent::Cancel,
        RunEvent::Pause,
        RunEvent::Resume,
        RunEvent::Retry,
        RunEvent::RetryUndo,
        RunEvent::Undo,
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
            // A paused one that was cancelled fails if it owes an undo.
            (S::Running | S::Paused, E::Fail) => S::Failed,
            (S::Running | S::Paused, E::Compensate) => S::Compensating,
            // A new life of what was over.
            (S::Failed, E::Retry) => S::Running,
            (S::Failed, E::RetryUndo) | (S::Completed, E::Undo) => S::Compensating,
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
    /// A failed run is tried again, and the step with it.
    Reset,
}

impl StepEvent {
    pub const ALL: [StepEvent; 11] = [
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
        StepEvent::Reset,
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
            // A step whose wait is over does what its time-out says.
            (S::Pending | S::Retrying | S::Waiting, E::Start) => S::Running,
            (S::Pending | S::Retrying, E::Wait) => S::Waiting,
            (S::Running | S::Waiting, E::Retry) => S::Retrying,
            (S::Running | S::Retrying | S::Waiting, E::Complete) => S::Completed,
            (S::Pending | S::Running | S::Retrying | S::Waiting, E::Fail) => S::Failed,
            (S::Pending, E::Skip) => S::Skipped,
            (S::Pending | S::Running | S::Retrying | S::Waiting, E::Cancel) => S::Cancelled,
            // With `scope: attempted` a step whose outcome is unknown is undone too.
            (S::Completed | S::Failed | S::Cancelled, E::Undo) => S::Compensating,
            (S::Compensating, E::Undone) => S::Compensated,
            (S::Compensating, E::UndoFailed) => S::Failed,
            // Of completed steps only those of `finally`, which are done at every end.
            (S::Failed | S::Cancelled | S::Completed | S::Skipped, E::Reset) => S::Pending,
            (state, event) => return Err(IllegalStepEvent { state, event }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// But for an operator who tries a failed run again, and a parent that undoes a completed one.
    #[test]
    fn a_terminal_run_stays_as_it_is() {
        let mut legal = 0;
        for state in RunState::ALL {
            for event in RunEvent::ALL {
                match state.next(event) {
                    Ok(next) => {
                        legal += 1;
                        let again = matches!(event, RunEvent::Retry | RunEvent::RetryUndo | RunEvent::Undo);
                        assert_eq!(state.is_terminal(), again, "{state} {event:?} {next}");
                    }
                    Err(error) => assert_eq!(error, IllegalRunEvent { state: *state, event }),
                }
            }
        }
        assert_eq!(legal, 18);
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
        assert_eq!(legal.len(), 28);
        // A completed step never runs again, but for those of `finally` in a new life of their run.
        let again = |event: StepEvent, to: StepState| to == StepState::Compensating || event == StepEvent::Reset;
        assert!(legal.iter().all(|(from, event, to)| *from != StepState::Completed || again(*event, *to)));
    }
}
