//! `goflow up`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::scheduler;
use super::worker::{self, Stop, WorkerArgs};
use crate::cli::codes::exit;
use crate::cli::context::{Context, runtime};
use crate::cli::error::{CommandError, Result};
use crate::cli::log;
use crate::cli::serving::{self, ListenArgs};
use crate::engine::{Scheduler, Summary, Ticks, Worker, WorkerOptions};

/// Run jobs, serve schedules and answer HTTP, in one process
///
/// The same as `goflow worker`, `goflow scheduler` and `goflow server` side by side. Start it as often as
/// you like, each on a port of its own: jobs are run once and ticks start one job, over all processes on
/// the store.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Everything that the embedded store needs:
    goflow up
  Twenty jobs at a time, on a Redis that others use too:
    goflow up -c 20 --store redis://localhost:6379
  A second one beside it, on any free port:
    goflow up -p 0")]
pub struct UpArgs {
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    listen: ListenArgs,
}

#[derive(serde::Serialize)]
struct Done {
    completed: u64,
    retried: u64,
    dead: u64,
    cancelled: u64,
    released: u64,
    lost: u64,
    started: u64,
    skipped: u64,
    missed: u64,
}

pub fn run(context: &Context, args: UpArgs) -> Result {
    log::start(context, false)?;
    let shards = args.worker.shards.clone();
    let options = worker::options(context, args.worker)?;
    let runtime = runtime(tokio::runtime::Builder::new_multi_thread())?;
    let (summary, ticks, interrupted) = runtime.block_on(serve(context, options, shards, &args.listen))?;
    let Summary { completed, retried, dead, cancelled, released, lost } = summary;
    let Ticks { started, skipped, missed } = ticks;
    let done = Done { completed, retried, dead, cancelled, released, lost, started, skipped, missed };
    context.ui.result(&done, &format!("{}; {}", worker::summary(summary), scheduler::summary(ticks)))?;
    if interrupted { Err(CommandError::Silent(exit::INTERRUPTED)) } else { Ok(()) }
}

async fn serve(
    context: &Context,
    options: WorkerOptions,
    shards: Option<worker::ShardSet>,
    listen: &ListenArgs,
) -> Result<(Summary, Ticks, bool)> {
    let client = context.client_for(shards.map(|shards| shards.0)).await?;
    let sink = Arc::new(log::StderrLog::new(context.global.verbose));
    let (handlers, machine) = crate::cli::handlers::all(context, sink)?;
    crate::cli::handlers::sweep(context, &machine).await;
    worker::announce(context, &client, &options).await?;
    let alerts = crate::cli::alerts::watch(context, &client, &machine)?;
    let server = serving::listen(context, &client, listen, options.shutdown_timeout).await?;
    let stop = Stop::watch(context.ui.clone())?;
    let (clock, entropy) = (context.clock.clone(), context.entropy.clone());
    let worker = Worker::new(client.store().clone(), options, handlers, clock, entropy.clone());
    let scheduler = Scheduler::new(client.store().clone(), entropy);
    // When one of them ends, for whatever reason, so does the other. A stop ends the scheduler at once:
    // nothing new is begun while what runs may finish.
    let (gently, watching) = (stop.gently.clone(), CancellationToken::new());
    let end = gently.clone().drop_guard();
    let work = async {
        let done = worker.run_apart(gently.clone(), stop.at_once.clone()).await;
        drop(end);
        watching.cancel();
        done
    };
    let schedule = async {
        let done = scheduler.run(gently.clone()).await;
        gently.cancel();
        done
    };
    let watch = alerts.run(watching.clone());
    let answer = server.run(stop.gently.clone(), stop.at_once.clone());
    let (summary, ticks, (), ()) = tokio::join!(work, schedule, watch, answer);
    Ok((summary?, ticks?, stop.interrupted.load(Ordering::Relaxed)))
}
