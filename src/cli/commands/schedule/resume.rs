//! `goflow schedule resume`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::toggles::{self, Noun, Several};
use crate::domain::Name;

/// Let paused schedules go on, from their next tick
///
/// What would have been due in the pause is not made up for.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Go on after a pause:
    goflow schedule resume nightly-report
  All that are paused:
    goflow schedule resume --all")]
pub struct ResumeArgs {
    /// The schedules
    #[arg(value_name = "NAME", conflicts_with_all = ["all", "filter"], add = ArgValueCompleter::new(complete::schedules))]
    names: Vec<Name>,
    #[command(flatten)]
    several: Several,
}

pub fn run(context: &Context, args: &ResumeArgs) -> Result {
    toggles::run(context, Noun::Schedule, &args.names, &args.several, false)
}
