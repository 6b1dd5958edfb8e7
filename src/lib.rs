//! goflow: background jobs and durable workflows from one binary.
//!
//! The map, in layer order; a module uses the ones above it only (a test keeps this).

// L0: nouns and laws.
pub mod domain;

// L1: the machine; manifests, expressions and the pure engine of runs.
pub mod sys;
pub mod workflow;

// L2: the only place that knows a database; doing one piece of work.
pub mod exec;
pub mod store;

// L3: the operator's verbs and wire types; the loops.
pub mod api;
pub mod engine;

// L6: the commands.
pub mod cli;
