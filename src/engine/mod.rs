//! The loops: claim → run → settle, heartbeat, reaper, timers, and the advance of runs.
//!
//! A worker is one task that owns all its state, and short-lived tasks that report back to it:
//!
//! ```text
//!            hints ─┐      ┌── stop (TERM), stop at once (second TERM)
//!                   ↓      ↓
//!   ┌────────── Worker: one select loop ──────────┐
//!   │  Ledger: ahead → running → finished → settling │
//!   └──┬──────────┬──────────┬──────────┬─────────┘
//!      │ spawn    │          │          │             every task answers once, with a `Happened`,
//!      ↓          ↓          ↓          ↓             through the JoinSet: there is no channel
//!   handlers  exchanges  heartbeat  housekeeping      that could fill up or lose a message
//!             (at most    (one)     (reap, tick, drain,
//!              PIPELINE)            trim, end, free)
//! ```
//!
//! Beside them, each at most one at a time: notes of running jobs, looks for jobs that were asked to
//! end, permits; and a claim of its own for each queue with a rate limit.
//!
//! What bounds memory: running ≤ concurrency, ahead ≤ 64, finished ≤ running + ahead, exchanges ≤ 2.
//! Time and randomness come as arguments, and every `select!` is biased, so that a worker over the
//! reference store under a paused clock does the same for the same seed.

mod alerts;
mod caretaker;
mod commands;
mod handlers;
mod housekeeping;
mod ledger;
mod notes;
mod options;
mod pace;
mod permits;
mod plan;
pub mod pull;
mod scheduler;
mod settle;
mod shares;
mod time;
mod traces;
mod worker;

pub use alerts::{AlertRule, Alerts, Callback, Target as AlertTarget};
pub use caretaker::Caretaker;
pub use handlers::{Closing, Ending, Endings, Handler, Handlers, Limits, Task};
pub use options::{Summary, WorkerOptions};
pub use pull::Pull;
pub use scheduler::{Scheduler, Ticks};
pub use worker::Worker;
