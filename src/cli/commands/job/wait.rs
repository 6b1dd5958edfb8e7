//! `goflow job wait`.

use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::JobView;
use crate::cli::codes::Code;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::domain::JobState;
use crate::domain::time::{format_duration, parse_duration};

/// Wait until a job has ended
///
/// Ends with 0 when the job completed, 1 when it died or was cancelled, 6 when the time ran out. With
/// -o json the job is printed once it has ended.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Put a job on the queue and wait for it:
    goflow job wait \"$(goflow enqueue report)\" --timeout 10m")]
pub struct WaitArgs {
    /// The job's id or any unique part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::jobs))]
    id: String,
    /// How long to wait; without it, for ever
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,
}

pub fn run(context: &Context, args: &WaitArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let id = client.job(&args.id).await?.job.id;
        let Some(stored) = client.wait(id, args.timeout).await? else {
            let timeout = format_duration(args.timeout.unwrap_or_default());
            return Err(fail(Code::TimedOut, format!("job {id} had not ended after {timeout}"))
                .hint("it goes on; wait again, or look with `goflow job show`"));
        };
        let view = JobView::from(&stored);
        context.ui.result(&view, &format!("job {id} {}", view.state))?;
        match (view.state, &stored.job.error) {
            (JobState::Completed, _) => Ok(()),
            // The class of a cancelled job's error only says once more that it is.
            (state, Some(error)) if error.class == state.as_str() => {
                Err(fail(Code::JobFailed, format!("job {id} is {state}: {}", error.message)))
            }
            (state, Some(error)) => Err(fail(Code::JobFailed, format!("job {id} is {state}: {error}"))
                .hint(format!("`goflow job show {}` tells every attempt", id.short()))),
            (state, None) => Err(fail(Code::JobFailed, format!("job {id} is {state}"))),
        }
    })
}
