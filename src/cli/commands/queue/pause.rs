//! `goflow queue pause`, and what it shares with `goflow queue resume`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::Name;

/// Pause queues: they take new jobs and give none out; what runs goes on
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Stop sending while the mail server is down:
    goflow queue pause mail")]
pub struct PauseArgs {
    /// The queues
    #[arg(value_name = "QUEUE", required = true, add = ArgValueCompleter::new(complete::queues))]
    queues: Vec<Name>,
}

pub fn run(context: &Context, args: &PauseArgs) -> Result {
    set(context, &args.queues, true)
}

#[derive(serde::Serialize)]
struct Outcome {
    changed: Vec<String>,
    unchanged: Vec<String>,
}

/// Pauses or resumes, and says which queues that changed.
pub fn set(context: &Context, queues: &[Name], paused: bool) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let mut outcome = Outcome { changed: Vec::new(), unchanged: Vec::new() };
        for queue in queues {
            let changed = client.set_paused(queue, paused).await?;
            let names = if changed { &mut outcome.changed } else { &mut outcome.unchanged };
            names.push(queue.to_string());
        }
        let (verb, already) = if paused { ("paused", "paused already") } else { ("resumed", "not paused") };
        let mut parts = Vec::new();
        if !outcome.changed.is_empty() {
            parts.push(format!("{verb} {}", outcome.changed.join(", ")));
        }
        if !outcome.unchanged.is_empty() {
            let were = if outcome.unchanged.len() == 1 { "was" } else { "were" };
            parts.push(format!("{} {were} {already}", outcome.unchanged.join(", ")));
        }
        context.ui.result(&outcome, &parts.join("; "))
    })
}
