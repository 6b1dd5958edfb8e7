//! `goflow workflow history`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::EventView;
use crate::cli::commands::rows::EVENTS;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;

/// Show everything that happened to a run, in its order
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Which steps were undone, and in what order?
    goflow workflow history 7c3092b1 -o jsonl | jq -r 'select(.type == \"step.compensated\") | .step'")]
pub struct HistoryArgs {
    /// The run's id, or a part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::runs))]
    id: String,
}

pub fn run(context: &Context, args: &HistoryArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let id = client.find_run(&args.id).await?;
        let events: Vec<EventView> = client.run_history(id).await?.iter().map(EventView::from).collect();
        context.ui.list(&events, EVENTS)
    })
}
