//! Workflows: manifest text → checked graph, expressions, and `advance`, the one function by which
//! a run moves. Pure: no clock, no randomness, no input or output; the caller brings the time, the
//! facts and the stored values, and commits what comes out.

pub mod advance;
pub mod command;
pub mod definition;
pub mod draw;
pub mod expr;
pub mod fact;
pub mod handler;
pub mod history;
pub mod input;
pub mod manifest;
pub mod outline;
pub mod record;
pub mod request;
pub mod rows;
pub mod run;
pub mod schema;
pub mod set;
pub mod shown;
pub mod simulate;
pub mod spec;

mod check;
mod graph;
mod handler_read;
mod http_read;
mod kinds_read;
mod read;
mod reference;
mod shell;
mod step_read;
mod verb_read;
mod workflow_read;

pub use advance::{Advanced, NeedValues, TIMEOUT_TIMER, Values, advance, enter, start, start_pinned};
pub use command::{BadCommand, Command, Program};
pub use definition::Definition;
pub use fact::{Fact, What};
pub use handler::{Batching, HandlerDef, How, PoolSpec};
pub use input::InputError;
pub use manifest::{Manifest, Parsed, parse, parse_whole};
pub use outline::{Outline, outline};
pub use record::{Body, Slot, StepRecord};
pub use reference::{Given, Reference};
pub use request::{Request, RequestBody};
pub use rows::{Row, rows};
pub use run::{Run, Wanted};
pub use simulate::{Failure, Script, SimulateError, Simulated, simulate};
pub use spec::Outputs;

pub use crate::domain::problem::{Problem, Problems};
use crate::domain::{Name, RunId, problem, yaml};

/// The key of a step, the same over all its attempts: for handlers that must not do a thing twice.
/// Expressions read it as `step.key`, commands as `$GOFLOW_STEP_KEY`.
pub fn step_key(run: RunId, step: &str) -> String {
    format!("{run}:{step}")
}

/// The job type of a step's own command. Its payload is a [`Command`]; a worker executes it only
/// for a job with a link to a run.
pub const RUN_KIND: &str = "goflow:run";

/// The job type of a step's own HTTP request. Its payload is a [`Request`]; sent only for a job with a
/// link to a run.
pub const HTTP_KIND: &str = "goflow:http";

/// Whether a job type is kept for goflow itself: nobody may enqueue or handle it.
pub fn is_reserved(kind: &Name) -> bool {
    kind.as_str().starts_with("goflow:")
}

#[cfg(test)]
mod simulate_tests;
#[cfg(test)]
mod tests;
