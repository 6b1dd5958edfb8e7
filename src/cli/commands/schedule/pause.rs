//! `goflow schedule pause`, and what it shares with `goflow schedule resume`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::Name;

/// Pause schedules: they start nothing; what they have started goes on
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  No reports while the database is moved:
    goflow schedule pause nightly-report")]
pub struct PauseArgs {
    /// The schedules
    #[arg(value_name = "NAME", required = true, add = ArgValueCompleter::new(complete::schedules))]
    names: Vec<Name>,
}

pub fn run(context: &Context, args: &PauseArgs) -> Result {
    set(context, &args.names, true)
}

#[derive(serde::Serialize)]
struct Outcome {
    changed: Vec<String>,
    unchanged: Vec<String>,
}

/// Pauses or resumes, and says which schedules that changed.
pub fn set(context: &Context, names: &[Name], paused: bool) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let mut outcome = Outcome { changed: Vec::new(), unchanged: Vec::new() };
        for name in names {
            let changed = client.pause_schedule(name, paused).await?;
            let those = if changed { &mut outcome.changed } else { &mut outcome.unchanged };
            those.push(name.to_string());
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
