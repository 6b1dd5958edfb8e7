//! `goflow apply`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::api::apply::{Change, Planned};
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::manifests;
use crate::cli::output::{Column, Listed, Tone};

/// Keep workflows, handlers, schedules, queues and webhooks in the store, and tell what that changes
///
/// Everything is checked first, and all mistakes are shown at once; then all of it is kept or none.
/// Runs that have begun go on with the version they began with.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One file:
    goflow apply workflows/order-saga.yaml
  What would a folder of manifests change?
    goflow apply --dry-run workflows/
  From standard input:
    cat handlers/*.yaml | goflow apply -")]
pub struct ApplyArgs {
    /// Files, folders, or - for standard input
    #[arg(value_name = "PATH", required = true, value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// Only tell what would change
    #[arg(long)]
    dry_run: bool,
}

/// One manifest and what applying it means, as a row.
#[derive(serde::Serialize)]
struct Applied {
    kind: String,
    #[serde(rename = "name")]
    bare: String,
    change: Change,
    hash: String,
    /// `kind/name`: what tells it from all others.
    #[serde(skip)]
    name: String,
}

impl Listed for Applied {
    fn name(&self) -> &str {
        &self.name
    }
}

impl From<&Planned> for Applied {
    fn from(planned: &Planned) -> Applied {
        let definition = &planned.definition;
        let (kind, bare) = (definition.kind.clone(), definition.name.to_string());
        let name = format!("{kind}/{bare}");
        Applied { kind, bare, change: planned.change, hash: definition.hash.clone(), name }
    }
}

pub fn run(context: &Context, args: &ApplyArgs) -> Result {
    let found = manifests::read_all(&context.ui, &args.paths)?;
    context.block_on(async {
        let client = context.client().await?;
        manifests::check_references(&client, &found).await?;
        let plan = client.plan(found.manifests).await?;
        if !args.dry_run {
            client.apply(&plan).await?;
        }
        let applied: Vec<Applied> = plan.iter().map(Applied::from).collect();
        context.ui.list(
            &applied,
            &[
                Column::<Applied>::new("KIND", |one, _| one.kind.clone()),
                Column::<Applied>::new("NAME", |one, _| one.bare.clone()),
                Column::<Applied>::new("CHANGE", |one, _| one.change.as_str().to_owned()).tone(|one| {
                    match one.change {
                        Change::Created => Some(Tone::Good),
                        Change::Changed => Some(Tone::Wait),
                        Change::Unchanged => Some(Tone::Faint),
                    }
                }),
                Column::<Applied>::new("VERSION", |one, _| one.hash.chars().take(12).collect()).wide(),
            ],
        )?;
        if args.dry_run {
            context.ui.say("nothing was applied: --dry-run");
        }
        Ok(())
    })
}
