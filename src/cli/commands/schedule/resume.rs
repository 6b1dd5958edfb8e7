//! `goflow schedule resume`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::Name;

/// Let paused schedules go on, from their next tick
///
/// What would have been due in the pause is not made up for.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Go on after a pause:
    goflow schedule resume nightly-report")]
pub struct ResumeArgs {
    /// The schedules
    #[arg(value_name = "NAME", required = true, add = ArgValueCompleter::new(complete::schedules))]
    names: Vec<Name>,
}

pub fn run(context: &Context, args: &ResumeArgs) -> Result {
    super::pause::set(context, &args.names, false)
}
