//! `goflow job delete`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::Verb;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::verbs::{self, Consent};

/// Take jobs out of the store, with their results and errors
///
/// Always asks. A running job is left: cancel it first. So is a job that does a step of a live run.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One job:
    goflow job delete 7c3092b1 --yes
  What completed long ago:
    goflow job delete --where 'state:completed age>12h'")]
pub struct DeleteArgs {
    /// Ids, or any unique parts of them; - reads them from standard input
    #[arg(value_name = "ID", conflicts_with_all = ["all", "filter"], add = ArgValueCompleter::new(complete::jobs))]
    ids: Vec<String>,
    /// Every job that does not run
    #[arg(long, conflicts_with = "filter")]
    all: bool,
    /// Every job that matches, as in 'state:completed age>12h'
    #[arg(long = "where", id = "filter", value_name = "FILTER", add = ArgValueCompleter::new(complete::filter))]
    filter: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

pub fn run(context: &Context, args: &DeleteArgs) -> Result {
    verbs::on_jobs(context, Verb::Delete, &args.ids, args.all, args.filter.as_deref(), args.consent)
}
