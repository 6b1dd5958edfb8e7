//! The console from outside: frames as text, the update as a table, and laws over any messages.

mod frames;
mod laws;
mod other_samples;
mod other_steps;
pub mod samples;
mod steps;
