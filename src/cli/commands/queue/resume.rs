//! `goflow queue resume`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::Name;

/// Let paused queues give out jobs again
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Go on after a pause:
    goflow queue resume mail")]
pub struct ResumeArgs {
    /// The queues
    #[arg(value_name = "QUEUE", required = true, add = ArgValueCompleter::new(complete::queues))]
    queues: Vec<Name>,
}

pub fn run(context: &Context, args: &ResumeArgs) -> Result {
    super::pause::set(context, &args.queues, false)
}
