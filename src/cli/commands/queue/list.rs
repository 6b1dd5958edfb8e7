//! `goflow queue list`.

use clap::Args;

use crate::api::QueueView;
use crate::api::queues::QUEUE_FIELDS;
use crate::cli::commands::rows::QUEUES;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::select::{self, Limit};

/// List the queues that were ever used, with their counters
///
/// The list is cut at 20 queues, and says so; `-n 0` lists all.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Their names alone:
    goflow queue list -o name
  Where something is wrong:
    goflow queue list --where 'dead>0'
  Paused ones with work that waits:
    goflow queue list --where 'paused:yes pending>0'")]
pub struct ListArgs {
    #[command(flatten)]
    limit: Limit,
    /// Only queues that match, as in 'name:mail* paused:yes pending>100 oldest>5m'
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<String>,
}

pub fn run(context: &Context, args: &ListArgs) -> Result {
    let filter = select::things(args.filter.as_deref(), QUEUE_FIELDS)?;
    context.block_on(async {
        let (now, views) = (context.clock.now(), context.client().await?.queue_views().await?);
        let mut views: Vec<QueueView> = views.into_iter().filter(|view| filter.matches(view, now)).collect();
        let cut = args.limit.cut(&mut views);
        context.ui.list(&views, QUEUES)?;
        args.limit.tell_cut(context, "first", cut);
        Ok(())
    })
}
