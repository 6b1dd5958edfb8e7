//! `goflow job show`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::api::JobView;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::ui::Ui;
use crate::domain::time::format_duration;
use crate::store::Stored;

/// Show one job, with every attempt that is kept
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  By the characters that lists show:
    goflow job show 7c3092b1
  Its result alone:
    goflow job show 7c3092b1 -o json | jq .result")]
pub struct ShowArgs {
    /// The job's id or any unique part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::jobs))]
    id: String,
}

pub fn run(context: &Context, args: &ShowArgs) -> Result {
    context.block_on(async {
        let stored = context.client().await?.job(&args.id).await?;
        print(context, &stored)
    })
}

/// Prints one job, whole.
pub fn print(context: &Context, stored: &Stored) -> Result {
    let view = JobView::from(stored);
    context.ui.one(&view, &fields(stored, &view, &context.ui))
}

fn fields(stored: &Stored, view: &JobView, ui: &Ui) -> Vec<(&'static str, String)> {
    let job = &stored.job;
    let mut fields = vec![
        ("id", view.id.clone()),
        ("type", view.kind.clone()),
        ("queue", view.queue.clone()),
        ("state", ui.state(view.state)),
        ("attempt", format!("{} of {}", view.attempt, view.max_retries.saturating_add(1))),
        ("priority", view.priority.to_string()),
        ("created", view.created_at.0.rfc3339()),
    ];
    if view.run_at != view.created_at {
        fields.push(("run at", view.run_at.0.rfc3339()));
    }
    let mut some = |name, text: Option<String>| fields.extend(text.map(|text| (name, text)));
    some("started", view.started_at.map(|at| at.0.rfc3339()));
    some("finished", view.finished_at.map(|at| at.0.rfc3339()));
    some("timeout", job.timeout_ms.map(|ms| format_duration(std::time::Duration::from_millis(ms))));
    some("deadline", view.deadline_at.map(|at| at.0.rfc3339()));
    some("unique key", view.unique_key.clone());
    some("concurrency", job.concurrency.as_ref().map(|one| format!("{} (at most {})", one.key, one.limit)));
    some("waits for", view.waits_for.clone());
    some("run", view.run_id.clone());
    some("step", view.step.clone());
    some("worker", view.worker.clone());
    some("progress", stored.progress.as_ref().or(job.progress.as_ref()).map(ToString::to_string));
    some("asked to end", stored.asked.then(|| "yes".to_owned()));
    some(
        "after",
        (!job.after.is_empty()).then(|| job.after.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
    );
    some("crashes", (view.crashes > 0).then(|| view.crashes.to_string()));
    for (key, value) in &view.metadata {
        some("metadata", Some(format!("{key}={value}")));
    }
    some("payload", Some(job.payload.to_string()));
    some("result", job.result.as_ref().map(ToString::to_string));
    some("error", job.error.as_ref().map(ToString::to_string));
    for attempt in &job.history {
        some("failure", Some(format!("{} {}", attempt.ended_at, attempt.error)));
    }
    fields
}
