//! The server from outside: real processes, asked over real connections by a client that does nothing
//! on its own.

mod client;
mod doors;
mod skeleton;
mod webhooks;

pub use client::{Reply, Site};
