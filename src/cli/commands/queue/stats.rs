//! `goflow queue stats`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::{ApiError, QueueView};
use crate::cli::commands::rows::QUEUES;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::Name;

/// Show how many jobs of each queue wait, run, retry and have ended
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Every queue, with all counters:
    goflow queue stats -o wide
  How long the head of one line has waited, in milliseconds:
    goflow queue stats default -o json | jq '.[0].oldest_pending_ms'")]
pub struct StatsArgs {
    /// Only these queues
    #[arg(value_name = "QUEUE", add = ArgValueCompleter::new(complete::queues))]
    queues: Vec<Name>,
}

pub fn run(context: &Context, args: &StatsArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let all = client.queue_views().await?;
        let mut views: Vec<QueueView> = Vec::new();
        for name in &args.queues {
            let found = all.iter().find(|view| view.name == name.as_str());
            views.push(found.ok_or_else(|| ApiError::NoQueue(name.clone()))?.clone());
        }
        let views = if args.queues.is_empty() { all } else { views };
        context.ui.list(&views, QUEUES)
    })
}
