//! `goflow server`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;

use super::worker::Stop;
use crate::cli::codes::exit;
use crate::cli::context::{Context, runtime};
use crate::cli::error::{CommandError, Result};
use crate::cli::log;
use crate::cli::probe;
use crate::cli::serving::{self, ListenArgs};
use crate::domain::time::parse_duration;

/// Answer HTTP: the API, health, metrics
///
/// Any number of servers over one store answer alike. It writes a line of JSON for each request to stdout.
///
/// On the loopback address nobody needs a token until GOFLOW_TOKEN is set or `goflow token create` has made
/// one; from then on everybody does. On any other address it does not start without a token. /health and
/// /ready are always open.
///
/// TERM or Ctrl-C stops it gently: no more connections are taken, and requests may end within
/// --shutdown-timeout. A second one stops it at once.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  On this machine alone:
    goflow server
  For other machines, on a Redis that workers use too:
    GOFLOW_TOKEN=$(cat token) goflow server --bind 0.0.0.0 -p 8080 --redis localhost:6379
  Ask it:
    curl localhost:8080/health")]
pub struct ServerArgs {
    #[command(flatten)]
    listen: ListenArgs,
    /// How long requests may go on after a stop [default: 25s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    shutdown_timeout: Option<Duration>,
    /// Do not serve: ask the server that listens there whether it is ready, and end with 0 if it is
    #[arg(long, conflicts_with = "shutdown_timeout")]
    probe: bool,
}

#[derive(serde::Serialize)]
struct Ready {
    ready: String,
}

pub fn run(context: &Context, args: &ServerArgs) -> Result {
    if args.probe {
        return context.block_on(async {
            let (bind, port) = serving::place(context, &args.listen)?;
            let ready = probe::ready(&bind, port).await?;
            context.ui.result(&Ready { ready: ready.clone() }, &format!("{ready}: ready"))
        });
    }
    log::start(context, false)?;
    let runtime = runtime(tokio::runtime::Builder::new_multi_thread())?;
    let interrupted = runtime.block_on(serve(context, args))?;
    if interrupted { Err(CommandError::Silent(exit::INTERRUPTED)) } else { Ok(()) }
}

async fn serve(context: &Context, args: &ServerArgs) -> Result<bool> {
    let client = context.client().await?;
    let timeout = args.shutdown_timeout.unwrap_or(context.config()?.shutdown_timeout());
    let health = client.store().health().await.map_err(CommandError::from)?;
    context.ui.say(&format!("serving {}; {}", client.store().describe(), health.durability));
    for warning in &health.warnings {
        context.ui.warn(warning);
    }
    let server = serving::listen(context, &client, &args.listen, timeout).await?;
    let stop = Stop::watch(context.ui.clone())?;
    server.note("started");
    server.run(stop.gently.clone(), stop.at_once.clone()).await;
    Ok(stop.interrupted.load(Ordering::Relaxed))
}
