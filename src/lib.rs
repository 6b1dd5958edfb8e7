//! goflow: background jobs and durable workflows from one binary.
//!
//! The map, in layer order; a module uses the ones above it only (a test keeps this).

pub mod domain; // L0 nouns and laws
pub mod sys; // L1 the machine: processes

pub mod exec; // L2 does one piece of work: a command or a built-in
