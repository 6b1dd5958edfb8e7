//! One command, one file; its doc comment is its help.

pub mod apply;
pub mod bench;
pub mod bulk;
pub mod completions;
pub mod config;
pub mod delete;
pub mod diff;
pub mod dlq;
pub mod doctor;
pub mod enqueue;
pub mod events;
pub mod explain;
pub mod get;
pub mod job;
pub mod man;
pub mod measure;
pub mod queue;
pub mod rows;
pub mod run;
pub mod schedule;
pub mod scheduler;
pub mod up;
pub mod validate;
pub mod webhook;
pub mod worker;
pub mod workflow;
