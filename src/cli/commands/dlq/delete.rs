//! `goflow dlq delete`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::Verb;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::verbs::{self, Consent, Order};

/// Remove dead jobs for good, with their errors and attempts
///
/// Always asks. `goflow dlq export` keeps a copy before.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One job:
    goflow dlq delete 7c3092b1 --yes
  What nobody will look at any more:
    goflow dlq delete --where 'age>30d'")]
pub struct DeleteArgs {
    /// Ids, or any unique parts of them; - reads them from standard input
    #[arg(value_name = "ID", conflicts_with = "filter", add = ArgValueCompleter::new(complete::dead_jobs))]
    ids: Vec<String>,
    /// Every dead job that matches, as in 'type:mail* error~timeout age>30d'
    #[arg(long = "where", id = "filter", value_name = "FILTER", add = ArgValueCompleter::new(complete::filter))]
    filter: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

pub fn run(context: &Context, args: &DeleteArgs) -> Result {
    let (verb, consent) = (Verb::Delete, args.consent);
    verbs::something(verb, &args.ids, false, args.filter.as_deref())?;
    let filter = super::dead(args.filter.as_deref())?;
    verbs::run(
        context,
        &Order { verb, ids: &args.ids, filter, noun: "dead job", always_asks: true, typed: None, consent },
    )
}
