//! `goflow dlq list`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::JobView;
use crate::cli::commands::rows::JOBS;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::select::Limit;

/// List dead jobs, the latest first in each queue
///
/// A dead job is kept, with its last error and its attempts, until it is retried or purged. The list
/// is cut at 20 jobs, and says so; `-n 0` lists all.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  What died within the last hour of a time-out:
    goflow dlq list --where 'error~timeout age<1h'")]
pub struct ListArgs {
    #[command(flatten)]
    limit: Limit,
    /// Only jobs that match, as in 'type:mail* queue:default error~timeout age>5m'
    #[arg(long = "where", value_name = "FILTER", add = ArgValueCompleter::new(complete::filter))]
    filter: Option<String>,
}

pub fn run(context: &Context, args: &ListArgs) -> Result {
    let filter = super::dead(args.filter.as_deref())?;
    context.block_on(async {
        let page = context.client().await?.jobs(&filter, args.limit.limit).await?;
        let views: Vec<JobView> = page.jobs.iter().map(JobView::from).collect();
        context.ui.list(&views, JOBS)?;
        args.limit.tell_cut(context, "first", page.cut);
        Ok(())
    })
}
