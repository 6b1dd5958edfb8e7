//! `goflow queue purge`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::Verb;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::select;
use crate::cli::verbs::{self, Consent, Order};
use crate::domain::{JobState, Name};

/// Delete every job that waits in a queue
///
/// Waiting, scheduled and retrying jobs are counted, and the queue's name has to be typed. What runs
/// goes on, and dead and finished jobs stay, unless -s names their states.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  What is it that would go?
    goflow queue purge mail --dry-run
  Only what is scheduled for later:
    goflow queue purge mail -s scheduled
  In a script:
    goflow queue purge mail --yes")]
pub struct PurgeArgs {
    /// The queue
    #[arg(value_name = "QUEUE", add = ArgValueCompleter::new(complete::queues))]
    queue: Name,
    /// Jobs in these states instead, comma-separated
    #[arg(short, long, value_name = "STATE", value_delimiter = ',', add = ArgValueCompleter::new(complete::states))]
    state: Vec<String>,
    #[command(flatten)]
    consent: Consent,
}

pub fn run(context: &Context, args: &PurgeArgs) -> Result {
    let filter = select::jobs(None)?.only_queue(&args.queue).only_states(Verb::Delete.states());
    let filter = match args.state.as_slice() {
        [] => filter.only_states(&[JobState::Scheduled, JobState::Pending, JobState::Retrying]),
        states => filter.only_states_named(states)?,
    };
    // A queue that never was is a typing error, not an empty one.
    context.block_on(async { Ok(context.client().await?.queue(&args.queue).await?) })?;
    let (verb, consent) = (Verb::Delete, args.consent);
    let typed = Some(args.queue.as_str());
    verbs::run(context, &Order { verb, ids: &[], filter, noun: "job", always_asks: true, typed, consent })
}
