//! `goflow job list`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::JobView;
use crate::cli::commands::rows::JOBS;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::select::Limit;
use crate::cli::{complete, select};
use crate::domain::Name;

/// List jobs
///
/// Running jobs come first, then those that are due to retry, wait or are scheduled, then the dead,
/// and last what has ended. The list is cut at 20 jobs, and says so; `-n 0` lists all.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  What runs and what is due to retry:
    goflow job list -s running,retrying
  Mail jobs that have waited for too long:
    goflow job list --where 'state:pending type:mail* age>5m'
  Every id that died of a time-out:
    goflow job list --where 'state:dead error~timeout' -n 0 -o name")]
pub struct ListArgs {
    /// Only jobs in these states, comma-separated
    #[arg(short, long, value_name = "STATE", value_delimiter = ',', add = ArgValueCompleter::new(complete::states))]
    state: Vec<String>,
    #[command(flatten)]
    limit: Limit,
    /// Only jobs of this queue
    #[arg(short, long, value_name = "QUEUE", add = ArgValueCompleter::new(complete::queues))]
    queue: Option<Name>,
    /// Only jobs that match, as in 'state:dead type:mail* queue:default error~timeout age>5m'
    #[arg(long = "where", value_name = "FILTER", add = ArgValueCompleter::new(complete::filter))]
    filter: Option<String>,
}

pub fn run(context: &Context, args: &ListArgs) -> Result {
    let mut filter = select::jobs(args.filter.as_deref())?.only_states_named(&args.state)?;
    if let Some(queue) = &args.queue {
        filter = filter.only_queue(queue);
    }
    context.block_on(async {
        let page = context.client().await?.jobs(&filter, args.limit.limit).await?;
        let views: Vec<JobView> = page.jobs.iter().map(JobView::from).collect();
        context.ui.list(&views, JOBS)?;
        args.limit.tell_cut(context, "first", page.cut);
        Ok(())
    })
}
