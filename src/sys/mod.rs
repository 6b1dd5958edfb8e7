//! The machine around goflow: its configuration, clock, randomness and folders. The only layer that
//! asks the operating system for them; everybody else is given what is found here.

pub mod clock;
pub mod config;
pub mod entropy;
pub mod env;
pub mod paths;
//! The machine: what goflow asks of the operating system, and the one place that may need `unsafe`.
pub mod process;
pub mod procfs;
