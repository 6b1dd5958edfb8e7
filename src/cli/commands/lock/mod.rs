//! `goflow lock` and `goflow semaphore`: commands that run one at a time, or so many. Both are one thing
//! with one or with several slots, so they share their lists.

mod hold;
mod look;

use clap::Subcommand;

use crate::cli::context::Context;
use crate::cli::error::Result;

/// Run a command while holding a lock; list and break locks
#[derive(Debug, Subcommand)]
pub enum LockCommand {
    Run(hold::LockArgs),
    List(look::ListArgs),
    Break(look::BreakArgs),
}

/// Run a command in one of so many slots; list and break semaphores
#[derive(Debug, Subcommand)]
pub enum SemaphoreCommand {
    Run(hold::SemaphoreArgs),
    List(look::ListArgs),
    Break(look::BreakArgs),
}

pub fn run(context: &Context, command: LockCommand) -> Result {
    match command {
        LockCommand::Run(args) => hold::lock(context, args),
        LockCommand::List(args) => look::list(context, &args),
        LockCommand::Break(args) => look::break_lock(context, &args),
    }
}

pub fn run_semaphore(context: &Context, command: SemaphoreCommand) -> Result {
    match command {
        SemaphoreCommand::Run(args) => hold::semaphore(context, args),
        SemaphoreCommand::List(args) => look::list(context, &args),
        SemaphoreCommand::Break(args) => look::break_lock(context, &args),
    }
}
