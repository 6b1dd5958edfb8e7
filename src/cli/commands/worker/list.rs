//! `goflow worker list`.

use clap::Args;

use crate::api::WorkerView;
use crate::api::workers::WORKER_FIELDS;
use crate::cli::commands::rows::WORKERS;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::select::{self, Limit};

/// List the workers that are registered with the store
///
/// A worker that was killed stays in the list until it counts as lost. The list is cut at 20 workers,
/// and says so; `-n 0` lists all.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Who serves the queue mail, and what they handle:
    goflow worker list --where 'queue:mail' -o wide
  Idle ones on one machine:
    goflow worker list --where 'host:web1 running:0'")]
pub struct ListArgs {
    #[command(flatten)]
    limit: Limit,
    /// Only workers that match, as in 'host:web* type:send_email running:0 age>1h'
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<String>,
}

pub fn run(context: &Context, args: &ListArgs) -> Result {
    let filter = select::things(args.filter.as_deref(), WORKER_FIELDS)?;
    context.block_on(async {
        let workers = context.client().await?.workers().await?;
        let now = context.clock.now();
        let mut views: Vec<WorkerView> = workers.into_iter().filter(|view| filter.matches(view, now)).collect();
        let cut = args.limit.cut(&mut views);
        context.ui.list(&views, WORKERS)?;
        args.limit.tell_cut(context, "first", cut);
        Ok(())
    })
}
