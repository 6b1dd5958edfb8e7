//! `goflow schedule pause`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::toggles::{self, Noun, Several};
use crate::domain::Name;

/// Pause schedules: they start nothing; what they have started goes on
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  No reports while the database is moved:
    goflow schedule pause nightly-report
  All that start a workflow:
    goflow schedule pause --where 'workflow:report-*'")]
pub struct PauseArgs {
    /// The schedules
    #[arg(value_name = "NAME", conflicts_with_all = ["all", "filter"], add = ArgValueCompleter::new(complete::schedules))]
    names: Vec<Name>,
    #[command(flatten)]
    several: Several,
}

pub fn run(context: &Context, args: &PauseArgs) -> Result {
    toggles::run(context, Noun::Schedule, &args.names, &args.several, true)
}
