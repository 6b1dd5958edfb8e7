//! `goflow queue`: the verbs on queues.

mod list;
mod pause;
mod purge;
mod resume;
mod set;
mod stats;

use clap::Subcommand;

use crate::cli::context::Context;
use crate::cli::error::Result;

/// Look at queues, pause, limit and empty them
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    List(list::ListArgs),
    Stats(stats::StatsArgs),
    Pause(pause::PauseArgs),
    Resume(resume::ResumeArgs),
    Purge(purge::PurgeArgs),
    Set(set::SetArgs),
}

pub fn run(context: &Context, command: QueueCommand) -> Result {
    match command {
        QueueCommand::List(args) => list::run(context, &args),
        QueueCommand::Stats(args) => stats::run(context, &args),
        QueueCommand::Pause(args) => pause::run(context, &args),
        QueueCommand::Resume(args) => resume::run(context, &args),
        QueueCommand::Purge(args) => purge::run(context, &args),
        QueueCommand::Set(args) => set::run(context, &args),
    }
}
