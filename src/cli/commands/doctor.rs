//! `goflow doctor`.

use std::collections::BTreeMap;

use clap::Args;

use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, Result, fail};
use crate::cli::output::Tone;
use crate::domain::text::{count, display_safe};
use crate::store::Health;

/// Check the configuration and the store, and tell what an acknowledged job survives
///
/// With --verify every record is read and recounted, which takes as long as there are records.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Is everything in order?
    goflow doctor
  Do counters and indexes agree with the records?
    goflow doctor --verify -o json")]
pub struct DoctorArgs {
    /// Recount everything and compare
    #[arg(long)]
    verify: bool,
}

#[derive(serde::Serialize)]
struct Report {
    ok: bool,
    version: &'static str,
    config_files: Vec<String>,
    store: String,
    store_origin: String,
    server: Option<String>,
    schema: Option<u32>,
    durability: Option<String>,
    /// What the promise rests on.
    settings: BTreeMap<String, String>,
    workers: Option<usize>,
    warnings: Vec<String>,
    /// `null` unless `--verify` was given.
    differences: Option<Vec<String>>,
    error: Option<String>,
}

pub fn run(context: &Context, args: &DoctorArgs) -> Result {
    let (url, choice) = context.store_choice()?;
    let config = context.config()?;
    let mut report = Report {
        ok: true,
        version: env!("CARGO_PKG_VERSION"),
        config_files: config.files.iter().map(|path| path.display().to_string()).collect(),
        store: url.to_string(),
        store_origin: choice.origin.to_string(),
        server: None,
        schema: None,
        durability: None,
        settings: BTreeMap::new(),
        workers: None,
        warnings: Vec::new(),
        differences: None,
        error: None,
    };
    let outcome = context.block_on(examine(context, args.verify, &mut report));
    if let Err(CommandError::Told(told)) = &outcome {
        report.error = Some(told.message.clone());
    }
    report.ok = outcome.is_ok();
    let lines = lines(&report, context);
    context.ui.result_lines(&report, &lines)?;
    outcome
}

async fn examine(context: &Context, verify: bool, report: &mut Report) -> Result {
    let client = context.client().await?;
    let Health { server, durability, schema, warnings, settings, bytes: _ } = client.store().health().await?;
    (report.server, report.durability, report.schema) = (Some(server), Some(durability), Some(schema));
    (report.warnings, report.settings) = (warnings, settings);
    report.workers = Some(client.store().workers().await?.len());
    if verify {
        let differences = client.store().verify().await?;
        let found = differences.len() as u64;
        report.differences = Some(differences);
        if found > 0 {
            return Err(fail(
                Code::Differences,
                format!("the store disagrees with itself in {}", count(found, "place")),
            )
            .hint("please report the differences above"));
        }
    }
    Ok(())
}

fn lines(report: &Report, context: &Context) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |tone: Tone, name: &str, text: &str| {
        let word = match tone {
            Tone::Good => "ok",
            Tone::Wait => "warn",
            _ => "fail",
        };
        let (on, off) = context.ui.ink(tone);
        lines.push(format!("{on}{word:<4}{off}  {name:<11}  {}", display_safe(text)));
    };
    let files =
        if report.config_files.is_empty() { "no file; defaults".to_owned() } else { report.config_files.join(", ") };
    line(Tone::Good, "version", report.version);
    line(Tone::Good, "config", &files);
    let tone = if report.server.is_some() { Tone::Good } else { Tone::Bad };
    line(tone, "store", &format!("{} ({})", report.store, report.store_origin));
    if let (Some(server), Some(schema)) = (&report.server, report.schema) {
        line(Tone::Good, "server", &format!("{server}, schema {schema}"));
    }
    for (name, text) in &report.settings {
        line(Tone::Good, name, text);
    }
    if let Some(durability) = &report.durability {
        line(Tone::Good, "durability", durability);
    }
    if let Some(workers) = report.workers {
        line(Tone::Good, "workers", &workers.to_string());
    }
    for warning in &report.warnings {
        line(Tone::Wait, "store", warning);
    }
    match &report.differences {
        Some(differences) if differences.is_empty() => line(Tone::Good, "verify", "0 differences"),
        Some(differences) => differences.iter().for_each(|difference| line(Tone::Bad, "verify", difference)),
        None => {}
    }
    lines
}
