//! `goflow job cancel`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::Verb;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::verbs::{self, Consent};

/// End jobs that have not ended
///
/// Named jobs are cancelled at once. All that match a filter are counted first, and you are asked. What
/// runs is asked to end: its worker ends the command with everything that it started, and `goflow job
/// wait` tells when. A job that does a step of a run is left alone: cancel the run.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One job, and what became of it:
    goflow job cancel 7c3092b1
  What has waited for too long on one queue:
    goflow job cancel --where 'queue:mail state:pending age>1d' --dry-run
    goflow job cancel --where 'queue:mail state:pending age>1d' --yes")]
pub struct CancelArgs {
    /// Ids, or any unique parts of them; - reads them from standard input
    #[arg(value_name = "ID", conflicts_with_all = ["all", "filter"], add = ArgValueCompleter::new(complete::live_jobs))]
    ids: Vec<String>,
    /// Every job that has not ended
    #[arg(long, conflicts_with = "filter")]
    all: bool,
    /// Every job that matches, as in 'queue:mail state:pending age>1d'
    #[arg(long = "where", id = "filter", value_name = "FILTER", add = ArgValueCompleter::new(complete::filter))]
    filter: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

pub fn run(context: &Context, args: &CancelArgs) -> Result {
    verbs::on_jobs(context, Verb::Cancel, &args.ids, args.all, args.filter.as_deref(), args.consent)
}
