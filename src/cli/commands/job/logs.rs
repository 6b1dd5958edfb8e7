//! `goflow job logs`.

use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::Client;
use crate::api::logs::LogView;
use crate::cli::args::Format;
use crate::cli::codes::{Code, exit};
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, Result};
use crate::cli::output::Listed;
use crate::cli::ui::Ui;
use crate::domain::JobId;
use crate::domain::text::display_safe;

/// Show what a job has printed, over all its attempts
///
/// The latest part of it: 1 MiB a job, 64 KiB on Redis. With -o json the pieces come with their times.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Read along until the job has ended:
    goflow job logs 7c3092b1 -f
  What its last lease printed:
    goflow job logs 7c3092b1 -o json | jq -r 'map(select(.epoch == (.[-1].epoch))) | .[].text'")]
pub struct LogsArgs {
    /// The job's id or any unique part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::jobs))]
    id: String,
    /// Go on until the job has ended
    #[arg(short, long)]
    follow: bool,
}

/// How often what follows is looked for.
const POLL: Duration = Duration::from_millis(200);

impl Listed for LogView {
    fn name(&self) -> &str {
        &self.text
    }
}

pub fn run(context: &Context, args: &LogsArgs) -> Result {
    let mut ui = context.ui.clone();
    if args.follow && ui.format == Format::Json {
        // An array that never ends is no JSON.
        ui.format = Format::Jsonl;
    }
    let outcome = context.block_on(async {
        let client = context.client().await?;
        let id = client.job(&args.id).await?.job.id;
        show(&ui, &client, id, args.follow).await
    });
    match outcome {
        // Ctrl-C is how reading along ends.
        Err(CommandError::Told(told)) if args.follow && told.code == Code::Interrupted => {
            Err(CommandError::Silent(exit::INTERRUPTED))
        }
        outcome => outcome,
    }
}

async fn show(ui: &Ui, client: &Client, id: JobId, follow: bool) -> Result {
    let (mut after, mut line) = (0, String::new());
    loop {
        // Asked before the log is read: what it printed last is then in what is read.
        let ended = !follow || client.has_ended(id).await?;
        let log = client.log(id, after).await?;
        if log.truncated && after == 0 {
            ui.say("the beginning is not kept any more");
        }
        after = log.chunks.last().map_or(after, |chunk| chunk.seq);
        let views: Vec<LogView> = log.chunks.iter().map(LogView::from).collect();
        if matches!(ui.format, Format::Table | Format::Wide | Format::Name) {
            for view in &views {
                line.push_str(&view.text);
                while let Some(end) = line.find('\n') {
                    ui.line(&display_safe(line[..end].trim_end_matches('\r')))?;
                    line.drain(..=end);
                }
            }
        } else if !views.is_empty() || !follow {
            ui.list(&views, &[])?;
        }
        if ended {
            // The last line of a job often has no end.
            return if line.is_empty() { Ok(()) } else { ui.line(&display_safe(&line)) };
        }
        tokio::time::sleep(POLL).await;
    }
}
