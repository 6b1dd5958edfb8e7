//! `goflow validate`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::api::apply::definition;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::manifests;
use crate::cli::output::{Column, Listed};

/// Check manifests without a store: all mistakes of all files at once, each where it is
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Before a commit:
    goflow validate workflows/
  What an editor sends:
    goflow validate - < order.yaml")]
pub struct ValidateArgs {
    /// Files, folders, or - for standard input
    #[arg(value_name = "PATH", required = true, value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
}

#[derive(serde::Serialize)]
struct Valid {
    kind: &'static str,
    #[serde(rename = "name")]
    bare: String,
    hash: String,
    #[serde(skip)]
    name: String,
    #[serde(skip)]
    summary: String,
}

impl Listed for Valid {
    fn name(&self) -> &str {
        &self.name
    }
}

pub fn run(context: &Context, args: &ValidateArgs) -> Result {
    let found = manifests::read_all(&context.ui, &args.paths)?;
    for reference in found.unresolved() {
        let what = format!("{} `{}`", reference.kind.stored(), reference.name);
        let place = &reference.missing;
        let (file, line, column) = (&place.file, place.line, place.column);
        context.ui.warn(&format!("{file}:{line}:{column}: the {what} is not in these files; apply looks in the store"));
    }
    let valid: Vec<Valid> = found
        .manifests
        .iter()
        .map(|manifest| {
            let (kind, bare) = (manifest.kind().stored(), manifest.name().to_string());
            let name = format!("{kind}/{bare}");
            Valid { kind, bare, hash: definition(manifest).hash, name, summary: manifest.summary() }
        })
        .collect();
    context.ui.list(
        &valid,
        &[
            Column::<Valid>::new("KIND", |one, _| one.kind.to_owned()),
            Column::<Valid>::new("NAME", |one, _| one.bare.clone()),
            Column::<Valid>::new("WHAT", |one, _| one.summary.clone()),
            Column::<Valid>::new("VERSION", |one, _| one.hash.chars().take(12).collect()).wide(),
        ],
    )
}
