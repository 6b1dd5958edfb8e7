//! `goflow dlq retry`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::Verb;
use crate::api::verbs::Left;
use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::cli::verbs::{self, Consent, Order};
use crate::cli::{complete, edit};
use crate::domain::JobState;

/// Give dead jobs a new life: all their retries, at the end of their queue
///
/// Named jobs are retried at once. All of them, or all that match a filter, are counted first, and
/// you are asked. A job that does a step of a run is left alone: its run decides what is done again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One job, and one whose payload is mended before:
    goflow dlq retry 7c3092b1
    goflow dlq retry 1f0a77e2 --edit
  See what would be retried, then do it:
    goflow dlq retry --where 'type:mail* error~timeout' --dry-run
    goflow dlq retry --where 'type:mail* error~timeout' --yes")]
pub struct RetryArgs {
    /// Ids, or any unique parts of them; - reads them from standard input
    #[arg(value_name = "ID", conflicts_with_all = ["all", "filter"], add = ArgValueCompleter::new(complete::dead_jobs))]
    ids: Vec<String>,
    /// Every dead job
    #[arg(long, conflicts_with = "filter")]
    all: bool,
    /// Every dead job that matches, as in 'type:mail* error~timeout age>5m'
    #[arg(long = "where", id = "filter", value_name = "FILTER", add = ArgValueCompleter::new(complete::filter))]
    filter: Option<String>,
    /// Change each named job in $EDITOR before
    #[arg(long, requires = "ids", conflicts_with = "dry_run")]
    edit: bool,
    #[command(flatten)]
    consent: Consent,
}

/// Retry every dead job (the same as `dlq retry --all`)
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  As the replaced system's scripts say it:
    goflow dlq retry-all --yes")]
pub struct AllArgs {
    #[command(flatten)]
    consent: Consent,
}

impl From<AllArgs> for RetryArgs {
    fn from(args: AllArgs) -> RetryArgs {
        RetryArgs { ids: Vec::new(), all: true, filter: None, edit: false, consent: args.consent }
    }
}

pub fn run(context: &Context, args: &RetryArgs) -> Result {
    let (verb, consent) = (Verb::Retry, args.consent);
    // `--yes` alone means all: that is how the replaced system's scripts say it.
    verbs::something(verb, &args.ids, args.all || consent.yes || consent.dry_run, args.filter.as_deref())?;
    if args.edit {
        return edited(context, &args.ids);
    }
    let filter = super::dead(args.filter.as_deref())?;
    verbs::run(
        context,
        &Order { verb, ids: &args.ids, filter, noun: "dead job", always_asks: false, typed: None, consent },
    )
}

fn edited(context: &Context, ids: &[String]) -> Result {
    if ids.iter().any(|id| id == "-") {
        return Err(fail(Code::Usage, "--edit needs the standard input for the editor").hint("name the ids"));
    }
    context.block_on(async {
        let client = context.client().await?;
        for id in ids {
            let stored = client.job(id).await?;
            if stored.place.state() != JobState::Dead {
                return Err(verbs::refused(Verb::Retry, stored.job.id, &Left::Outside(stored.place.state())));
            }
            edit::one(context, &client, &stored, true).await?;
        }
        Ok(())
    })
}
