//! What is done more than once: rounds of a `while`, and further attempts at steps that are not jobs
//! (a job is tried again by its queue).

use std::time::Duration;

use super::end::End;
use super::render::job_number;
use super::{Addr, Advance, MORE_TIMER, NeedValues};
use crate::domain::job::JobError;
use crate::domain::run::{StepEvent, StepState};
use crate::workflow::graph::Layer;
use crate::workflow::record::{Body, StepRecord, Stop};

impl Advance<'_> {
    pub(super) fn begin_loop(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        self.step_event(addr, StepEvent::Start, None);
        self.next_round(addr, 0)
    }

    /// Begins a round if the condition holds.
    fn next_round(&mut self, addr: &Addr, round: u32) -> Result<(), NeedValues> {
        if !self.may_start(&addr.inner(round, 0)) {
            return Ok(());
        }
        let node = self.node(addr);
        let Some(repeat) = &node.spec.repeat else { return Ok(()) };
        if self.budget == 0 {
            self.out.timers.push((MORE_TIMER.to_owned(), Duration::ZERO));
            return Ok(());
        }
        let scope = self.scope_with(&node.work, &addr.hops, Some(addr), |roots| {
            roots.push(("loop".into(), serde_json::json!({"index": round, "key": null})));
        })?;
        match repeat.condition.eval_bool(&scope) {
            Ok(true) if round >= repeat.max => {
                let message = format!("the condition still holds after {} rounds", repeat.max);
                self.end(addr, End::Failed(JobError::new("while", message)), self.now)
            }
            Ok(true) => {
                self.budget -= 1;
                if let Some(record) = self.record_mut(addr) {
                    record.body = Some(Box::new(Body::Loop { round, step: StepRecord::new(String::new()) }));
                }
                self.begin(&addr.inner(round, 0))
            }
            Ok(false) => {
                let output = self.record(addr).and_then(|record| record.output.clone());
                self.end(addr, End::Completed(output), self.now)
            }
            Err(error) => self.end(addr, End::Failed(super::render::expression("while", &error)), self.now),
        }
    }

    /// Looks whether the round of a loop is over.
    pub(super) fn check_round(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        if self.state(addr) != StepState::Running {
            self.poke_around(addr);
            return Ok(());
        }
        let Some(record) = self.record_mut(addr) else { return Ok(()) };
        let Some(Body::Loop { round, step }) = record.body.as_deref() else {
            // The first round could not begin while the run was paused.
            return self.next_round(addr, 0);
        };
        let (round, state) = (*round, step.state);
        let (output, error, stop) = (step.output.clone(), step.error.clone(), step.stop);
        if state.has_ended() && step.is_alive() {
            return Ok(());
        }
        match state {
            StepState::Completed => {
                record.output = output;
                if self.drained(addr)? {
                    return Ok(());
                }
                self.next_round(addr, round + 1)
            }
            StepState::Pending => {
                let inner = addr.inner(round, 0);
                if self.may_start(&inner) { self.begin(&inner) } else { Ok(()) }
            }
            _ if !state.has_ended() || self.drained(addr)? => Ok(()),
            _ => {
                let how = match error {
                    Some(error) => End::Failed(error),
                    None if stop.is_some_and(Stop::is_neutral) => End::Cancelled(None),
                    None => End::Failed(JobError::new("cancelled", "it was cancelled")),
                };
                self.end(addr, how, self.now)
            }
        }
    }

    /// Plans another attempt at a step that is not a job, if its `retry` says so.
    pub(super) fn tries_again(&mut self, addr: &Addr, error: &JobError) -> bool {
        let node = self.node(addr);
        let stopping = self.out.run.is_stopping() && !self.is_final(addr);
        let closed = addr.owner().and_then(|(owner, _)| self.record(&owner)?.stop).is_some_and(Stop::closes);
        let Some(record) = self.record(addr) else { return false };
        let retry = &node.spec.retry;
        let again = node.layer == Layer::Verb
            && !node.spec.verb.is_job()
            && record.is_active()
            && record.stop.is_none_or(|stop| matches!(stop, Stop::Failed | Stop::Ignored))
            && record.attempt <= retry.max
            && retry.covers(&error.class);
        if !again || stopping || closed {
            return false;
        }
        let attempt = record.attempt;
        self.drop_attempt_timers(addr, node);
        let number = job_number(self.out.run.id, &self.path(addr), false, u64::from(attempt));
        let delay = retry.delay(attempt, (number >> 11) as f64 / (1u64 << 53) as f64);
        if let Some(record) = self.record_mut(addr) {
            record.body = None;
            record.error = None;
            record.stop = record.stop.filter(|stop| *stop == Stop::Ignored);
        }
        self.step_event(addr, StepEvent::Retry, Some(error.to_string()));
        let key = self.timer_key('r', addr);
        self.out.timers.push((key, delay));
        true
    }
}
