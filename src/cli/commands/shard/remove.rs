//! `goflow shard remove`.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::error::Result;

/// Take an empty shard out of the store
///
/// Refused while anything is left there, dead and finished jobs too: `goflow shard drain N --move` carries
/// them away, and runs that have ended go with time, as they do everywhere.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  After `goflow shard drain 3 --move`:
    goflow shard remove 3")]
pub struct RemoveArgs {
    /// The number of the shard
    #[arg(value_name = "SHARD")]
    id: u16,
}

#[derive(serde::Serialize)]
struct Outcome {
    removed: u16,
}

pub fn run(context: &Context, args: &RemoveArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        client.shard_verbs()?.remove(args.id).await?;
        context.ui.result(&Outcome { removed: args.id }, &format!("removed shard {}", args.id))
    })
}
