//! `goflow workflow show`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::list::tone;
use crate::api::RunView;
use crate::api::held_up::HeldUp;
use crate::api::runs::StepView;
use crate::cli::args::Format;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::output::{Column, Listed, Tone};
use crate::domain::StepState;
use crate::domain::text::{clip, display_safe};

/// Show one run: its state, its values and its steps
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  By a part of its id, as lists show it:
    goflow workflow show 7c3092b1
  What a step answered:
    goflow workflow show 7c3092b1 -o json | jq '.steps[] | select(.id == \"pay\") | .output'")]
pub struct ShowArgs {
    /// The run's id, or a part of it
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::runs))]
    id: String,
}

/// Longer values are cut in the table; JSON has them whole.
const SHOWN: usize = 80;

impl Listed for StepView {
    fn name(&self) -> &str {
        &self.path
    }
}

pub fn run(context: &Context, args: &ShowArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let id = client.find_run(&args.id).await?;
        let run = client.run(id).await?;
        let ui = &context.ui;
        if !matches!(ui.format, Format::Table | Format::Wide) {
            return ui.one(&run, &[]);
        }
        let held_up = client.held_up(id).await?;
        for line in head(&run, &held_up, ui) {
            ui.line(&line)?;
        }
        ui.line("")?;
        ui.list(&run.steps, STEPS)
    })
}

fn head(run: &RunView, held_up: &[HeldUp], ui: &crate::cli::ui::Ui) -> Vec<String> {
    let (on, off) = tone(run.state).map_or(("", ""), |tone| ui.ink(tone));
    let value = |value: &Option<crate::api::wire::Value>| value.as_ref().map(|value| value.0.to_string());
    let time = |time: &Option<crate::api::wire::Time>| time.map(|time| time.0.rfc3339());
    let fields = [
        ("run", Some(run.id.clone())),
        ("workflow", Some(format!("{} {}", run.workflow, &run.version[..run.version.len().min(12)]))),
        ("state", Some(format!("{on}{}{off}", run.state))),
        ("parent", run.parent_id.clone()),
        ("input", value(&run.input)),
        ("output", value(&run.output)),
        ("error", run.error.as_ref().map(|error| format!("{}: {}", error.class, error.message))),
        ("created", Some(run.created_at.0.rfc3339())),
        ("finished", time(&run.finished_at)),
    ];
    let signals = run.signals.iter().map(|signal| {
        let late = if signal.late { " (late)" } else { "" };
        let data = clip(&signal.data.0.to_string(), SHOWN).into_owned();
        ("signal", format!("{}{late} at {}: {data}", signal.name, signal.at.0.rfc3339()))
    });
    let held_up = held_up.iter().map(|why| ("held up", why.to_string()));
    let shown = fields.into_iter().filter_map(|(name, text)| Some((name, text?))).chain(held_up).chain(signals);
    shown
        .map(|(name, text)| {
            // The state is painted already; everything else may hold anything.
            let text = if name == "state" { text } else { display_safe(&text).into_owned() };
            format!("{name:<9} {text}")
        })
        .collect()
}

const STEPS: &[Column<StepView>] = &[
    Column::new("STEP", |step, _| step.path.clone()),
    Column::new("STATE", |step: &StepView, _| step.state.to_string()).tone(|step| match step.state {
        StepState::Completed | StepState::Compensated => Some(Tone::Good),
        StepState::Running => Some(Tone::Busy),
        StepState::Failed => Some(Tone::Bad),
        StepState::Waiting | StepState::Retrying | StepState::Compensating => Some(Tone::Wait),
        StepState::Pending | StepState::Skipped | StepState::Cancelled => Some(Tone::Faint),
    }),
    Column::new("ATTEMPT", |step: &StepView, _| step.attempt.to_string()).right(),
    Column::new("JOB", |step: &StepView, _| step.job_id.clone().unwrap_or_default()).wide(),
    Column::new("OUTPUT", |step: &StepView, _| match (&step.error, &step.output) {
        (Some(error), _) => format!("{}: {}", error.class, error.message),
        (None, Some(output)) => clip(&output.0.to_string(), SHOWN).into_owned(),
        (None, None) => String::new(),
    }),
];
