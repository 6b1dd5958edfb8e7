//! How work stops short of its end: nothing new starts, waits are over, and what runs is waited for
//! or, if nobody needs it, asked to stop.

use super::end::End;
use super::place::Hop;
use super::{Addr, Advance, NeedValues};
use crate::domain::run::StepState;
use crate::workflow::fact::{Fact, What};
use crate::workflow::graph::Layer;
use crate::workflow::record::{Body, Stop};

impl Advance<'_> {
    /// Stops all steps but those of `finally`. With `hard`, jobs under way are asked to stop too.
    pub(super) fn halt_all(&mut self, hard: bool) -> Result<(), NeedValues> {
        for pos in 0..self.def.graph().main.min(self.out.run.steps.len()) {
            self.halt_step(&Addr::root(pos), hard, Stop::Cancelled)?;
        }
        Ok(())
    }

    /// Stops the steps of one list.
    pub(super) fn halt(&mut self, hops: &[Hop], hard: bool, why: Stop) -> Result<(), NeedValues> {
        for pos in 0..self.steps(hops).len() {
            self.halt_step(&Addr { hops: hops.to_vec(), pos }, hard, why)?;
        }
        Ok(())
    }

    /// Stops everything inside of a step.
    pub(super) fn halt_inside(&mut self, addr: &Addr, hard: bool, why: Stop) -> Result<(), NeedValues> {
        for key in self.insides(addr) {
            self.halt(&addr.inside(key), hard, why)?;
        }
        Ok(())
    }

    /// Stops one step. If nothing of it is under way it has ended when this returns; what is around
    /// it is not told.
    pub(super) fn halt_step(&mut self, addr: &Addr, hard: bool, why: Stop) -> Result<(), NeedValues> {
        let Some(record) = self.record_mut(addr) else { return Ok(()) };
        match record.state {
            StepState::Pending | StepState::Retrying | StepState::Waiting => {
                record.stop = Some(why);
                self.close(addr, End::Cancelled(None), self.now)
            }
            StepState::Running => self.halt_running(addr, hard, why),
            // It has ended before what is inside of it.
            _ if hard && record.is_alive() => self.halt_inside(addr, hard, why),
            _ => Ok(()),
        }
    }

    fn halt_running(&mut self, addr: &Addr, hard: bool, why: Stop) -> Result<(), NeedValues> {
        let node = self.node(addr);
        let Some(record) = self.record_mut(addr) else { return Ok(()) };
        if node.layer == Layer::Verb && node.spec.verb.is_job() {
            if hard {
                // One that was left to itself is not any more.
                record.stop = record.stop.filter(|stop| stop.closes()).or(Some(why));
                let job = record.job;
                self.out.cancel_jobs.extend(job);
            }
            return Ok(());
        }
        let closed = record.stop.is_some_and(Stop::closes);
        if !closed {
            record.stop = Some(why);
        }
        if let Some(Body::Call(run)) = record.body.as_deref() {
            let run = *run;
            if !closed {
                let compensate = self.out.run.cancel.unwrap_or(true);
                self.out.tell.push((run, Fact::of_run(What::Cancel { compensate }, self.now)));
            }
            return Ok(());
        }
        self.halt_inside(addr, hard, why)?;
        let inside = |advance: &Self| {
            advance
                .record(addr)
                .is_some_and(|record| record.frames().any(|(_, steps)| steps.iter().any(|s| s.is_alive())))
        };
        if !inside(self) {
            let stop = self.record(addr).and_then(|record| record.stop);
            let error = self.record(addr).and_then(|record| record.error.clone());
            let how = match (stop, error) {
                (Some(Stop::Failed | Stop::Expired), Some(error)) => End::Failed(error),
                _ => End::Cancelled(None),
            };
            return self.close(addr, how, self.now);
        }
        Ok(())
    }
}
