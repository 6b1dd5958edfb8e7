//! goflow: background jobs and durable workflows from one binary.
//!
//! The map, in layer order; a module uses the ones above it only (a test keeps this).

pub mod domain; // L0 nouns and laws
pub mod workflow; // L1 manifest text to checked graph; advance
