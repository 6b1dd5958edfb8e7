//! `goflow shard`: the verbs on shards.

mod add;
pub mod drain;
mod list;
mod remove;

use clap::Subcommand;

use crate::cli::context::Context;
use crate::cli::error::Result;

/// Look at the shards of a store, add some, empty and remove others
///
/// Workers, schedulers and producers that are running follow within seconds.
#[derive(Debug, Subcommand)]
pub enum ShardCommand {
    List(list::ListArgs),
    Add(add::AddArgs),
    Drain(drain::DrainArgs),
    Remove(remove::RemoveArgs),
}

pub fn run(context: &Context, command: ShardCommand) -> Result {
    match command {
        ShardCommand::List(args) => list::run(context, &args),
        ShardCommand::Add(args) => add::run(context, &args),
        ShardCommand::Drain(args) => drain::run(context, &args),
        ShardCommand::Remove(args) => remove::run(context, &args),
    }
}
