//! How what was done is undone, the last first and one at a time, over all depths. What is to be
//! undone is noted, rendered, when a step ends: by then all it looks at is known, and what it was inside
//! of may be forgotten. What can no longer be undone is recorded as owed.

use super::{Addr, Advance, NeedValues, is_stale, told};
use crate::domain::event::Event;
use crate::domain::job::JobError;
use crate::domain::run::{RunEvent, RunState, StepEvent, StepState};
use crate::domain::{Epoch, Json, RunId};
use crate::workflow::fact::{Fact, What};
use crate::workflow::graph::{Layer, Node};
use crate::workflow::run::{UNDO_KEYS, UNDO_OWED, UndoEntry, UndoPart, UndoWhat};
use crate::workflow::spec::CompensateScope;

/// How much of the undo log lies in the header: entries, and bytes of their payloads.
const TOP_ENTRIES: usize = 64;
const TOP_BYTES: usize = 8 << 10;

impl Advance<'_> {
    /// Notes how a step that has just ended is undone.
    pub(super) fn note_undo(&mut self, addr: &Addr, node: &Node) -> Result<(), NeedValues> {
        let Some(compensate) = node.spec.compensate.as_ref().filter(|_| node.layer == Layer::Verb) else {
            return Ok(());
        };
        let Some(record) = self.record(addr) else { return Ok(()) };
        let due = match record.state {
            StepState::Completed => true,
            StepState::Failed | StepState::Cancelled => compensate.scope == CompensateScope::Attempted,
            _ => false,
        };
        // Without an order it never began.
        if !due || record.order == 0 || self.is_final(addr) {
            return Ok(());
        }
        let order = record.order;
        let what = match self.undo_payload(addr)? {
            Ok(payload) => UndoWhat::Job(payload),
            Err(error) => UndoWhat::Broken(error),
        };
        self.push_undo(addr, order, what);
        Ok(())
    }

    /// A run that a step called can compensate itself.
    pub(super) fn note_run(&mut self, addr: &Addr, run: RunId) {
        if self.node(addr).spec.compensate.is_none() && !self.is_final(addr) {
            let order = self.out.run.ended + 1;
            self.push_undo(addr, order, UndoWhat::Run(run));
        }
    }

    /// A run that a step called could not undo all that it did: that is owed here too.
    pub(super) fn note_owed_run(&mut self, addr: &Addr, run: RunId) {
        if !self.is_final(addr) {
            let (step, order) = (self.path(addr), self.out.run.ended + 1);
            self.out.run.owed.push(step.clone());
            self.out.run.undo.owed.push(UndoEntry { step, order, what: UndoWhat::Run(run), epoch: Epoch(0) });
        }
    }

    fn push_undo(&mut self, addr: &Addr, order: u32, what: UndoWhat) {
        let step = self.path(addr);
        let undo = &mut self.out.run.undo;
        undo.top.push(UndoEntry { step, order, what, epoch: Epoch(0) });
        let bytes: usize = undo.top.iter().map(|entry| payload_bytes(&entry.what)).sum();
        if undo.top.len() < TOP_ENTRIES && bytes < TOP_BYTES {
            return;
        }
        let part = UndoPart { below: undo.below, entries: std::mem::take(&mut undo.top) };
        let Ok(value) = serde_json::to_value(&part) else {
            // Its payloads are JSON and its keys are text: it can be written.
            debug_assert!(false, "an undo log that cannot be written");
            undo.top = part.entries;
            return;
        };
        self.out.values.push((format!("{UNDO_KEYS}{}", undo.next), Json::from_value(&value)));
        undo.below = Some(undo.next);
        undo.next += 1;
    }

    fn pop_undo(&mut self) -> Result<Option<UndoEntry>, NeedValues> {
        if let Some(entry) = self.out.run.undo.top.pop() {
            return Ok(Some(entry));
        }
        let Some(below) = self.out.run.undo.below else { return Ok(None) };
        let key = format!("{UNDO_KEYS}{below}");
        let Some(part) = self.stored(&key) else { return Err(NeedValues(vec![key])) };
        let undo = &mut self.out.run.undo;
        match serde_json::from_str::<UndoPart>(part.as_str()) {
            Ok(part) => (undo.below, undo.top) = (part.below, part.entries),
            Err(error) => {
                debug_assert!(false, "{error}");
                undo.below = None;
            }
        }
        Ok(self.out.run.undo.top.pop())
    }

    /// Nothing is under way and nothing may start: undoes the next thing, or ends the run.
    pub(super) fn unwind(&mut self) -> Result<bool, NeedValues> {
        let told = self.out.run.error.as_ref().map(ToString::to_string);
        let cancelled = self.out.run.cancel;
        let end = if cancelled.is_some() { RunState::Cancelled } else { RunState::Failed };
        let undoes = cancelled != Some(false) && !self.out.run.undo.is_empty();
        if undoes && matches!(self.out.run.state, RunState::Running | RunState::Paused) {
            self.run_event(RunEvent::Compensate, told);
        }
        if self.out.run.state != RunState::Compensating {
            let end = if self.tell_owed() { RunState::Failed } else { end };
            return self.conclude_as(end);
        }
        if self.out.run.undo.current.is_some() {
            return Ok(false);
        }
        while let Some(entry) = self.pop_undo()? {
            if self.undo(entry) {
                return Ok(false);
            }
        }
        self.close_undone();
        if self.tell_owed() {
            return self.conclude_as(RunState::Failed);
        }
        self.conclude_as(if cancelled.is_some() { RunState::Cancelled } else { RunState::Compensated })
    }

    /// Says which undos are owed, if any are: with them the run fails, whatever else it would have done.
    fn tell_owed(&mut self) -> bool {
        let run = &mut self.out.run;
        if run.owed.is_empty() {
            return false;
        }
        if run.cancel == Some(false) {
            // What nobody wants undone is not undone with what is owed either.
            (run.undo.top, run.undo.below) = (Vec::new(), None);
        }
        let owed = run.owed.join("`, `");
        run.cause = run.error.take();
        let why = run.cause.as_ref().map_or_else(|| "the run was cancelled".to_owned(), ToString::to_string);
        run.error = Some(JobError::new(UNDO_OWED, format!("the undo of `{owed}` is owed; {why}")));
        true
    }

    /// Tries what is owed again. Until it is owed once more, the error is what made the run fail.
    pub(super) fn take_up_owed(&mut self) {
        let run = &mut self.out.run;
        run.undo.take_up_owed();
        run.owed.clear();
        if run.cause.is_some() || run.cancel.is_some() {
            run.error = run.cause.take();
        }
    }

    /// Begins to undo one thing. Answers whether its end is to be waited for.
    fn undo(&mut self, entry: UndoEntry) -> bool {
        let here = self.undo_begins(&entry);
        match &entry.what {
            UndoWhat::Job(payload) => match self.undo_job(&entry, payload.clone()) {
                Some(job) => {
                    if let Some(record) = here.and_then(|addr| self.record_mut(&addr)) {
                        record.undo_job = Some(job.id);
                    }
                    self.out.jobs.push(job);
                }
                None => {
                    self.owe(entry, JobError::new("undo", "the definition does not say how it is undone"));
                    return false;
                }
            },
            UndoWhat::Broken(error) => {
                let error = error.clone();
                self.owe(entry, error);
                return false;
            }
            UndoWhat::Run(run) => self.out.tell.push((*run, Fact::of_run(What::Undo, self.now))),
        }
        self.out.run.undo.current = Some(entry);
        true
    }

    /// Tells that a step is being undone, and all that it is inside of. Gives where it is, if a record of
    /// it is left.
    fn undo_begins(&mut self, entry: &UndoEntry) -> Option<Addr> {
        let addr = self.parse(&entry.step);
        let mut around = addr.as_ref().and_then(Addr::owner).map(|(owner, _)| owner);
        let mut owners = Vec::new();
        while let Some(owner) = around {
            around = owner.owner().map(|(owner, _)| owner);
            owners.push(owner);
        }
        for owner in owners.into_iter().rev() {
            if matches!(self.state(&owner), StepState::Completed | StepState::Failed | StepState::Cancelled)
                && self.record(&owner).is_some()
            {
                self.step_event(&owner, StepEvent::Undo, None);
            }
        }
        let here = addr.filter(|addr| self.record(addr).is_some_and(|record| record.order == entry.order));
        match &here {
            Some(addr) => {
                if let Some(record) = self.record_mut(addr) {
                    (record.undo_error, record.undo_job) = (None, None);
                }
                self.step_event(addr, StepEvent::Undo, None);
            }
            None => self.tell_undo(entry, StepEvent::Undo, None),
        }
        here
    }

    /// What happens to a step of which no record is left.
    fn tell_undo(&mut self, entry: &UndoEntry, event: StepEvent, data: Option<String>) {
        let kind = super::tell::step_kind(event);
        self.tell(Event { step: Some(entry.step.clone()), data, ..Event::new(kind) });
    }

    /// The outcome of a job that undoes a step.
    pub(super) fn undo_ended(&mut self, fact: &Fact) -> bool {
        let Some(current) = self.out.run.undo.current.take_if(|current| {
            current.step == fact.step
                && matches!(current.what, UndoWhat::Job(_))
                && !is_stale(fact.epoch, current.epoch)
        }) else {
            return false;
        };
        let current = UndoEntry { epoch: fact.epoch, ..current };
        match &fact.what {
            What::Completed { .. } => self.undone(&current),
            What::Failed { error } => self.owe(current, error.clone()),
            _ => self.owe(current, JobError::new("cancelled", "its job was cancelled")),
        }
        true
    }

    /// A run that was to compensate itself has ended.
    pub(super) fn undo_of_run_ended(&mut self, run: RunId, state: RunState, error: Option<&JobError>) -> bool {
        let this = |current: &mut UndoEntry| matches!(current.what, UndoWhat::Run(undone) if undone == run);
        let Some(current) = self.out.run.undo.current.take_if(this) else { return false };
        match state {
            RunState::Compensated | RunState::Cancelled => self.undone(&current),
            _ => {
                let error = error.cloned().unwrap_or_else(|| JobError::new("undo", format!("its run ended {state}")));
                self.owe(current, error);
            }
        }
        true
    }

    fn undone(&mut self, entry: &UndoEntry) {
        match self.compensating(entry) {
            Some(addr) => {
                if let Some(record) = self.record_mut(&addr) {
                    record.undo_epoch = entry.epoch;
                }
                self.step_event(&addr, StepEvent::Undone, None);
            }
            None => self.tell_undo(entry, StepEvent::Undone, None),
        }
    }

    fn owe(&mut self, entry: UndoEntry, error: JobError) {
        let error = told(error);
        let data = Some(error.to_string());
        match self.compensating(&entry) {
            Some(addr) => {
                if let Some(record) = self.record_mut(&addr) {
                    record.undo_epoch = entry.epoch;
                    record.undo_error = Some(error);
                }
                self.step_event(&addr, StepEvent::UndoFailed, data);
            }
            None => self.tell_undo(&entry, StepEvent::UndoFailed, data),
        }
        self.out.run.owed.push(entry.step.clone());
        self.out.run.undo.owed.push(entry);
    }

    fn compensating(&self, entry: &UndoEntry) -> Option<Addr> {
        let addr = self.parse(&entry.step)?;
        let record = self.record(&addr)?;
        (record.order == entry.order && record.state == StepState::Compensating).then_some(addr)
    }

    /// Everything is undone that can be: so are the steps that it was inside of.
    fn close_undone(&mut self) {
        let mut found = Vec::new();
        let mut next: Vec<Addr> = (0..self.out.run.steps.len()).map(Addr::root).collect();
        while let Some(addr) = next.pop() {
            let Some(record) = self.record(&addr) else { continue };
            let inner = record.frames().flat_map(|(key, steps)| (0..steps.len()).map(move |pos| (key, pos)));
            next.extend(inner.map(|(key, pos)| addr.inner(key, pos)).collect::<Vec<_>>());
            if record.state == StepState::Compensating {
                found.push(addr);
            }
        }
        // The inner ones first.
        for addr in found.into_iter().rev() {
            let path = self.path(&addr);
            let inside =
                |owed: &String| owed.strip_prefix(&path).is_some_and(|rest| rest.starts_with(['/', '[', '#', '~']));
            let event = match self.out.run.owed.iter().any(inside) {
                true => StepEvent::UndoFailed,
                false => StepEvent::Undone,
            };
            // What a list said of its items was not why it is not undone.
            if let Some(record) = self.record_mut(&addr).filter(|_| event == StepEvent::UndoFailed) {
                record.error = None;
            }
            self.step_event(&addr, event, None);
        }
    }
}

fn payload_bytes(what: &UndoWhat) -> usize {
    match what {
        UndoWhat::Job(payload) => payload.as_str().len(),
        UndoWhat::Broken(error) => error.message.len(),
        UndoWhat::Run(_) => 16,
    }
}
