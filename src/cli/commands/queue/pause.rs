//! `goflow queue pause`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::toggles::{self, Noun, Several};
use crate::domain::Name;

/// Pause queues: they take new jobs and give none out; what runs goes on
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Stop sending while the mail server is down:
    goflow queue pause mail
  All queues of one team, after a look at which those are:
    goflow queue pause --where 'name:billing-*' --dry-run
    goflow queue pause --where 'name:billing-*' --yes")]
pub struct PauseArgs {
    /// The queues
    #[arg(value_name = "QUEUE", conflicts_with_all = ["all", "filter"], add = ArgValueCompleter::new(complete::queues))]
    queues: Vec<Name>,
    #[command(flatten)]
    several: Several,
}

pub fn run(context: &Context, args: &PauseArgs) -> Result {
    toggles::run(context, Noun::Queue, &args.queues, &args.several, true)
}
