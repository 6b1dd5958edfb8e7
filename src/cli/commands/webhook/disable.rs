//! `goflow webhook disable`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::Name;

/// Switch webhooks off: they answer 503, and senders try again later
///
/// The same as `enabled: false` in their manifests: the last of the two counts.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  No deliveries while the database is moved:
    goflow webhook disable github-push")]
pub struct DisableArgs {
    /// The webhooks
    #[arg(value_name = "NAME", required = true, add = ArgValueCompleter::new(complete::webhooks))]
    names: Vec<Name>,
}

pub fn run(context: &Context, args: &DisableArgs) -> Result {
    super::enable::set(context, &args.names, false)
}
