//! `goflow schedule trigger`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::Name;

/// Start what a schedule starts, now
///
/// Whatever its rule says, also while it is paused and while what it started last goes on. Its next
/// tick stays where it was. Prints the id of the job or run.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Make the nightly report now and wait for it:
    goflow job wait $(goflow schedule trigger nightly-report)")]
pub struct TriggerArgs {
    /// The schedule
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::schedules))]
    name: Name,
}

pub fn run(context: &Context, args: &TriggerArgs) -> Result {
    context.block_on(async {
        let triggered = context.client().await?.trigger(&args.name).await?;
        let id = triggered.job_id.clone().or_else(|| triggered.run_id.clone()).unwrap_or_default();
        context.ui.result(&triggered, &id)
    })
}
