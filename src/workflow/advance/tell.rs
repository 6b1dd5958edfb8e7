//! Moves steps and the run by their tables, and tells each move as an event: the history is exactly
//! the moves, so that its fold is the state.

use super::{Addr, Advance, TOLD_BYTES};
use crate::domain::event::{Event, EventKind};
use crate::domain::run::{RunEvent, StepEvent, StepState};
use crate::domain::text::clip;

impl Advance<'_> {
    /// Moves a step by the table and tells it.
    pub(super) fn step_event(&mut self, addr: &Addr, event: StepEvent, data: Option<String>) {
        let now = self.now;
        let path = self.path(addr);
        let Some(record) = self.record_mut(addr) else { return };
        let next = match record.state.next(event) {
            Ok(next) => next,
            Err(illegal) => {
                debug_assert!(false, "{path}: {illegal}");
                return;
            }
        };
        let was_active = record.is_active();
        record.state = next;
        match event {
            StepEvent::Start | StepEvent::Wait => {
                record.started_at.get_or_insert(now);
            }
            StepEvent::Complete | StepEvent::Fail | StepEvent::Cancel | StepEvent::Skip => {
                record.finished_at = Some(now);
            }
            StepEvent::Reset => (record.started_at, record.finished_at) = (None, None),
            _ => {}
        }
        let undo = matches!(event, StepEvent::Undo | StepEvent::Undone | StepEvent::UndoFailed);
        let job = if undo { record.undo_job } else { record.job };
        let attempt = (record.attempt > 0 && was_active).then_some(record.attempt);
        self.tell(Event { job, step: Some(path), attempt, data, ..Event::new(step_kind(event)) });
    }

    /// Moves the run by the table and tells it.
    pub(super) fn run_event(&mut self, event: RunEvent, data: Option<String>) {
        match self.out.run.state.next(event) {
            Ok(next) => self.out.run.state = next,
            Err(illegal) => {
                debug_assert!(false, "{illegal}");
                return;
            }
        }
        if self.out.run.state.is_terminal() {
            self.out.run.finished_at = Some(self.now);
        }
        self.tell(Event { data, ..Event::new(run_kind(event)) });
    }

    pub(super) fn tell(&mut self, event: Event) {
        let data = event.data.map(|text| clip(&text, TOLD_BYTES).into_owned());
        self.out.events.push(Event { run: Some(self.out.run.id), data, ..event });
    }

    /// The state of a step, `Pending` if there is no record of it.
    pub(super) fn state(&self, addr: &Addr) -> StepState {
        self.record(addr).map_or(StepState::Pending, |record| record.state)
    }
}

pub(super) fn step_kind(event: StepEvent) -> EventKind {
    match event {
        StepEvent::Start => EventKind::StepStarted,
        StepEvent::Wait => EventKind::StepWaiting,
        StepEvent::Retry => EventKind::StepRetrying,
        StepEvent::Complete => EventKind::StepCompleted,
        StepEvent::Fail => EventKind::StepFailed,
        StepEvent::Skip => EventKind::StepSkipped,
        StepEvent::Cancel => EventKind::StepCancelled,
        StepEvent::Undo => EventKind::StepCompensating,
        StepEvent::Undone => EventKind::StepCompensated,
        StepEvent::UndoFailed => EventKind::StepUndoFailed,
        StepEvent::Reset => EventKind::StepReset,
    }
}

fn run_kind(event: RunEvent) -> EventKind {
    match event {
        RunEvent::Start => EventKind::RunStarted,
        RunEvent::Pause => EventKind::RunPaused,
        RunEvent::Resume => EventKind::RunResumed,
        RunEvent::Complete => EventKind::RunCompleted,
        RunEvent::Fail | RunEvent::Owe => EventKind::RunFailed,
        RunEvent::Compensate | RunEvent::RetryUndo | RunEvent::Undo => EventKind::RunCompensating,
        RunEvent::Undone => EventKind::RunCompensated,
        RunEvent::Cancel => EventKind::RunCancelled,
        RunEvent::Retry => EventKind::RunRetried,
    }
}
