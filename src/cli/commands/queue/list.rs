//! `goflow queue list`.

use clap::Args;

use crate::api::QueueView;
use crate::cli::commands::rows::QUEUES;
use crate::cli::context::Context;
use crate::cli::error::Result;

/// List the queues that were ever used, with their counters
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Their names alone:
    goflow queue list -o name
  The paused ones:
    goflow queue list -o json | jq -r '.[] | select(.paused) | .name'")]
pub struct ListArgs {}

pub fn run(context: &Context, _: &ListArgs) -> Result {
    context.block_on(async {
        let stats = context.client().await?.queue_stats().await?;
        let views: Vec<QueueView> = stats.iter().map(QueueView::from).collect();
        context.ui.list(&views, QUEUES)
    })
}
