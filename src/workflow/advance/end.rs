//! How a step ends, and what that means for what is around it.

use serde_json::Value;

use super::begin::is_bad;
use super::{Addr, Advance, NeedValues, Todo, began, is_stale, slot, told};
use crate::domain::job::JobError;
use crate::domain::limits::VALUE_BYTES;
use crate::domain::run::{StepEvent, StepState};
use crate::domain::text::size;
use crate::domain::{Json, Ms};
use crate::workflow::fact::{Fact, What};
use crate::workflow::graph::Layer;
use crate::workflow::record::{Body, Slot, Stop};
use crate::workflow::spec::Outputs;

/// How a step ends.
pub(super) enum End {
    Completed(Option<Slot>),
    Failed(JobError),
    /// With a reason where it is the fault of somebody.
    Cancelled(Option<JobError>),
    Skipped,
}

impl Advance<'_> {
    /// The outcome of a step's job.
    pub(super) fn job_ended(&mut self, fact: &Fact) -> Result<bool, NeedValues> {
        let Some(addr) = self.parse(&fact.step) else { return Ok(false) };
        let node = self.node(&addr);
        if node.layer != Layer::Verb || !node.spec.verb.is_job() {
            return Ok(false);
        }
        let order = self.out.run.ended + 1;
        let Some(record) = self.record_mut(&addr) else { return Ok(false) };
        if !record.is_active() || is_stale(fact.epoch, record.epoch) {
            return Ok(false);
        }
        record.epoch = fact.epoch;
        record.attempt = fact.attempt;
        if began(fact) {
            record.order = order;
            self.out.run.ended = order;
        }
        let expired = self.record_mut(&addr).filter(|record| record.stop == Some(Stop::Expired));
        let expired = expired.and_then(|record| record.error.take());
        let how = match (&fact.what, expired) {
            (_, Some(error)) => End::Failed(error),
            (What::Completed { output }, None) => match published(&node.spec.verb, output.as_ref()) {
                Ok(Some(output)) => self.completed(&addr, output),
                Ok(None) => End::Completed(None),
                Err(error) => End::Failed(error),
            },
            (What::Failed { error }, None) => End::Failed(error.clone()),
            _ => End::Cancelled(Some(JobError::new("cancelled", "its job was cancelled"))),
        };
        self.end(&addr, how, fact.at)?;
        Ok(true)
    }

    /// A completion with an output: large ones lie outside the header.
    pub(super) fn completed(&mut self, addr: &Addr, output: Json) -> End {
        if output.as_str().len() > VALUE_BYTES {
            return End::Failed(too_large(output.as_str().len()));
        }
        // What an item gives goes outside in any case, with the item.
        let item = addr.owner().is_some_and(|(owner, _)| self.node(&owner).layer == Layer::Each);
        if item || output.as_str().len() <= super::INLINE_BYTES {
            return End::Completed(Some(Slot::Inline(output)));
        }
        let key = format!("s/{}", self.value_path(addr));
        End::Completed(Some(slot(key, output, &mut self.out.values)))
    }

    /// Ends a step, and tells what is around it.
    pub(super) fn end(&mut self, addr: &Addr, how: End, at: Ms) -> Result<(), NeedValues> {
        if let End::Failed(error) = &how
            && self.tries_again(addr, error)
        {
            return Ok(());
        }
        self.close(addr, how, at)?;
        self.after_end(addr)
    }

    /// Ends a step and nothing else.
    pub(super) fn close(&mut self, addr: &Addr, how: End, at: Ms) -> Result<(), NeedValues> {
        let node = self.node(addr);
        self.drop_timers_of(addr, node);
        let order = self.out.run.ended + 1;
        let Some(record) = self.record_mut(addr) else { return Ok(()) };
        // Of a step with a job the end of the job says whether it began.
        if record.is_active() && record.job.is_none() && record.order == 0 {
            record.order = order;
            self.out.run.ended = order;
        }
        let (event, error) = match how {
            End::Completed(output) => {
                let failed = self.failed_items(addr);
                if let Some(record) = self.record_mut(addr) {
                    record.output = output;
                    record.error = None;
                }
                (StepEvent::Complete, failed.map(told))
            }
            End::Failed(error) => (StepEvent::Fail, Some(told(error))),
            End::Cancelled(error) => (StepEvent::Cancel, error.map(told)),
            End::Skipped => (StepEvent::Skip, None),
        };
        let data = error.as_ref().map(ToString::to_string);
        if let (Some(record), Some(error)) = (self.record_mut(addr), error) {
            record.error = Some(error);
        }
        self.step_event(addr, event, data);
        if let Some(record) = self.record_mut(addr) {
            record.finished_at = Some(at);
        }
        self.note_undo(addr, node)?;
        // Of a list and a loop that are over nothing is needed but what still runs. Of a list that
        // failed its items are, for whoever tries it again.
        if let Some(record) = self.record_mut(addr) {
            let over = !record.is_alive();
            let kept = record.state != StepState::Completed || matches!(record.body.as_deref(), Some(Body::Frames(_)));
            if over && !kept {
                record.body = None;
            }
        }
        Ok(())
    }

    /// Looks at what the end of a step makes possible, or impossible.
    pub(super) fn after_end(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        let node = self.node(addr);
        let Some(record) = self.record(addr) else { return Ok(()) };
        let bad = is_bad(node, record).then(|| (record.state, record.error.clone()));
        for dependent in &node.dependents {
            self.agenda.push_back(Todo::Look(addr.beside(*dependent)));
        }
        let Some((owner, key)) = addr.owner() else {
            if let Some((_, error)) = bad {
                let error = error.unwrap_or_else(|| JobError::new("cancelled", "it was cancelled"));
                let message = format!("step `{}` failed: {}", node.spec.id, error.message);
                self.stop(JobError::new(error.class, message))?;
            }
            return Ok(());
        };
        if self.node(&owner).layer == Layer::Each {
            self.item_ended(&owner, key)?;
        }
        self.poke(owner);
        Ok(())
    }

    /// Something inside of a step has changed.
    fn poke(&mut self, addr: Addr) {
        self.agenda.push_back(match self.node(&addr).layer {
            Layer::Each => Todo::Fill(addr),
            Layer::Loop => Todo::Round(addr),
            Layer::Verb => Todo::Branches(addr),
        });
    }

    /// Something has ended inside of a step that had ended before: what is around that one may have
    /// waited for it.
    pub(super) fn poke_around(&mut self, addr: &Addr) {
        if let Some((owner, _)) = addr.owner().filter(|_| self.state(addr).has_ended()) {
            self.poke(owner);
        }
    }

    /// Ends a step that was only waiting for what is inside of it. Answers whether it has.
    pub(super) fn drained(&mut self, addr: &Addr) -> Result<bool, NeedValues> {
        let Some(record) = self.record(addr) else { return Ok(true) };
        let inside = record.frames().any(|(_, steps)| steps.iter().any(|step| step.is_alive()));
        let Some(stop) = record.stop.filter(|stop| stop.closes()) else { return Ok(false) };
        if !record.is_active() {
            return Ok(true);
        }
        if inside || matches!(record.body.as_deref(), Some(Body::Call(_))) {
            return Ok(true);
        }
        match stop {
            Stop::Failed | Stop::Expired => {
                let error = record.error.clone();
                let error = error.unwrap_or_else(|| JobError::new("step", "a step inside of it failed"));
                self.end(addr, End::Failed(error), self.now)?;
            }
            _ => self.end(addr, End::Cancelled(None), self.now)?,
        }
        Ok(true)
    }
}

/// What a step publishes of its job's result.
fn published(verb: &crate::workflow::spec::Verb, output: Option<&Json>) -> Result<Option<Json>, JobError> {
    let Some(output) = output.filter(|output| !output.is_null()) else { return Ok(None) };
    if output.as_str().len() > VALUE_BYTES {
        return Err(too_large(output.as_str().len()));
    }
    if let Some(Outputs::Names(names)) = verb.outputs()
        && let Value::Object(mut fields) = output.to_value()
        && fields.keys().any(|key| !names.contains(key))
    {
        fields.retain(|key, _| names.contains(key));
        return Ok(Some(Json::from_value(&Value::Object(fields))));
    }
    Ok(Some(output.clone()))
}

pub(super) fn too_large(bytes: usize) -> JobError {
    let (is, may) = (size(bytes as u64), size(VALUE_BYTES as u64));
    JobError::new("output", format!("an output of {is} is larger than {may}"))
}
