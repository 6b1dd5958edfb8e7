//! goflow: background jobs and durable workflows from one binary.
//!
//! The map, in layer order; a module uses the ones above it only (a test keeps this).

pub mod api; // L3 the operator's verbs and wire types
pub mod cli;
pub mod domain; // L0 nouns and laws
pub mod store; // L2 the only place that knows a database
pub mod sys; // L1 the machine: configuration, clock, entropy, paths // L6 the commands
