//! The states of a run as its events tell them. The fold must equal what the header says: the log
//! and the header are written by one commit, and `doctor` may compare them.

use std::collections::BTreeMap;

use crate::domain::event::{Event, EventKind};
use crate::domain::run::{RunEvent, RunState, StepEvent, StepState};

/// What the events of one run add up to. A step that no event names is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub run: RunState,
    pub steps: BTreeMap<String, StepState>,
}

/// An event that the tables do not allow where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {nth} ({kind}) cannot follow: {why}")]
pub struct BadHistory {
    pub nth: usize,
    pub kind: &'static str,
    pub why: String,
}

/// Folds the events of one run, in their order. Events of jobs and others are passed over.
///
/// # Errors
/// The first event that is impossible after those before it.
pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<History, BadHistory> {
    let mut history = History { run: RunState::Pending, steps: BTreeMap::new() };
    for (nth, event) in events.into_iter().enumerate() {
        let bad = |why: String| BadHistory { nth, kind: event.kind.as_str(), why };
        if let Some(happened) = run_event(history.run, event.kind) {
            history.run = history.run.next(happened).map_err(|error| bad(error.to_string()))?;
        } else if let Some(happened) = step_event(event.kind) {
            let id = event.step.clone().ok_or_else(|| bad("it names no step".to_owned()))?;
            let state = history.steps.entry(id).or_insert(StepState::Pending);
            *state = state.next(happened).map_err(|error| bad(error.to_string()))?;
        }
    }
    Ok(history)
}

/// What a step becomes by an event; nothing if the event moves no step, or cannot follow.
pub fn moved(state: Option<StepState>, kind: EventKind) -> Option<StepState> {
    state.unwrap_or(StepState::Pending).next(step_event(kind)?).ok()
}

/// What a run becomes by an event; nothing if the event moves no run, or cannot follow.
pub fn run_moved(state: RunState, kind: EventKind) -> Option<RunState> {
    state.next(run_event(state, kind)?).ok()
}

fn run_event(state: RunState, kind: EventKind) -> Option<RunEvent> {
    Some(match kind {
        EventKind::RunStarted => RunEvent::Start,
        EventKind::RunCompleted => RunEvent::Complete,
        EventKind::RunFailed if state == RunState::Compensating => RunEvent::Owe,
        EventKind::RunFailed => RunEvent::Fail,
        EventKind::RunCompensating if state == RunState::Failed => RunEvent::RetryUndo,
        EventKind::RunCompensating if state == RunState::Completed => RunEvent::Undo,
        EventKind::RunCompensating => RunEvent::Compensate,
        EventKind::RunPaused => RunEvent::Pause,
        EventKind::RunResumed => RunEvent::Resume,
        EventKind::RunRetried => RunEvent::Retry,
        EventKind::RunCompensated => RunEvent::Undone,
        EventKind::RunCancelled => RunEvent::Cancel,
        _ => return None,
    })
}

fn step_event(kind: EventKind) -> Option<StepEvent> {
    Some(match kind {
        EventKind::StepStarted => StepEvent::Start,
        EventKind::StepCompleted => StepEvent::Complete,
        EventKind::StepFailed => StepEvent::Fail,
        EventKind::StepSkipped => StepEvent::Skip,
        EventKind::StepCancelled => StepEvent::Cancel,
        EventKind::StepCompensating => StepEvent::Undo,
        EventKind::StepCompensated => StepEvent::Undone,
        EventKind::StepUndoFailed => StepEvent::UndoFailed,
        EventKind::StepWaiting => StepEvent::Wait,
        EventKind::StepRetrying => StepEvent::Retry,
        EventKind::StepReset => StepEvent::Reset,
        _ => return None,
    })
}
