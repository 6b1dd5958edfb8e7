//! The console from outside: frames as text, the update as a table, and laws over any messages.

mod frames;
mod laws;
pub mod samples;
mod steps;
