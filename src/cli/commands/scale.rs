//! `goflow scale`: more or fewer shards over the servers there are.

use clap::{Args, Subcommand};

use super::shard::drain;
use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::domain::text::count;

/// Have more or fewer shards over the servers that the store has
///
/// New ones are key spaces of their own on the same servers, in turn: on Redis with a hash tag each, which a
/// cluster spreads over its nodes; with SQLite a file each. Those too many are drained, carried over and
/// removed, the highest number first. `goflow shard add` adds a server.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Examples:
  Four shards over the servers in use:
    goflow scale --shards 4"
)]
pub struct ScaleCommand {
    #[command(subcommand)]
    verb: Option<ScaleVerb>,
    /// How many shards there are to be
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4_096))]
    shards: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum ScaleVerb {
    Advise(super::advise::AdviseArgs),
}

#[derive(serde::Serialize)]
struct Outcome {
    shards: usize,
    added: Vec<u16>,
    removed: Vec<u16>,
}

pub fn run(context: &Context, command: ScaleCommand) -> Result {
    if let Some(ScaleVerb::Advise(args)) = command.verb {
        return super::advise::run(context, &args);
    }
    let Some(wanted) = command.shards else {
        return Err(fail(Code::Usage, "nothing was asked for").hint("goflow scale --shards N, or goflow scale advise"));
    };
    context.block_on(async {
        let client = context.sharded_client().await?;
        let verbs = client.shard_verbs()?;
        let mut outcome = Outcome { shards: 0, added: Vec::new(), removed: Vec::new() };
        loop {
            let list = verbs.list().await?;
            let active: Vec<_> = list.shards.iter().filter(|shard| shard.state != "removed").collect();
            outcome.shards = active.len();
            if active.len() < usize::from(wanted) {
                outcome.added.push(verbs.add_beside().await?);
            } else if active.len() > usize::from(wanted) {
                let Some(last) = active.last().map(|shard| shard.id) else { break };
                let into = drain::target(&client, last, None).await?;
                drain::drain(context, &client, last, Some(into)).await?;
                verbs.remove(last).await?;
                outcome.removed.push(last);
            } else {
                break;
            }
        }
        context.ui.result(&outcome, &format!("{} now", count(outcome.shards as u64, "shard")))
    })
}
