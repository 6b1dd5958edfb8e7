//! `goflow job edit`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::edit;
use crate::cli::error::Result;

/// Change a waiting job's payload, priority, retries, time-out or metadata in your editor
///
/// Opens $VISUAL, else $EDITOR, else vi. The job goes to the end of its line. A job that runs cannot be
/// changed; a dead one is changed and retried by `goflow dlq retry --edit`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  By hand:
    goflow job edit 7c3092b1
  By a program:
    EDITOR=\"sed -i s/old.example/new.example/\" goflow job edit 7c3092b1")]
pub struct EditArgs {
    /// The job's id or any unique part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::live_jobs))]
    id: String,
}

pub fn run(context: &Context, args: &EditArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let stored = client.job(&args.id).await?;
        edit::one(context, &client, &stored, false).await
    })
}
