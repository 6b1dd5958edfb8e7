//! `goflow bench`: the command and its report. What is measured is in `measure`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::load::{self, Load, Taken};
use super::measure::{self, Measured};
use crate::api::Client;
use crate::cli::codes::Code;
use crate::cli::context::{Context, runtime};
use crate::cli::error::{Result, fail, reason};
use crate::cli::serving;
use crate::domain::Name;
use crate::domain::text::{count, size, thousands};
use crate::store::StoreUrl;
use crate::store::open::{OpenOptions, open as open_store};

/// Measure how fast a store is with goflow on this machine, and under which durability
///
/// Without --store a new SQLite file in the folder for temporary files is measured and removed. A
/// store that is named keeps the finished jobs, on a queue of their own, as long as any other.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Enqueue jobs that do nothing, weigh and work them off, and time the pick-up of single ones
    #[command(after_long_help = "\
Examples:
  A hundred thousand jobs of 200 bytes, ten at a time:
    goflow bench jobs -n 100000 -c 10 --payload 200
  On a Redis server:
    goflow bench jobs --store redis://localhost:6379 -o json")]
    Jobs(BenchArgs),
    /// Work off runs that do nothing: five steps in sequence, together and singly, and one step, a hundred, and a join
    #[command(after_long_help = "\
Examples:
  A thousand runs:
    goflow bench workflows -n 1000")]
    Workflows(BenchArgs),
    /// Add jobs through a server over connections that are kept open, and time each request
    ///
    /// Without --server a server is started in this process, over the store that is named. The jobs do nothing, and
    /// stay on a queue of their own, paused, which is named at the end. This process takes a part of the machine
    /// as well.
    #[command(after_long_help = "\
Examples:
  In batches of a hundred, over four connections:
    goflow bench http --server http://localhost:8080 -n 600000 --batch 100 -c 4
  One by one, over 64:
    goflow bench http --server http://localhost:8080 -n 80000 -c 64
  A server of its own, over a store:
    goflow bench http --store redis://localhost:6379")]
    Http(HttpArgs),
}

#[derive(Debug, Args)]
pub struct HttpArgs {
    /// How many jobs
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    count: u64,
    /// Connections at the same time
    #[arg(short, long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Jobs a request
    #[arg(long, value_name = "JOBS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    batch: u32,
    /// Size of each job's payload, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    payload: u32,
}

#[derive(serde::Serialize)]
struct HttpReport {
    kind: &'static str,
    server: String,
    count: u64,
    connections: u32,
    batch: u32,
    payload_bytes: u32,
    queue: String,
    #[serde(flatten)]
    taken: Taken,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// How many jobs or runs
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    count: u64,
    /// Jobs at the same time
    #[arg(short, long, value_name = "C", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Size of each job's payload, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    payload: u32,
}

#[derive(serde::Serialize)]
struct Report {
    kind: &'static str,
    store: String,
    server: String,
    durability: String,
    count: u64,
    concurrency: u32,
    payload_bytes: u32,
    #[serde(flatten)]
    measured: Measured,
}

fn http(context: &Context, args: &HttpArgs) -> Result {
    let queue: Name = format!("bench{:06x}", context.entropy.next() >> 40)
        .parse()
        .map_err(|error| fail(Code::Bug, format!("{error}")))?;
    let scratch = Scratch::unless_named(context)?;
    let jobs = args.count.next_multiple_of(args.batch.into());
    let runtime = runtime(tokio::runtime::Builder::new_multi_thread())?;
    let measured = runtime.block_on(async {
        let client = open(context, scratch.as_ref()).await?;
        // Nobody is to work on them: that would be measured too.
        client.set_queue(&queue, |settings| settings.paused = true).await?;
        let named = match &scratch {
            Some(_) => None,
            None => match context.store_choice()?.0 {
                StoreUrl::Server(server) => Some(server),
                _ => None,
            },
        };
        let server = match named {
            Some(server) => server,
            None => serving::alone(context, client).await?,
        };
        let token = context.token()?.map(|(token, _)| token);
        let load = Load {
            server: &server,
            token: token.as_ref(),
            queue: &queue,
            count: jobs,
            connections: args.connections,
            batch: args.batch,
            payload_bytes: args.payload as usize,
        };
        tokio::select! {
            biased;
            taken = load::take(&load) => taken.map(|taken| (server.to_string(), taken)),
            _ = tokio::signal::ctrl_c() => Err(fail(Code::Interrupted, "interrupted")),
        }
    });
    drop(runtime);
    let (server, taken) = measured?;
    let Taken { requests, jobs_per_second, requests_per_second, p50_ms, p99_ms, longest_ms } = taken;
    let rate = |rate: f64| thousands(rate.round() as u64);
    let mut lines = vec![
        format!("server      {server}"),
        format!(
            "work        {} in {}, {} a request, {} connections, {}",
            count(jobs, "job"),
            count(requests, "request"),
            args.batch,
            args.connections,
            size(args.payload.into())
        ),
        format!("enqueue     {} jobs/s, {} requests/s", rate(jobs_per_second), rate(requests_per_second)),
        format!("request     p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, longest {longest_ms:.2} ms"),
    ];
    if scratch.is_none() {
        lines.push(format!("left        {} on the queue {queue}, which is paused", count(jobs, "job")));
    }
    let report = HttpReport {
        kind: "http",
        server,
        count: jobs,
        connections: args.connections,
        batch: args.batch,
        payload_bytes: args.payload,
        queue: queue.to_string(),
        taken,
    };
    context.ui.result_lines(&report, &lines)
}

pub fn run(context: &Context, command: BenchCommand) -> Result {
    let (kind, args) = match &command {
        BenchCommand::Http(args) => return http(context, args),
        BenchCommand::Jobs(args) => ("jobs", args),
        BenchCommand::Workflows(args) => ("workflows", args),
    };
    let scratch = Scratch::unless_named(context)?;
    let is_named = scratch.is_none();
    let runtime = runtime(tokio::runtime::Builder::new_multi_thread())?;
    let report = runtime.block_on(async {
        let client = open(context, scratch.as_ref()).await?;
        let in_memory = is_named && context.store_choice()?.0 == StoreUrl::Memory;
        let another = async || if in_memory { Ok(client.clone()) } else { open(context, scratch.as_ref()).await };
        let health = client.store().health().await?;
        let work = async {
            match kind {
                "jobs" => {
                    let bytes = args.payload as usize;
                    measure::jobs(context, &client, &another, args.count, args.concurrency, bytes).await
                }
                _ => measure::workflows(context, &client, &another, args.count, args.concurrency).await,
            }
        };
        let measured = tokio::select! {
            biased;
            measured = work => measured?,
            _ = tokio::signal::ctrl_c() => return Err(fail(Code::Interrupted, "interrupted")),
        };
        Ok(Report {
            kind,
            store: client.store().describe(),
            server: health.server,
            durability: health.durability,
            count: args.count,
            concurrency: args.concurrency,
            payload_bytes: args.payload,
            measured,
        })
    });
    drop(runtime);
    let report = report?;
    context.ui.result_lines(&report, &lines(&report))
}

/// The store that is named, or the one in the folder of this measurement.
async fn open(context: &Context, scratch: Option<&Scratch>) -> Result<Client> {
    let Some(scratch) = scratch else { return context.client().await };
    let url = StoreUrl::Sqlite(scratch.0.join("bench.db"));
    let store = open_store(&url, context.clock.clone(), context.entropy.clone(), OpenOptions::default()).await?;
    Ok(Client::new(store, context.clock.clone(), context.entropy.clone()))
}

fn lines(report: &Report) -> Vec<String> {
    let Measured {
        enqueue_per_second,
        drain_per_second,
        fan_out_per_second,
        bytes_per_waiting_job,
        pickup_p50_ms,
        pickup_p99_ms,
        run_p50_ms,
        run_p99_ms,
    } = report.measured;
    let (unit, drain) = if report.kind == "jobs" { ("jobs/s", "drain   ") } else { ("runs/s", "sequence") };
    let rate = |rate: f64| format!("{} {unit}", thousands(rate.round() as u64));
    let mut lines = vec![
        format!("store       {}", report.store),
        format!("server      {}", report.server),
        format!("durability  {}", report.durability),
        format!(
            "work        {} {}, {} at a time, {}",
            thousands(report.count),
            report.kind,
            report.concurrency,
            size(report.payload_bytes.into())
        ),
        format!("enqueue     {}", rate(enqueue_per_second)),
        format!("{drain}    {}", rate(drain_per_second)),
    ];
    if let Some(fan_out) = fan_out_per_second {
        lines.push(format!("fan-out     {}", rate(fan_out)));
    }
    if let Some(bytes) = bytes_per_waiting_job {
        lines.push(format!("waiting     {bytes:.0} bytes a job"));
    }
    if let (Some(p50), Some(p99)) = (pickup_p50_ms, pickup_p99_ms) {
        lines.push(format!("pick-up     p50 {p50:.2} ms, p99 {p99:.2} ms"));
    }
    if let (Some(p50), Some(p99)) = (run_p50_ms, run_p99_ms) {
        lines.push(format!("one run     p50 {p50:.2} ms, p99 {p99:.2} ms"));
    }
    lines
}

/// A folder that is removed with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    /// None where a store or a server is named.
    fn unless_named(context: &Context) -> Result<Option<Scratch>> {
        let named = &context.global;
        let is_named = named.store.is_some() || named.redis.is_some() || named.server.is_some();
        if is_named { Ok(None) } else { Scratch::make(context).map(Some) }
    }

    fn make(context: &Context) -> Result<Scratch> {
        let path = std::env::temp_dir().join(format!("goflow-bench-{:016x}", context.entropy.next()));
        std::fs::create_dir(&path).map_err(|error| {
            fail(Code::Unreadable, format!("{} cannot be made: {}", path.display(), reason(&error)))
        })?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
