//! `goflow dlq purge`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::Verb;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::verbs::{self, Consent, Order};
use crate::domain::Name;

/// Remove every dead job for good
///
/// Counts them and asks. `goflow dlq export` keeps a copy before.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Keep a copy, then purge:
    goflow dlq export > dead.jsonl
    goflow dlq purge")]
pub struct PurgeArgs {
    /// Only of this queue
    #[arg(short, long, value_name = "QUEUE", add = ArgValueCompleter::new(complete::queues))]
    queue: Option<Name>,
    #[command(flatten)]
    consent: Consent,
}

pub fn run(context: &Context, args: &PurgeArgs) -> Result {
    let filter = super::dead(None)?;
    let filter = match &args.queue {
        Some(queue) => filter.only_queue(queue),
        None => filter,
    };
    let (verb, consent) = (Verb::Delete, args.consent);
    verbs::run(context, &Order { verb, ids: &[], filter, noun: "dead job", always_asks: true, typed: None, consent })
}
