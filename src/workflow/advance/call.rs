//! Sub-workflows: a step that is done by another run on the same shard, in the version that was
//! pinned when the root began. The child tells its end as a fact.

use super::end::End;
use super::render::job_number;
use super::{Addr, Advance, NeedValues};
use crate::domain::job::JobError;
use crate::domain::run::{RunState, StepEvent};
use crate::domain::{Json, RunId};
use crate::workflow::fact::{Fact, What};
use crate::workflow::record::{Body, Slot, Stop};
use crate::workflow::run::{Parent, Run, UNDO_OWED};
use crate::workflow::spec::Verb;

/// Runs below runs; a workflow that calls itself for ever ends here.
const DEPTH: u8 = 16;

impl Advance<'_> {
    pub(super) fn begin_call(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        let node = self.node(addr);
        let Verb::Call { workflow, with } = &node.spec.verb else { return Ok(()) };
        let depth = self.out.run.parent.as_ref().map_or(0, |parent| parent.depth) + 1;
        let scope = self.scope(&node.work, &addr.hops, Some(addr))?;
        let input = with.as_ref().map(|with| with.render(&scope)).transpose();
        let wrong = match (self.out.run.pins.get(workflow), &input) {
            (None, _) => Some(JobError::new("no_workflow", format!("there is no workflow `{workflow}`"))),
            (_, Err(error)) => Some(super::render::expression("with", error)),
            _ if depth > DEPTH => Some(JobError::new("depth", format!("runs call runs more than {DEPTH} deep"))),
            _ => None,
        };
        self.step_event(addr, StepEvent::Start, None);
        if let Some(error) = wrong {
            return self.end(addr, End::Failed(error), self.now);
        }
        let version = self.out.run.pins.get(workflow).cloned().unwrap_or_default();
        let input = Json::from_value(&input.ok().flatten().unwrap_or_default());
        let path = self.path(addr);
        let attempt = self.record(addr).map_or(0, |record| record.attempt);
        let life = u64::from(self.out.run.life);
        let number = job_number(self.out.run.id, &path, false, life << 32 | u64::from(attempt));
        let id = RunId::from_parts(self.now, self.out.run.id.shard(), number);
        let mut child = Run::pending(id, workflow.clone(), version, Slot::Inline(input), self.now);
        child.rev = 1;
        child.parent = Some(Parent { run: self.out.run.id, step: path, depth });
        child.pins = self.out.run.pins.clone();
        child.above = self.out.run.above.clone();
        child.above.extend(self.out.run.gate_key());
        child.queue = self.out.run.queue.clone();
        if let Some(record) = self.record_mut(addr) {
            record.body = Some(Box::new(Body::Call(id)));
        }
        self.out.runs.push(child);
        self.out.tell.push((id, Fact::of_run(What::Go, self.now)));
        self.set_attempt_timer(addr, node);
        Ok(())
    }

    /// A run that a step called has ended, or one that was undone.
    pub(super) fn child_ended(&mut self, fact: &Fact) -> Result<bool, NeedValues> {
        let What::Ended { run, state, output, error, undoable } = &fact.what else { return Ok(false) };
        if self.undo_of_run_ended(*run, *state, error.as_ref()) {
            return Ok(true);
        }
        let Some(addr) = self.parse(&fact.step) else { return Ok(false) };
        let Some(record) = self.record_mut(&addr) else { return Ok(false) };
        if !record.is_active() || !matches!(record.body.as_deref(), Some(Body::Call(child)) if child == run) {
            return Ok(false);
        }
        // Kept only where the child can be taken up again.
        let owes = *state == RunState::Failed && error.as_ref().is_some_and(|error| error.class == UNDO_OWED);
        let again = *state == RunState::Failed && !owes;
        let stop = record.stop;
        let expired = record.error.take().filter(|_| matches!(stop, Some(Stop::Failed | Stop::Expired)));
        if !again {
            record.body = None;
        }
        let workflow = match &self.node(&addr).spec.verb {
            Verb::Call { workflow, .. } => workflow.clone(),
            _ => return Ok(false),
        };
        if *state == RunState::Completed && *undoable {
            self.note_run(&addr, *run);
        }
        if owes {
            self.note_owed_run(&addr, *run);
        }
        let how = match (state, expired) {
            // It was not let in under its key, and never began.
            (RunState::Cancelled, None) if error.as_ref().is_some_and(|error| error.class == "conflict") => {
                End::Failed(error.clone().unwrap_or_else(|| JobError::new("conflict", "it was not let in")))
            }
            (RunState::Completed, None) => match output {
                Some(output) => self.completed(&addr, output.clone()),
                None => End::Completed(None),
            },
            (_, Some(error)) => End::Failed(error),
            (RunState::Cancelled, None) if stop.is_some_and(Stop::is_neutral) => End::Cancelled(None),
            (state, None) => {
                let class = error.as_ref().map_or_else(|| state.to_string(), |error| error.class.clone());
                let why = error.as_ref().map_or_else(String::new, |error| format!(": {}", error.message));
                End::Failed(JobError::new(class, format!("the run of `{workflow}` ended {state}{why}")))
            }
        };
        if owes {
            // Not tried again on top of what is left of the first attempt.
            self.close(&addr, how, fact.at)?;
            self.after_end(&addr)?;
        } else {
            self.end(&addr, how, fact.at)?;
        }
        Ok(true)
    }

    /// Tells every run that a step has called and waits for.
    pub(super) fn tell_children(&mut self, what: &What) {
        let mut next: Vec<Addr> = (0..self.out.run.steps.len()).rev().map(Addr::root).collect();
        while let Some(addr) = next.pop() {
            let Some(record) = self.record(&addr) else { continue };
            let inner = record.frames().flat_map(|(key, steps)| (0..steps.len()).map(move |pos| (key, pos)));
            next.extend(inner.map(|(key, pos)| addr.inner(key, pos)).collect::<Vec<_>>().into_iter().rev());
            if let Some(run) = self.called(&addr).filter(|_| record.is_active()) {
                self.out.tell.push((run, Fact::of_run(what.clone(), self.now)));
            }
        }
    }
}
