//! The end of a run: nothing is under way, so it completes, or is undone and then ends as it must.
//! The steps of `finally` come last, when it is known how it will end.

use super::{Addr, Advance, NeedValues, Todo};
use crate::domain::run::{RunEvent, RunState, StepState};
use crate::workflow::fact::{Fact, What};
use crate::workflow::record::StepRecord;

impl Advance<'_> {
    /// Goes on towards the end if nothing else is to be done. Answers whether there is something new
    /// to look at.
    pub(super) fn conclude(&mut self) -> Result<bool, NeedValues> {
        let run = &self.out.run;
        let never_began = run.state == RunState::Pending && run.cancel.is_none();
        if run.state.is_terminal() || run.is_held() || never_began {
            return Ok(false);
        }
        let main = self.def.graph().main.min(run.steps.len());
        if let Some(outcome) = run.outcome {
            if run.steps[main..].iter().all(|step| step.state.has_ended() && !step.is_alive()) {
                self.finish(outcome)?;
            }
            return Ok(false);
        }
        if run.steps[..main].iter().any(StepRecord::is_alive) {
            return Ok(false);
        }
        if run.finished {
            return self.complete();
        }
        if run.is_stopping() || run.state == RunState::Compensating {
            return self.unwind();
        }
        if run.steps[..main].iter().any(|step| step.state == StepState::Pending) {
            return Ok(false);
        }
        self.complete()
    }

    fn complete(&mut self) -> Result<bool, NeedValues> {
        match self.output()? {
            Ok(output) => {
                let key = if self.out.run.life == 0 { "o".to_owned() } else { format!("o@{}", self.out.run.life) };
                self.out.run.output = output.map(|output| self.keep(key, output));
                if !self.out.run.finished {
                    self.drop_timeout();
                }
                self.conclude_as(RunState::Completed)
            }
            Err(error) => {
                self.out.run.finished = false;
                self.stop(error)?;
                Ok(true)
            }
        }
    }

    /// It is known how the run will end: the steps of `finally` are done, and then it does.
    pub(super) fn conclude_as(&mut self, outcome: RunState) -> Result<bool, NeedValues> {
        let main = self.def.graph().main;
        let fresh = |step: &StepRecord| step.state == StepState::Pending;
        let begins = self.out.run.started_at.is_some() && self.out.run.steps.iter().skip(main).any(fresh);
        if !begins {
            self.finish(outcome)?;
            return Ok(false);
        }
        self.out.run.outcome = Some(outcome);
        for pos in main..self.out.run.steps.len() {
            let addr = Addr::root(pos);
            if self.node(&addr).needs.is_empty() {
                self.agenda.push_back(Todo::Look(addr));
            }
        }
        Ok(true)
    }

    fn finish(&mut self, outcome: RunState) -> Result<(), NeedValues> {
        let main = self.def.graph().main;
        let failed = self.out.run.steps.iter().enumerate().skip(main).find(|(pos, step)| {
            let failed = matches!(step.state, StepState::Failed | StepState::Cancelled);
            failed && !self.node(&Addr::root(*pos)).spec.continue_on_error
        });
        let failed = failed.and_then(|(_, step)| {
            let error = step.error.as_ref()?;
            let message = format!("step `{}` failed: {}", step.id, error.message);
            Some(crate::domain::job::JobError::new(error.class.clone(), message))
        });
        let mut outcome = outcome;
        if let Some(error) = failed {
            self.out.run.error.get_or_insert(error);
            if outcome == RunState::Completed {
                outcome = RunState::Failed;
            }
        }
        self.out.run.outcome = None;
        let told = self.out.run.error.as_ref().map(ToString::to_string);
        let event = match (outcome, self.out.run.state) {
            (RunState::Completed, _) => RunEvent::Complete,
            (RunState::Compensated, _) => RunEvent::Undone,
            (RunState::Cancelled, _) => RunEvent::Cancel,
            (_, RunState::Compensating) => RunEvent::Owe,
            _ => RunEvent::Fail,
        };
        self.run_event(event, told.filter(|_| event != RunEvent::Complete));
        self.tell_parent()
    }

    pub(super) fn tell_parent(&mut self) -> Result<(), NeedValues> {
        let Some(parent) = self.out.run.parent.clone() else { return Ok(()) };
        let output = match self.out.run.output.clone() {
            Some(output) => self.flat(&output)?.ok(),
            None => None,
        };
        let run = &self.out.run;
        let what = What::Ended {
            run: run.id,
            state: run.state,
            output,
            error: run.error.clone(),
            undoable: !run.undo.is_empty() || !run.undo.owed.is_empty(),
        };
        let fact = Fact { step: parent.step, ..Fact::of_run(what, self.now) };
        self.out.tell.push((parent.run, fact));
        Ok(())
    }
}
