//! goflow: background jobs and durable workflows from one binary.
//!
//! The map, in layer order; a module uses lower layers only, never a neighbour (a test keeps this).

pub mod domain; // L0 nouns and laws

pub mod sys; // L1 the machine: configuration, clock, entropy, paths
pub mod workflow; // L1 manifest text to checked graph, expressions, advance

pub mod exec; // L2 does one piece of work
pub mod store; // L2 the only place that knows a database

pub mod runs; // L3 the advance of runs over a store

pub mod api; // L4 the operator's verbs and wire types
pub mod engine; // L4 the loops: claim, run, settle

pub mod library; // L5 what another program uses: a client, and a worker of Rust functions

pub mod server; // L5 routes to the operator's verbs
pub mod tui; // L6 `goflow top`: state, update, view, keys, the data task

pub mod cli; // L7 the commands

pub use library::{Batching, Client, Error, Failure, Held, Job, Lock, Semaphore, Transaction, Worker};
