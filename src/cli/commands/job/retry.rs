//! `goflow job retry`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::Verb;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::verbs::{self, Consent};

/// Give dead or cancelled jobs a new life: all their retries, at the end of their queue
///
/// Named jobs are retried at once. All that match a filter are counted first, and you are asked. A job
/// that does a step of a run is left alone: its run decides what is done again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One job:
    goflow job retry 7c3092b1
  What was cancelled within the last hour:
    goflow job retry --where 'state:cancelled age<1h'")]
pub struct RetryArgs {
    /// Ids, or any unique parts of them; - reads them from standard input
    #[arg(value_name = "ID", conflicts_with_all = ["all", "filter"], add = ArgValueCompleter::new(complete::jobs))]
    ids: Vec<String>,
    /// Every dead or cancelled job
    #[arg(long, conflicts_with = "filter")]
    all: bool,
    /// Every dead or cancelled job that matches, as in 'type:mail* error~timeout age>5m'
    #[arg(long = "where", id = "filter", value_name = "FILTER", add = ArgValueCompleter::new(complete::filter))]
    filter: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

pub fn run(context: &Context, args: &RetryArgs) -> Result {
    verbs::on_jobs(context, Verb::Retry, &args.ids, args.all, args.filter.as_deref(), args.consent)
}
