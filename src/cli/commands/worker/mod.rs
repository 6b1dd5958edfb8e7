//! `goflow worker`: being one, and the verbs on others.

mod drain;
mod list;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::api::Client;
use crate::cli::codes::{Code, exit};
use crate::cli::context::{Context, runtime};
use crate::cli::error::{CommandError, Result, fail};
use crate::cli::ui::Ui;
use crate::cli::{alerts, complete, handlers, log};
use crate::domain::text::{count, thousands};
use crate::domain::time::parse_duration;
use crate::domain::{Name, Shard};
use crate::engine::{Summary, Worker, WorkerOptions};

/// Run jobs; list and drain workers
///
/// Serves every queue, unless -q names some; `-q mail=3,reports=1` serves mail three times as often,
/// and with --strict reports only when mail is empty. Start as many workers as you like, on as many
/// machines: each job is run by one of them at a time.
///
/// TERM or Ctrl-C stops it gently: nothing new is begun, what runs may finish within
/// --shutdown-timeout and is given back otherwise. A second one stops it at once.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Examples:
  Ten jobs at a time, from every queue:
    goflow worker -c 10
  Work off what there is, then end:
    goflow worker --until-empty
  See what the jobs print:
    goflow worker -v"
)]
pub struct WorkerCommand {
    #[command(subcommand)]
    verb: Option<WorkerVerb>,
    #[command(flatten)]
    worker: WorkerArgs,
}

// How a worker works: flags of every command that is one. Without a doc comment, which would become
// the help of those commands.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// Jobs at the same time [default: `worker.concurrency` of the configuration, else 10]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: Option<u32>,
    /// Queues to serve, with their weights
    #[arg(short, long = "queue", value_name = "QUEUE[=WEIGHT]", value_delimiter = ',', value_parser = weighted,
          add = ArgValueCompleter::new(complete::queues))]
    queues: Vec<(Name, Option<u32>)>,
    /// Serve a queue only when those named before it are empty
    #[arg(long, requires = "queues")]
    strict: bool,
    /// End once nothing waits, runs or is due to retry
    #[arg(long)]
    until_empty: bool,
    /// Work for these shards only, as in 0-1 or 0,2; others must have workers of their own
    #[arg(long, value_name = "SHARDS", value_parser = shard_set)]
    pub shards: Option<ShardSet>,
    /// How long running jobs may go on after a stop [default: 25s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    shutdown_timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
enum WorkerVerb {
    List(list::ListArgs),
    Drain(drain::DrainArgs),
}

/// Numbers of shards.
#[derive(Clone, Debug)]
pub struct ShardSet(pub BTreeSet<u16>);

fn shard_set(text: &str) -> std::result::Result<ShardSet, String> {
    let bad = || format!("`{text}` does not name shards: write 0-1, or 0,2");
    let mut shards = BTreeSet::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u16, u16) = (from.parse().map_err(|_| bad())?, to.parse().map_err(|_| bad())?);
        if from > to || to > Shard::MAX {
            return Err(bad());
        }
        shards.extend(from..=to);
    }
    Ok(ShardSet(shards))
}

fn weighted(text: &str) -> std::result::Result<(Name, Option<u32>), String> {
    let (name, weight) = match text.split_once('=') {
        Some((name, weight)) => {
            let weight = weight.parse::<u32>().ok().filter(|weight| (1..=1_000).contains(weight));
            let bad = || format!("the weight in `{text}` is not a whole number from 1 to 1000");
            (name, Some(weight.ok_or_else(bad)?))
        }
        None => (text, None),
    };
    Ok((name.parse().map_err(|error: crate::domain::name::BadName| error.to_string())?, weight))
}

#[derive(serde::Serialize)]
struct Done {
    completed: u64,
    retried: u64,
    dead: u64,
    cancelled: u64,
    released: u64,
    lost: u64,
}

pub fn run(context: &Context, command: WorkerCommand) -> Result {
    match command.verb {
        Some(WorkerVerb::List(args)) => list::run(context, &args),
        Some(WorkerVerb::Drain(args)) => drain::run(context, &args),
        None => serve(context, command.worker),
    }
}

fn serve(context: &Context, args: WorkerArgs) -> Result {
    log::start(context, false)?;
    let shards = args.shards.clone();
    let options = options(context, args)?;
    let runtime = runtime(tokio::runtime::Builder::new_multi_thread())?;
    let (done, interrupted) = runtime.block_on(work(context, options, shards))?;
    let Summary { completed, retried, dead, cancelled, released, lost } = done;
    context.ui.result(&Done { completed, retried, dead, cancelled, released, lost }, &summary(done))?;
    if interrupted { Err(CommandError::Silent(exit::INTERRUPTED)) } else { Ok(()) }
}

/// How the worker of these flags works.
///
/// # Errors
/// A broken configuration.
pub fn options(context: &Context, args: WorkerArgs) -> Result<WorkerOptions> {
    Ok(WorkerOptions {
        concurrency: args.concurrency.unwrap_or(context.config()?.concurrency()) as usize,
        queues: args.queues,
        strict: args.strict,
        until_empty: args.until_empty,
        shutdown_timeout: args.shutdown_timeout.unwrap_or(context.config()?.shutdown_timeout()),
        lease: context.config()?.lease(),
        host: crate::sys::host::name(),
        pid: std::process::id(),
        spans: context.spans()?,
        ..WorkerOptions::default()
    })
}

/// What a worker did, as a sentence.
pub fn summary(done: Summary) -> String {
    let Summary { completed, retried, dead, cancelled, released, lost } = done;
    let mut parts = vec![format!("completed {}", count(completed, "job"))];
    let mut part = |n: u64, what: &str| {
        if n > 0 {
            parts.push(format!("{} {what}", thousands(n)));
        }
    };
    part(retried, "failed and will be retried");
    part(dead, "died");
    part(cancelled, "cancelled");
    part(released, "given back");
    part(lost, "finished too late to count");
    parts.join("; ")
}

async fn work(context: &Context, options: WorkerOptions, shards: Option<ShardSet>) -> Result<(Summary, bool)> {
    let client = context.client_for(shards.map(|shards| shards.0)).await?;
    let sink = Arc::new(log::StderrLog::new(context.global.verbose));
    let (handlers, machine) = handlers::all(context, sink)?;
    handlers::sweep(context, &machine).await;
    announce(context, &client, &options).await?;
    let alerts = alerts::watch(context, &client, &machine)?;
    let stop = Stop::watch(context.ui.clone())?;
    let worker = Worker::new(client.store().clone(), options, handlers, context.clock.clone(), context.entropy.clone());
    // Alerts are watched for to the last: what dies while the worker stops is news too.
    let watching = CancellationToken::new();
    let work = async {
        let done = worker.run_apart(stop.gently.clone(), stop.at_once.clone()).await;
        watching.cancel();
        done
    };
    let (summary, ()) = tokio::join!(work, alerts.run(watching.clone()));
    Ok((summary?, stop.interrupted.load(Ordering::Relaxed)))
}

/// Says what this worker is about to do, and what the store promises.
pub async fn announce(context: &Context, client: &Client, options: &WorkerOptions) -> Result {
    let queues = match options.queues.as_slice() {
        [] => "every queue".to_owned(),
        queues => queues.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(", "),
    };
    let health = client.store().health().await?;
    let (store, durability) = (client.store().describe(), &health.durability);
    context.ui.say(&format!(
        "serving {queues} of {store}, {} at a time; {durability}",
        count(options.concurrency as u64, "job")
    ));
    for warning in &health.warnings {
        context.ui.warn(warning);
    }
    // Else a worker that waits for them, above all with --until-empty, seems to hang.
    let is_served = |queue: &Name| options.queues.is_empty() || options.queues.iter().any(|(name, _)| name == queue);
    for (queue, settings) in client.store().queues().await? {
        if settings.paused && is_served(&queue) {
            context.ui.warn(&format!("queue {queue} is paused: its jobs wait until `goflow queue resume {queue}`"));
        }
    }
    Ok(())
}

/// What a first signal is answered with.
pub const STOPPING: &str = "stopping: what runs may finish; once more stops it at once";

/// The signals that end a worker, and what they ask for.
pub struct Stop {
    pub gently: CancellationToken,
    pub at_once: CancellationToken,
    /// It was Ctrl-C, not TERM.
    pub interrupted: Arc<AtomicBool>,
}

impl Stop {
    /// Watches from now on, until the runtime ends. Must be called within one.
    ///
    /// # Errors
    /// The system lets us watch no signals.
    pub fn watch(ui: Ui) -> Result<Stop> {
        let unwatched = |error| fail(Code::Bug, format!("signals cannot be watched for: {error}"));
        let mut int = signal(SignalKind::interrupt()).map_err(unwatched)?;
        let mut term = signal(SignalKind::terminate()).map_err(unwatched)?;
        let stop =
            Stop { gently: CancellationToken::new(), at_once: CancellationToken::new(), interrupted: Arc::default() };
        let (gently, at_once, interrupted) = (stop.gently.clone(), stop.at_once.clone(), stop.interrupted.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    _ = int.recv() => interrupted.store(true, Ordering::Relaxed),
                    _ = term.recv() => {}
                }
                if gently.is_cancelled() {
                    at_once.cancel();
                } else {
                    ui.say(STOPPING);
                    gently.cancel();
                }
            }
        });
        Ok(stop)
    }
}
