//! `goflow worker drain`.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::workers::WORKER_FIELDS;
use crate::api::{Client, WorkerView};
use crate::cli::codes::Code;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::cli::select;
use crate::cli::verbs::Consent;
use crate::domain::text::count;
use crate::domain::time::{format_duration, parse_duration};

/// Tell workers to take no more work, to finish what they run, and to end
///
/// Named workers are told at once. All of them, or all that match a filter, are counted first, and you
/// are asked. They hear of it with their next heartbeat, within seconds.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One worker, and wait until it has gone:
    goflow worker drain 7c3092b1 --wait
  Every worker of a machine that is to be restarted:
    goflow worker drain --where 'host:web1' --wait --timeout 10m")]
pub struct DrainArgs {
    /// Ids, or any unique parts of them
    #[arg(value_name = "ID", conflicts_with_all = ["all", "filter"], add = ArgValueCompleter::new(complete::workers))]
    ids: Vec<String>,
    /// Every worker
    #[arg(long, conflicts_with = "filter")]
    all: bool,
    /// Every worker that matches, as in 'host:web1 queue:mail'
    #[arg(long = "where", id = "filter", value_name = "FILTER")]
    filter: Option<String>,
    /// Wait until they have ended
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// How long to wait; without it, for ever
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = parse_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,
    #[command(flatten)]
    consent: Consent,
}

#[derive(serde::Serialize)]
struct Outcome {
    dry_run: bool,
    drained: Vec<String>,
    /// They ended before they could be told.
    gone: Vec<String>,
}

/// How often it is looked whether they have gone.
const POLL: Duration = Duration::from_millis(200);

pub fn run(context: &Context, args: &DrainArgs) -> Result {
    if args.ids.is_empty() && !args.all && args.filter.is_none() {
        return Err(fail(Code::Usage, "nothing was named to drain").hint("name ids, or use --all or --where FILTER"));
    }
    let filter = select::things(args.filter.as_deref(), WORKER_FIELDS)?;
    context.block_on(async {
        let client = context.client().await?;
        let (now, all) = (context.clock.now(), client.workers().await?);
        let chosen: Vec<WorkerView> = if args.ids.is_empty() {
            let matching: Vec<WorkerView> = all.into_iter().filter(|worker| filter.matches(worker, now)).collect();
            if !matching.is_empty() && !args.consent.dry_run {
                let question = format!("drain {}?", count(matching.len() as u64, "worker"));
                context.ui.confirm(&question, args.consent.yes)?;
            }
            matching
        } else {
            client.named_workers(&all, &args.ids)?
        };
        let mut outcome = Outcome { dry_run: args.consent.dry_run, drained: Vec::new(), gone: Vec::new() };
        for worker in chosen {
            let told = args.consent.dry_run || client.drain(&worker.id).await?;
            if told { &mut outcome.drained } else { &mut outcome.gone }.push(worker.id);
        }
        let ended = match args.wait {
            true => until_gone(context, &client, &outcome.drained, args.timeout).await?,
            false => false,
        };
        context.ui.result(&outcome, &sentence(&outcome, ended))
    })
}

fn sentence(outcome: &Outcome, ended: bool) -> String {
    let n = count(outcome.drained.len() as u64, "worker");
    let told = match (outcome.dry_run, ended) {
        (true, _) => format!("would drain {n}"),
        (false, true) => format!("drained {n}"),
        (false, false) => format!("told {n} to drain"),
    };
    match outcome.gone.len() as u64 {
        0 => told,
        1 => format!("{told}; 1 had ended"),
        gone => format!("{told}; {gone} had ended"),
    }
}

/// Waits until none of them is registered any more.
async fn until_gone(context: &Context, client: &Client, ids: &[String], timeout: Option<Duration>) -> Result<bool> {
    let ids: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
    let deadline = timeout.and_then(|timeout| tokio::time::Instant::now().checked_add(timeout));
    let bar = context.ui.progress(ids.len() as u64, "workers");
    loop {
        let left = client.workers().await?.iter().filter(|worker| ids.contains(worker.id.as_str())).count();
        bar.set_position((ids.len() - left) as u64);
        if left == 0 {
            bar.finish_and_clear();
            return Ok(true);
        }
        if deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline) {
            bar.finish_and_clear();
            let (left, timeout) = (count(left as u64, "worker"), format_duration(timeout.unwrap_or_default()));
            return Err(fail(Code::TimedOut, format!("{left} had not ended after {timeout}"))
                .hint("they go on draining; `goflow worker list` shows what they still run"));
        }
        tokio::time::sleep(POLL).await;
    }
}
