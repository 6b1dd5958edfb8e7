//! `goflow dlq show`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::codes::Code;
use crate::cli::commands::job::show;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::domain::JobState;

/// Show one dead job, with every attempt that is kept
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Why it died:
    goflow dlq show 7c3092b1 -o json | jq .error")]
pub struct ShowArgs {
    /// The job's id or any unique part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::dead_jobs))]
    id: String,
}

pub fn run(context: &Context, args: &ShowArgs) -> Result {
    context.block_on(async {
        let stored = context.client().await?.job(&args.id).await?;
        let (id, state) = (stored.job.id, stored.place.state());
        if state != JobState::Dead {
            return Err(fail(Code::StateConflict, format!("job {id} is not dead, it is {state}"))
                .hint(format!("`goflow job show {}` shows it", id.short())));
        }
        show::print(context, &stored)
    })
}
