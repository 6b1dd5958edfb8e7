//! Commands as a user types them: the binary in a hermetic place, one text an answer.

mod acting;
mod bad_input;
mod console;
mod console_runs;
mod console_scene;
mod console_shards;
mod contract;
mod enqueue;
pub mod env;
mod generated;
mod jobs;
mod locks;
mod manifests;
mod output;
mod redis;
mod replaced;
mod run;
mod schedule;
mod secrets;
mod shards;
mod signals;
mod terminal;
mod verbs;
mod watching;
mod workflows;

pub use env::TestEnvironment;
