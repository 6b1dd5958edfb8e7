//! The server from outside: real processes, asked over real connections by a client that does nothing
//! on its own.

mod again;
mod client;
mod doors;
mod metrics;
mod refused;
mod replaced;
mod skeleton;
mod v1;
mod webhooks;

pub use client::{Reply, Site};
