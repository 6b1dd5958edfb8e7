//! `goflow queue resume`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::toggles::{self, Noun, Several};
use crate::domain::Name;

/// Let paused queues give out jobs again
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Go on after a pause:
    goflow queue resume mail
  All that are paused:
    goflow queue resume --all")]
pub struct ResumeArgs {
    /// The queues
    #[arg(value_name = "QUEUE", conflicts_with_all = ["all", "filter"], add = ArgValueCompleter::new(complete::queues))]
    queues: Vec<Name>,
    #[command(flatten)]
    several: Several,
}

pub fn run(context: &Context, args: &ResumeArgs) -> Result {
    toggles::run(context, Noun::Queue, &args.queues, &args.several, false)
}
