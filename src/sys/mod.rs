//! The machine around goflow: its configuration, clock, randomness, folders and processes. The only
//! layer that asks the operating system for them, and the one place that may need `unsafe`.

pub mod clock;
pub mod config;
pub mod editor;
pub mod entropy;
pub mod env;
pub mod host;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod paths;
pub mod process;
pub mod procfs;
pub mod secrets;
pub mod tls;
