//! `advance`: a run and what happened to it → the next run and what to do about it.
//!
//! ```text
//!   facts ──→ each in its order: the step ends ─→ what waited for it starts, is skipped, or waits
//!                                     │
//!                                     └─ it failed, or the run is cancelled or out of time:
//!                                        nothing new starts → what runs is waited for
//!                                        → completed steps are undone, last first, one at a time
//! ```
//!
//! Facts are taken one by one, so that a batch and its facts singly end in the same run. A fact that
//! comes late (for a step that has ended, a run that is over, an unknown step) changes nothing.

mod render;
mod undo;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::definition::Definition;
use super::input::{self, InputError};
use super::run::{Fact, INLINE_BYTES, Run, Slot, StepRecord, What};
use super::spec::Outputs;
use crate::domain::event::{Event, EventKind};
use crate::domain::job::JobError;
use crate::domain::limits::VALUE_BYTES;
use crate::domain::run::{RunEvent, RunState, StepEvent, StepState};
use crate::domain::text::{clip, size};
use crate::domain::{Epoch, Job, JobId, Json, Ms, Name, RunId};

/// The timer of a run's own time limit.
pub const TIMEOUT_TIMER: &str = "timeout";

/// Of an error, what the header and the events keep; the job has the whole of it.
const TOLD_BYTES: usize = 1 << 10;

/// What becomes of a run, to be committed as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Advanced {
    /// The next header; its `rev` is one higher.
    pub run: Run,
    /// Jobs to enqueue, linked to their steps.
    pub jobs: Vec<Job>,
    /// Values to keep beside the header, by key; keys are of this run and never written twice.
    pub values: Vec<(String, Json)>,
    /// Timers to set, by key.
    pub timers: Vec<(String, Duration)>,
    /// Timers that have lost their meaning. One that fires all the same changes nothing.
    pub drop_timers: Vec<String>,
    /// Jobs whose end is awaited though nobody needs their result any more: cancel them, so that
    /// the run can end. The end of each must still come as a fact. May name jobs of this very advance:
    /// enqueue those first.
    pub cancel_jobs: Vec<JobId>,
    pub events: Vec<Event>,
    /// Facts that came late and changed nothing.
    pub ignored: u32,
}

/// Values that lie outside the header and are needed: load them and call again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("values of the run are not loaded: {}", .0.join(", "))]
pub struct NeedValues(pub Vec<String>);

/// Gives a stored value of the run by its key, if it is loaded.
pub type Values<'a> = &'a dyn Fn(&str) -> Option<Json>;

/// Begins a run: its header, and the jobs of the steps that wait for nothing.
///
/// # Errors
/// Every way in which the input is not what the definition takes.
pub fn start(def: &Definition, id: RunId, input: Json, now: Ms) -> Result<Advanced, InputError> {
    start_on(def, id, input, None, now)
}

/// The same, with the queue on which steps wait that name none.
///
/// # Errors
/// As [`start`].
pub fn start_on(
    def: &Definition,
    id: RunId,
    input: Json,
    queue: Option<Name>,
    now: Ms,
) -> Result<Advanced, InputError> {
    let input = input::check(def.spec().input.as_deref(), &input)?;
    let mut run = Run {
        id,
        workflow: def.name().clone(),
        version: def.hash().to_owned(),
        state: RunState::Pending,
        rev: 0,
        queue,
        input: Slot::Inline(Json::null()),
        steps: def.spec().steps.iter().map(|step| StepRecord::new(step.id.clone())).collect(),
        output: None,
        error: None,
        cancel: None,
        owed: Vec::new(),
        ended: 0,
        created_at: now,
        started_at: Some(now),
        finished_at: None,
    };
    let mut values = Vec::new();
    run.input = slot("i".to_owned(), input, &mut values);
    let mut advance = Advance::new(def, run, now, &|_| None);
    advance.out.values = values;
    advance.run_event(RunEvent::Start, None);
    if let Some(limit) = def.spec().timeout {
        advance.out.timers.push((TIMEOUT_TIMER.to_owned(), limit));
    }
    let roots = (0..def.spec().steps.len()).filter(|at| def.step(*at).1.needs.is_empty()).collect();
    // Nothing was stored before, so nothing can be missing.
    advance.settle(roots).map_err(|missing| InputError(vec![missing.to_string()]))?;
    Ok(advance.out)
}

/// Moves a run by what happened. `def` must be the version the run started with. Costs the size of
/// the header and what the started steps look at; the same arguments give the same answer.
///
/// # Errors
/// [`NeedValues`] if an expression looks at a value that `values` does not give.
pub fn advance(
    def: &Definition,
    run: &Run,
    facts: &[Fact],
    now: Ms,
    values: Values<'_>,
) -> Result<Advanced, NeedValues> {
    debug_assert_eq!(run.version, def.hash(), "a run keeps the version it started with");
    let mut advance = Advance::new(def, run.clone(), now, values);
    let mut missing = BTreeSet::new();
    for fact in facts {
        // With a value missing the outcome is of no use, but what else is missing is told at once.
        if let Err(NeedValues(keys)) = advance.take(fact) {
            missing.extend(keys);
        }
    }
    if missing.is_empty() { Ok(advance.out) } else { Err(NeedValues(missing.into_iter().collect())) }
}

struct Advance<'a> {
    def: &'a Definition,
    now: Ms,
    values: Values<'a>,
    out: Advanced,
    /// Steps whose job is under way.
    active: usize,
    /// Steps that have not started.
    pending: usize,
}

/// What a step that has not started is to do.
enum Ready {
    Start,
    Skip,
    Wait,
}

impl<'a> Advance<'a> {
    fn new(def: &'a Definition, mut run: Run, now: Ms, values: Values<'a>) -> Advance<'a> {
        run.rev += 1;
        let active = run.steps.iter().filter(|step| step.is_active()).count();
        let pending = run.steps.iter().filter(|step| step.state == StepState::Pending).count();
        let out = Advanced {
            run,
            jobs: Vec::new(),
            values: Vec::new(),
            timers: Vec::new(),
            drop_timers: Vec::new(),
            cancel_jobs: Vec::new(),
            events: Vec::new(),
            ignored: 0,
        };
        Advance { def, now, values, out, active, pending }
    }

    fn take(&mut self, fact: &Fact) -> Result<(), NeedValues> {
        let mut next = BTreeSet::new();
        let taken = !self.out.run.state.is_terminal()
            && match &fact.what {
                What::Timer { key } => self.timer(key),
                What::Cancel { compensate } => self.cancel(*compensate),
                _ if fact.undo => self.undo_ended(fact),
                _ => self.step_ended(fact, &mut next),
            };
        if !taken {
            self.out.ignored += 1;
            return Ok(());
        }
        self.settle(next)
    }

    fn step_ended(&mut self, fact: &Fact, next: &mut BTreeSet<usize>) -> bool {
        let Some(at) = self.def.index(&fact.step) else { return false };
        let record = &mut self.out.run.steps[at];
        if !record.is_active() || is_stale(fact.epoch, record.epoch) {
            return false;
        }
        record.epoch = fact.epoch;
        record.attempt = fact.attempt;
        if began(fact) {
            self.out.run.ended += 1;
            record.order = self.out.run.ended;
        }
        match &fact.what {
            What::Completed { output } => match self.published(at, output.as_ref()) {
                Ok(output) => {
                    let key = format!("s/{}", fact.step);
                    let output = output.map(|output| slot(key, output, &mut self.out.values));
                    self.out.run.steps[at].output = output;
                    self.step_event(at, StepEvent::Complete, None);
                    next.extend(&self.def.step(at).1.dependents);
                }
                Err(error) => self.fail(at, error, next),
            },
            What::Failed { error } => self.fail(at, error.clone(), next),
            _ => {
                let error = JobError::new("cancelled", "its job was cancelled");
                self.end_badly(at, StepEvent::Cancel, error, next);
            }
        }
        self.out.run.steps[at].finished_at = Some(fact.at);
        true
    }

    /// What a step publishes of its job's result.
    fn published(&self, at: usize, output: Option<&Json>) -> Result<Option<Json>, JobError> {
        let Some(output) = output.filter(|output| !output.is_null()) else { return Ok(None) };
        if output.as_str().len() > VALUE_BYTES {
            let (is, may) = (size(output.as_str().len() as u64), size(VALUE_BYTES as u64));
            return Err(JobError::new("output", format!("an output of {is} is larger than {may}")));
        }
        if let Some(Outputs::Names(names)) = self.def.step(at).0.verb.outputs()
            && let Value::Object(mut fields) = output.to_value()
            && fields.keys().any(|key| !names.contains(key))
        {
            fields.retain(|key, _| names.contains(key));
            return Ok(Some(Json::from_value(&Value::Object(fields))));
        }
        Ok(Some(output.clone()))
    }

    fn fail(&mut self, at: usize, error: JobError, next: &mut BTreeSet<usize>) {
        self.end_badly(at, StepEvent::Fail, error, next);
    }

    /// A step ended without completing: the run goes on or stops, as the step says.
    fn end_badly(&mut self, at: usize, event: StepEvent, error: JobError, next: &mut BTreeSet<usize>) {
        let (spec, step) = self.def.step(at);
        let error = told(error);
        self.out.run.steps[at].error = Some(error.clone());
        self.step_event(at, event, Some(error.to_string()));
        if spec.continue_on_error {
            next.extend(&step.dependents);
        } else {
            self.stop(JobError::new(error.class.clone(), format!("step `{}` failed: {}", spec.id, error.message)));
        }
    }

    /// Does what has become possible: looks at the steps in `next` and at all that follow from them.
    fn settle(&mut self, mut next: BTreeSet<usize>) -> Result<(), NeedValues> {
        let mut missing = Vec::new();
        while !self.out.run.is_stopping() {
            let Some(at) = next.pop_first() else { break };
            match self.ready(at) {
                Ready::Wait => {}
                Ready::Skip => self.skip(at, &mut next),
                Ready::Start => {
                    if let Err(NeedValues(keys)) = self.start_step(at, &mut next) {
                        missing.extend(keys);
                    }
                }
            }
        }
        if !missing.is_empty() {
            return Err(NeedValues(missing));
        }
        if !self.out.run.is_stopping() && self.active == 0 && self.pending == 0 {
            self.complete()?;
        }
        if self.out.run.is_stopping() && self.active == 0 && !self.out.run.state.is_terminal() {
            self.unwind()?;
        }
        Ok(())
    }

    /// Whether a step may start: every need has ended, none failed, and at least one completed.
    fn ready(&self, at: usize) -> Ready {
        if self.out.run.steps[at].state != StepState::Pending {
            return Ready::Wait;
        }
        let needs = &self.def.step(at).1.needs;
        let mut goes_on = needs.is_empty();
        for need in needs {
            match self.out.run.steps[*need].state {
                StepState::Completed => goes_on = true,
                StepState::Skipped => {}
                state if state.has_ended() && self.def.step(*need).0.continue_on_error => goes_on = true,
                _ => return Ready::Wait,
            }
        }
        if goes_on { Ready::Start } else { Ready::Skip }
    }

    fn skip(&mut self, at: usize, next: &mut BTreeSet<usize>) {
        self.step_event(at, StepEvent::Skip, None);
        next.extend(&self.def.step(at).1.dependents);
    }

    fn start_step(&mut self, at: usize, next: &mut BTreeSet<usize>) -> Result<(), NeedValues> {
        match self.condition(at)? {
            Ok(true) => {}
            Ok(false) => {
                self.skip(at, next);
                return Ok(());
            }
            Err(error) => {
                self.fail(at, error, next);
                return Ok(());
            }
        }
        match self.job(at, false)? {
            Ok(job) => {
                self.out.run.steps[at].job = Some(job.id);
                self.out.jobs.push(job);
                self.step_event(at, StepEvent::Start, None);
            }
            Err(error) => self.fail(at, error, next),
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), NeedValues> {
        match self.output()? {
            Ok(output) => {
                let output = output.map(|output| slot("o".to_owned(), output, &mut self.out.values));
                self.out.run.output = output;
                self.drop_timeout();
                self.run_event(RunEvent::Complete, None);
            }
            Err(error) => self.stop(error),
        }
        Ok(())
    }

    /// Moves a step by the table and tells it.
    fn step_event(&mut self, at: usize, event: StepEvent, data: Option<String>) {
        let record = &mut self.out.run.steps[at];
        let next = match record.state.next(event) {
            Ok(next) => next,
            Err(illegal) => {
                debug_assert!(false, "{illegal}");
                return;
            }
        };
        let was_active = record.is_active();
        let was_pending = record.state == StepState::Pending;
        record.state = next;
        match event {
            StepEvent::Start => record.started_at = Some(self.now),
            StepEvent::Complete | StepEvent::Fail | StepEvent::Cancel | StepEvent::Skip => {
                record.finished_at = Some(self.now);
            }
            _ => {}
        }
        self.active = self.active + usize::from(record.is_active()) - usize::from(was_active);
        self.pending -= usize::from(was_pending);
        let undo = matches!(event, StepEvent::Undo | StepEvent::Undone | StepEvent::UndoFailed);
        let (job, id) = (if undo { record.undo_job } else { record.job }, record.id.clone());
        let attempt = (record.attempt > 0 && was_active).then_some(record.attempt);
        let told = Event { job, step: Some(id), attempt, data, ..Event::new(step_kind(event)) };
        self.tell(told);
    }

    /// Moves the run by the table and tells it.
    fn run_event(&mut self, event: RunEvent, data: Option<String>) {
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

    fn tell(&mut self, event: Event) {
        let data = event.data.map(|text| clip(&text, TOLD_BYTES).into_owned());
        self.out.events.push(Event { run: Some(self.out.run.id), data, ..event });
    }
}

/// An error as the header keeps it.
fn told(error: JobError) -> JobError {
    JobError { message: clip(&error.message, TOLD_BYTES).into_owned(), ..error }
}

/// Whether the work had begun that the fact says is over: a job that nobody leased, or nobody could
/// handle, has done nothing that could be undone.
fn began(fact: &Fact) -> bool {
    match &fact.what {
        What::Cancelled => fact.epoch != Epoch(0),
        What::Failed { error } => error.class != "no_handler",
        _ => true,
    }
}

/// Whether a fact's lease is not newer than one already taken; 0 means unknown.
fn is_stale(epoch: Epoch, taken: Epoch) -> bool {
    epoch != Epoch(0) && epoch <= taken
}

/// Keeps a value in the header if it is small, else beside it.
fn slot(key: String, value: Json, values: &mut Vec<(String, Json)>) -> Slot {
    if value.as_str().len() <= INLINE_BYTES {
        return Slot::Inline(value);
    }
    let size = value.as_str().len() as u64;
    values.push((key.clone(), value));
    Slot::Stored { key, size }
}

fn step_kind(event: StepEvent) -> EventKind {
    match event {
        StepEvent::Start | StepEvent::Wait | StepEvent::Retry => EventKind::StepStarted,
        StepEvent::Complete => EventKind::StepCompleted,
        StepEvent::Fail => EventKind::StepFailed,
        StepEvent::Skip => EventKind::StepSkipped,
        StepEvent::Cancel => EventKind::StepCancelled,
        StepEvent::Undo => EventKind::StepCompensating,
        StepEvent::Undone => EventKind::StepCompensated,
        StepEvent::UndoFailed => EventKind::StepUndoFailed,
    }
}

fn run_kind(event: RunEvent) -> EventKind {
    match event {
        RunEvent::Start | RunEvent::Pause | RunEvent::Resume => EventKind::RunStarted,
        RunEvent::Complete => EventKind::RunCompleted,
        RunEvent::Fail | RunEvent::Owe => EventKind::RunFailed,
        RunEvent::Compensate => EventKind::RunCompensating,
        RunEvent::Undone => EventKind::RunCompensated,
        RunEvent::Cancel => EventKind::RunCancelled,
    }
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
