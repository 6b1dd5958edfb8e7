//! `goflow scale advise`.

use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::Name;
use crate::domain::text::{count, thousands};
use crate::domain::time::{format_duration, parse_duration};

/// Tell how many workers would clear the backlog in a given time
///
/// Looks for a few seconds at how fast jobs come, takes the time of a job from those that finished last, and
/// computes how many must run at once to keep up and to clear what waits. It is an estimate: it takes the
/// jobs to come for like those that were.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  To be done in ten minutes:
    goflow scale advise --within 10m
  Of one queue:
    goflow scale advise -q mail")]
pub struct AdviseArgs {
    /// The time in which what waits is to be done
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    within: Duration,
    /// How long to look at what comes
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = parse_duration)]
    look: Duration,
    /// One queue only
    #[arg(short, long, value_name = "QUEUE", add = ArgValueCompleter::new(complete::queues))]
    queue: Option<Name>,
}

pub fn run(context: &Context, args: &AdviseArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let advice = client.advise(args.queue.as_ref(), args.look, args.within).await?;
        let seen = format!(
            "{} wait or run, {:.1} a second come, {} work with {}",
            count(advice.depth, "job"),
            advice.arrival_rate,
            count(advice.workers, "worker"),
            count(advice.slots, "slot"),
        );
        let advised = match (advice.service_ms, advice.slots_needed, advice.workers_needed) {
            (Some(ms), Some(slots), Some(workers)) => format!(
                "at {} a job, {} in {} would clear it within {}",
                format_duration(Duration::from_millis(ms)),
                count(slots, "slot"),
                count(workers, "worker"),
                format_duration(args.within),
            ),
            _ => "no finished job is kept that tells how long one takes".to_owned(),
        };
        let sample = thousands(advice.jobs_sampled);
        context.ui.whisper(&format!("the time of a job is the mean of the latest {sample}"));
        context.ui.result(&advice, &format!("{seen}; {advised}"))
    })
}
