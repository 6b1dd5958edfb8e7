//! `goflow scheduler`.

use std::sync::atomic::Ordering;

use clap::Args;

use super::worker::Stop;
use crate::cli::codes::exit;
use crate::cli::context::{Context, runtime};
use crate::cli::error::{CommandError, Result};
use crate::cli::log;
use crate::domain::text::{count, thousands};
use crate::engine::{Scheduler, Ticks};

/// Start what schedules are due for
///
/// Start as many as you like, on as many machines: each tick starts one job or run, whoever of them is
/// first. When one dies the others go on; the hour is that of the store, so their own clocks do not
/// matter. What is started is run by workers: `goflow worker`, or `goflow up` for both in one process.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Serve every schedule until Ctrl-C:
    goflow scheduler
  See each tick:
    goflow scheduler -v")]
pub struct SchedulerArgs {}

#[derive(serde::Serialize)]
struct Done {
    started: u64,
    skipped: u64,
    missed: u64,
}

pub fn run(context: &Context, _: &SchedulerArgs) -> Result {
    log::start(context, false)?;
    let runtime = runtime(tokio::runtime::Builder::new_multi_thread())?;
    let (ticks, interrupted) = runtime.block_on(serve(context))?;
    let Ticks { started, skipped, missed } = ticks;
    context.ui.result(&Done { started, skipped, missed }, &summary(ticks))?;
    if interrupted { Err(CommandError::Silent(exit::INTERRUPTED)) } else { Ok(()) }
}

async fn serve(context: &Context) -> Result<(Ticks, bool)> {
    let client = context.client().await?;
    let schedules = client.schedules().await?;
    let (store, many) = (client.store().describe(), count(schedules.len() as u64, "schedule"));
    context.ui.say(&format!("serving {many} of {store}, and those that are applied from now on"));
    let stop = Stop::watch(context.ui.clone())?;
    let scheduler = Scheduler::new(client.store().clone(), context.entropy.clone());
    let ticks = scheduler.run(stop.gently.clone()).await?;
    Ok((ticks, stop.interrupted.load(Ordering::Relaxed)))
}

/// What a scheduler did, as a sentence.
pub fn summary(ticks: Ticks) -> String {
    let mut parts = vec![format!("started the work of {}", count(ticks.started, "tick"))];
    for (n, what) in [(ticks.skipped, "skipped"), (ticks.missed, "missed")] {
        if n > 0 {
            parts.push(format!("{} {what}", thousands(n)));
        }
    }
    parts.join("; ")
}
