//! `goflow webhook enable`, and what it shares with `goflow webhook disable`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::Name;

/// Switch webhooks on
///
/// The same as `enabled: true` in their manifests: the last of the two counts.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Take deliveries again:
    goflow webhook enable github-push")]
pub struct EnableArgs {
    /// The webhooks
    #[arg(value_name = "NAME", required = true, add = ArgValueCompleter::new(complete::webhooks))]
    names: Vec<Name>,
}

pub fn run(context: &Context, args: &EnableArgs) -> Result {
    set(context, &args.names, true)
}

#[derive(serde::Serialize)]
struct Outcome {
    changed: Vec<String>,
    unchanged: Vec<String>,
}

/// Switches webhooks, and says which ones that changed.
pub fn set(context: &Context, names: &[Name], enabled: bool) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        // All or none: a name that is not there is told before anything is switched.
        for name in names {
            client.webhook(name).await?;
        }
        let mut outcome = Outcome { changed: Vec::new(), unchanged: Vec::new() };
        for name in names {
            let changed = client.enable_webhook(name, enabled).await?;
            let those = if changed { &mut outcome.changed } else { &mut outcome.unchanged };
            those.push(name.to_string());
        }
        let state = if enabled { "on" } else { "off" };
        let mut parts = Vec::new();
        if !outcome.changed.is_empty() {
            parts.push(format!("switched {} {state}", outcome.changed.join(", ")));
        }
        if !outcome.unchanged.is_empty() {
            let were = if outcome.unchanged.len() == 1 { "was" } else { "were" };
            parts.push(format!("{} {were} {state} already", outcome.unchanged.join(", ")));
        }
        context.ui.result(&outcome, &parts.join("; "))
    })
}
