//! goflow: background jobs and durable workflows from one binary.
//!
//! The map, in layer order; a module uses the ones above it only (a test keeps this).

pub mod domain; // L0 nouns and laws
pub mod engine;
pub mod store; // L2 the only place that knows a database // L3 the loops
