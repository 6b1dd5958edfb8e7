//! Commands as a user types them: the binary in a hermetic place, one text an answer.

mod bad_input;
mod enqueue;
pub mod env;
mod generated;
mod jobs;
mod output;
mod redis;
mod run;
mod schedule;
mod signals;

pub use env::TestEnvironment;
