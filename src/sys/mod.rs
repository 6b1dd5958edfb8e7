//! The machine: what goflow asks of the operating system, and the one place that may need `unsafe`.

pub mod process;
pub mod procfs;
