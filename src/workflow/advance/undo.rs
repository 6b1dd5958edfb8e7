//! How a run stops short of its end: a failure, a cancel, a time limit; and how what was done is
//! undone, the last first and one at a time. What can no longer be undone is recorded as owed.

use super::{Advance, NeedValues, TIMEOUT_TIMER, is_stale, told};
use crate::domain::job::JobError;
use crate::domain::run::{RunEvent, RunState, StepEvent, StepState};
use crate::workflow::run::{Fact, StepRecord, What};
use crate::workflow::spec::CompensateScope;

impl Advance<'_> {
    pub(super) fn timer(&mut self, key: &str) -> bool {
        if key != TIMEOUT_TIMER || self.out.run.is_stopping() {
            return false;
        }
        self.abandon();
        self.stop(JobError::new("timeout", "the run took longer than its `timeout`"));
        true
    }

    pub(super) fn cancel(&mut self, compensate: bool) -> bool {
        if self.out.run.is_stopping() {
            return false;
        }
        self.abandon();
        self.out.run.cancel = Some(compensate);
        self.stop_starting();
        if compensate && self.def.compensates() {
            self.run_event(RunEvent::Compensate, Some("cancelled".to_owned()));
        }
        true
    }

    /// Nobody waits for the results of what is under way.
    fn abandon(&mut self) {
        let active = self.out.run.steps.iter().filter(|step| step.is_active());
        self.out.cancel_jobs.extend(active.filter_map(|step| step.job));
    }

    /// The run has failed: it compensates if it can. The first failure is the one that is told.
    pub(super) fn stop(&mut self, error: JobError) {
        if self.out.run.is_stopping() {
            return;
        }
        let told = error.to_string();
        self.out.run.error = Some(error);
        self.stop_starting();
        if self.def.compensates() {
            self.run_event(RunEvent::Compensate, Some(told));
        }
    }

    fn stop_starting(&mut self) {
        for at in 0..self.out.run.steps.len() {
            if self.out.run.steps[at].state == StepState::Pending {
                self.step_event(at, StepEvent::Cancel, None);
            }
        }
        self.drop_timeout();
    }

    pub(super) fn drop_timeout(&mut self) {
        if self.def.spec().timeout.is_some() {
            self.out.drop_timers.push(TIMEOUT_TIMER.to_owned());
        }
    }

    /// Nothing is under way and nothing may start: undoes the next step, or ends the run.
    pub(super) fn unwind(&mut self) -> Result<(), NeedValues> {
        let told = self.out.run.error.as_ref().map(ToString::to_string);
        if self.out.run.state != RunState::Compensating {
            let event = if self.out.run.cancel.is_some() { RunEvent::Cancel } else { RunEvent::Fail };
            self.run_event(event, told);
            return Ok(());
        }
        if self.out.run.steps.iter().any(|step| step.state == StepState::Compensating) {
            return Ok(());
        }
        while let Some(at) = self.next_undo() {
            let job = self.job(at, true)?;
            self.step_event(at, StepEvent::Undo, None);
            match job {
                Ok(job) => {
                    self.out.run.steps[at].undo_job = Some(job.id);
                    self.out.jobs.push(job);
                    return Ok(());
                }
                Err(error) => self.owe(at, error),
            }
        }
        if !self.out.run.owed.is_empty() {
            let owed = self.out.run.owed.join("`, `");
            let why = told.unwrap_or_else(|| "the run was cancelled".to_owned());
            let error = JobError::new("undo_owed", format!("the undo of `{owed}` is owed; {why}"));
            let told = error.to_string();
            self.out.run.error = Some(error);
            self.run_event(RunEvent::Owe, Some(told));
        } else if self.out.run.cancel.is_some() {
            self.run_event(RunEvent::Cancel, told);
        } else {
            self.run_event(RunEvent::Undone, told);
        }
        Ok(())
    }

    /// The step that ended last among those still to be undone.
    fn next_undo(&self) -> Option<usize> {
        let steps = self.out.run.steps.iter().enumerate();
        let undone = |step: &StepRecord| step.undo_job.is_some() || step.undo_error.is_some();
        steps
            .filter(|(at, step)| {
                let Some(compensate) = &self.def.step(*at).0.compensate else { return false };
                // Without an order it never began.
                step.order > 0
                    && !undone(step)
                    && match step.state {
                        StepState::Completed => true,
                        StepState::Failed | StepState::Cancelled => compensate.scope == CompensateScope::Attempted,
                        _ => false,
                    }
            })
            .max_by_key(|(_, step)| step.order)
            .map(|(at, _)| at)
    }

    pub(super) fn undo_ended(&mut self, fact: &Fact) -> bool {
        let Some(at) = self.def.index(&fact.step) else { return false };
        let record = &mut self.out.run.steps[at];
        if record.state != StepState::Compensating || is_stale(fact.epoch, record.undo_epoch) {
            return false;
        }
        record.undo_epoch = fact.epoch;
        match &fact.what {
            What::Completed { .. } => self.step_event(at, StepEvent::Undone, None),
            What::Failed { error } => self.owe(at, error.clone()),
            _ => self.owe(at, JobError::new("cancelled", "its job was cancelled")),
        }
        true
    }

    fn owe(&mut self, at: usize, error: JobError) {
        self.out.run.owed.push(self.out.run.steps[at].id.clone());
        let error = told(error);
        self.out.run.steps[at].undo_error = Some(error.clone());
        self.step_event(at, StepEvent::UndoFailed, Some(error.to_string()));
    }
}
