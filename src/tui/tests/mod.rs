//! The console from outside: frames as text, the update as a table, and laws over any messages.

mod frames;
mod laws;
mod more_steps;
mod other_samples;
mod other_steps;
mod playing;
pub mod samples;
mod steps;
