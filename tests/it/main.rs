//! The one integration binary. `cli` types commands; `store` holds every backend against the
//! contract; `simulation` plays the engine over a failing store; `torture` kills real processes;
//! `jobs` sees the features of the queue from outside; `server` asks over HTTP; `house` keeps the rules.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails loudly, waits for real processes, and is told its seed by the environment"
)]

mod alerts;
mod cli;
mod deploy;
mod examples;
mod handlers;
mod house;
mod jobs;
mod readme;
mod remote;
mod server;
mod servers;
mod simulation;
mod sqlite;
mod store;
mod torture;
#[cfg(feature = "otlp")]
mod traces;
