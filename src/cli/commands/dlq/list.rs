//! `goflow dlq list`.

use clap::Args;

use crate::api::{Filter, JobView};
use crate::cli::commands::rows::JOBS;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::JobState;

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
    /// At most so many; 0 means all
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Only jobs that match, as in 'type:mail* queue:default error~timeout age>5m'
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<String>,
}

pub fn run(context: &Context, args: &ListArgs) -> Result {
    let filter = Filter::parse(args.filter.as_deref().unwrap_or_default())?.only_state(JobState::Dead);
    context.block_on(async {
        let page = context.client().await?.jobs(&filter, args.limit).await?;
        let views: Vec<JobView> = page.jobs.iter().map(JobView::from).collect();
        context.ui.list(&views, JOBS)?;
        if page.cut {
            context.ui.say(&format!("only the first {} are listed; -n 0 lists all", args.limit));
        }
        Ok(())
    })
}
