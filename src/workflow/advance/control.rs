//! What is done to a run as a whole: it begins, is paused and resumed, cancelled, out of time, tried
//! again, or undone by the run that called it.

use super::place::Hop;
use super::render::json;
use super::{Addr, Advance, NeedValues, TIMEOUT_TIMER, records, slot};
use crate::domain::job::JobError;
use crate::domain::run::{RunEvent, RunState, StepEvent, StepState};
use crate::workflow::fact::What;
use crate::workflow::input;
use crate::workflow::record::{Body, Slot, StepRecord, Stop};

impl Advance<'_> {
    /// The run may begin: it is admitted under its key, or was made by another run.
    pub(super) fn go(&mut self) -> Result<bool, NeedValues> {
        if self.out.run.state != RunState::Pending || self.out.run.is_stopping() {
            return Ok(false);
        }
        if self.out.run.steps.is_empty() {
            self.out.run.steps = records(self.def);
            let given = match &self.out.run.input {
                Slot::Inline(given) => given.clone(),
                other => json(&self.value(Some(other), &mut Vec::new())),
            };
            let checked = match input::check(self.def.spec().input.as_deref(), &given) {
                Ok(input) => {
                    self.out.run.input = slot("i".to_owned(), input.clone(), &mut self.out.values);
                    super::render::concurrency_key(self.def, &input).map(|_| ())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = checked {
                self.begin_run();
                self.agenda.clear();
                self.stop(JobError::new("input", error.to_string()))?;
                return Ok(true);
            }
        }
        self.begin_run();
        if std::mem::take(&mut self.out.run.paused_early) {
            self.pause();
        }
        Ok(true)
    }

    pub(super) fn begin_run(&mut self) {
        self.out.run.started_at = Some(self.now);
        self.run_event(RunEvent::Start, None);
        self.arm_timeout();
        for at in 0..self.def.graph().main {
            if self.node(&Addr::root(at)).needs.is_empty() {
                self.agenda.push_back(super::Todo::Look(Addr::root(at)));
            }
        }
    }

    fn arm_timeout(&mut self) {
        if let Some(limit) = self.def.spec().timeout {
            self.out.timers.push((TIMEOUT_TIMER.to_owned(), limit));
        }
    }

    pub(super) fn drop_timeout(&mut self) {
        if self.def.spec().timeout.is_some() {
            self.out.drop_timers.push(TIMEOUT_TIMER.to_owned());
        }
    }

    pub(super) fn run_timeout(&mut self) -> Result<bool, NeedValues> {
        if self.out.run.is_stopping() || self.out.run.outcome.is_some() {
            return Ok(false);
        }
        self.halt_all(true)?;
        self.stop(JobError::new("timeout", "the run took longer than its `timeout`"))?;
        Ok(true)
    }

    pub(super) fn pause(&mut self) -> bool {
        if self.out.run.state == RunState::Pending && self.out.run.parent.is_some() {
            // Its turn may come before whoever called it goes on.
            self.out.run.paused_early = true;
            return true;
        }
        if self.out.run.state != RunState::Running || self.out.run.outcome.is_some() || self.out.run.finished {
            return false;
        }
        self.run_event(RunEvent::Pause, None);
        self.tell_children(&What::Pause);
        true
    }

    pub(super) fn resume(&mut self) -> Result<bool, NeedValues> {
        if std::mem::take(&mut self.out.run.paused_early) {
            return Ok(true);
        }
        if !self.out.run.is_held() {
            return Ok(false);
        }
        self.run_event(RunEvent::Resume, None);
        self.tell_children(&What::Resume);
        let error = self.out.run.error.as_ref().map(ToString::to_string);
        if error.is_some() && self.compensates() {
            self.run_event(RunEvent::Compensate, error);
        }
        for key in std::mem::take(&mut self.out.run.held) {
            self.timer(&key, self.now)?;
        }
        self.sweep();
        Ok(true)
    }

    pub(super) fn cancel(&mut self, compensate: bool) -> Result<bool, NeedValues> {
        if self.out.run.is_stopping() || self.out.run.outcome.is_some() {
            return Ok(false);
        }
        self.out.run.held.clear();
        self.out.run.cancel = Some(compensate);
        self.halt_all(true)?;
        self.drop_timeout();
        let live = matches!(self.out.run.state, RunState::Running | RunState::Paused);
        if compensate && live && self.compensates() {
            self.run_event(RunEvent::Compensate, Some("cancelled".to_owned()));
        }
        Ok(true)
    }

    /// The run has failed: it compensates if it can. The first failure is the one that is told.
    pub(super) fn stop(&mut self, error: JobError) -> Result<(), NeedValues> {
        if self.out.run.is_stopping() {
            return Ok(());
        }
        let told = error.to_string();
        self.out.run.error = Some(error);
        self.halt_all(false)?;
        self.drop_timeout();
        if self.out.run.state == RunState::Running && self.compensates() {
            self.run_event(RunEvent::Compensate, Some(told));
        }
        Ok(())
    }

    /// A step of its own has ended the run, as completed.
    pub(super) fn finish_early(&mut self) -> Result<(), NeedValues> {
        if self.out.run.is_stopping() {
            return Ok(());
        }
        self.out.run.finished = true;
        self.halt_all(true)?;
        self.drop_timeout();
        Ok(())
    }

    /// Whether there is anything to be undone, or could have been.
    pub(super) fn compensates(&self) -> bool {
        self.def.compensates() || !self.out.run.undo.is_empty()
    }

    /// An operator tries a failed run again: its owed undos, or else what failed.
    pub(super) fn retry(&mut self) -> bool {
        if self.out.run.state != RunState::Failed || self.out.run.started_at.is_none() {
            return false;
        }
        let run = &mut self.out.run;
        run.life += 1;
        (run.outcome, run.finished_at, run.output) = (None, None, None);
        if run.undo.owed.is_empty() {
            (run.error, run.cancel, run.finished) = (None, None, false);
            self.run_event(RunEvent::Retry, None);
            for pos in 0..self.def.graph().main {
                self.reset(&Addr::root(pos));
            }
            self.arm_timeout();
            self.sweep();
        } else {
            self.take_up_owed();
            self.run_event(RunEvent::RetryUndo, None);
        }
        // What is done at every end is done at the next one too.
        for pos in self.def.graph().main..self.out.run.steps.len() {
            let addr = Addr::root(pos);
            if self.state(&addr) != StepState::Pending {
                self.clear(&addr);
            }
        }
        true
    }

    /// Makes what failed in a step, or stopped with what failed, possible once more. What completed
    /// stays.
    fn reset(&mut self, addr: &Addr) {
        let node = self.node(addr);
        let Some(record) = self.record(addr) else { return };
        let dropped = record.stop.is_some_and(|stop| matches!(stop, Stop::Dropped | Stop::Ignored));
        if !matches!(record.state, StepState::Failed | StepState::Cancelled) || node.continues || dropped {
            return;
        }
        let goes_on = match record.body.as_deref() {
            Some(Body::Frames(_) | Body::Each(_) | Body::Loop { .. }) => true,
            Some(Body::Call(_)) => record.state == StepState::Failed,
            _ => false,
        };
        if !goes_on {
            self.clear(addr);
            return;
        }
        self.step_event(addr, StepEvent::Reset, None);
        self.step_event(addr, StepEvent::Start, None);
        if let Some(record) = self.record_mut(addr) {
            (record.stop, record.error) = (None, None);
            if let Some(each) = record.each_mut() {
                let lost: Vec<u32> = each.failed.iter().filter(|index| each.find(*index).is_none()).collect();
                lost.into_iter().for_each(|index| each.again.insert(index));
                each.failed = Default::default();
            }
        }
        if let Some(run) = self.called(addr) {
            self.out.tell.push((run, super::Fact::of_run(What::Retry, self.now)));
        }
        self.set_deadline(addr, node);
        self.set_attempt_timer(addr, node);
        for key in self.insides(addr) {
            let hops: Vec<Hop> = addr.inside(key);
            for pos in 0..self.steps(&hops).len() {
                self.reset(&Addr { hops: hops.clone(), pos });
            }
        }
    }

    /// Makes a step new. One with others inside goes on counting its attempts, which tell those inside
    /// from the earlier ones.
    fn clear(&mut self, addr: &Addr) {
        let counts = !self.node(addr).inner.is_empty();
        self.step_event(addr, StepEvent::Reset, None);
        if let Some(record) = self.record_mut(addr) {
            *record = StepRecord {
                epoch: record.epoch,
                undo_epoch: record.undo_epoch,
                attempt: if counts { record.attempt } else { 0 },
                ..StepRecord::new(std::mem::take(&mut record.id))
            };
        }
    }

    /// The run that called this one compensates. One in which nothing is left to be undone says so.
    pub(super) fn undo_run(&mut self) -> Result<bool, NeedValues> {
        let run = &self.out.run;
        let owes = !run.undo.owed.is_empty();
        match run.state {
            RunState::Failed if owes => Ok(self.retry()),
            RunState::Completed if owes || !run.undo.is_empty() => {
                self.take_up_owed();
                self.out.run.finished_at = None;
                self.out.run.outcome = None;
                self.run_event(RunEvent::Undo, None);
                Ok(true)
            }
            state if state.is_terminal() => {
                self.tell_parent()?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
