//! Workflows: manifest text → checked graph, expressions, and `advance`, the one function by which
//! a run moves. Pure: no clock, no randomness, no input or output; the caller brings the time, the
//! facts and the stored values, and commits what comes out.

pub mod advance;
pub mod definition;
pub mod expr;
pub mod handler;
pub mod history;
pub mod input;
pub mod manifest;
pub mod problem;
pub mod run;
pub mod spec;

mod check;
mod read;
mod shell;
mod yaml;

pub use advance::{Advanced, NeedValues, TIMEOUT_TIMER, Values, advance, start, start_on};
pub use definition::Definition;
pub use handler::{Command, HandlerDef, Program};
pub use input::InputError;
pub use manifest::{Manifest, parse};
pub use problem::{Problem, Problems};
pub use run::{Fact, Run, Slot, StepRecord, What};
pub use spec::Outputs;

use crate::domain::{Name, RunId};

/// The key of a step, the same over all its attempts: for handlers that must not do a thing twice.
/// Expressions read it as `step.key`, commands as `$GOFLOW_STEP_KEY`.
pub fn step_key(run: RunId, step: &str) -> String {
    format!("{run}:{step}")
}

/// The job type of a step's own command. Its payload is a [`Command`]; a worker executes it only
/// for a job with a link to a run.
pub const RUN_KIND: &str = "goflow:run";

/// Whether a job type is kept for goflow itself: nobody may enqueue or handle it.
pub fn is_reserved(kind: &Name) -> bool {
    kind.as_str().starts_with("goflow:")
}

#[cfg(test)]
mod tests;
