//! `goflow dlq export`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::JobView;
use crate::api::verbs::At;
use crate::cli::args::Format;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::text::count;

/// Print every dead job as JSON, one a line, whole
///
/// With -o json it is one array. As many as there are: they are printed as they are read.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Keep what is about to be purged:
    goflow dlq export > dead.jsonl
  Put the payloads of one type on another queue:
    goflow dlq export --where 'type:mail' | jq -c .payload | goflow enqueue mail -q slow --lines")]
pub struct ExportArgs {
    /// Only jobs that match, as in 'type:mail* error~timeout age>5m'
    #[arg(long = "where", value_name = "FILTER", add = ArgValueCompleter::new(complete::filter))]
    filter: Option<String>,
}

pub fn run(context: &Context, args: &ExportArgs) -> Result {
    let filter = super::dead(args.filter.as_deref())?;
    let mut ui = context.ui.clone();
    let is_array = ui.format == Format::Json;
    if matches!(ui.format, Format::Table | Format::Wide | Format::Json) {
        ui.format = Format::Jsonl;
    }
    context.block_on(async {
        let client = context.client().await?;
        let now = client.clock().now();
        let bar = context.ui.progress(0, "jobs");
        let (mut at, mut printed) = (Some(At::default()), 0u64);
        while let Some(from) = at {
            let page = client.walk(&filter, from, now).await?;
            let views: Vec<JobView> = page.jobs.iter().map(JobView::from).collect();
            if is_array {
                for view in &views {
                    ui.block(if printed == 0 { "[\n" } else { ",\n" })?;
                    ui.bare(view)?;
                    printed += 1;
                }
            } else if !views.is_empty() {
                ui.list(&views, &[])?;
                printed += views.len() as u64;
            }
            bar.set_position(printed);
            at = page.next;
        }
        bar.finish_and_clear();
        match (is_array, printed) {
            (true, 0) => ui.block("[]\n")?,
            (true, _) => ui.block("\n]\n")?,
            (false, 0) if ui.format == Format::Yaml => ui.block("[]\n")?,
            (false, _) => {}
        }
        context.ui.whisper(&format!("exported {}", count(printed, "dead job")));
        Ok(())
    })
}
