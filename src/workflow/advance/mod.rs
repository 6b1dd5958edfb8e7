//! `advance`: a run and what happened to it → the next run and what to do about it.
//!
//! ```text
//!   facts ──→ each in its order: a step ends ─→ what waited for it starts, is skipped, or waits
//!                                    │        ─→ with the last step inside of a step, that step ends
//!                                    └─ it failed, or the run is cancelled or out of time:
//!                                       nothing new starts → what runs is waited for
//!                                       → completed steps are undone, last first, one at a time
//!                                                                      → `finally` → the end
//! ```
//!
//! Facts are taken one by one, so that a batch and its facts singly end in the same run. A fact that
//! comes late (for a step that has ended, a run that is over, an unknown step) changes nothing.

mod begin;
mod branches;
mod call;
mod control;
mod each;
mod end;
mod finish;
mod halt;
pub mod place;
mod render;
mod repeat;
mod scope;
mod tell;
mod timers;
mod undo;
mod wait;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::definition::Definition;
use super::fact::{Fact, What};
use super::input::{self, InputError};
use super::record::{Slot, StepRecord};
use super::run::{INLINE_BYTES, Run};
use crate::domain::event::{Event, EventKind};
use crate::domain::job::JobError;
use crate::domain::run::RunState;
use crate::domain::text::clip;
use crate::domain::{Epoch, Job, JobId, Json, Ms, Name, RunId};
use place::Addr;

/// The timer of a run's own time limit.
pub const TIMEOUT_TIMER: &str = "timeout";
/// The timer by which a fact that has done enough goes on.
const MORE_TIMER: &str = "more";

/// Of an error, what the header and the events keep; the job has the whole of it.
const TOLD_BYTES: usize = 1 << 10;
/// Items and rounds that one fact may start. Counted a fact and not an advance, so that a batch
/// equals its facts.
const BUDGET: usize = 1_000;

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
    /// Runs to create on the same shard; each waits for its [`What::Go`], which is among `tell`.
    pub runs: Vec<Run>,
    /// Facts for the inboxes of other runs on the same shard, those just created among them.
    pub tell: Vec<(RunId, Fact)>,
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

/// Begins a run: its header, and the jobs of the steps that wait for nothing. A run of a workflow with
/// a concurrency key is pending, under that key, until it is told [`What::Go`].
///
/// # Errors
/// Every way in which the input is not what the definition takes.
pub fn start(def: &Definition, id: RunId, input: Json, now: Ms) -> Result<Advanced, InputError> {
    start_pinned(def, id, input, now, BTreeMap::new(), None)
}

/// As [`start`], of a workflow that calls others: `pins` gives the version of each workflow that it
/// or they may call, `queue` where steps wait that name none.
///
/// # Errors
/// As [`start`].
pub fn start_pinned(
    def: &Definition,
    id: RunId,
    input: Json,
    now: Ms,
    pins: BTreeMap<Name, String>,
    queue: Option<Name>,
) -> Result<Advanced, InputError> {
    let input = input::check(def.spec().input.as_deref(), &input)?;
    let mut run = Run::pending(id, def.name().clone(), def.hash().to_owned(), Slot::Inline(Json::null()), now);
    run.steps = records(def);
    run.pins = pins;
    run.queue = queue;
    run.key = render::concurrency_key(def, &input)?;
    let mut values = Vec::new();
    run.input = slot("i".to_owned(), input, &mut values);
    let waits = run.key.clone();
    let mut advance = Advance::new(def, run, now, &|_| None);
    advance.out.values = values;
    if let Some(key) = waits {
        advance.tell(Event { data: Some(key), ..Event::new(EventKind::RunPending) });
    } else {
        advance.begin_run();
        // Nothing was stored before, so nothing can be missing.
        advance.settle().map_err(|missing| InputError(vec![missing.to_string()]))?;
    }
    Ok(advance.out)
}

/// Puts a run that another one calls under the concurrency key of its workflow, `def`. It holds the
/// place of a run above it that has the same key: else it would wait for that one for ever.
pub fn enter(def: &Definition, run: &mut Run) {
    let Slot::Inline(input) = &run.input else { return };
    // With an input or a key that is wrong it fails as soon as it begins.
    let Ok(input) = input::check(def.spec().input.as_deref(), input) else { return };
    run.key = render::concurrency_key(def, &input).ok().flatten();
    if run.gate_key().is_some_and(|key| run.above.contains(&key)) {
        run.key = None;
    }
}

fn records(def: &Definition) -> Vec<StepRecord> {
    let spec = def.spec();
    spec.steps.iter().chain(&spec.finally).map(|step| StepRecord::new(step.id.clone())).collect()
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

/// Something to look at before the fact at hand is done with.
#[derive(Clone, Debug, PartialEq)]
enum Todo {
    /// A step that may be able to start.
    Look(Addr),
    /// A step with branches, one of which may be over.
    Branches(Addr),
    /// A `foreach` that may have room for another item, or be over.
    Fill(Addr),
    /// A loop whose round may be over.
    Round(Addr),
}

struct Advance<'a> {
    def: &'a Definition,
    now: Ms,
    values: Values<'a>,
    out: Advanced,
    agenda: VecDeque<Todo>,
    /// Items and rounds that the fact at hand may still start.
    budget: usize,
    /// Chunks of items that were looked into.
    chunks: RefCell<BTreeMap<String, Rc<serde_json::Value>>>,
}

impl<'a> Advance<'a> {
    fn new(def: &'a Definition, mut run: Run, now: Ms, values: Values<'a>) -> Advance<'a> {
        run.rev += 1;
        let out = Advanced {
            run,
            jobs: Vec::new(),
            values: Vec::new(),
            timers: Vec::new(),
            drop_timers: Vec::new(),
            cancel_jobs: Vec::new(),
            runs: Vec::new(),
            tell: Vec::new(),
            events: Vec::new(),
            ignored: 0,
        };
        Advance { def, now, values, out, agenda: VecDeque::new(), budget: BUDGET, chunks: RefCell::default() }
    }

    fn take(&mut self, fact: &Fact) -> Result<(), NeedValues> {
        self.budget = BUDGET;
        let taken = match &fact.what {
            _ if fact.key.as_ref().is_some_and(|key| !self.hears(key)) => false,
            What::Retry => self.retry(),
            What::Undo => self.undo_run()?,
            What::Signal { key: Some(key), .. } if !self.hears(key) => false,
            What::Signal { name, data, .. } => self.signal(name, data, fact.at)?,
            What::Answer { approved, by, comment } => {
                self.answer(&fact.step, *approved, by, comment.as_deref(), fact.at)?
            }
            _ if self.out.run.state.is_terminal() => false,
            What::Go => self.go()?,
            What::Timer { key } => self.timer(key, fact.at)?,
            What::Cancel { compensate } => self.cancel(*compensate)?,
            What::Pause => self.pause(),
            What::Resume => self.resume()?,
            What::Ended { .. } => self.child_ended(fact)?,
            What::Completed { .. } | What::Failed { .. } | What::Cancelled if fact.undo => self.undo_ended(fact),
            What::Completed { .. } | What::Failed { .. } | What::Cancelled => self.job_ended(fact)?,
        };
        if !taken {
            self.out.ignored += 1;
            return Ok(());
        }
        self.settle()
    }

    /// Does what has become possible, and all that follows from it.
    fn settle(&mut self) -> Result<(), NeedValues> {
        loop {
            let mut missing = Vec::new();
            while let Some(todo) = self.agenda.pop_front() {
                let done = match &todo {
                    Todo::Look(addr) => self.look(addr),
                    Todo::Branches(addr) => self.check_branches(addr),
                    Todo::Fill(addr) => self.fill(addr),
                    Todo::Round(addr) => self.check_round(addr),
                };
                if let Err(NeedValues(keys)) = done {
                    missing.extend(keys);
                }
            }
            if !missing.is_empty() {
                return Err(NeedValues(missing));
            }
            if !self.conclude()? {
                return Ok(());
            }
        }
    }

    /// Whether a step may start where it is, as far as what is around it goes.
    fn may_start(&self, addr: &Addr) -> bool {
        let run = &self.out.run;
        if run.is_held() || run.state == RunState::Pending {
            return false;
        }
        let phase = match self.is_final(addr) {
            true => run.outcome.is_some(),
            false => run.outcome.is_none() && !run.is_stopping(),
        };
        let open = |owner: &StepRecord| owner.stop.is_none_or(|stop| !stop.closes());
        phase && addr.owner().is_none_or(|(owner, _)| self.record(&owner).is_some_and(open))
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

#[cfg(test)]
mod calls;
#[cfg(test)]
mod constructs;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod nested_laws;
#[cfg(test)]
mod stops;
#[cfg(test)]
pub(super) mod tests;
