//! `goflow diff`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use similar::{ChangeTag, TextDiff};

use crate::api::apply::{Change, Planned};
use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::cli::manifests;
use crate::cli::output::{Tone, yaml_of};
use crate::domain::secret;
use crate::domain::text::{count, display_safe};

/// Show what applying manifests would change in the store, line by line; changes nothing
///
/// Both sides are shown in their canonical form: defaults filled in, keys in a fixed order. Ends
/// with 0 whether or not there are differences.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Before an apply:
    goflow diff workflows/
  Does anything differ?
    goflow diff workflows/ -o json | jq 'any(.change != \"unchanged\")'")]
pub struct DiffArgs {
    /// Files, folders, or - for standard input
    #[arg(value_name = "PATH", required = true, value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
}

/// Lines around a change that are shown with it.
const AROUND: usize = 3;

#[derive(serde::Serialize)]
struct Difference {
    kind: String,
    name: String,
    change: Change,
    /// A unified diff of the canonical forms as YAML; empty if there is no difference.
    diff: String,
}

pub fn run(context: &Context, args: &DiffArgs) -> Result {
    let manifests = manifests::read_all(&context.ui, &args.paths)?;
    context.block_on(async {
        let client = context.client().await?;
        manifests::check_references(&client, &manifests).await?;
        let plan = client.plan(manifests.manifests).await?;
        let differences = plan.iter().map(difference).collect::<Result<Vec<_>>>()?;
        let mut lines = Vec::new();
        for difference in &differences {
            lines.extend(difference.diff.lines().map(|line| painted(context, line)));
        }
        context.ui.result_lines(&differences, &lines)?;
        let same = differences.iter().filter(|difference| difference.change == Change::Unchanged).count();
        if same > 0 {
            context.ui.say(&format!("{} unchanged", count(same as u64, "manifest")));
        }
        Ok(())
    })
}

fn difference(planned: &Planned) -> Result<Difference> {
    let (kind, name) = (planned.definition.kind.clone(), planned.definition.name.to_string());
    let before = planned.before.as_deref().map_or_else(|| Ok(String::new()), shown)?;
    let after = shown(&planned.definition.text)?;
    let mut diff = String::new();
    if planned.change != Change::Unchanged {
        diff = unified(&kind, &name, &before, &after);
        if before == after {
            diff.push_str("(what differs is a secret)\n");
        }
    }
    Ok(Difference { kind, name, change: planned.change, diff })
}

/// A definition as YAML, without its secrets.
fn shown(text: &str) -> Result<String> {
    let fields: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| fail(Code::StoreCorrupt, format!("it is not kept as JSON: {error}")))?;
    yaml_of(&secret::manifest(&fields).to_string())
}

fn unified(kind: &str, name: &str, before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let from = if before.is_empty() { "/dev/null".to_owned() } else { format!("store/{kind}/{name}") };
    let mut text = format!("--- {from}\n+++ file/{kind}/{name}\n");
    for hunk in diff.unified_diff().context_radius(AROUND).iter_hunks() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", hunk.header());
        for change in hunk.iter_changes() {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let _ = writeln!(text, "{sign}{}", change.value().trim_end_matches('\n'));
        }
    }
    text
}

fn painted(context: &Context, line: &str) -> String {
    let tone = match line.chars().next() {
        Some('+') => Tone::Good,
        Some('-') => Tone::Bad,
        Some('@') => Tone::Busy,
        _ => return display_safe(line).into_owned(),
    };
    let (on, off) = context.ui.ink(tone);
    format!("{on}{}{off}", display_safe(line))
}
